"""Paths of rays through a frame: what replaces a geodetic conversion of every sample.

Inside a `Frame` a straight line is very nearly a parabola in its own length. A polynomial of the fourth
degree, in float32, keeps its geodetic height within a centimetre, however slant a scene allows a ray to be
(85 degrees, from a top of 50 km; a parabola is 4 m off there). Paths are made when they are needed: of a
million rays in one compiled loop, here; of a batch on another device by `atmonr.feed.follow`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.compiled import compiled, default_threads, in_parts
from atmonr.geo.ellipsoid import ECCENTRICITY_SQUARED, SEMI_MAJOR_M, SEMI_MINOR_M
from atmonr.geo.frame import Frame
from atmonr.geo.rays import NEWTON_STEPS

Singles = NDArray[np.float32]

DEGREE = 4
# Where a path meets its ray: the zeros of the Chebyshev polynomial of the next degree, moved so that the
# first one is the ray's start. The height is then exact at the top, and the error elsewhere about as small as
# it can be.
_ZEROS = np.cos((2 * np.arange(DEGREE + 1) + 1) * np.pi / (2 * (DEGREE + 1)))
NODES = (_ZEROS[0] - _ZEROS) / (1.0 + _ZEROS[0])
# From differences to the value at the start, at the other nodes, to the coefficients of s, s^2, ...
COEFFICIENTS = np.linalg.inv(NODES[1:, None] ** np.arange(1, DEGREE + 1))

_RISE = ECCENTRICITY_SQUARED / (1.0 - ECCENTRICITY_SQUARED) * SEMI_MINOR_M
_DRAW = ECCENTRICITY_SQUARED * SEMI_MAJOR_M


class Paths(NamedTuple):
    """Paths of N rays; NaN throughout for those that see nothing (see `atmonr.geo.rays.trace`).

    With s = 0 at the top and s = 1 at the surface, growing in proportion to true distance along the ray,
    coordinate c of the frame is sum_k path[:, c, k] s^k, for x, y and height, in metres.
    """

    path: Singles  # (N, 3, DEGREE + 1)
    length_m: Singles  # (N,)


def path_points(path: Singles, fraction: ArrayLike) -> Singles:
    """(N, S, 3) float32 frame coordinates x, y, height [m] of paths at (S,) or (N, S) fractions."""
    s = np.atleast_2d(np.asarray(fraction, dtype=np.float32))[..., None]
    points = path[:, None, :, DEGREE]
    for power in range(DEGREE - 1, -1, -1):
        points = path[:, None, :, power] + s * points
    return points


def parabolas(path: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(..., 3) parabolas through start, middle and end of (..., DEGREE + 1) paths.

    They are off by decimetres, and by 20 m where rays are the most slant that a scene allows.
    """
    start, end = path[..., 0], path.sum(-1)
    middle = path @ (0.5 ** np.arange(DEGREE + 1)).astype(path.dtype)
    return np.stack([start, 4.0 * middle - 3.0 * start - end, 2.0 * (start + end) - 4.0 * middle], -1)


def paths_of(
    frame: Frame,
    top_height_m: float,
    latitude_deg: Singles,
    longitude_deg: Singles,
    surface_altitude_m: Singles,
    sensor_zenith_deg: Singles,
    sensor_azimuth_deg: Singles,
) -> Paths:
    """Paths through a frame of lines of sight between pixels and the top of the modelled atmosphere.

    The formulas are those of `atmonr.geo.rays.trace`, the ellipsoid and the frame, written for one ray; tests
    hold them against those.

    Args:
        frame: The scene's frame.
        top_height_m: Height above the ellipsoid at which rays start [m].
        latitude_deg: (N,) geodetic latitude of the pixels [degrees].
        longitude_deg: (N,) longitude [degrees].
        surface_altitude_m: (N,) height of the pixels above the ellipsoid [m].
        sensor_zenith_deg: (N,) angle at the pixel from the ellipsoid's normal to the sensor [degrees].
        sensor_azimuth_deg: (N,) direction from pixel to sensor, clockwise from north [degrees].
    """
    count = len(latitude_deg)
    made = Paths(np.empty((count, 3, DEGREE + 1), np.float32), np.empty(count, np.float32))
    pixels = (latitude_deg, longitude_deg, surface_altitude_m, sensor_zenith_deg, sensor_azimuth_deg)
    plane = frame.tangent_plane()
    in_parts(
        count, default_threads(), lambda first, last: _loop(*pixels, top_height_m, *plane, *made, first, last)
    )
    return made


