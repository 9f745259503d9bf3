"""WGS-84 ellipsoid: geodetic coordinates, Earth-centred Cartesian metres (ECEF) and local directions.

All functions are NumPy, work in float64 and broadcast over leading dimensions. Latitudes and longitudes are
degrees, heights are metres above the ellipsoid along its normal. No function has a singular place: the poles,
the dateline and longitudes of +-90 degrees are ordinary points (the longitude of a pole is reported as 0).

Source of the constants: NGA.STND.0036 (World Geodetic System 1984), table 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SEMI_MAJOR_M = 6378137.0
FLATTENING = 1.0 / 298.257223563
SEMI_MINOR_M = SEMI_MAJOR_M * (1.0 - FLATTENING)
ECCENTRICITY_SQUARED = FLATTENING * (2.0 - FLATTENING)
_SECOND_ECCENTRICITY_SQUARED = ECCENTRICITY_SQUARED / (1.0 - ECCENTRICITY_SQUARED)


def geodetic_to_ecef(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike) -> Floats:
    """Earth-centred coordinates of geodetic points.

    Args:
        latitude_deg: geodetic latitude [degrees].
        longitude_deg: longitude [degrees], any turn.
        height_m: height above the ellipsoid [m].

    Returns:
        (..., 3) x, y, z [m]; the arguments are broadcast against each other.
    """
    normal = surface_normal(latitude_deg, longitude_deg)
    height = np.asarray(height_m, dtype=np.float64)
    curvature_m = SEMI_MAJOR_M / np.sqrt(1.0 - ECCENTRICITY_SQUARED * normal[..., 2] ** 2)
    axial = curvature_m * (1.0 - ECCENTRICITY_SQUARED) + height
    radial = curvature_m + height
    return np.stack([radial * normal[..., 0], radial * normal[..., 1], axial * normal[..., 2]], axis=-1)


def ecef_to_geodetic(xyz_m: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Geodetic coordinates of Earth-centred points, the inverse of `geodetic_to_ecef`.

    Args:
        xyz_m: (..., 3) Earth-centred coordinates [m], not deeper than some hundred kilometres.

    Returns:
        latitude [degrees], longitude [degrees, -180..180], height above the ellipsoid [m].
    """
    normal, height = normal_and_height(xyz_m)
    xyz = np.asarray(xyz_m, dtype=np.float64)
    latitude = np.degrees(np.arctan2(normal[..., 2], np.hypot(normal[..., 0], normal[..., 1])))
    longitude = np.degrees(np.arctan2(xyz[..., 1], xyz[..., 0]))
    return latitude, longitude, height


def normal_and_height(xyz_m: ArrayLike) -> tuple[Floats, Floats]:
    """Unit normal of the ellipsoid below a point and the point's height along it.

    Bowring's formula in sines and cosines: only square roots, and the height comes from a projection on the
    normal, so nothing divides by a cosine that may vanish. One step errs by 0.1 mm at most below 100 km
    (4 mm at the height of a satellite; the height itself by nanometres).

    Source: B. R. Bowring, "Transformation from spatial to geographical coordinates", Survey Review 23 (1976).

    Args:
        xyz_m: (..., 3) Earth-centred coordinates [m].

    Returns:
        (..., 3) unit normal and (...) height above the ellipsoid [m].
    """
    xyz = np.asarray(xyz_m, dtype=np.float64)
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    axis_distance = np.sqrt(x * x + y * y)
    # Reduced latitude u: tan u = (z / distance) * (a / b).
    sine, cosine = _normalised(z * SEMI_MAJOR_M, axis_distance * SEMI_MINOR_M)
    sine, cosine = _normalised(
        z + _SECOND_ECCENTRICITY_SQUARED * SEMI_MINOR_M * sine * sine * sine,
        axis_distance - ECCENTRICITY_SQUARED * SEMI_MAJOR_M * cosine * cosine * cosine,
    )
    height = axis_distance * cosine + z * sine
    height -= SEMI_MAJOR_M * np.sqrt(1.0 - ECCENTRICITY_SQUARED * sine * sine)
    # On the axis itself the horizontal part of the normal is zero whatever the longitude.
    outward = cosine / np.where(axis_distance > 0.0, axis_distance, 1.0)
    return np.stack([x * outward, y * outward, sine], axis=-1), height


def surface_normal(latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Floats:
    """(..., 3) unit vector, away from the Earth, normal to the ellipsoid at a geodetic place."""
    latitude, longitude = np.broadcast_arrays(np.radians(latitude_deg), np.radians(longitude_deg))
    cosine = np.cos(latitude)
    return np.stack([cosine * np.cos(longitude), cosine * np.sin(longitude), np.sin(latitude)], axis=-1)


def enu_basis(latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Floats:
    """Local east, north and up.

    Returns:
        (..., 3, 3) whose rows are the unit vectors east, north, up in Earth-centred coordinates. At a pole,
        north is the direction of the meridian given by the longitude.
    """
    latitude, longitude = np.broadcast_arrays(np.radians(latitude_deg), np.radians(longitude_deg))
    sin_lat, cos_lat = np.sin(latitude), np.cos(latitude)
    sin_lon, cos_lon = np.sin(longitude), np.cos(longitude)
    east = np.stack([-sin_lon, cos_lon, np.zeros_like(sin_lon)], axis=-1)
    north = np.stack([-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat], axis=-1)
    up = np.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat], axis=-1)
    return np.stack([east, north, up], axis=-2)


def direction_to_ecef(
    latitude_deg: ArrayLike, longitude_deg: ArrayLike, zenith_deg: ArrayLike, azimuth_deg: ArrayLike
) -> Floats:
    """Earth-centred unit vector from a place on the ground towards a sensor or the sun.

    Args:
        latitude_deg: geodetic latitude of the place [degrees].
        longitude_deg: longitude of the place [degrees].
        zenith_deg: angle from the ellipsoid's normal [degrees].
        azimuth_deg: clockwise from north [degrees].

    Returns:
        (..., 3) unit vector.
    """
    latitude, longitude = np.radians(latitude_deg, dtype=float), np.radians(longitude_deg, dtype=float)
    zenith, azimuth = np.radians(zenith_deg, dtype=float), np.radians(azimuth_deg, dtype=float)
    sine = np.sin(zenith)
    east, north, up = sine * np.sin(azimuth), sine * np.cos(azimuth), np.cos(zenith)
    # Turn north and up by the latitude in the plane of the meridian, then everything by the longitude.
    sin_lat, cos_lat = np.sin(latitude), np.cos(latitude)
    outward, axial = cos_lat * up - sin_lat * north, sin_lat * up + cos_lat * north
    sin_lon, cos_lon = np.sin(longitude), np.cos(longitude)
    x, y = cos_lon * outward - sin_lon * east, sin_lon * outward + cos_lon * east
    return np.stack(np.broadcast_arrays(x, y, axial), axis=-1)


def _normalised(sine: Floats, cosine: Floats) -> tuple[Floats, Floats]:
    """The pair scaled to unit length: sine and cosine of its angle."""
    scale = 1.0 / np.sqrt(sine * sine + cosine * cosine)
    return sine * scale, cosine * scale
