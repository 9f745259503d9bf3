"""What an altitude is measured from; numbers alone do not tell, and the two kinds differ by up to 107 m."""

from __future__ import annotations

from typing import NamedTuple


class Datum(NamedTuple):
    """A surface of zero altitude.

    Attributes:
        name: for people.
        standard_name: CF standard name of an altitude above it.
        off_ellipsoid_m: how far it may lie from the WGS-84 ellipsoid [m], the error of taking it for that.
    """

    name: str
    standard_name: str
    off_ellipsoid_m: float


ELLIPSOID = Datum("WGS-84 ellipsoid", "height_above_reference_ellipsoid", 0.0)
# The geoid EGM96 lies between 107 m below the ellipsoid (south of India) and 86 m above it (New Guinea).
# Source: NASA/TP-1998-206861, "The Development of the Joint NASA GSFC and NIMA Geopotential Model EGM96".
SEA_LEVEL = Datum("mean sea level (the EGM96 geoid, within metres)", "height_above_mean_sea_level", 107.0)
# For files that give altitudes without a word about their datum.
UNSTATED = Datum("not stated; used as height above the WGS-84 ellipsoid", ELLIPSOID.standard_name, 107.0)
