"""What is left to do, how long it may take, and what comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from job import Job
from toy import read_scene, write_scene

from atmonr.errors import DivergedError
from atmonr.train.plan import SceneWork, costs, order, survey

A = SceneWork("a", Path("a"), rays=100, size_bytes=7, steps_left=10)


def test_more_rays_cost_more() -> None:
    scenes = [A, replace(A, rays=300), replace(A, rays=200)]
    assert costs(scenes) == [1000, 3000, 2000]
    assert order(scenes) == [1, 2, 0]


def test_where_a_scene_does_not_tell_its_rays_the_size_of_all_files_counts() -> None:
    scenes = [replace(A, rays=None), replace(A, rays=1, size_bytes=9)]
    assert costs(scenes) == [70, 90]


def test_measured_time_is_used_and_extended_to_what_was_not_measured() -> None:
    measured = replace(A, steps_left=4, seconds_per_step=0.5)
    assert costs([measured, replace(A, rays=50)]) == [2.0, pytest.approx(2.5)]


def test_finished_scenes_are_left_out_and_failed_ones_come_last() -> None:
    scenes = [replace(A, failure="DivergedError at step 3"), replace(A, steps_left=0), replace(A, rays=1)]
    assert order(scenes) == [2, 0]


def test_the_run_folder_tells_what_was_done_measured_and_failed(tmp_path: Path) -> None:
    wrong: dict[str, dict[str, object]] = {"a": {}, "b": {"nan_at_step": 33}, "c": {"unreadable": True}}
    paths = [write_scene(tmp_path, name, **what) for name, what in wrong.items()]
    job = Job(str(tmp_path / "run"), [str(path) for path in paths])
    with pytest.raises(DivergedError):
        job.here()
    infos = [read_scene(path) for path in paths]
    a, b, c = survey(job.config, paths, infos, job.folder)
    assert (a.steps_left, b.steps_left, c.steps_left) == (0, 30, 60)
    assert a.seconds_per_step and b.seconds_per_step and c.seconds_per_step is None
    assert (a.failure, b.failure, c.failure) == (None, "DivergedError at step 33", "SceneError at step 0")
    assert [scene.size_bytes for scene in (a, b, c)] == [path.stat().st_size for path in paths]
    fresh = survey(job.config, paths, infos, None)
    assert [scene.steps_left for scene in fresh] == [60, 60, 60]
