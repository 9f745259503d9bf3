"""Several scenes as one product: a common grid, weights, and a record of what came from where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr.extract.blend import Blend
from atmonr.extract.columns import SURFACE
from atmonr.extract.granules import Named, attributes_of, define_flags, in_order
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.member import Member, ShardCache, Values
from atmonr.extract.mosaic_grid import common_grid
from atmonr.extract.netcdf import Product, define
from atmonr.extract.overlap import Overlap
from atmonr.extract.parts import Parts
from atmonr.extract.shards import shards

# Bounds what is interpolated at a time.
_CELLS_AT_ONCE = 1 << 22
_SMALLEST_EDGE = 32
_RESAMPLING = (
    "linear between cell centres of the granules along altitude, y and x; cells that coincide with those of "
    "the only granule there are copied"
)


def members_of(parts: Sequence[Parts]) -> list[Member]:
    """Return the scenes of a mosaic in the order of their time."""
    cache = ShardCache()
    return [Member(granule.parts, granule.name, cache) for granule in in_order(parts)]


def write_mosaic(
    dataset: netCDF4.Dataset,
    members: Sequence[Member],
    wavelengths_nm: tuple[float, ...],
    *,
    horizontal_step_m: float | None,
    vertical_step_m: float | None,
) -> None:
    """Write a mosaic into a new file, some columns at a time.

    Args:
        dataset: Open for writing, empty.
        members: The scenes.
        wavelengths_nm: Of the bands; none if they share one extinction.
        horizontal_step_m: Cell size along x and y; the finest of the scenes by default.
        vertical_step_m: Cell size along altitude; likewise.

    Raises:
        UsageError: If there is no grid for these scenes.
        SceneError: If a shard is damaged.
    """
    grid = common_grid([member.grid for member in members], horizontal_step_m, vertical_step_m)
    granules = [Named(member.parts, member.name) for member in members]
    about = {**attributes_of(granules), "mosaic_resampling": _RESAMPLING}
    surface = members[0].parts.plan["source"].get(SURFACE)
    product = Product(grid, wavelengths_nm, surface=surface, attributes=about)
    extinction = define(dataset, product)
    flags = define_flags(dataset, product, [granule.name for granule in granules])
    extinction.ancillary_variables = " ".join([flags.name, *(["surface_altitude"] if surface else [])])
    overlaps = {pair: Overlap() for pair in combinations(range(len(members)), 2)}
    bands = len(wavelengths_nm) or 1
    for rows, columns in _blocks(grid, bands, members):
        blend = compose(members, grid, bands, rows, columns, overlaps)
        flags[:, rows, columns] = blend.seen
        if surface:
            dataset["surface_altitude"][rows, columns] = blend.surface_m
        if wavelengths_nm:
            extinction[:, :, rows, columns] = blend.mean
        else:
            extinction[:, rows, columns] = blend.mean[0]
    found = [
        {"granules": [members[a].name, members[b].name], **overlap.summary()}
        for (a, b), overlap in overlaps.items()
        if overlap.columns
    ]
    dataset.setncattr("overlaps", json.dumps(found))


def compose(
    members: Sequence[Member],
    grid: VoxelGrid,
    bands: int,
    rows: slice,
    columns: slice,
    overlaps: dict[tuple[int, int], Overlap],
) -> Blend:
    """Return a block of the mosaic."""
    shape = (grid.shape[0], rows.stop - rows.start, columns.stop - columns.start)
    blend = Blend.of_nothing(bands, shape, len(members))
    present: dict[int, tuple[NDArray[np.bool_], Values]] = {}
    for bit, member in enumerate(members):
        seen = member.columns(grid, rows, columns)
        inside, levels = seen.distance_m > 0, member.levels(grid.altitude_m)
        if not inside.any():
            continue
        values = member.average(grid, rows, columns)
        own = np.where(inside, seen.distance_m, 0.0).astype(np.float32) ** 2
        blend.add(bit, values, own * levels[:, None, None])
        blend.add_surface(member.surface(seen), own)
        present[bit] = inside, values.mean(0)
    _compare(members, grid, rows, columns, present, overlaps)
    blend.finish(grid.heights_m((slice(None), rows, columns)))
    return blend


def _compare(
    members: Sequence[Member],
    grid: VoxelGrid,
    rows: slice,
    columns: slice,
    present: dict[int, tuple[NDArray[np.bool_], Values]],
    overlaps: dict[tuple[int, int], Overlap],
) -> None:
    """Note the optical depths of columns that two scenes share, over the heights that both have."""
    width = grid.shape[2]
    number = np.arange(rows.start, rows.stop)[:, None] * width + np.arange(columns.start, columns.stop)
    for (a, (inside_a, values_a)), (b, (inside_b, values_b)) in combinations(present.items(), 2):
        both = inside_a & inside_b
        levels = members[a].levels(grid.altitude_m) & members[b].levels(grid.altitude_m)
        depths = (values[levels].sum(0)[both] * grid.step_m[0] for values in (values_a, values_b))
        overlaps[a, b].add(number[both], *depths)


def _blocks(grid: VoxelGrid, bands: int, members: Sequence[Member]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the mosaic, neighbours after one another so that shards are read once."""
    cells = bands * grid.shape[0]
    # Where a scene is finer than the mosaic its cells are what takes memory.
    finer = max(math.ceil(grid.step_m[1] / member.grid.step_m[1] - 1e-6) for member in members)
    edge = int(math.sqrt(_CELLS_AT_ONCE / cells) / finer) // _SMALLEST_EDGE * _SMALLEST_EDGE
    edge = max(edge, _SMALLEST_EDGE)
    for shard in shards(grid):
        _, rows, columns = shard.slices
        for row in range(rows.start, rows.stop, edge):
            for column in range(columns.start, columns.stop, edge):
                yield slice(row, min(row + edge, rows.stop)), slice(column, min(column + edge, columns.stop))
