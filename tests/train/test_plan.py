"""What is left to do, how long it may take, and what comes first."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job import Job
from toy import RECIPE, read_scene, write_scene

from atmonr.errors import DivergedError, ResumeError, UsageError, WorldError
from atmonr.feed.rays import RayTable
from atmonr.train.plan import RAY_BYTES, SceneWork, costs, order, plan_of, survey
from atmonr.train.session import plan

A = SceneWork("a", Path("a"), rays=100, size_bytes=7, steps_left=10)


def test_more_rays_cost_more() -> None:
    scenes = [A, replace(A, rays=300), replace(A, rays=200)]
    assert costs(scenes) == [1000, 3000, 2000]
    assert order(scenes) == [1, 2, 0]


def test_where_a_scene_does_not_tell_its_rays_the_size_of_all_files_counts() -> None:
    scenes = [replace(A, rays=None), replace(A, rays=1, size_bytes=9)]
    assert costs(scenes) == [70, 90]


def test_files_are_looked_at_only_where_rays_are_not_told(tmp_path: Path) -> None:
    paths = [write_scene(tmp_path, name) for name in "ab"]
    infos = [{"name": name, "rays": 5} for name in "ab"]
    config = Job("run", []).config
    assert [scene.size_bytes for scene in survey(config, paths, infos, None)] == [0, 0]
    del infos[1]["rays"]
    assert min(scene.size_bytes for scene in survey(config, paths, infos, None)) > 0


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


def config_of(**world: int) -> Any:
    config = Job("run", []).config
    return config.model_copy(update={"world": config.world.model_copy(update=world)})


def test_512_ranks_are_planned_at_once_on_one_process() -> None:
    scenes = [replace(A, name=f"scene-{number}", rays=1 + number % 7) for number in range(3000)]
    begin = time.monotonic()
    found = plan_of(config_of(tiles=4), scenes, 512)
    assert time.monotonic() - begin < 5  # 0.02 s where nothing else runs
    assert len(found.ranks.groups) == 128
    assert sorted(scene for mine in found.taken for scene in mine) == list(range(3000))
    assert found.waves >= 24
    assert max(found.busy) == 1.0
    assert min(found.busy) > 0.9


def test_ranks_that_share_a_batch_hold_all_rays_and_tiles_split_them() -> None:
    shared = plan_of(config_of(ranks_per_scene=2), [A, A], 4)
    assert shared.rays_per_rank(A) == [100, 100]
    tiled = plan_of(config_of(tiles=4), [A], 3)
    assert tiled.rays_per_rank(A) == [50, 25, 25]
    assert tiled.rays_per_rank(replace(A, rays=None)) is None


def test_the_bytes_of_a_ray_are_those_of_the_table(tmp_path: Path) -> None:
    import torch

    table = RayTable(
        sight=torch.zeros(5, 3),
        reflectance=torch.zeros(3),
        view=torch.zeros(3, dtype=torch.uint8),
        view_band=torch.zeros(1, dtype=torch.int64),
        footprint=torch.zeros(1, 6, 4),
        frame=None,  # type: ignore[arg-type]
        top_height_m=0.0,
    )
    assert table.bytes_per_ray == RAY_BYTES


def test_a_dry_run_writes_nothing_and_refuses_what_the_run_would(tmp_path: Path) -> None:
    scenes = [write_scene(tmp_path, name) for name in "abc"]
    run, settings = tmp_path / "run", config_of()
    found = plan(settings, scenes, run, recipe=RECIPE, resume=False, ranks=2)
    assert [len(mine) for mine in found.taken] == [2, 1]
    assert not run.exists()
    with pytest.raises(WorldError, match="1 of 4 ranks would idle"):
        plan(settings, scenes, run, recipe=RECIPE, resume=False, ranks=4)
    with pytest.raises(ResumeError, match="not a run folder"):
        plan(settings, scenes, run, recipe=RECIPE, resume=True, ranks=1)
    run.mkdir()
    with pytest.raises(UsageError, match="--resume or choose"):
        plan(settings, scenes, run, recipe=RECIPE, resume=False, ranks=1)
