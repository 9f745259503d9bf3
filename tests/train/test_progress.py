"""What groups tell of themselves and what is shown of it."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from atmonr.train.plan import SceneWork
from atmonr.train.progress import Progress, Row, note_name, post_empty_rows
from atmonr.train.watch import LineView, TableView, watch
from atmonr.world import World

RECORD = {"step": 250, "loss": 0.0123456, "steps_per_s": 0.25}
ROW = Row("a[b]", 250, 1250, loss=0.0123456, steps_per_s=0.25)


def posted(world: World, group: int = 0) -> Row:
    return Row.from_note(world.posted([note_name(0, group)])[0])


def test_a_group_tells_which_scene_it_has_how_far_it_is_and_how_many_it_had() -> None:
    world = World.single("cpu")
    post_empty_rows(world, 0, 2)
    progress = Progress(world, 0, 1)
    progress.take("a")
    assert posted(world, 1) == Row("a")
    progress.begin(1250, 100)
    assert posted(world, 1) == Row("a", 100, 1250)
    progress.end(failed=True)
    progress.take("b")
    progress.end(failed=False)
    assert posted(world, 1) == Row(finished=1, failed=1)
    assert posted(world, 0) == Row()


def test_notes_are_left_at_most_once_a_second() -> None:
    world, seconds = World.single("cpu"), itertools.count(0, 0.25)
    progress = Progress(world, 0, 0, clock=lambda: next(seconds))
    progress.take("a")
    seen = []
    for step in range(1, 17):
        progress.advance(step)
        seen.append(posted(world).step)
    assert len(set(seen)) < 6
    assert seen[-1] > 10


def test_the_last_figures_of_a_scene_are_told_at_once() -> None:
    world = World.single("cpu")
    progress = Progress(world, 0, 0, clock=lambda: 0.0)
    progress.take("a")
    progress.begin(250, 0)
    progress.report({**RECORD, "step": 240})
    assert posted(world).loss is None
    progress.report(RECORD)
    assert posted(world).loss == RECORD["loss"]


def test_a_rank_that_nobody_reads_leaves_no_note() -> None:
    world = World.single("cpu")
    post_empty_rows(world, 0, 1)
    progress = Progress(world, 0, None)
    progress.take("a")
    progress.advance(5)
    progress.report(RECORD)
    assert posted(world) == Row()
    assert progress.row.step == 250


def test_without_a_terminal_news_of_each_group_is_one_plain_line() -> None:
    written = io.StringIO()
    view = LineView(Console(file=written), scenes=9, groups=2)
    for _ in range(2):  # no news the second time
        view.show([ROW, Row("b", 3, 9)])
    view.show([ROW, Row("b", 3, 9, loss=1.0, steps_per_s=2.0)])
    for _ in range(2):
        view.show([ROW, Row(finished=2, failed=1)])
    view.close()
    assert written.getvalue().splitlines() == [
        "a[b]  step 250/1250  loss 0.01235  0.25 steps/s  left 1:06:40",
        "b  step 3/9  loss 1  2 steps/s  left 0:00:03",
        "2 of 9 scenes finished, 1 failed",
    ]


def test_many_groups_print_no_flood() -> None:
    assert LineView(Console(file=io.StringIO()), scenes=900, groups=512).every_s > 50


def test_a_terminal_gets_a_table_of_the_groups_at_work() -> None:
    written = io.StringIO()
    view = TableView(Console(file=written, force_terminal=True, width=80, height=30), scenes=9)
    view.show([ROW, Row(finished=3, failed=1), Row("c", finished=2)])
    view.close()
    shown = written.getvalue()
    for text in (
        "loading",
        "a[b]",
        "250/1250",
        "0.01235",
        "0.25",
        "1:06:40",
        "5 of 9 scenes finished, 1 failed",
    ):
        assert text in shown


def test_a_table_too_high_for_the_terminal_is_cut_and_says_so() -> None:
    written = io.StringIO()
    view = TableView(Console(file=written, force_terminal=True, width=80, height=15), scenes=900)
    view.show([Row(f"scene-{group}", 1, 9) for group in range(512)])
    view.close()
    assert "scene-9" in written.getvalue()
    assert "scene-10" not in written.getvalue()
    assert "502 more at work" in written.getvalue()


def scene(name: str, failure: str | None = None) -> SceneWork:
    return SceneWork(name, Path(name), None, 0, 1, failure=failure)


def test_what_failed_before_is_said_and_the_last_state_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    world = World.single("cpu")
    post_empty_rows(world, 0, 1)
    progress = Progress(world, 0, 0)
    with watch(world, 0, 1, [scene("a"), scene("b", "DivergedError at step 12")], quiet=False):
        progress.take("a")
        progress.begin(1250, 0)
        progress.report(RECORD)
        progress.advance(250)
        progress.take("a")  # what is on the way is not lost
        progress.row = ROW
        progress._post()
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == [
        "b: failed before (DivergedError at step 12); tried again",
        "a[b]  step 250/1250  loss 0.01235  0.25 steps/s  left 1:06:40",
    ]


@pytest.mark.parametrize(("rank", "quiet"), [(0, True), (1, False)])
def test_quiet_and_other_ranks_show_nothing(
    capsys: pytest.CaptureFixture[str], rank: int, quiet: bool
) -> None:
    world = replace(World.single("cpu"), rank=rank)
    with watch(world, 0, 1, [scene("b", "DivergedError at step 12")], quiet=quiet):
        pass
    assert capsys.readouterr() == ("", "")
