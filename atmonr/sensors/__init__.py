"""Readers of satellite files: a native file becomes a `Granule` with canonical names, units and masks."""
