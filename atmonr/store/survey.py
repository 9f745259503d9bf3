"""A first look at a granule's geolocation: which part of the image to keep, and where its centre is.

What is read here is kept for those who need it next: decompressing it again would take a fifth more reading.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError, UsageError
from atmonr.geo.ellipsoid import surface_normal
from atmonr.sensors.granule import Granule
from atmonr.store.read_ahead import read_ahead

Singles = NDArray[np.float32]

_EVERY = 17  # so many pixels are plenty to find their middle; a prime number meets all columns
_FEW = 6_000  # if they are fewer than this, all are taken


class BoundingBox(NamedTuple):
    """A box of longitudes and latitudes [degrees]; it crosses the dateline where west > east."""

    west_deg: float
    south_deg: float
    east_deg: float
    north_deg: float

    def check(self) -> None:
        """Refuse a box that holds nothing or is not on the Earth.

        Raises:
            UsageError: south is not below north, or a value is out of range.
        """
        latitudes = -90.0 <= self.south_deg < self.north_deg <= 90.0
        longitudes = all(-180.0 <= value <= 360.0 for value in (self.west_deg, self.east_deg))
        if not (latitudes and longitudes and self.west_deg != self.east_deg):
            raise UsageError(
                f"bounding box {','.join(f'{value:g}' for value in self)}: expected west,south,east,north in"
                " degrees with south < north (west > east crosses the dateline)"
            )

    def contains(
        self, latitude_deg: NDArray[np.float32], longitude_deg: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Which places lie inside; False for NaN."""
        width = self.east_deg - self.west_deg
        width += 360.0 if width < 0.0 else 0.0
        inside = (longitude_deg - self.west_deg) % 360.0 <= width
        inside &= (latitude_deg >= self.south_deg) & (latitude_deg <= self.north_deg)
        return inside


@dataclass(frozen=True)
class Survey:
    """What to keep of a granule.

    Attributes:
        lines: lines that hold any pixel to keep.
        pixels: pixels of the line that do.
        latitude_deg: geodetic latitude of the mean vertical of all these pixels.
        longitude_deg: its longitude, in [-180, 180).
        nadir_view: the view nearest to nadir of those that are located at all.
        latitude: (V, L, P) of the lines and pixels to keep [degrees].
        longitude: (V, L, P) [degrees].
    """

    lines: slice
    pixels: slice
    latitude_deg: float
    longitude_deg: float
    nadir_view: int
    latitude: NDArray[np.float32]
    longitude: NDArray[np.float32]


def survey(granule: Granule, bbox: BoundingBox | None, views_at_once: int) -> Survey:
    """Read the geolocation of all views once.

    Raises:
        GranuleError: no pixel has a place.
        UsageError: no pixel lies in the bounding box.
    """
    views, lines, pixels = granule.shape
    total, kept_per_view = np.zeros(3), np.zeros(views, dtype=int)
    any_line, any_pixel = np.zeros(lines, dtype=bool), np.zeros(pixels, dtype=bool)
    located = False
    latitudes, longitudes = (np.empty(granule.shape, dtype=np.float32) for _ in range(2))
    with closing(_places(granule, views_at_once)) as places:
        for block, (latitude, longitude) in places:
            latitudes[block], longitudes[block] = latitude, longitude
            keep = np.isfinite(latitude) & np.isfinite(longitude)
            located |= bool(keep.any())
            if bbox is not None:
                keep &= bbox.contains(latitude, longitude)
            some = _EVERY * np.flatnonzero(keep.ravel()[::_EVERY])
            if some.size < _FEW:
                some = np.flatnonzero(keep)
            total += surface_normal(latitude.ravel()[some], longitude.ravel()[some]).sum(axis=0)
            kept_per_view[block] = np.count_nonzero(keep, axis=(1, 2))
            any_line |= keep.any(axis=(0, 2))
            any_pixel |= keep.any(axis=(0, 1))
    if not located:
        raise GranuleError(f"{granule.path}: no pixel has a latitude and longitude; expected at least one")
    if not any_line.any():
        raise UsageError(
            f"{granule.path}: no pixel lies in the bounding box; expected one that meets the granule"
        )
    angles = np.where(kept_per_view > 0, np.abs(granule.view_angle_deg), np.inf)
    longitude_deg = float(np.degrees(np.arctan2(total[1], total[0])))
    kept_lines, kept_pixels = _span(any_line), _span(any_pixel)
    return Survey(
        lines=kept_lines,
        pixels=kept_pixels,
        latitude_deg=float(np.degrees(np.arctan2(total[2], np.hypot(total[0], total[1])))),
        longitude_deg=longitude_deg if longitude_deg < 180.0 else -180.0,
        nadir_view=int(np.argmin(angles)),
        latitude=latitudes[:, kept_lines, kept_pixels],
        longitude=longitudes[:, kept_lines, kept_pixels],
    )


def _places(granule: Granule, views_at_once: int) -> Generator[tuple[slice, tuple[Singles, Singles]]]:
    """Latitude and longitude of blocks of views; while one is worked on, the next is read."""

    def read(views: slice) -> tuple[Singles, Singles]:
        data = granule.read_lines(slice(0, granule.shape[1]), ("latitude", "longitude"), views)
        return data.latitude.to_numpy(), data.longitude.to_numpy()

    return read_ahead(read, list(blocks(granule.shape[0], views_at_once)))


def blocks(count: int, size: int) -> Iterator[slice]:
    """Consecutive blocks that cover so many; all but the last have the given size."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _span(flags: NDArray[np.bool_]) -> slice:
    """The shortest slice that holds every True."""
    where = np.flatnonzero(flags)
    return slice(int(where[0]), int(where[-1]) + 1)
