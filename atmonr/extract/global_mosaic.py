"""Several scenes on one latitude-longitude lattice: their cells coincide, so that nothing is interpolated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.blend import Blend, Values
from atmonr.extract.columns import RAY_COUNT, SURFACE, column_numbers
from atmonr.extract.footprint import Footprint
from atmonr.extract.granules import Named, attributes_of, coverage, define_flags, in_order
from atmonr.extract.grids.sphere import GlobalGrid
from atmonr.extract.member import ShardCache
from atmonr.extract.netcdf import Product, define
from atmonr.extract.overlap import Overlap
from atmonr.extract.parts import Parts
from atmonr.extract.presence import Presence
from atmonr.extract.shards import shards
from atmonr.extract.support import LAYERS, Boxes, Counts

# Every place on the Earth is nearer: stands for the distance to an edge that is not known.
_FARTHEST_M = 2e7
_RAYS = (
    "Sum over the granules in the cell of the training rays that cross the middle plane of the box around "
    f"the cell's centre; a granule's boxes are a pixel wide and 1/{LAYERS} of its modelled atmosphere high."
)


@dataclass(frozen=True)
class Window:
    """One scene of a global mosaic.

    Attributes:
        parts: Its extraction.
        name: What the mosaic calls it.
        cache: Where its shards are kept.
    """

    parts: Parts
    name: str
    cache: ShardCache

    @cached_property
    def grid(self) -> GlobalGrid:
        """The window of the lattice that it was extracted on."""
        grid = self.parts.grid
        if not isinstance(grid, GlobalGrid):
            raise TypeError(f"a member of a global mosaic is on a {grid.kind} grid")
        return grid

    @cached_property
    def _numbers(self) -> tuple[Values | None, Counts | None]:
        return column_numbers(self.parts)

    @cached_property
    def _presence(self) -> Presence:
        return Presence.of(self.grid, self.parts.plan["source"]["scene"], None)

    def columns(self, target: GlobalGrid, rows: slice, columns: slice) -> tuple[NDArray[np.int_], ...]:
        """Return its rows and columns at those of another window; -1 where it has none."""
        row = target.first[0] + np.arange(rows.start, rows.stop) - self.grid.first[0]
        column = target.first[1] + np.arange(columns.start, columns.stop) - self.grid.first[1]
        column %= target.lattice.columns
        _, height, width = self.grid.shape
        return np.where((row >= 0) & (row < height), row, -1), np.where(column < width, column, -1)

    def read(self, target: GlobalGrid, rows: slice, columns: slice) -> Values:
        """Return its extinction [m^-1] in columns of another window, NaN where it has none."""
        row, column = self.columns(target, rows, columns)
        values = np.full((self.parts.bands, target.shape[0], row.size, column.size), np.nan, np.float32)
        for shard in self.parts.shards:
            levels, tall, wide = shard.slices
            r = np.flatnonzero((row >= tall.start) & (row < tall.stop))
            c = np.flatnonzero((column >= wide.start) & (column < wide.stop))
            if r.size and c.size:
                cells = self.cache.get(self.parts, shard)
                picked = np.ix_(row[r] - tall.start, column[c] - wide.start)
                values[:, levels, r[:, None], c] = cells[:, :, picked[0], picked[1]]
        return values

    def weight(self, target: GlobalGrid, rows: slice, columns: slice) -> tuple[Values, Values]:
        """Return its weight in cells of another window, and in their columns; 0 where it has none."""
        seen = replace(target, frame=self.grid.frame)
        distance = Footprint.of(self.parts.plan["source"]["scene"]).distance_m(seen.places_m((rows, columns)))
        row, column = self.columns(target, rows, columns)
        inside = (distance > 0) & (row >= 0)[:, None] & (column >= 0)
        own = np.where(inside, distance.clip(max=_FARTHEST_M), 0.0).astype(np.float32) ** 2
        levels = np.arange(target.shape[0]) < self.grid.shape[0]
        present = self._presence.cells(seen, (slice(None), rows, columns)) & levels[:, None, None]
        return own * present, own

    def surface(self, target: GlobalGrid, rows: slice, columns: slice) -> Values:
        """Return the height of the ground under columns of another window [m], NaN where unknown."""
        row, column = self.columns(target, rows, columns)
        surface, _ = self._numbers
        if surface is None:
            return np.full((row.size, column.size), np.nan, np.float32)
        known = (row >= 0)[:, None] & (column >= 0)
        return np.where(known, surface[np.ix_(row, column)], np.float32(np.nan))

    def rays(self, target: GlobalGrid, rows: slice, columns: slice) -> Counts:
        """Return its counts of rays in cells of another window."""
        _, counts = self._numbers
        if counts is None:
            return np.zeros(1, np.int32)
        places = replace(target, frame=self.grid.frame).places_m((rows, columns))
        boxes = Boxes.of(self.parts.plan["source"]["scene"])
        return boxes.look_up(counts, places, target.heights_m((slice(None), rows, columns)))


def write_global_mosaic(
    dataset: netCDF4.Dataset, parts: Sequence[Parts], wavelengths_nm: tuple[float, ...]
) -> None:
    """Write extractions on one lattice into a new file, some columns at a time.

    Args:
        dataset: Open for writing, empty.
        parts: Of different scenes.
        wavelengths_nm: Of the bands; none if they share one extinction.

    Raises:
        UsageError: If their lattices differ.
        SceneError: If a shard is damaged.
    """
    cache = ShardCache()
    granules = in_order(parts)
    windows = [Window(granule.parts, granule.name, cache) for granule in granules]
    grid = _common_grid(windows)
    product = _product(grid, granules, wavelengths_nm)
    extinction = define(dataset, product)
    flags = define_flags(dataset, product, [granule.name for granule in granules])
    known = extinction.ancillary_variables.split() if "ancillary_variables" in extinction.ncattrs() else []
    extinction.ancillary_variables = " ".join([flags.name, *known])
    overlaps = {pair: Overlap() for pair in combinations(range(len(windows)), 2)}
    for shard in shards(grid):
        _, rows, columns = shard.slices
        for row in range(rows.start, rows.stop, grid.chunk_shape[1]):
            block = slice(row, min(row + grid.chunk_shape[1], rows.stop)), columns
            _write_block(dataset, windows, product, grid, block, overlaps)
    found = [
        {"granules": [windows[a].name, windows[b].name], **overlap.summary()}
        for (a, b), overlap in overlaps.items()
        if overlap.columns
    ]
    dataset.setncattr("overlaps", json.dumps(found))


def _write_block(
    dataset: netCDF4.Dataset,
    windows: Sequence[Window],
    product: Product,
    grid: GlobalGrid,
    block: tuple[slice, slice],
    overlaps: dict[tuple[int, int], Overlap],
) -> None:
    shape = (grid.shape[0], *(part.stop - part.start for part in block))
    blend = Blend.of_nothing(len(product.band_wavelengths_nm) or 1, shape, len(windows))
    rays = np.zeros(shape, np.int32)
    present: dict[int, tuple[Values, Values]] = {}
    for bit, window in enumerate(windows):
        own, columns = window.weight(grid, *block)
        if not own.any():
            continue
        values = window.read(grid, *block)
        blend.add(bit, values, own)
        blend.add_surface(window.surface(grid, *block), columns)
        rays += np.where(own > 0, window.rays(grid, *block), 0)
        present[bit] = values.mean(0), own
    _compare(grid, block, present, overlaps)
    blend.finish(grid.heights_m((slice(None), *block)))
    where = (slice(None), *block)
    dataset["contributing_granules"][where] = blend.seen
    if product.surface is not None:
        dataset["surface_altitude"][block] = blend.surface_m
    if product.ray_count is not None:
        dataset["ray_count"][where] = np.where(blend.seen > 0, rays, 0)
    if product.band_wavelengths_nm:
        dataset["extinction"][(slice(None), *where)] = blend.mean
    else:
        dataset["extinction"][where] = blend.mean[0]


def _compare(
    grid: GlobalGrid,
    block: tuple[slice, slice],
    present: dict[int, tuple[Values, Values]],
    overlaps: dict[tuple[int, int], Overlap],
) -> None:
    """Note the optical depths of columns that two scenes share, over the heights that both have."""
    rows, columns = block
    number = np.arange(rows.start, rows.stop)[:, None] * grid.shape[2] + np.arange(
        columns.start, columns.stop
    )
    thickness = np.diff(grid.altitude_bounds_m, axis=1)[..., None]
    for (a, (values_a, own_a)), (b, (values_b, own_b)) in combinations(present.items(), 2):
        both = (own_a > 0) & (own_b > 0)
        shared = both.any(0)
        depths = ((np.where(both, values, 0) * thickness).sum(0)[shared] for values in (values_a, values_b))
        overlaps[a, b].add(number[shared], *depths)


def _common_grid(windows: Sequence[Window]) -> GlobalGrid:
    first, *others = (window.grid for window in windows)
    for window in windows[1:]:
        if window.grid.lattice != first.lattice:
            raise UsageError(
                f"{windows[0].parts.path} is on the lattice {first.lattice}, {window.parts.path} on "
                f"{window.grid.lattice}; expected the same steps"
            )
    return first.spanning(others)


def _product(grid: GlobalGrid, granules: Sequence[Named], wavelengths_nm: tuple[float, ...]) -> Product:
    sources = [granule.parts.plan["source"] for granule in granules]
    start, end = coverage(granules)
    counted = all(RAY_COUNT in source for source in sources)
    return Product(
        grid,
        wavelengths_nm,
        start or None,
        end or None,
        sources[0].get(SURFACE),
        _RAYS if counted else None,
        attributes_of(granules),
    )
