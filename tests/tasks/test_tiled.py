"""A scene in tiles is learned as if it were whole: what rays show, what is learned from them, and on how many
ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from atmonr.config import Config
from atmonr.errors import ConfigError
from atmonr.feed.rays import load_rays
from atmonr.fields.build import build_field
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.load import load_field
from atmonr.fields.tiled import TiledField, shared_parameters
from atmonr.run import Run
from atmonr.store.scene import Scene
from atmonr.tasks.recipe import RECIPE
from atmonr.tasks.tiled import TiledTomography
from atmonr.tasks.tomography import setting_of
from atmonr.tasks.view import Camera
from atmonr.train.checkpoint import Checkpoints
from atmonr.train.loop import fit
from atmonr.world import World
from tests.feed.scenes import make_scene
from tests.fields.make import SMALL_NERF, make_config

ALONE = World.single("cpu")
STEPS = 60


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


def config_of(tiles: int, **sections: dict[str, object]) -> Config:
    sections = {
        "render": {"sampler": "pdf"},
        "loss": {"mse": 1.0, "dark": 1.0, "l1": 0.1, "sparsity": 1e-5, "departure": 1e-2},
        "train": {"steps": STEPS},
        **sections,
    }
    return make_config(world={"tiles": tiles}, **sections)


def make_task(scene: Scene, tiles: int = 4, **sections: dict[str, object]) -> TiledTomography:
    task = RECIPE.build(config_of(tiles, **sections), scene.path, ALONE.device, ALONE)
    assert isinstance(task, TiledTomography)
    task.begin()
    return task


def loss_of(task: TiledTomography, step: int) -> Tensor:
    ((name, loss),) = task.losses(step)
    assert name == "field"
    return loss


def train(task: TiledTomography, stop: int = STEPS, start: int = 0) -> list[float]:
    losses: list[float] = []
    fit(
        task,
        steps=stop,
        start_step=start,
        world=ALONE,
        at_boundary=lambda report: losses.append(report.losses["field"].item()),
    )
    return losses


def make_uniform(fields: list[torch.nn.Module]) -> None:
    """Empty tables and equal networks: the same medium at every place, whatever the tiles."""
    generator = torch.Generator().manual_seed(8)
    values: dict[str, Tensor] = {}
    for field in fields:
        for module in field.modules():
            if isinstance(module, HashGrid):
                torch.nn.init.zeros_(module.table)
        for name, parameter in shared_parameters(field).items():  # type: ignore[arg-type]
            if name not in values:
                values[name] = 0.3 * torch.randn(parameter.shape, generator=generator)
            with torch.no_grad():
                parameter.copy_(values[name])
    first = fields[0].light
    first.volume.uniform_(generator=generator)  # type: ignore[union-attr]
    for field in fields[1:]:
        field.light.load_state_dict(first.state_dict())  # type: ignore[union-attr]


@pytest.mark.parametrize("tiles", [2, 4, 9])
def test_rays_show_the_same_as_without_tiles(scene: Scene, tiles: int) -> None:
    """Some of them pass through three tiles."""
    task = make_task(scene, tiles)
    whole = build_field(config_of(1), setting_of(scene))
    make_uniform([whole, *(camera.field for camera in task.cameras.values())])
    table = load_rays(scene, np.flatnonzero(~scene.holdout), ALONE.device)
    numbers = np.random.default_rng(0).permutation(len(table))[:400]
    camera = Camera(whole, config_of(1))
    places = camera.places(400, torch.Generator().manual_seed(1))
    (expected,) = camera.look(table.take(torch.from_numpy(numbers)), places)
    depth, departure, sparsity = torch.zeros(400), torch.zeros(400), torch.zeros(400)
    with torch.no_grad():
        for batch, seen in task._look(task.rays, numbers, places):
            slots = torch.from_numpy(batch.slots)
            torch.testing.assert_close(seen.reflectance, expected.reflectance[slots], rtol=1e-5, atol=1e-6)
            depth[slots] += seen.cloud_depth
            departure[slots] += seen.departure
            sparsity[slots] += seen.sparsity
    torch.testing.assert_close(depth, expected.cloud_depth, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sparsity, expected.sparsity, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(departure, expected.departure, rtol=1e-4, atol=1e-8)
    assert task.crossings is not None and task.crossings.rays > 100
    if tiles == 9:
        assert task.crossings.runs >= 3


def test_gradients_are_those_of_the_whole_loss(scene: Scene) -> None:
    """Found by moving parameters: what tiles tell each other carries no gradient, yet none is missing."""
    task = make_task(scene, render={"sampler": "uniform"})
    train(task, stop=5)
    for camera in task.cameras.values():
        camera.field.zero_grad()
    loss_of(task, 0).backward()
    generator = torch.Generator().manual_seed(0)
    fields = [camera.field for camera in task.cameras.values()]
    for name, own in (("media.0.grid.table", False), ("surface.grid.table", False), ("air", True)):
        copies = [dict(field.named_parameters())[name] for field in fields]
        moved = copies if own else copies[:1]
        gradient = sum(copy.grad for copy in moved)  # type: ignore[misc]
        assert gradient.abs().max() > 0
        # Against the gradient, so that the change is much larger than rounding.
        direction = gradient.sign() * torch.rand(gradient.shape, generator=generator)
        change, step = [], 2e-3
        for sign in (1, -1):
            with torch.no_grad():
                for copy in moved:
                    copy.add_(sign * step * direction)
                change.append(loss_of(task, 0).item())
                for copy in moved:
                    copy.sub_(sign * step * direction)
        found = (change[0] - change[1]) / (2 * step)
        assert found == pytest.approx((gradient * direction).sum().item(), rel=0.02), name


@pytest.mark.slow
def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(scene: Scene) -> None:
    found = []
    for chunks in (1, 3):
        task = make_task(scene, train={"steps": STEPS, "ray_chunks": chunks})
        parts = list(task.losses(0))
        assert [name for name, _ in parts] == [""] * (chunks - 1) + ["field"]
        for _, loss in parts:
            loss.backward()
        found.append([p.grad for part in task.parts.values() for p in part.module.parameters()])
    for whole, together in zip(*found, strict=True):
        assert (whole is None) == (together is None)
        if whole is not None and together is not None:
            assert (whole - together).abs().max() <= 1e-5 * whole.abs().max()


def test_what_tiles_share_stays_equal_and_what_they_own_does_not(scene: Scene) -> None:
    task = make_task(scene)
    train(task)
    first, *others = [dict(camera.field.named_parameters()) for camera in task.cameras.values()]
    shared = shared_parameters(next(iter(task.cameras.values())).field)
    for other in others:
        for name, parameter in first.items():
            assert torch.equal(parameter, other[name]) == (name in shared), name


@pytest.mark.slow
def test_training_in_tiles_lowers_the_loss_and_can_be_repeated(scene: Scene) -> None:
    losses = train(make_task(scene))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert losses == train(make_task(scene))


def test_a_tile_without_rays_learns_nothing_and_does_no_harm(scene: Scene) -> None:
    task = make_task(scene, 4)
    empty = next(iter(task.rays.values()))
    task.rays[empty.tile] = replace(
        empty,
        number=empty.number[:0],
        table=load_nothing(scene),
        crossing=empty.crossing[:0],
        cuts=empty.cuts[:0],
        runs=empty.runs[:0],
    )
    before = task.cameras[empty.tile].field.media[0].grid.table.clone()
    fit(task, steps=3, start_step=0, world=ALONE, at_boundary=lambda report: None)
    assert torch.equal(task.cameras[empty.tile].field.media[0].grid.table, before)


def load_nothing(scene: Scene) -> object:
    table = load_rays(scene, np.flatnonzero(~scene.holdout), ALONE.device)
    names = ("sight", "reflectance", "view")
    return replace(table, **{name: getattr(table, name)[..., :0] for name in names})


@pytest.mark.slow
def test_the_trained_tiles_are_loaded_as_one_field(scene: Scene, tmp_path: Path) -> None:
    task, config = make_task(scene), config_of(4)
    train(task)
    info = RECIPE.describe(scene.path)
    run = Run.create(tmp_path / "run", config, {info["name"]: info}, {})
    saved = Checkpoints(run, info["name"], config.digest, info["scene_id"], 2, ALONE)
    saved.save(STEPS, task)
    assert len(run.parts_of(info["name"], STEPS)) == 4
    field = load_field(run, info["name"], ALONE.device)
    lower, upper = (torch.tensor(corner) for corner in (scene.frame.lower_m, scene.frame.upper_m))
    points = lower + torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * (upper - lower)
    expected = torch.zeros(200, 1)
    for tile, camera in task.cameras.items():
        share = task.tiling.share(tile, points[:, 0], points[:, 1])[:, None]
        assert (share == 1.0).any()
        expected += share * camera.field.extinction(points)
    torch.testing.assert_close(field.extinction(points), expected)


@pytest.mark.slow
def test_no_seam_shows_between_trained_tiles(scene: Scene) -> None:
    """The fields of two tiles differ where they meet, and yet nothing jumps there."""
    task = make_task(scene)
    train(task)
    fields = {tile: camera.field for tile, camera in task.cameras.items()}
    field = TiledField(task.tiling, fields.__getitem__)
    (x_cut,), (y_cut,) = task.tiling.x_cuts_m, task.tiling.y_cuts_m
    lower, upper = (torch.tensor(corner) for corner in (scene.frame.lower_m, scene.frame.upper_m))
    places = lower + torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * (upper - lower)
    for axis, cut in ((0, x_cut), (1, y_cut)):
        away = scene.pixel_m * torch.linspace(-4.0, 4.0, 161)
        line = places[:, None].repeat(1, 161, 1)
        line[..., axis] = cut + away
        found = field.extinction(line.view(-1, 3)).view(300, 161)
        beside = [fields[tile].extinction(line.view(-1, 3)).view(300, 161) for tile in (0, 3)]
        jump = found.diff(dim=1).abs().mean(0) / found.mean()
        assert (beside[0] - beside[1]).abs()[:, 80].mean() / found.mean() > 4 * jump.max()
        # Steps of a twentieth of a pixel: in the middle no larger than those of each field by itself and a
        # fortieth of what fields differ by, a rim being four pixels wide.
        alone = torch.stack([one.diff(dim=1).abs().mean(0) for one in beside]).max() / found.mean()
        assert jump.max() < alone + (beside[0] - beside[1]).abs().mean(0).max() / found.mean() / 40


@pytest.mark.slow
def test_held_out_views_are_scored_like_those_of_a_whole_scene(scene: Scene, tmp_path: Path) -> None:
    task = make_task(scene)
    train(task)
    (tmp_path / "pictures").mkdir()
    score = task.finish([tmp_path / "pictures"])[0]
    assert (tmp_path / "pictures" / "heldout.png").exists()
    # The quick score looks at all of these few rays too.
    assert score["all"]["psnr_db"] == pytest.approx(task.evaluate(0)["heldout_psnr_db"], abs=1e-3)


def test_tiles_of_a_nerf_are_refused() -> None:
    with pytest.raises(ValueError, match=r"world.tiles > 1 needs field.method = \"instant_ngp\""):
        make_config(SMALL_NERF, world={"tiles": 2})


def test_a_batch_larger_than_the_scene_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigError, match=r"train.batch_rays=1000000 is more than the scene's"):
        make_task(scene, train={"batch_rays": 1_000_000})
