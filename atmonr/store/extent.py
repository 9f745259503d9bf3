"""The space that the rays of a scene cross, and where the sun stands in it."""

from __future__ import annotations

from collections.abc import Mapping
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
_TILE = 8  # pixels
# The frame bends a ray's track on the ground by metres (200 m in the most slant and highest case allowed), so
# that a ray may leave the box of its two ends.
_PADDING_M = np.array([250.0, 250.0, 1.0])
_BLOCK = 32768  # rays estimated together: their temporary arrays stay in the processor's cache
_MARGIN_M = 100.0  # several times the largest error of an estimate, see tests/store/test_extent.py
_ONE, _SQUARED = np.float32(1.0), np.float32(ECCENTRICITY_SQUARED)
_LARGEST_TURN = 0.45  # as far from the centre [radians] as estimates are that good


class Extent:
    """The space that rays cross, and samples of the sun's place, gathered block by block.

    Only the outermost rays count: of all pixels only tiles are looked at, of tiles near the rim both ends of
    every ray are estimated, and what may then still be the outermost is placed exactly.

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
        """Take in the usable rays of a block of (V, L, P) arrays, in which unusable rays are NaN."""
        for view, usable in enumerate(valid):
            some = _some_of(usable)
            if not some.size:
                continue
            geometry = [block[name][view] for name in GEOMETRY]
            self._stretch(geometry[:5])
            lat, lon, _, _, _, sun_zenith, sun_azimuth = (
                values.ravel()[some].astype(float) for values in geometry
            )
            self._sun.append(np.stack([lat, lon, sun_zenith, sun_azimuth]))

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
        """Let the bounds hold the exact ends of a view's usable rays, given as (L, P) images."""
        lowest = float(np.fmin.reduce(geometry[2], axis=None))
        self._lower[2], self._upper[2] = min(self._lower[2], lowest), self._top_height_m
        chosen = self._may_be_outermost(geometry, lowest)
        if not chosen[0].size:
            return
        lat, lon, altitude, zenith, azimuth = (values.astype(float) for values in chosen)
        rays = trace(lat, lon, altitude, zenith, azimuth, self._top_height_m)
        for fraction in (0.0, 1.0):
            ends = self._frame.from_ecef(rays.at(fraction))[:, :2]
            self._lower[:2] = np.minimum(self._lower[:2], ends.min(axis=0))
            self._upper[:2] = np.maximum(self._upper[:2], ends.max(axis=0))

    def _may_be_outermost(self, geometry: list[Singles], lowest_m: float) -> list[Singles]:
        """(N,) geometry of those rays that may end farther out in x or y than all others and the bounds."""
        latitude, longitude, _, zenith, _ = geometry
        # The top of a ray is not farther from its foot than on a flat Earth, but for the stretch of the map.
        slope = np.tan(np.radians(float(np.fmax.reduce(zenith, axis=None))))
        reach = 1.06 * (self._top_height_m - lowest_m) * slope + _MARGIN_M
        tiles = self._tiles_near_rim(latitude, longitude, reach)
        near = np.repeat(np.repeat(tiles, _TILE, axis=0), _TILE, axis=1)
        near = near[: latitude.shape[0], : latitude.shape[1]] & np.isfinite(latitude)
        chosen = [values[near] for values in geometry]
        parts = [slice(start, start + _BLOCK) for start in range(0, chosen[0].size, _BLOCK)]
        estimates = [self._estimate(*(values[part] for values in chosen)) for part in parts]
        if not estimates or any(np.isinf(ends).any() for ends in estimates):
            return chosen
        ends = np.concatenate(estimates, axis=2)
        outermost = np.zeros(chosen[0].size, dtype=bool)
        for axis in (0, 1):
            low = min(self._lower[axis], ends[:, axis].min())
            high = max(self._upper[axis], ends[:, axis].max())
            outermost |= (ends[:, axis] <= low + _MARGIN_M).any(axis=0)
            outermost |= (ends[:, axis] >= high - _MARGIN_M).any(axis=0)
        return [values[outermost] for values in chosen]

    def _tiles_near_rim(self, latitude: Singles, longitude: Singles, reach_m: float) -> NDArray[np.bool_]:
        """Which tiles of pixels hold any that may be so near to the rim.

        All pixels of a tile lie around its middle, no farther than the spread of their latitudes and
        longitudes allows; a tile on the dateline seems as wide as the Earth and is always near.
        """
        south, north = _of_tiles(np.fmin, latitude), _of_tiles(np.fmax, latitude)
        west, east = _of_tiles(np.fmin, longitude), _of_tiles(np.fmax, longitude)
        nearest = np.maximum(np.abs(south + north) / 2 - (north - south) / 2, 0.0)  # latitude to the equator
        spread = (north - south) / 2 + np.cos(np.radians(nearest)) * (east - west) / 2
        radius = 1.06 * SEMI_MAJOR_M * np.radians(spread) + _MARGIN_M
        middle = (south + north) / np.float32(2.0), (west + east) / np.float32(2.0)
        x, y = self._estimate.ground(middle[0].ravel(), middle[1].ravel())
        if np.isinf(x).any():
            return np.ones(radius.shape, dtype=bool)
        near = np.zeros(radius.shape, dtype=bool)
        for axis, values in enumerate((x.reshape(radius.shape), y.reshape(radius.shape))):
            # Some pixel lies at least as far out as this; a tile without pixels is NaN and never near.
            low = min(self._lower[axis], float(np.fmin.reduce(values + radius, axis=None)))
            high = max(self._upper[axis], float(np.fmax.reduce(values - radius, axis=None)))
            near |= values - radius - reach_m <= low
            near |= values + radius + reach_m >= high
        return near


