"""Lines of sight: from a pixel's place and angles to a straight ray and its float32 path in a frame.

A ray starts on the satellite's side, where the line of sight enters the modelled atmosphere, and ends at the
pixel's place on the surface. Inside a `Frame` the straight line is very nearly a parabola in its own length,
so eight float32 numbers replace a geodetic conversion of every sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.geo.ellipsoid import Floats, direction_to_ecef, geodetic_to_ecef, normal_and_height
from atmonr.geo.frame import Frame

# Interpolation nodes: the zeros of the cubic Chebyshev polynomial, moved so that the first one lies on the
# ray's start. The height is then exact at the top and the cubic term left over is as small as it can be.
NODES = np.array([0.0, 1.0, 2.0]) * np.sqrt(3.0) / (2.0 + np.sqrt(3.0))
# Where that cubic term is largest: between the nodes and at the surface.
CHECKS = np.array([np.sqrt(3.0) - 1.0, np.sqrt(3.0) + 1.0, np.sqrt(3.0) + 2.0]) / (2.0 + np.sqrt(3.0))

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


def fit_paths(frame: Frame, rays: RayLines, top_height_m: float) -> tuple[NDArray[np.float32], Floats]:
    """Quadratic float32 paths of rays through a frame.

    With s = 0 at the top and s = 1 at the surface, growing in proportion to true distance along the ray,
    x = p0 + p1 s + p2 s^2, y = p3 + p4 s + p5 s^2, height = top + p6 s + p7 s^2, all in metres.

    Args:
        frame: the scene's frame.
        rays: (N,) rays that all start at `top_height_m`.
        top_height_m: the height at which they start [m].

    Returns:
        (N, 8) float32 p0..p7, and (N,) float64 residual: the largest height error [m] of the path, evaluated
        in float32, where the error of a parabola peaks. Both are NaN for rays that see nothing.
    """
    count = len(rays.length_m)
    paths = np.empty((count, 8), dtype=np.float32)
    residual = np.empty(count)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = RayLines(*(array[part] for array in rays))
        paths[part] = _interpolate(frame, block, top_height_m)
        residual[part] = _height_error(block, paths[part], top_height_m)
    return paths, residual


def path_points(paths: NDArray[np.float32], fraction: ArrayLike, top_height_m: float) -> NDArray[np.float32]:
    """(N, S, 3) float32 frame coordinates x, y, height [m] of (N, 8) paths at (S,) or (N, S) fractions."""
    s = np.atleast_2d(np.asarray(fraction, dtype=np.float32))
    p = paths[:, :, None]
    top = np.float32(top_height_m)
    return np.stack(
        [
            p[:, 0] + s * (p[:, 1] + s * p[:, 2]),
            p[:, 3] + s * (p[:, 4] + s * p[:, 5]),
            top + s * (p[:, 6] + s * p[:, 7]),
        ],
        axis=-1,
    )


def _interpolate(frame: Frame, rays: RayLines, top_height_m: float) -> Floats:
    """(N, 8) coefficients of the parabola through the frame coordinates of a ray at the nodes."""
    _, s1, s2 = NODES
    first, second, third = (frame.from_ecef(rays.at(node)) for node in NODES)
    first[:, 2] = np.where(np.isnan(first[:, 2]), np.nan, top_height_m)
    slope1, slope2 = (second - first) / s1, (third - first) / s2
    bend = (slope2 - slope1) / (s2 - s1)
    slope = slope1 - s1 * bend
    horizontal = [(first[:, k], slope[:, k], bend[:, k]) for k in (0, 1)]
    return np.stack([*horizontal[0], *horizontal[1], slope[:, 2], bend[:, 2]], axis=-1)


def _height_error(rays: RayLines, paths: NDArray[np.float32], top_height_m: float) -> Floats:
    """(N,) largest difference [m] between the float32 path's height and the geodetic height at the checks."""
    fitted = path_points(paths, CHECKS, top_height_m)[..., 2].astype(np.float64)
    exact = np.stack([normal_and_height(rays.at(check))[1] for check in CHECKS], axis=-1)
    return np.abs(fitted - exact).max(axis=-1)
