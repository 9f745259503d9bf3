"""Pure functions from sampled extinction and light to radiance: torch in, torch out, no sensor, no path."""
