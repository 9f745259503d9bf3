from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmonr.errors import WorldError
from atmonr.layout import Assignment, layout


@given(groups=st.integers(1, 9), ranks_per_scene=st.integers(1, 6), extra=st.integers(0, 20))
def test_every_scene_has_one_whole_group_and_no_rank_idles(
    groups: int, ranks_per_scene: int, extra: int
) -> None:
    n_scenes = groups + extra
    assignments = layout(groups * ranks_per_scene, n_scenes, ranks_per_scene)
    assert len(assignments) == groups * ranks_per_scene
    owners: dict[int, set[tuple[int, ...]]] = {}
    for rank, mine in enumerate(assignments):
        assert mine.group[mine.index] == rank
        assert len(mine.group) == ranks_per_scene
        assert all(assignments[other].scenes == mine.scenes for other in mine.group)
        for scene in mine.scenes:
            owners.setdefault(scene, set()).add(mine.group)
    assert sorted(owners) == list(range(n_scenes))
    assert all(len(groups_of_scene) == 1 for groups_of_scene in owners.values())
    counts = [len(mine.scenes) for mine in assignments]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1


def test_four_ranks_with_two_to_a_scene() -> None:
    assert layout(4, 3, 2) == [
        Assignment((0, 2), (0, 1), 0),
        Assignment((0, 2), (0, 1), 1),
        Assignment((1,), (2, 3), 0),
        Assignment((1,), (2, 3), 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 5, 2), "start a multiple of 2 ranks"),
        ((2, 1, 1), "1 of 2 ranks would idle.*start 1 ranks or --set world.ranks_per_scene=2"),
        ((8, 3, 2), "2 of 8 ranks would idle.*start 6 ranks$"),
        ((2, 0, 1), "no scene"),
    ],
)
def test_ranks_that_do_not_fit_are_refused_with_what_would(
    arguments: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(WorldError, match=message):
        layout(*arguments)
