from __future__ import annotations

import errno
import logging
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from job import Job
from toy import ToyTask, write_scene

from atmonr.errors import ResumeError, StoreError
from atmonr.run import Run
from atmonr.train.checkpoint import Checkpoints
from atmonr.world import World

WORLD = World.single("cpu")


@pytest.fixture
def task(tmp_path: Path) -> ToyTask:
    return new_task(tmp_path)


def new_task(folder: Path, seed: int = 0) -> ToyTask:
    torch.manual_seed(seed)
    scene = write_scene(folder, "a")
    task = ToyTask(Job("", []).config, scene, WORLD.device, WORLD)
    sum(parameter.sum() for parameter in task.module.parameters()).backward()
    task.optimizers["adam"].step()
    return task


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return in_folder(tmp_path / "run")


def in_folder(folder: Path, keep: int = 2, digest: str = "config", scene_id: str = "scene") -> Checkpoints:
    checkpoints = Checkpoints(Run(folder), "a", digest, scene_id, keep, WORLD)
    checkpoints.run.checkpoints("a").mkdir(parents=True, exist_ok=True)
    return checkpoints


def save(checkpoints: Checkpoints, step: int, task: ToyTask) -> Path:
    checkpoints.save(step, task)
    return checkpoints.run.checkpoint("a", step)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.run.checkpoints("a").iterdir())


def test_state_comes_back_bit_by_bit(checkpoints: Checkpoints, task: ToyTask, tmp_path: Path) -> None:
    save(checkpoints, 7, task)
    other = new_task(tmp_path, seed=1)
    assert not torch.equal(other.module.table.weight, task.module.table.weight)
    checkpoints.load(7, other)
    for name, tensor in task.module.state_dict().items():
        assert torch.equal(other.module.state_dict()[name], tensor)
    assert str(other.optimizers["adam"].state_dict()) == str(task.optimizers["adam"].state_dict())


def test_equal_states_give_equal_files(checkpoints: Checkpoints, task: ToyTask, tmp_path: Path) -> None:
    other = in_folder(tmp_path / "elsewhere")
    assert save(checkpoints, 7, task).read_bytes() == save(other, 7, task).read_bytes()


