"""One scene of a mosaic: its value and its weight at any place, read from the shards that are needed."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from atmonr.extract.columns import column_numbers
from atmonr.extract.footprint import Footprint
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.mosaic_grid import edges, same_place
from atmonr.extract.parts import Parts
from atmonr.extract.shards import Shard
from atmonr.geo.frame import Frame

_CACHE_BYTES = 256 << 20
# Rounding must not turn a cell that is copied into one that is interpolated.
_SNAP_CELLS = 1e-6
_MOST_SAMPLES = 8

FloatArray = NDArray[np.float64]
Values = NDArray[np.float32]


@dataclass
class ShardCache:
    """The shards used last, decoded, of all scenes together; bounds what a mosaic holds in memory.

    Attributes:
        limit_bytes: How much to keep; one shard is kept even if it is larger.
    """

    limit_bytes: int = _CACHE_BYTES
    _kept: OrderedDict[tuple[str, str], Values] = field(default_factory=OrderedDict)

    def get(self, parts: Parts, shard: Shard) -> Values:
        """Return a checked shard's extinction [m^-1], shape (band, altitude, y, x)."""
        key = (str(parts.path), shard.name)
        if key not in self._kept:
            # Room is made before the shard is read, not after.
            size = parts.bands * math.prod(b - a for a, b in zip(shard.start, shard.stop, strict=True)) * 4
            while self._kept and size + sum(v.nbytes for v in self._kept.values()) > self.limit_bytes:
                self._kept.popitem(last=False)
            self._kept[key] = parts.read(shard)
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True)
class Columns:
    """Columns of air of the mosaic, in the frame of one scene.

    Attributes:
        xy_m: Places, shape (y, x, 2).
        distance_m: How far each is inside the scene's edge, shape (y, x); not positive outside.
    """

    xy_m: FloatArray
    distance_m: FloatArray


