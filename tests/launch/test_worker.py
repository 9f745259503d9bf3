"""One or two workers on a clock that the test turns."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from campaigns import LEASE_S, Clock, PretendChild, frozen, terms

from atmonr.errors import StoreError
from launch.attempts import CANCELLED_FILE, all_attempts, read_state
from launch.board import Board
from launch.campaign_file import Care
from launch.disk import publish
from launch.folder import Folder
from launch.task import Task
from launch.verbs import lift
from launch.worker import Worker


class Bench:
    """Workers whose commands end with `codes`: {stage: codes, the last for all further attempts}."""

    def __init__(self, path: Path, granules: int = 1, **codes: list[int]) -> None:
        self.folder: Folder = frozen(path / "campaign", granules)
        self.tasks, self.clock, self.codes = self.folder.tasks(), Clock(), codes
        self.started: list[tuple[str, list[str], PretendChild]] = []
        self.care = Care()

    def worker(self, name: str = "a", **changes: Any) -> Worker:
        board = Board(self.folder, self.tasks, self.care)
        told = terms(name, **changes)
        worker = Worker(
            self.folder, board, told, clock=self.clock, start=self._start, progress=lambda *_: {"step": 1}
        )
        worker.durable = False
        return worker

    def _start(
        self, task: Task, stage: Any, arguments: list[str], number: int, slot: int, adjustment: Any
    ) -> Any:
        codes = self.codes.get(stage.name, [0])
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        child = PretendChild(self.clock, 50.0, code, f"{stage.name}: code {code}")
        self.started.append((stage.name, arguments, child))
        return child

    def tick(self, *workers: Worker, seconds: float, step_s: float = 10.0) -> None:
        for _ in range(int(seconds / step_s)):
            self.clock.now_s += step_s
            for worker in workers:
                worker.tick()

    def statuses(self) -> list[str]:
        board = Board(self.folder, self.tasks, self.care)
        return [board.status(task.key) for task in self.tasks]

    def classes(self, task: Task) -> list[str]:
        return [attempt["end"].get("class", "") for attempt in all_attempts(self.folder.of(task))]


def test_a_worker_does_everything_and_leaves(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=2)
    worker = bench.worker()
    bench.tick(worker, seconds=800.0)
    assert bench.statuses() == ["done"] * 4
    assert worker.over and not worker.interrupted
    names = [name for name, _, _ in bench.started]
    assert sorted(names) == ["ingest"] * 2 + ["merge"] * 2 + ["train"] * 2


def test_a_second_worker_takes_over_from_one_that_is_silent_and_no_sooner(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, second = bench.worker("a"), bench.worker("b")
    bench.tick(first, second, seconds=30.0)
    assert len(bench.started) == 1
    bench.tick(second, seconds=LEASE_S)
    assert len(bench.started) == 1
    bench.tick(second, seconds=60.0)
    assert len(bench.started) == 2
    # The first comes to itself, kills what it ran and reports nothing.
    bench.tick(first, seconds=10.0)
    assert bench.started[0][2].killed and not bench.started[1][2].killed
    bench.tick(second, seconds=500.0)
    assert bench.statuses() == ["done", "done"]
    assert bench.classes(bench.tasks[0]) == ["lost", "done"]


def test_a_worker_that_cannot_be_heard_ends_what_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    worker = bench.worker()
    bench.tick(worker, seconds=10.0)

    def refuse(path: Path, record: object) -> float:
        raise StoreError("gone")

    monkeypatch.setattr(bench.clock, "stamp", refuse)
    bench.tick(worker, seconds=LEASE_S / 2)
    assert bench.started[0][2].killed
    assert worker.over


def test_a_stop_is_passed_on_and_costs_no_retry(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker = bench.worker()
    bench.tick(worker, seconds=10.0)
    worker.stop()
    bench.tick(worker, seconds=20.0)
    assert bench.started[0][2].stops == 1
    assert worker.over and worker.interrupted
    assert bench.classes(bench.tasks[0]) == ["preempted"]
    assert bench.statuses() == ["ready", "waiting"]


def test_a_worker_stops_by_itself_before_its_job_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker = bench.worker(wall_s=60.0, grace_s=30.0)
    bench.tick(worker, seconds=60.0)
    assert worker.over
    assert all_attempts(bench.folder.of(bench.tasks[0]))[0]["end"]["wall_over"]


def test_what_does_not_fit_into_the_time_left_is_not_begun(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=3)
    worker = bench.worker(wall_s=230.0, grace_s=30.0, task_s={"scene": 95.0})
    bench.tick(worker, seconds=190.0)
    assert [name for name, _, _ in bench.started] == ["ingest", "train", "merge"]


def test_what_does_not_end_when_asked_is_killed_within_the_grace_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker = bench.worker()
    bench.tick(worker, seconds=10.0)
    child = bench.started[0][2]
    child.stop = lambda: None  # type: ignore[method-assign]
    child.end_s = 1e12
    worker.stop()
    bench.tick(worker, seconds=20.0)
    assert not child.killed
    bench.tick(worker, seconds=20.0)
    assert child.killed and worker.over
    assert bench.classes(bench.tasks[0]) == ["preempted"]


def test_bad_input_is_quarantined_with_its_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ingest=[65])
    bench.tick(bench.worker(), seconds=100.0)
    assert bench.statuses() == ["quarantined", "blocked"]
    assert read_state(bench.folder.of(bench.tasks[0])).verdict.reason == "ingest: code 65"


def test_a_bad_config_stops_the_campaign(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=12, train=[78])
    worker = bench.worker()
    bench.tick(worker, seconds=2000.0)
    assert [name for name, _, _ in bench.started].count("train") == 1
    halted = bench.folder.halted()
    assert halted is not None and halted["cause"] == "config"
    assert worker.over


def test_a_canary_wave_that_dies_stops_the_campaign(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=30, ingest=[1])
    bench.tick(bench.worker(), seconds=4000.0)
    halted = bench.folder.halted()
    assert halted is not None and "8 of 8 scene tasks ended the same way, bug" in halted["reason"]
    assert len(bench.started) == 16


def test_a_halt_that_was_lifted_does_not_come_back_for_what_failed_before(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=30, ingest=[1] * 16 + [0])
    bench.tick(bench.worker(), seconds=2000.0)
    assert bench.folder.halted() is not None
    lift(bench.folder)
    bench.clock.now_s = time.time() + 10.0
    bench.tick(bench.worker("b"), seconds=5000.0)
    assert bench.folder.halted() is None
    assert bench.statuses().count("done") == 44


def test_a_new_worker_knows_what_is_done_without_reading_all_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch import board as module

    bench = Bench(tmp_path, granules=3)
    bench.tick(bench.worker(), seconds=700.0)
    assert bench.statuses() == ["done"] * 6
    read: list[Path] = []
    monkeypatch.setattr(module, "names_in", read.append)
    worker = bench.worker("b")
    bench.tick(worker, seconds=10.0)
    assert worker.over and read == []
    # Somebody wants a task done again.
    monkeypatch.undo()
    shutil.rmtree(bench.folder.of(bench.tasks[-1]))
    lift(bench.folder)
    bench.tick(bench.worker("c"), seconds=200.0)
    assert bench.statuses() == ["done"] * 6 and len(bench.started) == 9 + 2


def test_nothing_but_canaries_runs_until_half_of_them_are_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=30)
    workers = [bench.worker(f"w{number}", idle_s=1e9) for number in range(20)]
    bench.tick(*workers, seconds=50.0)
    assert len(bench.started) == 8
    bench.tick(*workers, seconds=100.0)
    assert len(bench.started) > 15


def test_a_retry_after_divergence_has_another_seed_and_another_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, train=[70, 0])
    bench.tick(bench.worker(), seconds=400.0)
    trained = [arguments for name, arguments, _ in bench.started if name == "train"]
    assert trained[0][-1].endswith("/run")
    assert trained[1][-3].endswith("/run-seed1") and trained[1][-2:] == ["--set", "train.seed=1"]
    assert bench.statuses() == ["done", "done"]


def test_a_retry_after_lack_of_memory_goes_on_with_fewer_rays_at_a_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, train=[76, 0])
    bench.tick(bench.worker(), seconds=400.0)
    trained = [arguments for name, arguments, _ in bench.started if name == "train"]
    assert trained[1] == [*trained[0], "--set", "train.ray_chunks=4"]


def test_a_stage_that_is_complete_is_not_run_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, merge=[74, 0])
    bench.tick(bench.worker(idle_s=1e9), seconds=600.0)
    assert [name for name, _, _ in bench.started] == ["ingest", "train", "merge", "merge"]


def test_a_cancelled_task_ends_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=2)
    worker = bench.worker()
    bench.tick(worker, seconds=10.0)
    publish(bench.folder.of(bench.tasks[0]) / CANCELLED_FILE, {})
    bench.tick(worker, seconds=800.0)
    assert bench.statuses() == ["cancelled", "done", "blocked", "done"]


def test_a_node_that_workers_vanish_on_is_used_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, granules=12)
    for name in ("a", "b"):
        bench.tick(bench.worker(name, host="bad"), seconds=10.0)
    other = bench.worker("c", host="good")
    bench.tick(other, seconds=600.0)
    assert bench.folder.bad_nodes() == ["bad"]
    assert "ready" in bench.statuses()
    begun = len(bench.started)
    refused = bench.worker("d", host="bad")
    bench.tick(refused, seconds=10.0)
    assert len(bench.started) == begun


def test_a_disk_that_refuses_for_a_moment_loses_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch import worker as module

    bench = Bench(tmp_path)
    worker = bench.worker()
    bench.tick(worker, seconds=40.0)
    finish, refusals = module.finish, [StoreError("full"), StoreError("full")]

    def refuse(*arguments: Any, **named: Any) -> bool:
        if refusals:
            raise refusals.pop()
        return finish(*arguments, **named)

    monkeypatch.setattr(module, "finish", refuse)
    for _ in range(2):
        with pytest.raises(StoreError):
            bench.tick(worker, seconds=20.0, step_s=20.0)
    bench.tick(worker, seconds=400.0)
    assert bench.statuses() == ["done", "done"]
