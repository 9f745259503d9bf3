"""Training on a small scene: exactly repeatable, blind to what is held out, and it learns."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.config import Config
from atmonr.errors import ConfigError, SceneError
from atmonr.feed.rays import load_rays
from atmonr.fields.load import load_field
from atmonr.fields.setting import Setting
from atmonr.run import Run
from atmonr.store.scene import Scene
from atmonr.tasks.heldout import render
from atmonr.tasks.recipe import RECIPE
from atmonr.tasks.tomography import Tomography, setting_of
from atmonr.tasks.view import Camera
from atmonr.train.checkpoint import Checkpoints
from atmonr.train.loop import StepReport, fit
from atmonr.world import World
from tests.feed.scenes import make_fields, make_scene
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_config

CPU = torch.device("cpu")
STEPS = 60
ALONE = World.single("cpu")
KINDS = pytest.mark.parametrize("kind", [SMALL_HASH, SMALL_NERF], ids=["instant_ngp", "nerf"])


class Interrupted(Exception):
    """Ends a training before its last step."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def make_task(scene: Scene, config: Config | None = None, seed: int = 0, peers: World = ALONE) -> Tomography:
    torch.manual_seed(seed)
    task = RECIPE.build(config or make_config(), scene.path, CPU, peers)
    assert isinstance(task, Tomography)
    task.begin()
    return task


def loss_of(task: Tomography, step: int) -> Tensor:
    ((name, loss),) = task.losses(step)
    assert name == "field"
    return loss


def train(task: Tomography, stop: int = STEPS, start: int = 0) -> list[float]:
    """Trains up to a step and returns the losses."""
    losses: list[float] = []

    def at_boundary(report: StepReport) -> None:
        losses.append(report.losses["field"].item())
        if report.step == stop < STEPS:
            raise Interrupted

    with suppress(Interrupted):
        fit(task, steps=STEPS, start_step=start, world=World.single("cpu"), at_boundary=at_boundary)
    return losses


def same_bits(first: Tomography, second: Tomography) -> bool:
    states = first.field.state_dict(), second.field.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def checkpoints_of(scene: Scene, config: Config, folder: Path) -> Checkpoints:
    info = RECIPE.describe(scene.path)
    run = Run.create(folder, config, {info["name"]: info}, {})
    return Checkpoints(run, info["name"], config.digest, info["scene_id"], keep=2, world=ALONE)


@KINDS
def test_a_step_is_a_function_of_seed_and_step_alone(scene: Scene, kind: dict[str, object]) -> None:
    config = make_config(kind)
    first, second = make_task(scene, config), make_task(scene, config)
    assert same_bits(first, second)
    steps = [0, 3, 200, 151, 3]
    torch.manual_seed(77)
    losses = [loss_of(first, step).item() for step in steps]
    assert losses[1] == losses[4]
    assert len(set(losses)) == 4
    assert [loss_of(second, step).item() for step in reversed(steps)] == losses[::-1]


def test_another_seed_sees_other_rays(scene: Scene) -> None:
    losses = [loss_of(make_task(scene, make_config(train={"seed": seed})), 0).item() for seed in (0, 1)]
    assert losses[0] != losses[1]


@KINDS
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_shares_of_all_ranks_make_up_the_batch(scene: Scene, kind: dict[str, object], ranks: int) -> None:
    config = make_config(kind, loss={"l1": 0.3, "hdr": 0.1, "dark": 1.0, "sparsity": 1e-2})
    alone = make_task(scene, config)
    peers = [make_task(scene, config, peers=replace(ALONE, rank=rank, size=ranks)) for rank in range(ranks)]
    for step in (0, 9):
        whole = loss_of(alone, step)
        shares = [loss_of(task, step) for task in peers]
        assert torch.stack(shares).sum().item() == pytest.approx(whole.item(), rel=1e-6)
        assert len({share.item() for share in shares}) == ranks


@KINDS
def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(scene: Scene, kind: dict[str, object]) -> None:
    found = []
    for chunks in (1, 3):
        config = make_config(
            kind, loss={"l1": 0.3, "sparsity": 1e-2, "departure": 1e-2}, train={"ray_chunks": chunks}
        )
        task = make_task(scene, config)
        parts = list(task.losses(4))
        assert [name for name, _ in parts] == [""] * (chunks - 1) + ["field"]
        for _, loss in parts:
            loss.backward()
        gradients = [p.grad for p in task.field.parameters() if p.grad is not None]
        found.append([torch.stack([loss.detach() for _, loss in parts]).sum(), *gradients])
    assert len(found[0]) == len(found[1])
    for whole, together in zip(*found, strict=True):
        assert (whole - together).abs().max() <= 1e-5 * whole.abs().max()


@KINDS
def test_training_lowers_the_loss(scene: Scene, kind: dict[str, object]) -> None:
    losses = train(make_task(scene, make_config(kind)))
    assert len(losses) == STEPS
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


@KINDS
def test_an_interrupted_training_ends_with_the_bits_of_one_that_was_not(
    scene: Scene, tmp_path: Path, kind: dict[str, object]
) -> None:
    """Interrupted between two solutions of the light, so that this is part of the state too."""
    config = make_config(kind)
    undisturbed, interrupted = make_task(scene, config), make_task(scene, config)
    losses = train(undisturbed)
    before = train(interrupted, stop=34)
    checkpoints = checkpoints_of(scene, config, tmp_path / "run")
    checkpoints.save(34, interrupted)
    resumed = make_task(scene, config, seed=5)
    checkpoints.load(34, resumed)
    assert before + train(resumed, start=34) == losses
    assert same_bits(resumed, undisturbed)


