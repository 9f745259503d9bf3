"""The space that the rays of a scene cross, and where the sun stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.geo.ellipsoid import ECCENTRICITY_SQUARED, SEMI_MAJOR_M, enu_basis, geodetic_to_ecef
from atmonr.geo.frame import Frame
from atmonr.geo.rays import trace
from atmonr.geo.sun import sun_polynomial
from atmonr.store.layout import GEOMETRY

Singles = NDArray[np.float32]

_SUN_SAMPLES = 140  # per view
# The frame bends a ray's track on the ground by metres (200 m in the most slant and highest case allowed), so
# that a ray may leave the box of its two ends.
_PADDING_M = np.array([250.0, 250.0, 1.0])
_BLOCK = 32768  # rays estimated together: their temporary arrays stay in the processor's cache
_MARGIN_M = 100.0  # several times the largest error of an estimate, see tests/store/test_extent.py
_LARGEST_TURN = 0.45  # as far from the centre [radians] as estimates are that good


class Extent:
    """The space that rays cross, and samples of the sun's place, gathered block by block.

    Only the outermost rays count, so all are placed roughly and fast, and those that may be the outermost
    exactly.

    Args:
        frame: a frame with the scene's centre; its box means nothing.
        top_height_m: where rays start [m].
    """

    def __init__(self, frame: Frame, top_height_m: float) -> None:
        self._frame, self._top_height_m = frame, top_height_m
        self._estimate = Estimate(frame, top_height_m)
        self._lower, self._upper = np.full(3, np.inf), np.full(3, -np.inf)
        self._sun: list[NDArray[np.float64]] = []

    def add(self, block: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_]) -> None:
        """Take in the usable rays of a block of (V, L, P) arrays."""
        for view, usable in enumerate(valid):
            places = np.flatnonzero(usable)
            if not places.size:
                continue
            geometry = [block[name][view].ravel()[places] for name in GEOMETRY]
            self._stretch(geometry)
            lat, lon, _, _, _, sun_zenith, sun_azimuth = geometry
            some = slice(None, None, max(1, lat.size // _SUN_SAMPLES))
            self._sun.append(
                np.stack([lat[some], lon[some], sun_zenith[some], sun_azimuth[some]]).astype(float)
            )

    @property
    def empty(self) -> bool:
        """Whether no usable ray has been seen."""
        return not self._sun

    def boxed_frame(self) -> Frame:
        """The frame with the box that holds every sample of every ray."""
        lower, upper = self._lower - _PADDING_M, self._upper + _PADDING_M
        return replace(self._frame, lower_m=tuple(lower.tolist()), upper_m=tuple(upper.tolist()))

    def sun_coefficients(self, frame: Frame) -> list[list[float]]:
        """Coefficients for `atmonr.geo.sun.sun_direction` in a frame."""
        coefficients: list[list[float]] = sun_polynomial(frame, *np.concatenate(self._sun, axis=1)).tolist()
        return coefficients

    def _stretch(self, geometry: list[Singles]) -> None:
        """Let the bounds hold the exact ends of (N,) rays."""
        outermost = np.flatnonzero(self._may_be_outermost(geometry[:5]))
        lat, lon, altitude, zenith, azimuth = (values[outermost].astype(float) for values in geometry[:5])
        rays = trace(lat, lon, altitude, zenith, azimuth, self._top_height_m)
        for fraction in (0.0, 1.0):
            ends = self._frame.from_ecef(rays.at(fraction))
            self._lower = np.minimum(self._lower, [ends[:, axis].min() for axis in range(3)])
            self._upper = np.maximum(self._upper, [ends[:, axis].max() for axis in range(3)])

    def _may_be_outermost(self, geometry: list[Singles]) -> NDArray[np.bool_]:
        """(N,) whether a ray may be the lowest, or end farthest out in x or y."""
        altitude = geometry[2]
        outermost = altitude == altitude.min()
        near = [self._estimate(*(values[part] for values in geometry)) for part in _parts(altitude.size)]
        ends = np.concatenate(near, axis=2).reshape(4, -1)
        if np.isnan(ends).any():
            return np.ones_like(outermost)
        for axis in (0, 1):
            pair = ends[[axis, axis + 2]]
            outermost |= (pair <= pair.min() + _MARGIN_M).any(axis=0)
            outermost |= (pair >= pair.max() - _MARGIN_M).any(axis=0)
        return outermost


class Estimate:
    """Places of both ends of rays in a frame, in single precision and a fraction of the time of exact ones.

    Args:
        frame: the frame.
        top_height_m: where rays start [m].
    """

    def __init__(self, frame: Frame, top_height_m: float) -> None:
        self._top = np.float32(top_height_m)
        place = frame.latitude_deg, frame.longitude_deg
        self._centre = geodetic_to_ecef(*place, 0.0)
        self._basis = enu_basis(*place)
        sine = np.sin(np.radians(frame.latitude_deg))
        shrink = 1.0 - ECCENTRICITY_SQUARED * sine * sine
        east = np.sqrt(shrink) / SEMI_MAJOR_M
        self._curvature = np.float32(east), np.float32(east * shrink / (1.0 - ECCENTRICITY_SQUARED))

    def __call__(
        self, latitude: Singles, longitude: Singles, altitude: Singles, zenith: Singles, azimuth: Singles
    ) -> Singles:
        """(2, 2, N) ends at the surface and at the top, x and y [m]; NaN too far from the centre."""
        one, squared = np.float32(1.0), np.float32(ECCENTRICITY_SQUARED)
        sin_lat, cos_lat = _sin_cos(latitude)
        sin_lon, cos_lon = _sin_cos(longitude)
        sin_zen, cos_zen = _sin_cos(zenith)
        sin_az, cos_az = _sin_cos(azimuth)
        shrink = one - squared * sin_lat * sin_lat
        normal = np.float32(SEMI_MAJOR_M) / np.sqrt(shrink)
        # The foot on the ellipsoid, and the way to the top of the ray and down its vertical to the ellipsoid.
        foot = (
            normal * cos_lat * cos_lon,
            normal * cos_lat * sin_lon,
            normal * (one - squared) * sin_lat,
        )
        # Along the ray's azimuth the Earth is nearly a circle (Euler's theorem).
        radius = normal / (sin_az * sin_az + cos_az * cos_az * shrink / (one - squared))
        climb = self._top - altitude
        down = (radius + altitude) * cos_zen
        square = climb * (np.float32(2.0) * (radius + altitude) + climb)
        length = square / (down + np.sqrt(down * down + square))
        # The vertical at the top leans away by the angle that the ray covers on the ground.
        aside = length * sin_zen * radius / (radius + self._top)
        up = altitude + length * cos_zen - self._top
        outward = cos_lat * up - sin_lat * cos_az * aside
        sideways = sin_az * aside
        to_top = (
            cos_lon * outward - sin_lon * sideways,
            sin_lon * outward + cos_lon * sideways,
            sin_lat * up + cos_lat * cos_az * aside,
        )
        offset = [values - np.float32(centre) for values, centre in zip(foot, self._centre, strict=True)]
        surface = self._plane(offset)
        top = self._plane([a + b for a, b in zip(offset, to_top, strict=True)])
        return np.stack([self._stretched(*surface), self._stretched(*top)])

    def _plane(self, offset: list[Singles]) -> tuple[Singles, Singles]:
        """East and north of (N,) Earth-centred offsets from the centre."""
        east, north = (row.astype(np.float32) for row in self._basis[:2])
        x, y, z = offset
        return x * east[0] + y * east[1] + z * east[2], x * north[0] + y * north[1] + z * north[2]

    def _stretched(self, east: Singles, north: Singles) -> Singles:
        """(2, N) as `Frame` does it, with four terms of arcsin(s) / s."""
        square = east * east + north * north
        bend = self._curvature[0] * east * east + self._curvature[1] * north * north
        s2 = bend * bend / np.maximum(square, np.float32(1.0))
        third, fifth, seventh = np.float32(1 / 6), np.float32(3 / 40), np.float32(15 / 336)
        ratio = np.float32(1.0) + s2 * (third + s2 * (fifth + s2 * (seventh + s2 * np.float32(105 / 3456))))
        ratio[s2 > _LARGEST_TURN**2] = np.nan
        return np.stack([east * ratio, north * ratio])


def _sin_cos(degrees: Singles) -> tuple[Singles, Singles]:
    angle = degrees * np.float32(np.pi / 180.0)
    return np.sin(angle), np.cos(angle)


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, start + _BLOCK)
