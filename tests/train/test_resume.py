"""A run killed at any moment and resumed is the run that was never killed."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from job import Job
from toy import write_scene

from atmonr.errors import DivergedError


def job_in(folder: Path, *, sleep_s: float, steps: int) -> Job:
    folder.mkdir()
    scene = write_scene(folder, "a", sleep_s=sleep_s)
    settings = {"steps": steps, "checkpoint_every_steps": 7, "log_every_steps": 3, "evaluate_every_steps": 11}
    return Job(str(folder / "run"), [str(scene)], settings)


def kill(job: Job, kills: int, seed: int, timeout_s: float) -> int:
    code, output, errors = job.elsewhere(str(kills), str(seed), timeout_s=timeout_s)
    assert code == 0, errors
    return int(output)


@pytest.mark.slow
def test_sigkill_at_a_few_random_moments_changes_no_bit(tmp_path: Path) -> None:
    undisturbed = job_in(tmp_path / "undisturbed", sleep_s=0, steps=100)
    undisturbed.here()
    killed = job_in(tmp_path / "killed", sleep_s=0.012, steps=100)  # outlasts 3 kills after 0.4 s or less
    assert kill(killed, kills=3, seed=1, timeout_s=90) == 3
    assert killed.outcome() == undisturbed.outcome()


@pytest.mark.slow
@pytest.mark.alone
def test_sigkill_at_20_random_moments_changes_no_bit(tmp_path: Path) -> None:
    undisturbed = job_in(tmp_path / "undisturbed", sleep_s=0, steps=400)
    undisturbed.here()
    killed = job_in(tmp_path / "killed", sleep_s=0.02, steps=400)  # outlasts 20 kills after 0.4 s or less
    assert kill(killed, kills=20, seed=2, timeout_s=240) == 20
    assert killed.outcome() == undisturbed.outcome()
    leftovers = [path.name for path in Path(killed.run).rglob(".*")]
    assert leftovers == []


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signalled_program_exits_75_and_its_successor_ends_as_if_undisturbed(
    tmp_path: Path, number: signal.Signals
) -> None:
    undisturbed = job_in(tmp_path / "undisturbed", sleep_s=0, steps=100)
    undisturbed.here()
    job = job_in(tmp_path / "signalled", sleep_s=0.05, steps=100)
    process = job.start()
    wait_for_metrics(job, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert f"stopped by {number.name}" in errors
    job.resumed().here()
    assert job.outcome() == undisturbed.outcome()


def wait_for_metrics(job: Job, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not job.folder.metrics("a").exists() or not job.folder.read_metrics("a"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_records_beyond_the_checkpoint_and_a_torn_line_are_written_anew(tmp_path: Path) -> None:
    """The kill may hit between a record and the checkpoint after it, or within a record."""
    undisturbed = job_in(tmp_path / "undisturbed", sleep_s=0, steps=30)
    undisturbed.here()
    job = job_in(tmp_path / "torn", sleep_s=0, steps=30)
    write_scene(tmp_path / "torn", "a", nan_at_step=25)
    with pytest.raises(DivergedError):
        job.here()
    assert [record["step"] for record in job.folder.read_metrics("a")][-1] == 24
    with open(job.folder.metrics("a"), "a") as stream:
        stream.write('{"step": 25, "lo')
    write_scene(tmp_path / "torn", "a")
    job.resumed().here()
    assert job.outcome() == undisturbed.outcome()
