"""Campaigns: many scenes times many configs on a cluster. No torch, no science."""
