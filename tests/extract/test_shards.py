from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmonr.errors import UsageError
from atmonr.extract.grid import VoxelGrid
from atmonr.extract.shards import plan, shards
from atmonr.geo.frame import Frame

FRAME = Frame(0.0, 0.0, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))


def grid_of(*shape: int) -> VoxelGrid:
    return VoxelGrid(FRAME, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), shape)


shapes = st.tuples(st.integers(1, 70), st.integers(1, 150), st.integers(1, 150))


@given(shape=shapes, ranks=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_cell_has_exactly_one_owner(shape, ranks):
    owners = np.zeros(shape, int)
    for mine in plan(grid_of(*shape), ranks):
        for shard in mine:
            owners[shard.slices] += 1
    assert (owners == 1).all()


@given(shape=shapes, ranks=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_plan_deals_the_same_shards_to_any_number_of_ranks_evenly(shape, ranks):
    grid = grid_of(*shape)
    dealt = plan(grid, ranks)
    assert len(dealt) == ranks
    assert sorted(shard for mine in dealt for shard in mine) == shards(grid)
    sizes = [len(mine) for mine in dealt]
    assert max(sizes) - min(sizes) <= 1


@given(shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 200)))
@settings(max_examples=60, deadline=None)
def test_shards_are_whole_zarr_shards(shape):
    grid = grid_of(*shape)
    for size, chunk in zip(grid.shard_shape, grid.chunk_shape, strict=True):
        assert size % chunk == 0
    names = set()
    for shard in shards(grid):
        for start, stop, size, n in zip(shard.start, shard.stop, grid.shard_shape, shape, strict=True):
            assert start % size == 0
            assert stop == min(start + size, n)
        names.add(shard.name)
    assert len(names) == len(shards(grid))


def test_a_small_grid_has_work_for_many_ranks_and_a_large_one_has_few_files():
    assert len(shards(grid_of(40, 150, 150))) == 25
    assert len(shards(grid_of(80, 5000, 5000))) < 1000


def test_no_ranks_are_refused():
    with pytest.raises(UsageError, match="ranks"):
        plan(grid_of(1, 1, 1), 0)
