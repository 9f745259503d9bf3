"""A part of one latitude-longitude grid of the whole Earth, with levels that grow with height.

All cells are cut from one lattice: their edges are whole multiples of the step from the south pole and from
180 degrees west, their levels depend on thickness and growth alone. Extracts of different scenes with the
same steps therefore share their cells, and a mosaic needs no interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.grids.base import ALTITUDE_ATTRIBUTES, TINY, Coordinate, FloatArray, Slices, upright
from atmonr.extract.grids.geographic import GeographicGrid, horizontal_coordinate
from atmonr.geo.frame import Frame

DEFAULT_STEP_DEG = 0.05
DEFAULT_THICKNESS_M = 100.0
DEFAULT_GROWTH = 0.03
_SMALLEST_STEP_DEG = 1e-5
_POINTS_PER_SIDE = 1025
LEVELS_COMMENT = (
    "The edge below level k (from 0) is at h ((1 + r)^k - 1) / r metres above the ellipsoid, at h k for r = "
    "0, with the thickness h of the lowest level in metres and the growth r: each level is 1 + r times as "
    "thick as the one below. Centres are half-way between edges."
)


@dataclass(frozen=True)
class Lattice:
    """Cells all over the Earth.

    Attributes:
        step_deg: Size of a cell along latitude and longitude; 180 is a multiple of it.
        thickness_m: Of the lowest level.
        growth: By how much each level is thicker than the one below.
    """

    step_deg: float = DEFAULT_STEP_DEG
    thickness_m: float = DEFAULT_THICKNESS_M
    growth: float = DEFAULT_GROWTH

    def __post_init__(self) -> None:
        rows = 180.0 / self.step_deg if self.step_deg >= _SMALLEST_STEP_DEG else 0.0
        if round(rows) < 1 or abs(rows - round(rows)) > 1e-6:
            raise UsageError(
                f"--step-deg {self.step_deg:g}: expected a step that divides 180 degrees, such as 0.05"
            )
        if not (math.isfinite(self.thickness_m) and self.thickness_m > 0 and 0 <= self.growth <= 1):
            raise UsageError(
                f"levels of {self.thickness_m:g} m growing by {self.growth:g}: expected a positive thickness "
                "and a growth from 0 to 1"
            )

    @property
    def rows(self) -> int:
        """Cells from pole to pole."""
        return round(180.0 / self.step_deg)

    @property
    def columns(self) -> int:
        """Cells around the Earth."""
        return 2 * self.rows

    def latitude_deg(self, edge: NDArray[Any]) -> FloatArray:
        """Latitudes of edges counted from the south pole; halves are centres."""
        return np.asarray(edge * 180.0 / self.rows - 90.0)

    def longitude_deg(self, edge: NDArray[Any]) -> FloatArray:
        """Longitudes of edges counted from 180 degrees west; halves are centres."""
        return np.asarray(edge * 180.0 / self.rows - 180.0)

    def edges_m(self, levels: int) -> FloatArray:
        """Edges of the lowest levels [m above the ellipsoid], shape (levels + 1,)."""
        number = np.arange(levels + 1, dtype=np.float64)
        if self.growth == 0:
            return self.thickness_m * number
        return np.asarray(self.thickness_m * np.expm1(number * math.log1p(self.growth)) / self.growth)

    def levels_up_to(self, top_m: float) -> int:
        """The smallest number of levels that reaches a height."""
        if self.growth == 0:
            return max(math.ceil(top_m / self.thickness_m - TINY), 1)
        grown = math.log1p(top_m * self.growth / self.thickness_m) / math.log1p(self.growth)
        return max(math.ceil(grown - TINY), 1)


@dataclass(frozen=True)
class GlobalGrid(GeographicGrid):
    """A window of the lattice; axes are ordered altitude, latitude, longitude.

    Attributes:
        frame: Frame of the scene.
        lattice: What it is cut from.
        first: Row, counted from the south pole, and column, counted eastward from 180 degrees west, of its
            first cell; the window may go on across the dateline.
        shape: Number of cells along altitude, latitude and longitude.
    """

    frame: Frame
    lattice: Lattice
    first: tuple[int, int]
    shape: tuple[int, int, int]

    kind: ClassVar[str] = "global"
    dims: ClassVar[tuple[str, ...]] = ("z", "latitude", "longitude")

    def __post_init__(self) -> None:
        self._refuse_too_many_cells()

    @classmethod
    def covering(
        cls, frame: Frame, footprint_m: Sequence[float], top_m: float, lattice: Lattice
    ) -> GlobalGrid:
        """Return the window that holds a scene's footprint, from the ellipsoid up to at least `top_m`.

        Args:
            frame: Frame of the scene.
            footprint_m: West, south, east and north limits in the frame [m].
            top_m: Height to be covered [m above the ellipsoid].
            lattice: What it is cut from.

        Raises:
            UsageError: If the grid is too large.
        """
        latitude, longitude, _ = frame.to_geodetic(_border(footprint_m))
        row = np.floor((latitude + 90.0) / 180.0 * lattice.rows).astype(int)
        column = np.floor((longitude + 180.0) / 180.0 * lattice.rows).astype(int)
        south, north = int(row.min()), min(int(row.max()) + 1, lattice.rows)
        west, width = _around(column, lattice.columns)
        poles = [_inside(frame, footprint_m, pole) for pole in (-90.0, 90.0)]
        if any(poles):
            west, width = 0, lattice.columns
            south, north = (0 if poles[0] else south), (lattice.rows if poles[1] else north)
        levels = lattice.levels_up_to(top_m)
        return cls(frame, lattice, (south, west), (levels, north - south, width))

    @property
    def altitude_m(self) -> FloatArray:
        """Heights of the cell centres above the ellipsoid [m], upward."""
        return self.altitude_bounds_m.mean(-1)

    @property
    def altitude_bounds_m(self) -> FloatArray:
        """Lower and upper edges of the levels [m], shape (levels, 2)."""
        edges = self.lattice.edges_m(self.shape[0])
        return np.stack([edges[:-1], edges[1:]], axis=-1)

    @property
    def latitude_deg(self) -> FloatArray:
        """Of the rows' centres, northward."""
        return self.lattice.latitude_deg(self.first[0] + np.arange(self.shape[1]) + 0.5)

    @property
    def longitude_deg(self) -> FloatArray:
        """Of the columns' centres, eastward; more than 180 beyond the dateline."""
        return self.lattice.longitude_deg(self.first[1] + np.arange(self.shape[2]) + 0.5)

    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of columns, each of shape (rows, columns)."""
        rows, across = columns
        latitude, longitude = np.broadcast_arrays(self.latitude_deg[rows, None], self.longitude_deg[across])
        return latitude, longitude

    def heights_m(self, slices: Slices) -> FloatArray:
        """Return heights of levels [m], shape (n_altitude, 1, 1)."""
        return upright(self.altitude_m[slices[0]], 2)

    def coordinates(self) -> list[Coordinate]:
        """Return the centres and edges of the cells."""
        south, west = self.first
        rows, columns = south + np.arange(self.shape[1] + 1), west + np.arange(self.shape[2] + 1)
        latitude, longitude = self.lattice.latitude_deg(rows), self.lattice.longitude_deg(columns)
        return [
            Coordinate(
                "z",
                ("z",),
                self.altitude_m,
                {**ALTITUDE_ATTRIBUTES, "axis": "Z", "comment": LEVELS_COMMENT},
                self.altitude_bounds_m,
            ),
            horizontal_coordinate(
                "latitude",
                ("latitude",),
                self.latitude_deg,
                np.stack([latitude[:-1], latitude[1:]], -1),
                axis="Y",
            ),
            horizontal_coordinate(
                "longitude",
                ("longitude",),
                self.longitude_deg,
                np.stack([longitude[:-1], longitude[1:]], -1),
                axis="X",
            ),
        ]

    def attributes(self) -> dict[str, Any]:
        """Return what the lattice is made of."""
        return {
            "grid_comment": "cells of one lattice over the whole Earth: edges are multiples of the step from "
            "the south pole and from 180 degrees west",
            "horizontal_spacing_deg": self.lattice.step_deg,
            "lowest_level_thickness_m": self.lattice.thickness_m,
            "level_growth": self.lattice.growth,
        }

    def spanning(self, others: Sequence[GlobalGrid]) -> GlobalGrid:
        """Return the smallest window of the lattice that holds this one and others of the same lattice.

        Raises:
            UsageError: If it is too large.
        """
        windows = [self, *others]
        south = min(window.first[0] for window in windows)
        north = max(window.first[0] + window.shape[1] for window in windows)
        used = [window.first[1] + np.arange(window.shape[2]) for window in windows]
        west, width = _around(np.concatenate(used), self.lattice.columns)
        levels = max(window.shape[0] for window in windows)
        return replace(self, first=(south, west), shape=(levels, north - south, width))

    def column_of(self, other: GlobalGrid) -> int:
        """Return which of this window's columns is the first of another's that it holds."""
        return (other.first[1] - self.first[1]) % self.lattice.columns

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values."""
        return {
            "kind": self.kind,
            "frame": self.frame.to_json(),
            "step_deg": self.lattice.step_deg,
            "thickness_m": self.lattice.thickness_m,
            "growth": self.lattice.growth,
            "first": list(self.first),
            "shape": list(self.shape),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], stored: dict[str, FloatArray]) -> GlobalGrid:
        """Rebuild a grid from what `to_json` returned; nothing else is stored."""
        lattice = Lattice(*(float(values[key]) for key in ("step_deg", "thickness_m", "growth")))
        row, column = (int(value) for value in values["first"])
        levels, rows, columns = (int(value) for value in values["shape"])
        return cls(Frame.from_json(values["frame"]), lattice, (row, column), (levels, rows, columns))


