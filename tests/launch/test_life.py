"""The whole life of many tasks, with everything going wrong at once, on a clock of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import Life, frozen

from launch.board import Board
from launch.campaign_file import Care


def check(life: Life) -> None:
    """No task is lost, none is done twice, none runs twice at once, and bad ones are told from good ones."""
    outcome, done = life.outcome(), life.times_done()
    assert set(outcome) <= {"done", "quarantined", "failed", "blocked"}
    assert set(done.values()) <= {0, 1}
    assert life.twice == []
    board = Board(life.folder, life.tasks, Care())
    for task in life.tasks:
        status = board.status(task.key)
        assert done[task.key] == (status == "done")
        if task.key in life.bad:
            assert status == "quarantined"
        if task.needs in life.bad:
            assert status == "blocked"
    # What is not the task's fault must not fail it.
    assert outcome["failed"] <= 0.02 * len(life.tasks)
    assert life.events["killed"] > 0 and life.events["preempted"] > 0


@pytest.mark.slow
def test_of_five_hundred_granules_none_is_lost_or_done_twice(tmp_path: Path) -> None:
    life = Life(frozen(tmp_path / "campaign", 500), workers=16, seed=1)
    life.run()
    check(life)
    assert life.events["frozen"] > 0


@pytest.mark.slow
def test_of_ten_thousand_tasks_none_is_lost_or_done_twice(tmp_path: Path) -> None:
    life = Life(frozen(tmp_path / "campaign", 5_000), workers=40, seed=2, step_s=10.0)
    life.run()
    check(life)
    assert max(len(list(folder.iterdir())) for folder in (tmp_path / "campaign" / "tasks").iterdir()) <= 1000
