"""A map of the ground, north up: kilometres in a local frame, with the grid of latitude and longitude on it.

The frame knows no special place, so the map is right over a pole and across the dateline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from atmonr.geo.ellipsoid import ecef_to_geodetic, geodetic_to_ecef
from atmonr.geo.frame import Frame

FloatArray = NDArray[np.float64]

_LINES = 5  # of latitude and of longitude, about
_POINTS = 400  # of each line that is drawn
# A cell of the map shows the nearest pixel, unless that is farther away than so many distances of pixels.
_REACH = 1.5


@dataclass(frozen=True)
class Ground:
    """Cells of a map.

    Attributes:
        frame: Its frame.
        x_m: Middles of the cells eastward [m], ascending, evenly spaced, shape (X,).
        y_m: Likewise northward, shape (Y,).
    """

    frame: Frame
    x_m: FloatArray
    y_m: FloatArray

    @classmethod
    def around(cls, latitude_deg: ArrayLike, longitude_deg: ArrayLike, max_cells: int) -> Ground:
        """Return a map of all places that are given, its cells as large as pixels, or larger if need be.

        Args:
            latitude_deg: Of the pixels of an image, shape (line, pixel); NaN where unknown.
            longitude_deg: Likewise.
            max_cells: Along each side.
        """
        latitude, longitude = (np.asarray(v, np.float64) for v in (latitude_deg, longitude_deg))
        known = np.isfinite(latitude) & np.isfinite(longitude)
        middle = geodetic_to_ecef(latitude[known], longitude[known], 0.0).mean(axis=0)
        centre_latitude, centre_longitude, _ = (float(v) for v in ecef_to_geodetic(middle))
        frame = Frame(centre_latitude, centre_longitude, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))
        place = frame.from_geodetic(latitude, longitude)[..., :2]
        low, high = np.nanmin(place, axis=(0, 1)), np.nanmax(place, axis=(0, 1))
        step = max(_spacing(place), float((high - low).max()) / max_cells) or 1.0
        cells = np.ceil((high - low) / step - 0.01).astype(int) + 1  # rounding shall not add an empty row
        x, y = (start + step * np.arange(n) for start, n in zip(low, cells, strict=True))
        return cls(frame, x, y)

    def show(self, values: ArrayLike, latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> FloatArray:
        """Return what pixels at some places show on the cells of the map.

        Args:
            values: Of the pixels, any shape; NaN where unknown.
            latitude_deg: Of the pixels, of the same shape.
            longitude_deg: Likewise.

        Returns:
            (Y, X) values of the nearest pixels; NaN where none is near, or what it shows is unknown.
        """
        values = np.asarray(values, np.float64)
        image = np.full((self.y_m.size, self.x_m.size), np.nan)
        place = self.frame.from_geodetic(latitude_deg, longitude_deg)[..., :2]
        placed = np.isfinite(place).all(-1)
        if not placed.any():
            return image
        reach = _REACH * max(_spacing(place), float(np.diff(self.x_m[:2]).max(initial=0.0)))
        cells = np.stack(np.meshgrid(self.x_m, self.y_m), axis=-1)
        distance, nearest = cKDTree(place[placed]).query(cells, distance_upper_bound=reach)
        near = np.isfinite(distance)
        image[near] = values[placed][nearest[near]]
        return image

    @property
    def edges_km(self) -> tuple[float, float, float, float]:
        """West, east, south and north edge [km], as imshow's extent takes them."""
        return (*_ends_km(self.x_m), *_ends_km(self.y_m))


