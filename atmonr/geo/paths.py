"""Paths of millions of rays at once: `trace` and `fit_paths` of `atmonr.geo.rays` in one compiled loop.

The formulas are theirs, the ellipsoid's and the frame's, written for one ray; tests hold them against those.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.compiled import compiled, default_threads, in_parts
from atmonr.geo.ellipsoid import ECCENTRICITY_SQUARED, SEMI_MAJOR_M, SEMI_MINOR_M
from atmonr.geo.frame import Frame
from atmonr.geo.rays import CHECKS, NEWTON_STEPS, NODES

Singles = NDArray[np.float32]

# Plain numbers and tuples, which the compiler takes for constants.
_FIRST, _SECOND = float(NODES[1]), float(NODES[2])
_CHECKS = tuple(float(check) for check in CHECKS)
_RISE = ECCENTRICITY_SQUARED / (1.0 - ECCENTRICITY_SQUARED) * SEMI_MINOR_M
_DRAW = ECCENTRICITY_SQUARED * SEMI_MAJOR_M


class Paths(NamedTuple):
    """Paths of N rays; NaN throughout for those that see nothing (see `atmonr.geo.rays.trace`)."""

    path: Singles  # (N, 8) coefficients, see `atmonr.geo.rays.fit_paths`
    length_m: Singles  # (N,)
    residual_m: Singles  # (N,) largest height error of the float32 path, likewise


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
    made = Paths(np.empty((count, 8), np.float32), np.empty(count, np.float32), np.empty(count, np.float32))
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
    residual,
    first,
    last,
):
    degree = math.pi / 180.0
    for n in range(first, last):
        lat, lon = latitude[n] * degree, longitude[n] * degree
        zen, azi, climb = zenith[n] * degree, azimuth[n] * degree, top - altitude[n]
        # Comparisons with NaN are false.
        if not (abs(lat + lon + zen + azi) < math.inf and zenith[n] < 90.0 and climb > 0.0):
            path[n], length[n], residual[n] = math.nan, math.nan, math.nan
            continue
        sin_lat, cos_lat, sin_lon, cos_lon = math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)
        # Foot of the ray, and the direction upwards along it.
        curvature = SEMI_MAJOR_M / math.sqrt(1.0 - ECCENTRICITY_SQUARED * sin_lat * sin_lat)
        around = (curvature + altitude[n]) * cos_lat
        x, y = around * cos_lon, around * sin_lon
        z = (curvature * (1.0 - ECCENTRICITY_SQUARED) + altitude[n]) * sin_lat
        across, rise = math.sin(zen), math.cos(zen)
        east, north = across * math.sin(azi), across * math.cos(azi)
        outward = cos_lat * rise - sin_lat * north
        up_x, up_y = cos_lon * outward - sin_lon * east, sin_lon * outward + cos_lon * east
        up_z = sin_lat * rise + cos_lat * north
        # Its length, as `trace` finds it.
        radius = math.sqrt(x * x + y * y + z * z)
        square = climb * (2.0 * radius + climb)
        long = square / (radius * rise + math.sqrt(radius * rise * radius * rise + square))
        for _ in range(NEWTON_STEPS):
            at_x, at_y, at_z = x + long * up_x, y + long * up_y, z + long * up_z
            height, share, sine = _height(at_x, at_y, at_z)
            long += (top - height) / (share * (at_x * up_x + at_y * up_y) + sine * up_z)
        length[n] = long
        # The parabola through three places, as `fit_paths` lays it.
        left = long
        x0, y0, _ = _in_frame(x + left * up_x, y + left * up_y, z + left * up_z, centre, basis, curvatures)
        left = long * (1.0 - _FIRST)
        x1, y1, h1 = _in_frame(x + left * up_x, y + left * up_y, z + left * up_z, centre, basis, curvatures)
        left = long * (1.0 - _SECOND)
        x2, y2, h2 = _in_frame(x + left * up_x, y + left * up_y, z + left * up_z, centre, basis, curvatures)
        place = 0
        for at0, at1, at2 in ((x0, x1, x2), (y0, y1, y2), (top, h1, h2)):
            slope1, slope2 = (at1 - at0) / _FIRST, (at2 - at0) / _SECOND
            bend = (slope2 - slope1) / (_SECOND - _FIRST)
            if place < 6:
                path[n, place] = at0
                place += 1
            path[n, place], path[n, place + 1] = slope1 - _FIRST * bend, bend
            place += 2
        error = 0.0
        for check in _CHECKS:
            s = np.float32(check)
            fitted = np.float32(top) + s * (path[n, 6] + s * path[n, 7])
            left = long * (1.0 - check)
            height, _, _ = _height(x + left * up_x, y + left * up_y, z + left * up_z)
            error = max(error, abs(np.float64(fitted) - height))
        residual[n] = error