@KINDS
def test_a_field_loaded_from_the_run_folder_renders_the_same_bits(
    scene: Scene, tmp_path: Path, kind: dict[str, object]
) -> None:
    config = make_config(kind)
    task = make_task(scene, config)
    train(task, stop=12)
    checkpoints = checkpoints_of(scene, config, tmp_path / "run")
    checkpoints.save(12, task)
    table = load_rays(scene, np.flatnonzero(scene.holdout), CPU)
    chosen = torch.arange(len(table))
    loaded = Camera(load_field(checkpoints.run, scene.name, CPU), config)
    assert torch.equal(render(loaded, table, chosen), render(task.camera, table, chosen))


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The same granule with nonsense in the held-out views."""
    fields = make_fields()
    fields["i"][5::10] = 500.0 - fields["i"][5::10]
    return make_scene(tmp_path_factory.mktemp("poisoned"), fields)


@pytest.mark.slow
def test_held_out_views_teach_nothing(scene: Scene, poisoned: Scene) -> None:
    first, second = make_task(scene), make_task(poisoned)
    assert not set(first.rays.view.tolist()) & set(range(5, 90, 10))
    assert len(set(first.rays.view.tolist())) == 81
    assert train(first, stop=25) == train(second, stop=25)
    assert same_bits(first, second)
    assert first.evaluate(25) != second.evaluate(25)


@pytest.mark.slow
def test_scores_are_those_of_all_held_out_rays_and_change_nothing(scene: Scene, tmp_path: Path) -> None:
    task, unwatched = make_task(scene), make_task(scene)
    for each in (task, unwatched):
        train(each, stop=20)
    table = load_rays(scene, np.arange(5, 90, 10), CPU)
    with torch.no_grad():
        batch = table.take(torch.arange(len(table)))
        shape = len(batch), task.camera.samples, 3
        quarters = [
            task.camera.look(batch, torch.tensor([0.5, *place]).expand(shape))[-1]
            for place in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))
        ]
    seen = torch.stack([quarter.reflectance for quarter in quarters]).mean(0)
    rendered = render(task.camera, table, torch.arange(len(table)))
    torch.testing.assert_close(rendered, seen, rtol=1e-5, atol=1e-7)
    error = (rendered - table.reflectance).double().numpy()
    expected = 10 * np.log10(table.reflectance.max().item() ** 2 / np.mean(error**2))
    assert task.evaluate(20) == {"heldout_psnr_db": pytest.approx(expected, abs=1e-3)}
    score = task.finish([tmp_path])[0]
    assert score["all"]["psnr_db"] == pytest.approx(expected, abs=1e-3)
    assert score["all"]["n"] == len(table) == 9 * 12 * 9
    assert score["all"]["views"] == 9
    assert sum(band["n"] for band in score["bands"].values()) == len(table)
    assert set(score["bands"]) <= {"440 nm", "550 nm", "665 nm", "866 nm"}
    assert all(-1 <= band["ssim"] <= 1 for band in score["bands"].values())
    assert (tmp_path / "heldout.png").stat().st_size > 5_000
    json.dumps(score, allow_nan=False)
    assert train(task, stop=23, start=20) == train(unwatched, stop=23, start=20)


@pytest.mark.slow
def test_scores_leave_out_what_the_granule_does_not_hold(tmp_path: Path) -> None:
    """Missing pixels must not be compared as if both pictures had them."""
    fields = make_fields()
    fields["i"][25, 2:7, :] = np.nan
    fields["i"][45] = np.nan
    task = make_task(make_scene(tmp_path, fields))
    score = task.finish([tmp_path])[0]
    assert score["all"]["views"] == 8
    assert score["all"]["n"] == 8 * 12 * 9 - 5 * 9
    json.dumps(score, allow_nan=False)


def test_the_light_is_solved_for_anew_every_so_many_steps(scene: Scene) -> None:
    task = make_task(scene)
    with torch.no_grad():
        for parameter in task.field.media.parameters():
            parameter.add_(0.05)
    volumes = []
    for step in (8, 9, 10, 19):
        task.after_step(step)
        volumes.append(task.field.light.volume.clone())
    same = [torch.equal(a, b) for a, b in pairwise(volumes)]
    assert same == [False, True, False]


def test_the_light_is_a_function_of_the_modules_state(scene: Scene) -> None:
    first, second = make_task(scene), make_task(scene, seed=9)
    second.field.load_state_dict(first.field.state_dict())
    for task in (first, second):
        task.after_step(9)
    assert same_bits(first, second)


def test_every_parameter_is_trained_once_and_none_decays(scene: Scene) -> None:
    task = make_task(scene)
    groups = task.optimizers["field"].param_groups
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(id(parameter) for parameter in task.field.parameters())
    assert all(group["weight_decay"] == 0 for group in groups)
    tables = {id(task.field.surface.grid.table), id(task.field.media[0].grid.table)}
    assert {id(parameter) for parameter in groups[1]["params"]} == tables


def test_a_description_is_json_that_gives_back_the_setting(scene: Scene) -> None:
    info = json.loads(json.dumps(RECIPE.describe(scene.path)))
    assert Setting.from_json(info) == setting_of(scene)
    assert info["name"] == "scene" and info["scene_id"] == scene.scene_id
    assert len(info["footprint_m"]) == 4
    assert len(info["outline_m"]) >= 4
    assert len(info["track_m"]) == 4


def test_a_batch_larger_than_the_scene_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_rays=10000 is more than the scene's 8748 rays"):
        make_task(scene, make_config(train={"batch_rays": 10_000}))


def test_a_scene_without_anything_held_out_is_refused(tmp_path: Path) -> None:
    fields = make_fields()
    fields["i"][5::10] = np.nan
    with pytest.raises(SceneError, match="no valid ray in 9 chosen views"):
        make_task(make_scene(tmp_path, fields))
