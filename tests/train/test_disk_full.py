"""A disk that is full, for real: a small file system of its own, which only root may mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from job import Job
from toy import ToyTask, write_scene

from atmonr.checkpoint_file import read_checkpoint
from atmonr.errors import StoreError

FREE_BYTES = 8192  # enough for a line of metrics, not for a checkpoint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is refused here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Make a file as large as the disk allows, then leave a little free."""
    size = 0
    with open(path, "wb", buffering=0) as stream:
        try:
            while True:
                size += stream.write(bytes(4096))
        except OSError:
            stream.truncate(size - FREE_BYTES)


def test_a_disk_that_fills_up_ends_with_74_and_keeps_what_is_there(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Any
) -> None:
    scene = str(write_scene(tmp_path, "a"))
    undisturbed = Job(str(tmp_path / "undisturbed"), [scene])
    undisturbed.here()
    job = Job(str(small_disk / "run"), [scene])
    ballast, after_step = small_disk / "ballast", ToyTask.after_step

    def fill_at_30(task: ToyTask, step: int) -> None:
        after_step(task, step)
        if step == 30:
            fill(ballast)

    with monkeypatch.context() as patched:
        patched.setattr(ToyTask, "after_step", fill_at_30)
        with pytest.raises(StoreError, match=r"step-00000040\.pt: cannot write: No space left") as caught:
            job.here()
    assert caught.value.exit_code == 74
    checkpoints = job.folder.checkpoints("a")
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "latest",
        "step-00000000.pt",
        "step-00000020.pt",
    ]
    assert read_checkpoint(checkpoints / "step-00000020.pt")["step"] == 20
    with pytest.raises(StoreError):
        job.resumed().here()  # still full
    ballast.unlink()
    job.resumed().here()
    assert job.outcome() == undisturbed.outcome()
    faults.record(True)
