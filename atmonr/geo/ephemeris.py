"""Where the sun stands, from time and place."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)


def solar_angles(moment: datetime, latitude_deg: float, longitude_deg: float) -> tuple[float, float]:
    """Zenith angle and azimuth, clockwise from north, of the sun [degrees].

    Right to about 0.02 degrees between 1950 and 2050; refraction is left out. Source: The Astronomical
    Almanac, low-precision formulas for the sun.

    Args:
        moment: a time; one without a zone is in UTC.
        latitude_deg: geodetic latitude.
        longitude_deg: longitude.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    days = (moment - _J2000).total_seconds() / 86_400.0
    anomaly = math.radians(357.528 + 0.9856003 * days)
    ecliptic = math.radians(
        280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2.0 * anomaly)
    )
    obliquity = math.radians(23.439 - 4e-7 * days)
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal = math.radians(280.46061837 + 360.98564736629 * days + longitude_deg)
    hour = sidereal - ascension
    latitude = math.radians(latitude_deg)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(latitude) * math.sin(declination)
    north -= math.sin(latitude) * math.cos(declination) * math.cos(hour)
    up = math.sin(latitude) * math.sin(declination)
    up += math.cos(latitude) * math.cos(declination) * math.cos(hour)
    zenith = math.degrees(math.atan2(math.hypot(east, north), up))
    return zenith, math.degrees(math.atan2(east, north)) % 360.0
