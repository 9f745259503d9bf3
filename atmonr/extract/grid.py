"""The grid an extract is written on: exactly the spacing that was asked for, in metres."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.geo.frame import Frame

MAX_CELLS = 2_000_000_000
# A step that divides the extent but for rounding must not add a sliver of one more cell.
_TINY = 1e-9
# Chunks of 32 cells an edge (128 KiB) serve a level and a column about equally well.
_CHUNK_CELLS = 32
_MAX_SHARD_CELLS = 256
_ENOUGH_SHARDS = 256
_ROWS_AT_ONCE = 256

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class VoxelGrid:
    """A box of equal cells in the coordinates of a frame; axes are ordered altitude, y, x.

    Attributes:
        frame: The local frame in which x and y are metres and columns are vertical.
        first_m: Centre of the first cell along altitude, y and x [m].
        step_m: Size of a cell along altitude, y and x [m].
        shape: Number of cells along altitude, y and x.
    """

    frame: Frame
    first_m: tuple[float, float, float]
    step_m: tuple[float, float, float]
    shape: tuple[int, int, int]

    dims: ClassVar[tuple[str, str, str]] = ("altitude", "y", "x")

    def __post_init__(self) -> None:
        if math.prod(self.shape) > MAX_CELLS:
            cells = " x ".join(str(n) for n in self.shape)
            raise UsageError(
                f"the grid would have {cells} cells (altitude, y, x), more than {MAX_CELLS:.0e}; "
                "ask for a larger step, or for less: a smaller box, a lower top or fewer scenes"
            )

    @classmethod
    def covering(
        cls,
        frame: Frame,
        footprint_m: Sequence[float],
        top_m: float,
        *,
        horizontal_step_m: float,
        vertical_step_m: float,
        bbox_deg: Sequence[float] | None = None,
    ) -> VoxelGrid:
        """Return the grid of a scene's footprint, from the ellipsoid up to at least `top_m`.

        The number of cells is the smallest that covers the footprint; what they cover too much is shared
        equally by opposite sides. The lowest cells stand on the ellipsoid.

        Args:
            frame: Frame of the scene.
            footprint_m: West, south, east and north limits in the frame [m].
            top_m: Height to be covered [m above the ellipsoid].
            horizontal_step_m: Cell size along x and y [m].
            vertical_step_m: Cell size along altitude [m].
            bbox_deg: Keep only the rows and columns with a cell centre inside west, south, east, north
                [degrees]; west > east crosses the dateline.

        Raises:
            UsageError: If a size is not positive, the box holds no cell, or the grid is too large.
        """
        west, south, east, north = (float(v) for v in footprint_m)
        y, dy, ny = _axis("horizontal", south, north, horizontal_step_m, centred=True)
        x, dx, nx = _axis("horizontal", west, east, horizontal_step_m, centred=True)
        # Last, because its step follows from the horizontal one unless it is given.
        z, dz, nz = _axis("vertical", 0.0, float(top_m), vertical_step_m, centred=False)
        if bbox_deg is None:
            return cls(frame, (z, y, x), (dz, dy, dx), (nz, ny, nx))
        layer = cls(frame, (z, y, x), (dz, dy, dx), (1, ny, nx))
        (y0, y1), (x0, x1) = layer._rows_and_columns_inside(bbox_deg)
        return cls(frame, (z, y + y0 * dy, x + x0 * dx), (dz, dy, dx), (nz, y1 - y0, x1 - x0))

    @property
    def altitude_m(self) -> FloatArray:
        """Heights of the cell centres above the ellipsoid [m], upward, shape (n_altitude,)."""
        return self._centres(0)

    @property
    def y_m(self) -> FloatArray:
        """Northward frame coordinates of the cell centres [m], shape (n_y,)."""
        return self._centres(1)

    @property
    def x_m(self) -> FloatArray:
        """Eastward frame coordinates of the cell centres [m], shape (n_x,)."""
        return self._centres(2)

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Cells of one chunk, the unit of compression and of reading."""
        z, y, x = (min(n, _CHUNK_CELLS) for n in self.shape)
        return z, y, x

    @property
    def shard_shape(self) -> tuple[int, int, int]:
        """Cells of one shard, the unit of work and of writing; a multiple of `chunk_shape`.

        Shards are whole columns. They grow with the grid, so that a small grid still has work for many
        ranks and a large one does not become a folder of many thousand files. They depend on the grid
        alone, never on the number of ranks, so that another number of ranks can finish the work.
        """
        cz, cy, cx = self.chunk_shape
        edge = _CHUNK_CELLS
        while edge < _MAX_SHARD_CELLS and self._tiles(edge) > _ENOUGH_SHARDS:
            edge *= 2
        times = edge // _CHUNK_CELLS
        return (cz * math.ceil(self.shape[0] / cz), cy * times, cx * times)

    def coords(self) -> dict[str, FloatArray]:
        """Return the cell-centre coordinates by dimension name [m]."""
        return {"altitude": self.altitude_m, "y": self.y_m, "x": self.x_m}

    def points(self, slices: tuple[slice, slice, slice]) -> FloatArray:
        """Return the centres of a block of cells as frame coordinates.

        Args:
            slices: Index ranges along altitude, y and x.

        Returns:
            (x, y, height) [m], shape (n_altitude, n_y, n_x, 3): the very numbers `coords` gives.
        """
        z, y, x = (self._centres(axis)[part] for axis, part in enumerate(slices))
        points = np.empty((z.size, y.size, x.size, 3))
        points[..., 0] = x
        points[..., 1] = y[:, None]
        points[..., 2] = z[:, None, None]
        return points

    def latitude_longitude(
        self, rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of columns of air, each of shape (n_rows, n_columns)."""
        layer = self.points((slice(0, 1), rows, columns))[0]
        latitude, longitude, _ = self.frame.to_geodetic(layer)
        return latitude, longitude

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values."""
        return {
            "kind": "voxel",
            "frame": self.frame.to_json(),
            "first_m": list(self.first_m),
            "step_m": list(self.step_m),
            "shape": list(self.shape),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> VoxelGrid:
        """Rebuild a grid from what `to_json` returned."""
        first, step, shape = (
            (z, y, x) for z, y, x in (values[key] for key in ("first_m", "step_m", "shape"))
        )
        return cls(Frame.from_json(values["frame"]), first, step, shape)

    @property
    def digest(self) -> str:
        """SHA-256 of the grid's definition."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def _centres(self, axis: int) -> FloatArray:
        # Never linspace between rounded ends: that stretches the step.
        return self.first_m[axis] + self.step_m[axis] * np.arange(self.shape[axis], dtype=np.float64)

    def _tiles(self, edge: int) -> int:
        return math.ceil(self.shape[1] / edge) * math.ceil(self.shape[2] / edge)

    def _rows_and_columns_inside(self, bbox_deg: Sequence[float]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Index ranges of the rows and columns with a centre inside a geographic box.

        The test is made on the cells' own latitude and longitude, so that it holds at the poles and across
        the dateline, where the corners of the box say little about the frame.
        """
        west, south, east, north = (float(v) for v in bbox_deg)
        asked = f"--bbox {west:g} {south:g} {east:g} {north:g}"
        if not (-90 <= south < north <= 90 and -360 <= west <= 360 and -360 <= east <= 360 and west != east):
            raise UsageError(
                f"{asked}: expected west, south, east and north in degrees "
                "with -90 <= south < north <= 90 and different west, east within -360 to 360"
            )
        # 0 would mean an empty range, yet -180 to 180 means every longitude.
        width = (east - west) % 360 or 360.0
        in_row = np.zeros(self.shape[1], bool)
        in_column = np.zeros(self.shape[2], bool)
        for row in range(0, self.shape[1], _ROWS_AT_ONCE):
            rows = slice(row, row + _ROWS_AT_ONCE)
            latitude, longitude = self.latitude_longitude(rows)
            inside = (latitude >= south) & (latitude <= north) & ((longitude - west) % 360 <= width)
            in_row[rows] = inside.any(1)
            in_column |= inside.any(0)
        if not in_row.any():
            raise UsageError(
                f"{asked}: no cell of the scene lies inside; "
                "expected west, south, east and north in degrees within the scene"
            )
        return _span(in_row), _span(in_column)


def _axis(what: str, low: float, high: float, step_m: float, *, centred: bool) -> tuple[float, float, int]:
    """First centre, step and number of cells covering low to high."""
    if not (math.isfinite(step_m) and step_m > 0 and high > low):
        raise UsageError(
            f"{what} grid from {low:g} to {high:g} m in steps of {step_m:g} m: "
            "expected a positive extent and step"
        )
    extent = (high - low) / step_m
    if extent > MAX_CELLS:
        raise UsageError(
            f"{what} step of {step_m:g} m is too fine for {high - low:g} m: ask for a larger step"
        )
    n = max(math.ceil(extent - _TINY), 1)
    start = (low + high - n * step_m) / 2 if centred else low
    return start + step_m / 2, float(step_m), n


def _span(present: NDArray[np.bool_]) -> tuple[int, int]:
    hit = np.flatnonzero(present)
    return int(hit[0]), int(hit[-1]) + 1
