"""Extracts in the formats of other programs, and as something to look at."""