def _of_tiles(smaller: np.ufunc, image: Singles) -> Singles:
    """The image reduced over square tiles, row by row and then column by column of the tiles."""
    for _ in range(2):
        tiles = image[::_TILE].copy()
        for place in range(1, _TILE):
            part = image[place::_TILE]
            smaller(tiles[: len(part)], part, out=tiles[: len(part)])
        image = tiles.T
    return image


def _some_of(usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat positions of some usable pixels; none if there are none."""
    every = max(1, usable.size // _SUN_SAMPLES)
    some = np.flatnonzero(usable.ravel()[::every]) * every
    if not some.size:
        some = np.flatnonzero(usable)[:_SUN_SAMPLES]
    return some


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

    def ground(self, latitude: Singles, longitude: Singles) -> Singles:
        """(2, N) x and y of the foot of pixels [m]; infinite too far from the centre."""
        (sin_lat, cos_lat), (sin_lon, cos_lon) = _sin_cos(latitude), _sin_cos(longitude)
        return self._stretched(*self._plane(self._offset(sin_lat, cos_lat, sin_lon, cos_lon)))

    def __call__(
        self, latitude: Singles, longitude: Singles, altitude: Singles, zenith: Singles, azimuth: Singles
    ) -> Singles:
        """(2, 2, N) ends at the surface and at the top, x and y [m]; infinite too far from the centre."""
        (sin_lat, cos_lat), (sin_lon, cos_lon) = _sin_cos(latitude), _sin_cos(longitude)
        (sin_zen, cos_zen), (sin_az, cos_az) = _sin_cos(zenith), _sin_cos(azimuth)
        # Along the ray's azimuth the Earth is nearly a circle (Euler's theorem).
        shrink = _ONE - _SQUARED * sin_lat * sin_lat
        normal = np.float32(SEMI_MAJOR_M) / np.sqrt(shrink)
        radius = normal / (sin_az * sin_az + cos_az * cos_az * shrink / (_ONE - _SQUARED))
        climb = self._top - altitude
        down = (radius + altitude) * cos_zen
        square = climb * (np.float32(2.0) * (radius + altitude) + climb)
        length = square / (down + np.sqrt(down * down + square))
        # Along the ray to its top, and down the vertical there, which leans away by the angle between the two
        # verticals.
        aside = length * sin_zen * radius / (radius + self._top)
        up = altitude + length * cos_zen - self._top
        outward = cos_lat * up - sin_lat * cos_az * aside
        sideways = sin_az * aside
        to_top = (
            cos_lon * outward - sin_lon * sideways,
            sin_lon * outward + cos_lon * sideways,
            sin_lat * up + cos_lat * cos_az * aside,
        )
        offset = self._offset(sin_lat, cos_lat, sin_lon, cos_lon)
        surface = self._plane(offset)
        top = self._plane([a + b for a, b in zip(offset, to_top, strict=True)])
        return np.stack([self._stretched(*surface), self._stretched(*top)])

    def _offset(
        self, sin_lat: Singles, cos_lat: Singles, sin_lon: Singles, cos_lon: Singles
    ) -> list[Singles]:
        """Earth-centred offset of points of the ellipsoid from the centre [m]."""
        normal = np.float32(SEMI_MAJOR_M) / np.sqrt(_ONE - _SQUARED * sin_lat * sin_lat)
        around = normal * cos_lat
        foot = around * cos_lon, around * sin_lon, normal * ((_ONE - _SQUARED) * sin_lat)
        return [values - np.float32(centre) for values, centre in zip(foot, self._centre, strict=True)]

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
        ratio = _ONE + s2 * (third + s2 * (fifth + s2 * (seventh + s2 * np.float32(105 / 3456))))
        places: Singles = np.stack([east * ratio, north * ratio])
        places[:, s2 > _LARGEST_TURN**2] = np.inf
        return places


def _sin_cos(degrees: Singles) -> tuple[Singles, Singles]:
    angle = degrees * np.float32(np.pi / 180.0)
    return np.sin(angle), np.cos(angle)
