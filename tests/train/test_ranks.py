"""Several processes started by mpiexec: the same numbers as one, and nobody waits for a rank that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job import MPIEXEC, Job
from toy import write_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`"),
]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    settings = {"steps": 50, "log_every_steps": 1, "batch_rays": 256}
    return Job(str(tmp_path / "run"), [str(write_scene(tmp_path, "a"))], settings, ranks_per_scene=2)


def test_two_ranks_agree_with_one_over_50_steps(job: Job, tmp_path: Path) -> None:
    code, _, errors = job.elsewhere(ranks=2)
    assert code == 0, errors
    one = replace(job, run=str(tmp_path / "one"), ranks_per_scene=1)
    one.here()
    both = [[record["loss"] for record in each.folder.read_metrics("a")] for each in (job, one)]
    assert len(both[0]) == 50
    assert both[0] == pytest.approx(both[1], abs=1e-5)


def test_two_ranks_stop_at_the_same_step_when_only_one_gets_the_signal(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", signal_at_rank_step=[1, 20], signal="SIGTERM")
    code, _, errors = job.elsewhere(ranks=2)
    assert code == 75, errors
    assert errors.count("at step 21") == 2
    write_scene(tmp_path, "a")
    code, _, errors = job.resumed().elsewhere(ranks=2)
    assert code == 0, errors
    assert [record["step"] for record in job.folder.read_metrics("a")] == list(range(1, 51))


@pytest.mark.parametrize(
    ("wrong", "exit_code", "message"),
    [
        ({"bug_at_rank_step": [1, 5]}, 1, "a bug"),
        ({"memory_at_rank_step": [1, 5]}, 76, "raise train.ray_chunks"),
        ({"nan_at_step": 5}, 70, "diverged at step 6"),
    ],
)
def test_an_error_on_one_rank_ends_all_with_its_code(
    job: Job, tmp_path: Path, wrong: dict[str, object], exit_code: int, message: str
) -> None:
    write_scene(tmp_path, "a", **wrong)
    begin = time.monotonic()
    code, _, errors = job.elsewhere(ranks=2)
    assert code == exit_code, errors
    assert message in errors
    assert time.monotonic() - begin < 40


def test_an_error_while_opening_the_run_ends_all(job: Job) -> None:
    Path(job.run).mkdir()
    code, _, errors = job.elsewhere(ranks=2)
    assert code == 2
    assert errors.count("UsageError") == 2


def test_scenes_are_dealt_to_ranks_and_one_outcome_is_told_by_all(job: Job, tmp_path: Path) -> None:
    scenes = [*job.scenes, str(write_scene(tmp_path, "b", nan_at_step=9)), str(write_scene(tmp_path, "c"))]
    several = replace(job, scenes=scenes, ranks_per_scene=1)
    code, _, errors = several.elsewhere(ranks=2)
    assert code == 70
    assert errors.count("DivergedError: b: diverged at step 10") == 2
    assert several.folder.failed("b")
    assert several.folder.done("a")
    assert several.folder.done("c")
    one = replace(job, run=str(tmp_path / "one"), ranks_per_scene=1)
    one.here()
    assert several.outcome("a") == one.outcome("a")


def test_a_stop_of_one_scene_stops_those_trained_beside_it(job: Job, tmp_path: Path) -> None:
    scenes = [
        str(write_scene(tmp_path, "a", signal_at_rank_step=[0, 5], signal="SIGUSR2")),
        str(write_scene(tmp_path, "b", sleep_s=0.2)),
    ]
    code, _, errors = replace(job, scenes=scenes, ranks_per_scene=1).elsewhere(ranks=2)
    assert code == 75, errors
    assert "a: stopped by SIGUSR2" in errors
    assert "STOP at step" in errors
    assert job.folder.done("b") is None
    assert job.folder.latest("b").read_text() != "step-00000000.pt\n"


def test_sigkill_of_one_rank_ends_mpiexec_at_once_and_the_resumed_run_is_the_same_run(
    job: Job, tmp_path: Path, faults: Any
) -> None:
    undisturbed = replace(job, run=str(tmp_path / "undisturbed"))
    assert undisturbed.elsewhere(ranks=2)[0] == 0
    write_scene(tmp_path, "a", sleep_s=0.1)
    process = job.start(ranks=2)
    wait_for_metrics(job, process)
    victim = ranks_below(process.pid)[-1]
    os.kill(victim, signal.SIGKILL)
    begin = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - begin < 40
    assert job.folder.done("a") is None
    write_scene(tmp_path, "a")
    code, _, errors = job.resumed().elsewhere(ranks=2)
    assert code == 0, errors
    assert job.outcome() == undisturbed.outcome()
    faults.record(True)


def wait_for_metrics(job: Job, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not job.folder.read_metrics("a"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ranks_below(launcher: int) -> list[int]:
    """Return the processes of the ranks that a launcher has started, which may not be its own children."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    below, found = {launcher}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in below} - below
        below |= found
    return sorted(pid for pid in below if "job.py" in command_of(pid) and pid != launcher)


def command_of(pid: int) -> str:
    """Return the program of a process, without the arguments that a launcher passes on."""
    with suppress(OSError):
        return " ".join(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:2])
    return ""
