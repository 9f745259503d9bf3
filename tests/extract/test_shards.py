from __future__ import annotations

from itertools import count

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.shards import pull, shards
from atmonr.geo.frame import Frame

FRAME = Frame(0.0, 0.0, (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0))


def grid_of(*shape: int) -> VoxelGrid:
    return VoxelGrid(FRAME, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), shape)


shapes = st.tuples(st.integers(1, 70), st.integers(1, 150), st.integers(1, 150))


@given(shape=shapes)
@settings(max_examples=60, deadline=None)
def test_every_cell_is_in_exactly_one_shard(shape):
    owners = np.zeros(shape, int)
    for shard in shards(grid_of(*shape)):
        owners[shard.slices] += 1
    assert (owners == 1).all()


@given(everything=st.lists(st.integers(), max_size=30), data=st.data(), ranks=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_ranks_of_any_speed_pull_every_shard_exactly_once(everything, data, ranks):
    turn = count().__next__
    pulls = [pull(everything, turn) for _ in range(ranks)]
    pulled = []
    while pulls:
        rank = data.draw(st.integers(0, len(pulls) - 1))
        try:
            pulled.append(next(pulls[rank]))
        except StopIteration:
            del pulls[rank]
    assert pulled == everything


def test_512_ranks_share_the_shards_of_a_granule_and_none_holds_much():
    grid = grid_of(250, 1560, 1200)  # half a pixel of a whole granule, 80 m of 20 km
    everything, turn = shards(grid), count().__next__
    pulls = [pull(everything, turn) for _ in range(512)]
    mine: list[list] = [[] for _ in pulls]
    while sum(map(len, mine)) < len(everything):
        for rank, own in enumerate(pulls):
            mine[rank] += [shard for shard in [next(own, None)] if shard]
    assert sorted(shard for own in mine for shard in own) == sorted(everything)
    assert max(map(len, mine)) - min(map(len, mine)) <= 1
    assert 4 * 4 * np.prod(grid.shard_shape) <= 64 * 2**20  # bytes of four bands


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
