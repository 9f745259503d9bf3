"""One process: a run from its folder's making to its end, whatever that is."""

from __future__ import annotations

import json
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from job import Job
from toy import ToyTask, write_scene

from atmonr import stop
from atmonr.errors import (
    AtmonrError,
    ConfigError,
    DivergedError,
    GpuMemoryError,
    ResumeError,
    SceneError,
    StoppedError,
    UsageError,
    WorldError,
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(str(tmp_path / "run"), [str(write_scene(tmp_path, "a"))])


def reference(job: Job) -> dict[str, Any]:
    """What the same training gives when nothing disturbs it."""
    folder = Path(job.run).parent / "undisturbed"
    folder.mkdir()
    scene = write_scene(folder, "a")
    quiet = replace(job, run=str(folder / "run"), scenes=[str(scene)], resume=False)
    quiet.here()
    return quiet.outcome()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_folder_holds_everything(job: Job) -> None:
    replace(job, settings={"evaluate_every_steps": 30}).here()
    scene = "scenes/a"
    assert {name for name in files(Path(job.run)) if not name.startswith("logs")} == {
        "run.toml",
        "provenance.json",
        f"{scene}/scene.json",
        f"{scene}/metrics.jsonl",
        f"{scene}/heldout.json",
        f"{scene}/done.json",
        f"{scene}/pictures/closing.png",
        f"{scene}/checkpoints/latest",
        f"{scene}/checkpoints/step-00000040.pt",
        f"{scene}/checkpoints/step-00000060.pt",
    }
    metrics = job.folder.read_metrics("a")
    assert [record["step"] for record in metrics] == [10, 20, 30, 40, 50, 60]
    assert [record["step"] for record in metrics if "heldout_mse" in record] == [30, 60]
    assert all(record.keys() >= {"wall_s", "loss", "lr", "steps_per_s", "rays_per_s"} for record in metrics)
    assert json.loads((job.folder.scene_folder("a") / "heldout.json").read_text())["psnr"] == [None]
    assert job.folder.done("a")["steps"] == 60
    assert "a: finished" in job.folder.log(0).read_text()


def test_training_learns(job: Job) -> None:
    replace(job, settings={"steps": 300, "checkpoint_every_steps": 300, "evaluate_every_steps": 10}).here()
    scores = [record["heldout_mse"] for record in job.folder.read_metrics("a")]
    assert scores[-1] < 0.8 * scores[0]


def test_the_seed_decides(job: Job, tmp_path: Path) -> None:
    again, other = (replace(job, run=str(tmp_path / name)) for name in ("again", "other"))
    job.here()
    again.here()
    replace(other, settings={"seed": 1}).here()
    assert again.outcome() == job.outcome()
    assert other.outcome()["sha256"] != job.outcome()["sha256"]


def test_time_triggers_checkpoints_too(job: Job) -> None:
    settings = {"steps": 7, "checkpoint_every_steps": 1000, "checkpoint_every_minutes": 1e-9}
    replace(job, settings=settings).here()
    kept = sorted(path.name for path in job.folder.checkpoints("a").glob("*.pt"))
    assert kept == ["step-00000006.pt", "step-00000007.pt"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_stops_with_exit_75_and_the_resumed_run_is_the_same_run(
    job: Job, tmp_path: Path, number: signal.Signals
) -> None:
    write_scene(tmp_path, "a", signal_at_rank_step=[0, 33], signal=number.name)
    with pytest.raises(StoppedError, match=rf"a: stopped by {number.name} at step 34, saved") as caught:
        job.here()
    assert caught.value.exit_code == 75
    assert job.folder.latest("a").read_text() == "step-00000034.pt\n"
    assert job.folder.done("a") is None
    write_scene(tmp_path, "a")
    job.resumed().here()
    assert job.outcome() == reference(job)


def test_a_stop_file_stops_and_is_forgotten_when_resumed(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop.StopRequest.__init__, "__kwdefaults__", {"poll_s": 0.0, "clock": iter_clock()})
    losses = ToyTask.losses

    def touch_at_12(task: ToyTask, step: int) -> Any:
        if step == 12 and not job.folder.done("a"):
            (Path(job.run) / "STOP").touch()
        return losses(task, step)

    with monkeypatch.context() as patched:
        patched.setattr(ToyTask, "losses", touch_at_12)
        with pytest.raises(StoppedError, match=r"run/STOP at step 13"):
            job.here()
    job.resumed().here()
    assert not (Path(job.run) / "STOP").exists()
    assert job.outcome() == reference(job)


def iter_clock() -> Any:
    return iter(range(10**9)).__next__


def test_a_diverged_run_exits_70_and_leaves_a_good_checkpoint(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", nan_at_step=33)
    with pytest.raises(DivergedError, match=r"a: diverged at step 34: loss nan.*step-00000020.pt") as caught:
        job.here()
    assert caught.value.exit_code == 70
    state = torch.load(job.folder.checkpoint("a", 20), weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in state["module"].values())
    assert all(record["loss"] is not None for record in job.folder.read_metrics("a"))
    assert job.folder.done("a") is None


def test_a_run_that_diverges_at_once_still_leaves_a_checkpoint(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", nan_at_step=0)
    with pytest.raises(DivergedError, match="step-00000000"):
        job.here()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"damaged",
        lambda content: content[: len(content) // 2],
        lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:],
    ],
    ids=["replaced", "truncated", "flipped"],
)
def test_a_damaged_checkpoint_is_passed_over_and_the_run_is_the_same_run(
    job: Job, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write_scene(tmp_path, "a", nan_at_step=50)
    with pytest.raises(DivergedError):
        job.here()
    newest = job.folder.checkpoint("a", 40)
    newest.write_bytes(damage(newest.read_bytes()))
    write_scene(tmp_path, "a")
    job.resumed().here()
    assert f"{newest}: damaged checkpoint" in job.folder.log(0).read_text()
    assert "a: starts at step 20 of 60" in job.folder.log(0).read_text()
    assert job.outcome() == reference(job)


def test_more_steps_continue_a_finished_run(job: Job) -> None:
    job.here()
    longer = replace(job.resumed(), settings={"steps": 80})
    longer.here()
    assert longer.outcome()["newest"] == "step-00000080.pt"
    assert [record["step"] for record in job.folder.read_metrics("a")] == list(range(10, 81, 10))


def test_resuming_a_finished_run_changes_nothing(job: Job) -> None:
    job.here()
    before = files(Path(job.run) / "scenes")
    job.resumed().here()
    assert files(Path(job.run) / "scenes") == before


@pytest.mark.parametrize("change", ["config", "scene"])
def test_a_run_of_another_config_or_scene_is_refused_and_left_alone(
    job: Job, tmp_path: Path, change: str
) -> None:
    job.here()
    before = files(Path(job.run))
    other = replace(job.resumed(), settings={"seed": 1}) if change == "config" else job.resumed()
    if change == "scene":
        write_scene(tmp_path, "a", scene_id="another")
    with pytest.raises(ResumeError, match=str(job.run)) as caught:
        other.here()
    assert caught.value.exit_code == 65
    assert files(Path(job.run)) == before


def test_an_existing_run_folder_is_not_overwritten(job: Job) -> None:
    job.here()
    before = files(Path(job.run))
    with pytest.raises(UsageError, match="exists"):
        job.here()
    assert files(Path(job.run)) == before


def test_scenes_of_one_name_are_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same = str(write_scene(tmp_path / "other", "a"))
    with pytest.raises(UsageError, match="named 'a'"):
        replace(job, scenes=[*job.scenes, same]).here()
    assert not Path(job.run).exists()


def test_a_scene_that_fails_does_not_keep_the_others_from_being_trained(job: Job, tmp_path: Path) -> None:
    scenes = [write_scene(tmp_path, "bad", nan_at_step=3), write_scene(tmp_path, "b")]
    with pytest.raises(DivergedError, match="bad: diverged at step 4"):
        replace(job, scenes=[str(scenes[0]), *job.scenes, str(scenes[1])]).here()
    assert job.folder.done("bad") is None
    assert job.folder.done("a")
    assert job.folder.done("b")


def test_a_failure_is_recorded_with_its_reason_until_the_scene_is_finished(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", nan_at_step=33)
    with pytest.raises(DivergedError):
        job.here()
    record = job.folder.failed("a")
    assert record is not None
    assert record.pop("time_utc").endswith("+00:00")
    assert record.pop("message").startswith("a: diverged at step 34: loss nan")
    assert record == {"error": "DivergedError", "step": 33, "exit_code": 70}
    write_scene(tmp_path, "a")
    job.resumed().here()
    assert job.folder.failed("a") is None


@pytest.mark.parametrize(
    ("wrong", "name", "exit_code"),
    [
        ({"memory_at_rank_step": [0, 3]}, "GpuMemoryError", 76),
        ({"unreadable": True}, "SceneError", 65),
        ({"nan_at_step": 3}, "DivergedError", 70),
    ],
)
def test_whatever_is_wrong_with_one_scene_the_others_are_trained(
    job: Job, tmp_path: Path, wrong: dict[str, Any], name: str, exit_code: int
) -> None:
    scenes = [str(write_scene(tmp_path, "bad", **wrong)), *job.scenes, str(write_scene(tmp_path, "c"))]
    with pytest.raises(AtmonrError) as caught:
        replace(job, scenes=scenes).here()
    assert (type(caught.value).__name__, caught.value.exit_code) == (name, exit_code)
    record = job.folder.failed("bad")
    assert record is not None and (record["error"], record["exit_code"]) == (name, exit_code)
    assert job.folder.done("a") and job.folder.done("c")


def test_nothing_of_a_scene_stays_in_memory_when_the_next_begins(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[dict[str, Any]] = [{}, {"memory_at_rank_step": [0, 3]}, {"nan_at_step": 3}, {}]
    scenes = [str(write_scene(tmp_path, f"s{number}", **what)) for number, what in enumerate(wrong)]
    built: list[weakref.ref[ToyTask]] = []
    still_there, begin = [], ToyTask.__init__

    def noting(task: ToyTask, *arguments: Any) -> None:
        still_there.append(sum(earlier() is not None for earlier in built))
        begin(task, *arguments)
        built.append(weakref.ref(task))

    monkeypatch.setattr(ToyTask, "__init__", noting)
    with pytest.raises(AtmonrError):
        replace(job, scenes=scenes).here()
    assert still_there == [0, 0, 0, 0]


def test_a_bug_ends_the_session_and_is_recorded(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", bug_at_rank_step=[0, 5])
    with pytest.raises(RuntimeError, match="a bug"):
        job.here()
    record = job.folder.failed("a")
    assert record is not None
    assert (record["error"], record["message"], record["step"], record["exit_code"]) == (
        "RuntimeError",
        "a bug",
        5,
        1,
    )


def test_a_scene_whose_checkpoints_are_all_damaged_does_not_stop_the_others(job: Job, tmp_path: Path) -> None:
    both = replace(job, scenes=[*job.scenes, str(write_scene(tmp_path, "b"))])
    both.here()
    for checkpoint in both.folder.checkpoints("a").glob("*.pt"):
        checkpoint.write_bytes(b"damaged")
    with pytest.raises(ResumeError, match="damaged"):
        replace(both.resumed(), settings={"steps": 70}).here()
    assert job.folder.failed("a") is not None
    assert both.outcome("b")["newest"] == "step-00000070.pt"


def test_what_failed_before_is_tried_last_and_named(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = [*job.scenes, str(write_scene(tmp_path, "b"))]
    write_scene(tmp_path, "a", nan_at_step=33, padding="longest, so first: " + 99 * "x")
    write_scene(tmp_path, "b", signal_at_rank_step=[0, 3], signal="SIGTERM")
    both = replace(job, scenes=scenes)
    with pytest.raises(StoppedError, match=r"b: stopped.*; a: diverged"):
        both.here()
    write_scene(tmp_path, "b")
    with pytest.raises(DivergedError):
        replace(both.resumed(), quiet=False).here()
    assert "a: failed before (DivergedError at step 33); tried again" in capsys.readouterr().err
    order = [line for line in job.folder.log(0).read_text().splitlines() if "starts at step" in line]
    assert [line.split(": ")[1] for line in order] == ["a", "b", "b", "a"]


def test_several_failures_are_told_in_one_line(job: Job, tmp_path: Path) -> None:
    scenes = [str(write_scene(tmp_path, name, nan_at_step=3)) for name in ("p", "q")]
    with pytest.raises(DivergedError, match=r"p: diverged at step 4.*; q: diverged at step 4"):
        replace(job, scenes=scenes).here()


def test_an_unreadable_scene_makes_no_run_folder(job: Job, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SceneError, match=r"a\.json"):
        job.here()
    assert not Path(job.run).exists()


def test_a_full_gpu_exits_76_and_says_what_to_change(job: Job, tmp_path: Path) -> None:
    write_scene(tmp_path, "a", memory_at_rank_step=[0, 3])
    with pytest.raises(GpuMemoryError, match=r"out of memory.*2 GiB; raise train.ray_chunks") as caught:
        job.here()
    assert caught.value.exit_code == 76


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ranks_per_scene": 2}, WorldError),
        ({"ranks_per_scene": 3}, ConfigError),  # 64 rays
        ({"scenes": []}, WorldError),
    ],
)
def test_ranks_and_scenes_that_do_not_match_are_refused(
    job: Job, change: dict[str, Any], error: type[AtmonrError]
) -> None:
    with pytest.raises(error):
        replace(job, **change).here()
    assert not Path(job.run).exists()