def _border(footprint_m: Sequence[float]) -> FloatArray:
    """Points around a footprint, on the ellipsoid, shape (N, 3)."""
    west, south, east, north = (float(value) for value in footprint_m)
    y, x = np.linspace(south, north, _POINTS_PER_SIDE), np.linspace(west, east, _POINTS_PER_SIDE)
    sides = np.zeros((4, _POINTS_PER_SIDE, 3))
    sides[:2, :, 0], sides[0, :, 1], sides[1, :, 1] = x, south, north
    sides[2:, :, 1], sides[2, :, 0], sides[3, :, 0] = y, west, east
    return sides.reshape(-1, 3)


def _inside(frame: Frame, footprint_m: Sequence[float], latitude_deg: float) -> bool:
    """Whether a pole is in the footprint; it has no place in a frame on the other side of the Earth."""
    x, y, _ = frame.from_geodetic(latitude_deg, 0.0)
    west, south, east, north = footprint_m
    return bool(west <= x <= east and south <= y <= north)


def _around(columns: NDArray[np.int_], total: int) -> tuple[int, int]:
    """First column and width of the smallest window, across the dateline if need be, that holds columns."""
    used = np.unique(columns % total)
    gaps = np.diff(used, append=used[0] + total)
    widest = int(gaps.argmax())
    west = int(used[(widest + 1) % used.size])
    # A gap of one cell is none: neighbouring points may lie a cell apart.
    return west, total - int(gaps[widest]) + 1
