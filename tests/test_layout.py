from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmonr.errors import WorldError
from atmonr.layout import Layout, group_size, layout, predict, pull_order, tile_owners

costs = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=40)


@given(groups=st.integers(1, 9), tiles=st.integers(1, 9), share=st.integers(1, 6), extra=st.integers(0, 20))
def test_every_rank_is_in_one_group_of_neighbours(groups: int, tiles: int, share: int, extra: int) -> None:
    size = tiles if tiles > 1 else share
    made = layout(groups * size, groups + extra, tiles, 1 if tiles > 1 else share)
    assert [rank for group in made.groups for rank in group] == list(range(groups * size))
    assert {len(group) for group in made.groups} == {size}
    for position, group in enumerate(made.groups):
        assert {made.group_of(rank) for rank in group} == {position}


@given(tiles=st.integers(1, 60), ranks=st.integers(1, 60))
def test_whole_neighbouring_tiles_go_to_every_rank_of_a_group_evenly(tiles: int, ranks: int) -> None:
    owners = tile_owners(tiles, min(tiles, ranks))
    assert len(owners) == tiles
    assert owners == sorted(owners)
    counts = [owners.count(rank) for rank in range(min(tiles, ranks))]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1


@given(costs=costs)
def test_the_longest_scenes_are_taken_first_and_each_once(costs: list[float]) -> None:
    order = pull_order(costs)
    assert sorted(order) == list(range(len(costs)))
    assert [costs[scene] for scene in order] == sorted(costs, reverse=True)


@given(costs=costs, n_groups=st.integers(1, 9))
def test_scenes_are_dealt_once_and_no_worse_than_theory_promises(costs: list[float], n_groups: int) -> None:
    taken = predict(costs, pull_order(costs), n_groups)
    assert sorted(scene for mine in taken for scene in mine) == list(range(len(costs)))
    loads = [sum(costs[scene] for scene in mine) for mine in taken]
    best_possible = max(sum(costs) / n_groups, max(costs))
    assert max(loads) <= sum(costs) / n_groups + max(costs) * (1 - 1 / n_groups) + 1e-6
    assert max(loads) <= 2 * best_possible
    # No group is idle while another has a scene waiting.
    assert max(loads) - min(loads) <= max(costs)


@given(n_scenes=st.integers(1, 60), n_groups=st.integers(1, 9))
def test_equal_scenes_come_in_waves(n_scenes: int, n_groups: int) -> None:
    taken = predict([1.0] * n_scenes, range(n_scenes), n_groups)
    waves = -(-n_scenes // n_groups)
    assert max(len(mine) for mine in taken) == waves
    assert sum(len(mine) == waves for mine in taken) == n_scenes - n_groups * (waves - 1)


def test_one_slow_scene_does_not_hold_the_others() -> None:
    assert predict([9.0, 1.0, 1.0, 1.0, 1.0], range(5), 2) == [[0], [1, 2, 3, 4]]


def test_four_ranks_with_two_to_a_scene() -> None:
    assert layout(4, 3, 1, 2) == Layout(groups=((0, 1), (2, 3)), tile_owners=(0,))


@pytest.mark.parametrize(
    ("world_size", "tiles", "owners"),
    [(4, 4, [0, 1, 2, 3]), (3, 4, [0, 0, 1, 2]), (1, 4, [0, 0, 0, 0]), (8, 4, [0, 1, 2, 3])],
)
def test_tiles_of_a_scene_are_shared_by_as_many_ranks_as_there_are(
    world_size: int, tiles: int, owners: list[int]
) -> None:
    assert group_size(world_size, tiles, 1) == min(tiles, world_size)
    assert list(layout(world_size, 2, tiles, 1).tile_owners) == owners


def test_512_ranks_are_laid_out() -> None:
    made = layout(512, 2000, 4, 1)
    assert len(made.groups) == 128
    taken = predict([float(scene % 7) for scene in range(2000)], range(2000), 128)
    assert sum(len(mine) for mine in taken) == 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 5, 1, 2), r"groups of 2 \(world.ranks_per_scene=2\); start a multiple of 2 ranks"),
        ((6, 9, 4, 1), r"groups of 4 \(world.tiles=4\); start a multiple of 4 ranks"),
        ((2, 1, 1, 1), "1 of 2 ranks would idle.*start 1 ranks or --set world.ranks_per_scene=2"),
        ((8, 3, 1, 2), "2 of 8 ranks would idle.*start 6 ranks$"),
        ((8, 1, 4, 1), "4 of 8 ranks would idle.*start 4 ranks$"),
        ((2, 0, 1, 1), "no scene"),
        ((4, 1, 2, 2), "world.tiles=2 and world.ranks_per_scene=2.*leave out world.ranks_per_scene"),
    ],
)
def test_ranks_that_do_not_fit_are_refused_with_what_would(
    arguments: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(WorldError, match=message):
        layout(*arguments)
