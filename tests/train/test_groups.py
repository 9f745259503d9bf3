"""Ranks that are killed or signalled: nobody hangs, what is saved is good, nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job import Job, act
from toy import write_scene

from atmonr.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def job_in(folder: Path, scenes: dict[str, dict[str, Any]], *, steps: int = 60, **others: Any) -> Job:
    folder.mkdir(exist_ok=True)
    paths = [str(write_scene(folder, name, **wrong)) for name, wrong in scenes.items()]
    settings = {"steps": steps, "checkpoint_every_steps": 7, "log_every_steps": 3, "evaluate_every_steps": 11}
    return Job(str(folder / "run"), paths, settings, **others)


def begun(run: Run) -> list[str]:
    """Scenes in the order in which their training began, according to the logs of all ranks."""
    lines = [line for log in sorted(run.log(0).parent.iterdir()) for line in log.read_text().splitlines()]
    return [line.split(": ")[1] for line in sorted(lines) if "starts at step" in line]


def run_with(job: Job, ranks: int) -> tuple[str, Job, dict[str, Any]]:
    return "undisturbed", job, {"ranks": ranks}


def test_sigkill_of_one_of_two_ranks_20_times_at_random_changes_no_bit(tmp_path: Path, faults: Any) -> None:
    quick = job_in(tmp_path / "undisturbed", {"a": {}}, steps=400, ranks_per_scene=2)
    # 400 steps of 0.05 s: however fast the machine, the scene outlasts 20 kills after 1 s or less.
    killed = job_in(tmp_path / "killed", {"a": {"sleep_s": 0.05}}, steps=400, ranks_per_scene=2)
    (_, ends, _, last), errors = act(
        run_with(quick, 2),
        ("kill_one_at_random", killed, {"ranks": 2, "kills": 20, "seed": 1}),
        ("calm", killed, {}),
        run_with(killed, 2),
    )
    # The killed rank, and the other one, which noticed by itself.
    assert [sorted(codes) for codes in ends] == [[-9, 75]] * 20, errors
    assert last == [0, 0]
    assert killed.outcome() == quick.outcome()
    assert list(Path(killed.run).rglob(".*")) == []
    for _ in ends:
        faults.record(True)


def test_sigkill_of_all_ranks_20_times_while_one_saves_changes_no_bit(tmp_path: Path, faults: Any) -> None:
    quick = job_in(tmp_path / "undisturbed", {"a": {}, "b": {}}, steps=600)
    quick.here()
    # 600 steps of 0.03 s outlast 20 kills after at most 0.6 s and the 7 steps to the next checkpoint.
    killed = job_in(tmp_path / "killed", {"a": {"sleep_s": 0.03}, "b": {"sleep_s": 0.03}}, steps=600)
    (left, _, last), errors = act(
        ("kill_all_at_checkpoint", killed, {"ranks": 2, "kills": 20, "seed": 2}),
        ("calm", killed, {}),
        run_with(killed, 1),  # another number of ranks
    )
    assert len(left) == 20, errors
    assert sum(half > 0 for half in left) > 10  # most kills came before the file had its name
    assert last == [0]
    assert [killed.outcome(name) for name in "ab"] == [quick.outcome(name) for name in "ab"]
    assert list(Path(killed.run).rglob(".*")) == []
    for _ in left:
        faults.record(True)


def test_groups_that_are_free_take_the_next_scene_and_none_is_taken_twice(tmp_path: Path) -> None:
    scenes: dict[str, dict[str, Any]] = {"slow": {"sleep_s": 0.05, "padding": 99 * "x"}}
    job = job_in(tmp_path, scenes | {name: {} for name in "abcde"})
    (codes,), errors = act(run_with(job, 2))
    assert codes == [0, 0], errors
    logs = [job.folder.log(rank).read_text() for rank in range(2)]
    (slow,) = [log for log in logs if "slow: starts" in log]
    assert slow.count("starts at step") == 1
    assert sorted(begun(job.folder)) == sorted(["slow", *"abcde"])


def test_a_group_that_dies_lets_the_others_finish_and_only_its_scene_is_repeated(
    tmp_path: Path, faults: Any
) -> None:
    scenes: dict[str, dict[str, Any]] = {"b": {"sleep_s": 0.2, "padding": 99 * "x"}}
    job = job_in(tmp_path, {name: {"sleep_s": 0.05} for name in "acd"} | scenes, steps=30)
    (codes, finished, last), errors = act(
        ("signal_once", job, {"ranks": 3, "rank": 2, "number": "SIGKILL", "when_at": ["c", 3]}),
        ("calm", job, {}),
        run_with(job, 2),
    )
    assert codes == [75, 75, -9], errors
    (unfinished,) = {*"abcd"} - {*finished}
    assert f"not finished: {unfinished}; continue with --resume" in errors
    assert last == [0, 0]
    assert begun(job.folder)[4:] == [unfinished]
    assert job.folder.done(unfinished)
    faults.record(True)


def test_without_rank_0_the_others_finish_the_scene_they_have_and_leave(tmp_path: Path, faults: Any) -> None:
    job = job_in(tmp_path, {name: {"sleep_s": 0.05} for name in "abcdefgh"}, steps=30)
    (codes, finished, last), errors = act(
        ("signal_once", job, {"ranks": 2, "rank": 0, "number": "SIGKILL", "when_at": ["a", 3]}),
        ("calm", job, {}),
        run_with(job, 2),
    )
    assert codes == [-9, 75], errors
    assert last == [0, 0]
    assert len(finished) >= 1
    assert all(job.folder.done(name) for name in "abcdefgh")
    assert all(begun(job.folder).count(name) == 1 for name in finished)
    faults.record(True)


def test_a_signal_to_a_rank_that_only_waits_stops_the_others(tmp_path: Path, faults: Any) -> None:
    undisturbed = job_in(tmp_path / "undisturbed", {"slow": {}}, steps=30)
    undisturbed.here()
    job = job_in(tmp_path, {"slow": {"sleep_s": 0.3, "padding": 99 * "x"}, "quick": {}}, steps=30)
    (codes, finished, last), errors = act(
        ("signal_waiting", job, {"ranks": 2, "scene": "quick", "busy": "slow", "number": "SIGUSR2"}),
        ("calm", job, {}),
        run_with(job, 1),
    )
    assert codes == [75, 75], errors
    assert finished == ["quick"]
    assert last == [0]
    assert job.outcome("slow") == undisturbed.outcome("slow")
    faults.record(True)


def test_a_signal_to_one_rank_stops_every_group_at_a_common_step(tmp_path: Path, faults: Any) -> None:
    fresh = job_in(tmp_path / "undisturbed", {"a": {}})
    fresh.here()
    job = job_in(tmp_path, {name: {"sleep_s": 0.2} for name in "ab"}, ranks_per_scene=2)
    (codes, _, last), errors = act(
        ("signal_once", job, {"ranks": 4, "rank": 3, "number": "SIGTERM", "when_at": ["a", 3]}),
        ("calm", job, {}),
        run_with(replace(job, ranks_per_scene=1), 2),
    )
    assert codes == [75] * 4, errors
    stops = [
        next(line for line in log.read_text().splitlines() if "stopped" in line).split(" at step ")[1]
        for log in sorted(job.folder.log(0).parent.iterdir())
    ]
    assert stops[0] == stops[1] and stops[2] == stops[3]
    assert last == [0, 0]
    losses = [[record["loss"] for record in each.folder.read_metrics("a")] for each in (job, fresh)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    faults.record(True)


def test_a_rank_out_of_memory_ends_its_group_only(tmp_path: Path) -> None:
    scenes: dict[str, dict[str, Any]] = {"big": {"memory_at_rank_step": [1, 5], "padding": 99 * "x"}}
    job = job_in(tmp_path, scenes | {"a": {"sleep_s": 0.05}}, ranks_per_scene=2)
    (codes, finished), errors = act(run_with(job, 4), ("calm", job, {}))
    assert codes.count(76) >= 2, errors
    assert set(codes) <= {75, 76}  # 75 where rank 0, which keeps the codes, had left
    assert finished == ["a"]
    record = job.folder.failed("big")
    assert record is not None
    assert (record["error"], record["step"], record["exit_code"]) == ("GpuMemoryError", 5, 76)


def test_an_unforeseen_error_ends_the_rank_that_had_it_and_all_tell_of_it(tmp_path: Path) -> None:
    scenes: dict[str, dict[str, Any]] = {"bad": {"bug_at_rank_step": [0, 5], "padding": 99 * "x"}}
    job = job_in(tmp_path, scenes | {name: {} for name in "abc"})
    (codes, finished), errors = act(run_with(job, 2), ("calm", job, {}))
    assert codes == [1, 1], errors
    assert finished == ["a", "b", "c"]
    assert errors.count("RuntimeError: a bug") == 2  # a traceback on one rank, a message on the other