def test_files_hold_plain_data_only(checkpoints: Checkpoints, task: ToyTask) -> None:
    """A path among the values made resuming fail elsewhere: safe loading refuses it."""

    def kinds(value: object) -> set[type]:
        if isinstance(value, dict):
            return set().union(*(kinds(item) for pair in value.items() for item in pair))
        if isinstance(value, list | tuple):
            return set().union(*map(kinds, value))
        return {type(value)}

    state = torch.load(save(checkpoints, 7, task), weights_only=True)
    assert kinds(state) <= {torch.Tensor, str, int, float, bool, type(None)}
    assert {"step": 7, "config_digest": "config", "scene_id": "scene", "format": 1}.items() <= state.items()


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_code_in_a_checkpoint_is_not_run(
    checkpoints: Checkpoints, task: ToyTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = checkpoints.run.checkpoint("a", 7)
    torch.save({"step": 7, "module": Trap()}, path)
    with pytest.raises(ResumeError, match=r"step-00000007.pt: damaged"):
        checkpoints.load(7, task)
    assert not Path("trapped").exists()


def test_the_newest_are_kept_and_latest_names_the_last(tmp_path: Path, task: ToyTask) -> None:
    checkpoints = in_folder(tmp_path / "run", keep=3)
    for step in (0, 10, 20, 30, 40):
        save(checkpoints, step, task)
    assert names(checkpoints) == ["latest", "step-00000020.pt", "step-00000030.pt", "step-00000040.pt"]
    assert checkpoints.run.latest("a").read_text() == "step-00000040.pt\n"


def test_latest_moves_after_the_checkpoint_and_before_older_ones_go(
    checkpoints: Checkpoints, task: ToyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a kill in between would leave nothing to load."""
    events: list[str] = []
    replace, unlink = os.replace, Path.unlink

    def note_replace(source: Path, target: Path) -> None:
        events.append(f"+{Path(target).name}")
        replace(source, target)

    def note_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            events.append(f"-{path.name}")
        unlink(path, missing_ok=missing_ok)

    for step in (1, 2):
        save(checkpoints, step, task)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(Path, "unlink", note_unlink)
    save(checkpoints, 3, task)
    assert events == ["+step-00000003.pt", "+latest", "-step-00000001.pt"]


ONES = torch.ones(8).numpy().tobytes()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def flip_one_bit(path: Path) -> None:
    """torch loads such a file without complaint."""
    data = bytearray(path.read_bytes())
    place = data.index(ONES)
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, empty, fill_with_garbage, flip_one_bit])
def test_a_damaged_latest_is_passed_over_with_a_warning(
    checkpoints: Checkpoints, task: ToyTask, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    task.module.average.fill_(1.0)
    save(checkpoints, 10, task)
    damage(save(checkpoints, 20, task))  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert checkpoints.find(task) == 10
    assert "step-00000020.pt: damaged" in caplog.text


def test_with_no_good_checkpoint_the_error_names_the_file(checkpoints: Checkpoints, task: ToyTask) -> None:
    for step in (10, 20):
        truncate(save(checkpoints, step, task))
    with pytest.raises(ResumeError, match=r"step-00000020.pt: damaged, and so is every other"):
        checkpoints.find(task)


def test_a_run_killed_before_its_first_checkpoint_has_none(checkpoints: Checkpoints, task: ToyTask) -> None:
    assert checkpoints.find(task) is None


def test_a_damaged_or_missing_latest_file_does_not_matter(checkpoints: Checkpoints, task: ToyTask) -> None:
    save(checkpoints, 10, task)
    checkpoints.run.latest("a").write_bytes(b"\xff\xfe\0")
    assert checkpoints.find(task) == 10
    checkpoints.run.latest("a").unlink()
    assert checkpoints.find(task) == 10


@pytest.mark.parametrize("key", ["config", "scene"])
def test_another_configs_or_scenes_checkpoint_is_refused(tmp_path: Path, task: ToyTask, key: str) -> None:
    save(in_folder(tmp_path / "run"), 10, task)
    identity = {"digest": "config", "scene_id": "scene"} | {
        {"config": "digest", "scene": "scene_id"}[key]: "other"
    }
    with pytest.raises(ResumeError, match=rf"step-00000010.pt: .*expected other.*another {key}"):
        in_folder(tmp_path / "run", **identity).find(task)
    with pytest.raises(ResumeError):
        in_folder(tmp_path / "run", **identity).load(10, task)


def test_a_checkpoint_of_another_model_is_refused(checkpoints: Checkpoints, task: ToyTask) -> None:
    save(checkpoints, 10, task)
    task.module.network.append(torch.nn.Linear(1, 1))
    with pytest.raises(ResumeError, match=r"step-00000010.pt: does not fit the model: .*network.3.weight"):
        checkpoints.load(10, task)


def test_an_unreadable_newer_checkpoint_does_not_push_out_good_ones(
    checkpoints: Checkpoints, task: ToyTask
) -> None:
    save(checkpoints, 10, task)
    truncate(save(checkpoints, 20, task))
    save(checkpoints, 12, task)  # resumed from 10
    assert names(checkpoints) == ["latest", "step-00000010.pt", "step-00000012.pt", "step-00000020.pt"]
    save(checkpoints, 20, task)
    assert names(checkpoints) == ["latest", "step-00000012.pt", "step-00000020.pt"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_refused_write_leaves_the_previous_checkpoint_and_nothing_else(
    checkpoints: Checkpoints, task: ToyTask
) -> None:
    """The kernel refuses to let the file grow, as it does when a quota or a disk is full."""
    path = save(checkpoints, 10, task)
    before = path.read_bytes()
    with (
        file_size_limit(len(before) // 2),
        pytest.raises(StoreError, match=rf"step-00000020.pt: cannot write: {os.strerror(errno.EFBIG)}"),
    ):
        save(checkpoints, 20, task)
    assert names(checkpoints) == ["latest", "step-00000010.pt"]
    assert path.read_bytes() == before
    assert checkpoints.find(task) == 10


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_else(tmp_path: Path, task: ToyTask) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        checkpoints = in_folder(disk / "run")
        path = save(checkpoints, 10, task)
        with pytest.raises(StoreError, match=r"cannot write: No space left on device") as caught:
            for step in range(20, 1000, 10):
                save(in_folder(disk / "run", keep=99), step, task)
        assert caught.value.exit_code == 74
        assert path.exists()
        assert not list(checkpoints.run.checkpoints("a").glob(".*"))
        assert checkpoints.find(task) is not None
    finally:
        subprocess.run(["umount", str(disk)], check=True)