def draw_graticule(axis: Axes, ground: Ground) -> None:
    """Draw lines of equal latitude and longitude with their names, and label the axes."""
    x, y = np.meshgrid(*(np.linspace(values[0], values[-1], 60) for values in (ground.x_m, ground.y_m)))
    latitude, longitude, _ = ground.frame.to_geodetic(np.stack([x, y, np.zeros_like(x)], axis=-1))
    from_centre = _wrapped(longitude - ground.frame.longitude_deg)
    pole = ground.frame.from_geodetic([-90.0, 90.0], [0.0, 0.0])[:, :2]
    west, east, south, north = (1e3 * edge for edge in ground.edges_km)
    over_pole = (
        (pole[:, 0] > west) & (pole[:, 0] < east) & (pole[:, 1] > south) & (pole[:, 1] < north)
    ).any()
    if over_pole:
        meridians = np.arange(-180.0, 180.0, 45.0)
        along = np.linspace(-180.0, 180.0, _POINTS)
    else:
        low, high = ground.frame.longitude_deg + np.array([from_centre.min(), from_centre.max()])
        meridians = np.asarray(MaxNLocator(_LINES).tick_values(low, high))
        along = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), _POINTS)
    levels = np.asarray(MaxNLocator(_LINES).tick_values(float(latitude.min()), float(latitude.max())))
    parallels = levels[np.abs(levels) < 90.0]
    reach = float(np.ptp(latitude))
    across = np.linspace(
        max(latitude.min() - 0.1 * reach, -90.0), min(latitude.max() + 0.1 * reach, 90.0), _POINTS
    )
    if over_pole and ground.frame.latitude_deg < 0.0:
        across = across[::-1]  # names stand at the border, not at the pole
    for value in meridians:
        _line(axis, ground, across, np.full(_POINTS, value), degrees(float(_wrapped(value)), "E", "W"))
    for value in parallels:
        _line(axis, ground, np.full(_POINTS, value), along, degrees(value, "N", "S"))
    centre = degrees(ground.frame.latitude_deg, "N", "S"), degrees(ground.frame.longitude_deg, "E", "W")
    axis.set(
        xlim=(west / 1e3, east / 1e3),
        ylim=(south / 1e3, north / 1e3),
        aspect="equal",
        xlabel=f"km east of {centre[0]}, {centre[1]}",
        ylabel="km north",
    )


def degrees(value: float, positive: str, negative: str) -> str:
    """Return a latitude or longitude as text, such as 61.5°W."""
    return f"{abs(value):.3f}".rstrip("0").rstrip(".") + "°" + (negative if value < 0 else positive)


def _line(axis: Axes, ground: Ground, latitude: FloatArray, longitude: FloatArray, name: str) -> None:
    """Draw one line, and its name where it enters the map."""
    x, y = (ground.frame.from_geodetic(latitude, longitude)[..., :2] / 1e3).T
    west, east, south, north = ground.edges_km
    inside = np.flatnonzero((x > west) & (x < east) & (y > south) & (y < north))
    if inside.size == 0:
        return
    axis.plot(x, y, color="white", linewidth=1.4, alpha=0.5, zorder=3)
    axis.plot(x, y, color="black", linewidth=0.5, alpha=0.8, zorder=3)
    box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.0}
    first = inside[0]
    if x[first] < east - 0.1 * (east - west):  # else the name would be cut
        axis.text(x[first], y[first], name, fontsize=7, zorder=4, bbox=box, va="bottom", clip_on=True)


def _wrapped(longitude_deg: ArrayLike) -> FloatArray:
    """Longitudes in [-180, 180)."""
    return np.asarray((np.asarray(longitude_deg, np.float64) + 180.0) % 360.0 - 180.0)


def _spacing(place: FloatArray) -> float:
    """Median distance of neighbouring pixels [m], the larger of both directions."""
    steps = [np.linalg.norm(np.diff(place, axis=axis), axis=-1) for axis in (0, 1)]
    return max((float(np.median(s[np.isfinite(s)])) for s in steps if np.isfinite(s).any()), default=0.0)


def _ends_km(middles: FloatArray) -> tuple[float, float]:
    half = (middles[1] - middles[0]) / 2 if middles.size > 1 else 0.5e3
    return float(middles[0] - half) / 1e3, float(middles[-1] + half) / 1e3