@dataclass(frozen=True)
class Member:
    """One scene of a mosaic.

    Attributes:
        parts: Its extraction.
        name: What the mosaic calls it.
        cache: Where its shards are kept.
    """

    parts: Parts
    name: str
    cache: ShardCache

    @cached_property
    def grid(self) -> VoxelGrid:
        """The grid it was extracted on."""
        grid = self.parts.grid
        if not isinstance(grid, VoxelGrid):
            raise TypeError(f"a member of a mosaic of voxels is on a {grid.kind} grid")
        return grid

    @cached_property
    def top_m(self) -> float:
        """Height up to which it has cells."""
        return edges(self.grid, 0)[1]

    def columns(self, target: VoxelGrid, rows: slice, columns: slice) -> Columns:
        """Return columns of a grid as this scene sees them."""
        layer = target.points((slice(0, 1), rows, columns))[0]
        xy = self._seen_from(target.frame, layer)
        return Columns(xy, self._footprint.distance_m(xy))

    def levels(self, heights_m: FloatArray) -> NDArray[np.bool_]:
        """Which heights it has cells at."""
        return heights_m < self.top_m * (1 + _SNAP_CELLS)

    def surface(self, columns: Columns) -> Values:
        """Return the height of the ground under columns [m], that of its own nearest; NaN if unknown."""
        known = self._ground
        if known is None:
            return np.full(columns.distance_m.shape, np.nan, np.float32)
        row, column = (
            np.clip(np.rint((at - first) / step), 0, count - 1)
            for at, first, step, count in zip(
                np.moveaxis(np.nan_to_num(columns.xy_m[..., ::-1]), -1, 0),
                self.grid.first_m[1:],
                self.grid.step_m[1:],
                self.grid.shape[1:],
                strict=True,
            )
        )
        return known[row.astype(int), column.astype(int)]

    def average(self, target: VoxelGrid, rows: slice, columns: slice) -> Values:
        """Return its extinction [m^-1] in cells of a grid, whole columns, shape (band, altitude, y, x).

        Linear between its own cell centres, constant in the outer half of its outermost cells; the mean over
        points that divide a larger cell evenly. Where it has no cells, values are whatever is near.
        """
        nz, ny, nx = (_samples(a, b) for a, b in zip(target.step_m, self.grid.step_m, strict=True))
        inside = self.columns(target, rows, columns).distance_m > 0
        layer = target.points((slice(0, 1), rows, columns))[0]
        total: Values | None = None
        for v, u in product(_offsets(ny), _offsets(nx)):
            moved = layer + np.array([u * target.step_m[2], v * target.step_m[1], 0.0])
            xy = self._seen_from(target.frame, moved)
            # Columns that do not count must not make more cells be read.
            xy = np.where(inside[..., None], xy, xy[inside][0])
            for w in _offsets(nz):
                values = self._interpolate(xy, target.altitude_m + w * target.step_m[0])
                total = values if total is None else total + values
        if total is None:
            raise ValueError("no samples")
        return total if nz * ny * nx == 1 else total / np.float32(nz * ny * nx)

    @cached_property
    def _footprint(self) -> Footprint:
        """The part of the extract's box where images looked."""
        (south, north), (west, east) = edges(self.grid, 1), edges(self.grid, 2)
        return Footprint.of(self.parts.plan["source"]["scene"], (west, south, east, north))

    @cached_property
    def _ground(self) -> Values | None:
        return column_numbers(self.parts)[0]

    def _seen_from(self, frame: Frame, layer: FloatArray) -> FloatArray:
        """Places (..., 3) of another frame in this scene's, (..., 2); their verticals are the same."""
        if same_place(frame, self.grid.frame):
            return layer[..., :2]
        latitude, longitude, _ = frame.to_geodetic(layer)
        return self.grid.frame.from_geodetic(latitude, longitude)[..., :2]

    def _interpolate(self, xy_m: FloatArray, heights_m: FloatArray) -> Values:
        (below, fz), (south, fy), (west, fx) = (
            _neighbour(at, self.grid, axis) for axis, at in enumerate((heights_m, xy_m[..., 1], xy_m[..., 0]))
        )
        rows = slice(int(south.min()), min(int(south.max()) + 2, self.grid.shape[1]))
        columns = slice(int(west.min()), min(int(west.max()) + 2, self.grid.shape[2]))
        cells = self._read(rows, columns)
        above = np.minimum(below + 1, self.grid.shape[0] - 1)
        cells = _mix(cells[:, below], cells[:, above], fz[:, None, None]) if fz.any() else cells[:, below]
        south, west = south - rows.start, west - columns.start
        north, east = np.minimum(south + 1, cells.shape[2] - 1), np.minimum(west + 1, cells.shape[3] - 1)
        if not (fx.any() or fy.any()):
            return cells[:, :, south, west]
        return _mix(
            _mix(cells[:, :, south, west], cells[:, :, south, east], fx),
            _mix(cells[:, :, north, west], cells[:, :, north, east], fx),
            fy,
        )

    def _read(self, rows: slice, columns: slice) -> Values:
        """Return a range of columns, shape (band, altitude, y, x)."""
        shape = (self.parts.bands, self.grid.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        cells = np.empty(shape, np.float32)
        _, height, width = self.grid.shard_shape
        for index in product(_touched(rows, height), _touched(columns, width)):
            shard = self._shards[index]
            (y, from_y), (x, from_x) = (
                _common(asked, had) for asked, had in zip((rows, columns), shard.slices[1:], strict=True)
            )
            cells[:, :, y, x] = self.cache.get(self.parts, shard)[:, :, from_y, from_x]
        return cells

    @cached_property
    def _shards(self) -> dict[tuple[int, int], Shard]:
        # Shards are whole columns: there is one layer of them.
        return {(shard.index[1], shard.index[2]): shard for shard in self.parts.shards}


def _neighbour(at_m: FloatArray, grid: VoxelGrid, axis: int) -> tuple[NDArray[np.intp], Values]:
    """Index of the cell centre below a place along an axis, and the fraction of the way to the next."""
    count = grid.shape[axis]
    position = np.clip((at_m - grid.first_m[axis]) / grid.step_m[axis], 0, count - 1)
    nearest = np.rint(position)
    position = np.where(np.abs(position - nearest) < _SNAP_CELLS, nearest, position)
    low = np.minimum(position.astype(np.intp), max(count - 2, 0))
    return low, (position - low).astype(np.float32)


def _mix(a: Values, b: Values, fraction: Values) -> Values:
    """From a to b; exactly a or b at the ends."""
    return a * (1 - fraction) + b * fraction


def _samples(step_m: float, own_step_m: float) -> int:
    """Points along an axis of a cell, so that none of the scene's cells is stepped over."""
    return min(max(math.ceil(step_m / own_step_m - _SNAP_CELLS), 1), _MOST_SAMPLES)


def _offsets(n: int) -> FloatArray:
    """Centres of n equal parts of a cell from -1/2 to 1/2."""
    return (np.arange(n) + 0.5) / n - 0.5


def _touched(cells: slice, size: int) -> range:
    return range(cells.start // size, (cells.stop - 1) // size + 1)


def _common(asked: slice, had: slice) -> tuple[slice, slice]:
    """What two ranges share, counted from the start of each."""
    start, stop = max(asked.start, had.start), min(asked.stop, had.stop)
    return slice(start - asked.start, stop - asked.start), slice(start - had.start, stop - had.start)
