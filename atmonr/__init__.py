"""Three-dimensional clouds from multi-angle satellite imagery."""

__version__ = "0.1.0"
