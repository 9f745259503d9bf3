"""Lines of sight: from a pixel's place and angles to a straight ray.

A ray starts on the satellite's side, where the line of sight enters the modelled atmosphere, and ends at the
pixel's place on the surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from atmonr.geo.ellipsoid import Floats, direction_to_ecef, geodetic_to_ecef, normal_and_height

NEWTON_STEPS = 2  # the sphere is off by metres, one step leaves micrometres
_BLOCK = 32768  # rays converted together: the temporary arrays of a block stay in the processor's cache


class RayLines(NamedTuple):
    """Straight rays, top of the atmosphere to surface, in Earth-centred coordinates.

    A point is `origin_ecef + t * direction`, t from 0 at the top to `length_m` at the surface. Pixels that
    see nothing (see `trace`) are NaN throughout.
    """

    origin_ecef: Floats  # (..., 3) m, at the top
    direction: Floats  # (..., 3) unit vector, downwards
    length_m: Floats  # (...)

    def at(self, fraction: float | Floats) -> Floats:
        """(..., 3) points [m] at fractions of the length, 0 top, 1 surface, that broadcast with it."""
        return self.origin_ecef + (self.length_m * fraction)[..., None] * self.direction


def trace(
    latitude_deg: ArrayLike,
    longitude_deg: ArrayLike,
    surface_altitude_m: ArrayLike,
    sensor_zenith_deg: ArrayLike,
    sensor_azimuth_deg: ArrayLike,
    top_height_m: float,
) -> RayLines:
    """Lines of sight between pixels and the height at which the modelled atmosphere ends.

    Args:
        latitude_deg: (...) geodetic latitude of the pixel [degrees].
        longitude_deg: (...) longitude of the pixel [degrees].
        surface_altitude_m: (...) height of the pixel above the ellipsoid [m].
        sensor_zenith_deg: (...) angle at the pixel from the ellipsoid's normal to the sensor [degrees].
        sensor_azimuth_deg: (...) direction from pixel to sensor, clockwise from north [degrees].
        top_height_m: height above the ellipsoid at which rays start [m]; met to better than 1 mm.

    Returns:
        RayLines of the same leading shape. NaN where an input is not finite, where the pixel is not below the
        top, or where the line of sight does not rise (zenith of 90 degrees or more).
    """
    arrays = np.broadcast_arrays(
        latitude_deg, longitude_deg, surface_altitude_m, sensor_zenith_deg, sensor_azimuth_deg
    )
    shape, count = arrays[0].shape, arrays[0].size
    pixels = np.stack([array.ravel() for array in arrays]).astype(np.float64, copy=False)
    rays = RayLines(np.empty((count, 3)), np.empty((count, 3)), np.empty(count))
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        for whole, block in zip(rays, _trace_block(pixels[:, part], top_height_m), strict=True):
            whole[part] = block
    origin, direction, length = rays
    return RayLines(origin.reshape(*shape, 3), direction.reshape(*shape, 3), length.reshape(shape))


def _trace_block(pixels: Floats, top_height_m: float) -> RayLines:
    """`trace` for (5, N) rows latitude, longitude, altitude, zenith, azimuth."""
    seen = np.isfinite(pixels).all(axis=0) & (pixels[3] < 90.0) & (pixels[2] < top_height_m)
    latitude, longitude, altitude, zenith, azimuth = np.where(seen, pixels, np.nan)
    surface = geodetic_to_ecef(latitude, longitude, altitude)
    upwards = direction_to_ecef(latitude, longitude, zenith, azimuth)
    climb = top_height_m - altitude
    # Start on a sphere (the root of t^2 + 2 R t cos = climb (2 R + climb), without cancellation), then
    # Newton: the height grows along the ray at the cosine of its angle to the local normal.
    radius = np.linalg.norm(surface, axis=-1)
    towards_centre = radius * np.cos(np.radians(zenith))
    square = climb * (2.0 * radius + climb)
    length = square / (towards_centre + np.sqrt(towards_centre * towards_centre + square))
    for _ in range(NEWTON_STEPS):
        normal, height = normal_and_height(surface + length[:, None] * upwards)
        length = length + (top_height_m - height) / np.einsum("ni,ni->n", normal, upwards)
    return RayLines(surface + length[:, None] * upwards, -upwards, length)