@compiled
def _height(x: Any, y: Any, z: Any) -> Any:
    """Height above the ellipsoid [m], and the normal there: outward share of x and y, and sine of latitude.

    `atmonr.geo.ellipsoid.normal_and_height` for one point.
    """
    axis = math.sqrt(x * x + y * y)
    sine, cosine = z * SEMI_MAJOR_M, axis * SEMI_MINOR_M
    scale = 1.0 / math.sqrt(sine * sine + cosine * cosine)
    sine, cosine = sine * scale, cosine * scale
    sine, cosine = z + _RISE * sine * sine * sine, axis - _DRAW * cosine * cosine * cosine
    scale = 1.0 / math.sqrt(sine * sine + cosine * cosine)
    sine, cosine = sine * scale, cosine * scale
    height = axis * cosine + z * sine - SEMI_MAJOR_M * math.sqrt(1.0 - ECCENTRICITY_SQUARED * sine * sine)
    return height, cosine / axis if axis > 0.0 else 0.0, sine


@compiled
def _in_frame(x: Any, y: Any, z: Any, centre: Any, basis: Any, curvatures: Any) -> Any:
    """Frame coordinates of one Earth-centred point: `atmonr.geo.frame.Frame.from_ecef`."""
    height, outward, sine = _height(x, y, z)
    normal_x, normal_y = x * outward, y * outward
    if normal_x * basis[2, 0] + normal_y * basis[2, 1] + sine * basis[2, 2] <= 0.0:
        return math.nan, math.nan, height
    dx, dy, dz = (
        x - height * normal_x - centre[0],
        y - height * normal_y - centre[1],
        z - height * sine - centre[2],
    )
    east = dx * basis[0, 0] + dy * basis[0, 1] + dz * basis[0, 2]
    north = dx * basis[1, 0] + dy * basis[1, 1] + dz * basis[1, 2]
    distance = math.sqrt(east * east + north * north)
    turn = (curvatures[0] * east * east + curvatures[1] * north * north) / distance if distance > 0.0 else 0.0
    if turn > 1.0:
        return math.nan, math.nan, height
    stretch = math.asin(turn) / turn if turn > 0.0 else 1.0
    return east * stretch, north * stretch, height


@compiled
def _line(latitude: Any, longitude: Any, altitude: Any, zenith: Any, azimuth: Any, top: Any) -> Any:
    """Foot of a ray, direction upwards along it, and its length: `atmonr.geo.rays.trace`."""
    degree = math.pi / 180.0
    lat, lon, zen, azi = latitude * degree, longitude * degree, zenith * degree, azimuth * degree
    sin_lat, cos_lat, sin_lon, cos_lon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
    curvature = SEMI_MAJOR_M / math.sqrt(1.0 - ECCENTRICITY_SQUARED * sin_lat * sin_lat)
    around = (curvature + altitude) * cos_lat
    x, y = around * cos_lon, around * sin_lon
    z = (curvature * (1.0 - ECCENTRICITY_SQUARED) + altitude) * sin_lat
    across, rise = math.sin(zen), math.cos(zen)
    east, north = across * math.sin(azi), across * math.cos(azi)
    outward = cos_lat * rise - sin_lat * north
    up_x, up_y = cos_lon * outward - sin_lon * east, sin_lon * outward + cos_lon * east
    up_z = sin_lat * rise + cos_lat * north
    radius = math.sqrt(x * x + y * y + z * z)
    square = (top - altitude) * (2.0 * radius + (top - altitude))
    length = square / (radius * rise + math.sqrt(radius * rise * radius * rise + square))
    for _ in range(NEWTON_STEPS):
        at_x, at_y, at_z = x + length * up_x, y + length * up_y, z + length * up_z
        height, share, sine = _height(at_x, at_y, at_z)
        length += (top - height) / (share * (at_x * up_x + at_y * up_y) + sine * up_z)
    return x, y, z, up_x, up_y, up_z, length


@compiled
def _loop(  # type: ignore
    latitude,
    longitude,
    altitude,
    zenith,
    azimuth,
    top,
    centre,
    basis,
    curvatures,
    path,
    length,
    first,
    last,
):
    bends = np.empty((3, DEGREE))
    for n in range(first, last):
        angles = latitude[n] + longitude[n] + zenith[n] + azimuth[n]
        # Comparisons with NaN are false.
        if not (abs(angles) < math.inf and zenith[n] < 90.0 and altitude[n] < top):
            path[n], length[n] = math.nan, math.nan
            continue
        x, y, z, up_x, up_y, up_z, long = _line(
            latitude[n], longitude[n], altitude[n], zenith[n], azimuth[n], top
        )
        length[n] = long
        x0, y0, _ = _in_frame(x + long * up_x, y + long * up_y, z + long * up_z, centre, basis, curvatures)
        path[n, 0, 0], path[n, 1, 0], path[n, 2, 0] = x0, y0, top
        bends[:] = 0.0
        for node in range(1, DEGREE + 1):
            left = long * (1.0 - NODES[node])
            at_x, at_y, height = _in_frame(
                x + left * up_x, y + left * up_y, z + left * up_z, centre, basis, curvatures
            )
            for power in range(DEGREE):
                share = COEFFICIENTS[power, node - 1]
                bends[0, power] += share * (at_x - x0)
                bends[1, power] += share * (at_y - y0)
                bends[2, power] += share * (height - top)
        path[n, :, 1:] = bends
