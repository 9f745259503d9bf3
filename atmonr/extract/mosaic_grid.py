"""The grid that several scenes are brought onto."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.geo.ellipsoid import surface_normal
from atmonr.geo.frame import Frame

# Here a length across the radius is 10 % too long: granules farther apart are no neighbours.
_FARTHEST_M = 5_000_000.0
_POINTS_PER_SIDE = 65
_TINY = 1e-6

FloatArray = NDArray[np.float64]


def common_grid(
    grids: Sequence[VoxelGrid], horizontal_step_m: float | None, vertical_step_m: float | None
) -> VoxelGrid:
    """Return the grid of a mosaic.

    Where all grids are cut from one lattice, and its steps are wanted, it is the smallest part of that
    lattice that holds them all, and no cell has to be interpolated. Otherwise its frame is centred on the
    union.

    Args:
        grids: Those of the scenes.
        horizontal_step_m: Cell size along x and y; the finest of the scenes by default.
        vertical_step_m: Cell size along altitude; likewise.

    Raises:
        UsageError: If the scenes are too far apart, a step is not positive, or there are too many cells.
    """
    horizontal = min(grid.step_m[1] for grid in grids) if horizontal_step_m is None else horizontal_step_m
    vertical = min(grid.step_m[0] for grid in grids) if vertical_step_m is None else vertical_step_m
    steps = (vertical, horizontal, horizontal)
    if all(_on_lattice(grid, grids[0], steps) for grid in grids):
        return _spanning(grids)
    frame = _central_frame(grids)
    footprint = _bounds(grids, frame)
    top = max(grid.shape[0] * grid.step_m[0] for grid in grids)
    if not np.isfinite(footprint).all() or max(np.abs(footprint)) > _FARTHEST_M:
        raise UsageError(
            f"the scenes reach more than {_FARTHEST_M / 1000:.0f} km from their common centre; "
            "expected neighbouring granules: merge fewer at a time"
        )
    west, south, east, north = footprint
    frame = Frame(frame.latitude_deg, frame.longitude_deg, (west, south, 0.0), (east, north, top))
    return VoxelGrid.covering(frame, footprint, top, horizontal_step_m=horizontal, vertical_step_m=vertical)


def same_place(a: Frame, b: Frame) -> bool:
    """Whether two frames give the same coordinates to every place."""
    return (a.latitude_deg, a.longitude_deg) == (b.latitude_deg, b.longitude_deg)


def _on_lattice(grid: VoxelGrid, other: VoxelGrid, step_m: tuple[float, float, float]) -> bool:
    if not same_place(grid.frame, other.frame) or grid.step_m != step_m:
        return False
    shift = (np.subtract(grid.first_m, other.first_m)) / step_m
    return bool((np.abs(shift - np.rint(shift)) < _TINY).all())


def _spanning(grids: Sequence[VoxelGrid]) -> VoxelGrid:
    """The smallest part of a lattice that holds grids cut from it."""
    step = np.array(grids[0].step_m)
    first = np.min([grid.first_m for grid in grids], axis=0)
    last = np.max([np.add(grid.first_m, step * (np.array(grid.shape) - 1)) for grid in grids], axis=0)
    z, y, x = (float(value) for value in first)
    nz, ny, nx = (int(count) + 1 for count in np.rint((last - first) / step))
    return VoxelGrid(grids[0].frame, (z, y, x), grids[0].step_m, (nz, ny, nx))


def _central_frame(grids: Sequence[VoxelGrid]) -> Frame:
    """A frame in the middle of the scenes."""
    mean = np.zeros(3)
    for grid in grids:
        latitude, longitude, _ = grid.frame.to_geodetic(_border(grid))
        mean += np.nansum(surface_normal(latitude, longitude), axis=0)
    # Nothing lies in the middle of scenes on opposite sides of the Earth: any frame shows that they are far.
    frame = _frame(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1]))), _degrees(mean[1], mean[0]))
    west, south, east, north = _bounds(grids, frame)
    middle = np.array([(west + east) / 2, (south + north) / 2, 0.0])
    latitude, longitude, _ = frame.to_geodetic(middle)
    return _frame(latitude, longitude) if np.isfinite(latitude) else frame


def _frame(latitude_deg: FloatArray, longitude_deg: FloatArray) -> Frame:
    return Frame(float(latitude_deg), float(longitude_deg), (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))


def _degrees(y: float, x: float) -> FloatArray:
    return np.degrees(np.arctan2(y, x))


def _bounds(grids: Sequence[VoxelGrid], frame: Frame) -> tuple[float, float, float, float]:
    """West, south, east and north limits of the grids in a frame [m]; NaN if one is on the far side."""
    borders = [
        _border(grid) if same_place(grid.frame, frame) else frame.from_ecef(grid.frame.to_ecef(_border(grid)))
        for grid in grids
    ]
    points = np.concatenate(borders)[:, :2]
    (west, south), (east, north) = points.min(0), points.max(0)
    return float(west), float(south), float(east), float(north)


def _border(grid: VoxelGrid) -> FloatArray:
    """Points on the outer edge of a grid's cells, on the ellipsoid, in its own frame, shape (N, 3)."""
    (y0, y1), (x0, x1) = (edges(grid, axis) for axis in (1, 2))
    y, x = np.linspace(y0, y1, _POINTS_PER_SIDE), np.linspace(x0, x1, _POINTS_PER_SIDE)
    points = np.zeros((4, _POINTS_PER_SIDE, 3))
    points[0, :, 0], points[0, :, 1] = x, y0
    points[1, :, 0], points[1, :, 1] = x, y1
    points[2, :, 0], points[2, :, 1] = x0, y
    points[3, :, 0], points[3, :, 1] = x1, y
    return points.reshape(-1, 3)


def edges(grid: VoxelGrid, axis: int) -> tuple[float, float]:
    """Outer edges of the first and the last cell along altitude, y or x [m]."""
    first, step, count = grid.first_m[axis], grid.step_m[axis], grid.shape[axis]
    return first - step / 2, first + step * (count - 0.5)
