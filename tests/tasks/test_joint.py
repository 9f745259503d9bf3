"""Scenes that share a decoder: what is shared, what is not, and what a new scene gains from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atmonr.config import Config
from atmonr.errors import ResumeError, SceneError
from atmonr.fields.build import build_field
from atmonr.fields.decoder import decoder_of, start_warm
from atmonr.fields.load import load_field
from atmonr.run import Run
from atmonr.store.scene import Scene, open_scene
from atmonr.tasks.base import Alone
from atmonr.tasks.joint import JointTomography, _refuse_other_bands
from atmonr.tasks.recipe import RECIPE
from atmonr.tasks.tomography import setting_of
from atmonr.train.loop import fit
from atmonr.train.session import train
from atmonr.world import World
from tests.feed.scenes import make_fields, make_scene
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_config

ALONE = World.single("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Two places with images of other sizes, so that their tables differ in size, too."""
    made = []
    for name, image, centre in (("east", (12, 9), (18.0, -61.5)), ("west", (14, 11), (-30.0, 179.9))):
        path = make_scene(tmp_path_factory.mktemp(name), make_fields(image, centre)).path
        made.append(open_scene(path.rename(path.with_name(f"{name}.zarr"))))
    return made


def config_of(**sections: dict[str, object]) -> Config:
    return make_config(**{"world": {"shared_decoder": True}, "train": {"steps": 40}} | sections)


def joint(scenes: list[Scene], config: Config | None = None) -> JointTomography:
    assert RECIPE.together is not None
    paths = [scene.path for scene in scenes]
    task = RECIPE.together(config or config_of(), paths, ALONE.device, Alone())
    assert isinstance(task, JointTomography)
    task.begin()
    return task


@pytest.mark.slow
def test_the_decoder_is_shared_and_tables_air_and_ground_are_not(scenes: list[Scene]) -> None:
    task = joint(scenes)
    losses: list[float] = []
    fit(
        task,
        steps=40,
        start_step=0,
        world=ALONE,
        at_boundary=lambda report: losses.append(report.losses["field"].item()),
    )
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    east, west = (dict(each.field.named_parameters()) for each in task.tasks.values())
    shared = set(decoder_of(task.tasks["east"].field))
    kinds = {name.partition(".")[0] for name in shared}
    assert kinds == {
        "media",
        "phase",
        "place",
        "direction",
        "departure",
    }
    for name in east:
        same = east[name].shape == west[name].shape and torch.equal(east[name], west[name])
        assert same == (name in shared), name


def test_the_loss_is_the_mean_over_scenes(scenes: list[Scene]) -> None:
    task = joint(scenes)
    named = list(task.losses(0))
    assert [name for name, _ in named] == ["", "field"]
    loss = named[0][1] + named[1][1]
    alone = [next(iter(each.losses(0)))[1].item() for each in task.tasks.values()]
    assert loss.item() == pytest.approx(np.mean(alone), rel=1e-6)


@pytest.mark.slow
def test_each_scene_has_its_own_checkpoint_scores_and_metrics(scenes: list[Scene], tmp_path: Path) -> None:
    config = config_of(train={"steps": 12, "log_every_steps": 4, "evaluate_every_steps": 4})
    paths = [scene.path for scene in scenes]
    options = {"recipe": RECIPE, "world": ALONE, "quiet": True}
    train(config, paths, tmp_path / "run", resume=False, **options)  # type: ignore[arg-type]
    run = Run.open(tmp_path / "run")
    for scene in scenes:
        assert run.done(scene.name) is not None
        assert run.heldout(scene.name).exists()
        assert (run.pictures(scene.name) / "heldout.png").exists()
        record = run.read_metrics(scene.name)[-1]
        assert record["step"] == 12 and "heldout_psnr_db" in record
        field = load_field(run, scene.name, ALONE.device)
        assert torch.isfinite(field.extinction(torch.zeros(3, 3))).all()
    scores = [run.read_metrics(scene.name)[-1]["heldout_psnr_db"] for scene in scenes]
    assert scores[0] != scores[1]
    train(config, paths, tmp_path / "run", resume=True, **options)  # type: ignore[arg-type]


def test_a_new_scene_starts_with_the_decoder_of_another_run(scenes: list[Scene], tmp_path: Path) -> None:
    config = config_of(train={"steps": 5})
    train(config, [scenes[0].path], tmp_path / "run", recipe=RECIPE, resume=False, world=ALONE, quiet=True)
    learned = load_field(Run.open(tmp_path / "run"), "east", ALONE.device)
    warm = make_config(train={"warm_start": str(tmp_path / "run")})
    task = RECIPE.build(warm, scenes[1].path, ALONE.device, Alone())
    table = task.field.media[0].grid.table.clone()  # type: ignore[attr-defined]
    task.begin()
    before = dict(learned.named_parameters())  # type: ignore[union-attr]
    now = dict(task.field.named_parameters())  # type: ignore[attr-defined]
    beside = {"air_gain"} | {name for name in now if name.startswith("surface.direction")}
    for name in {*decoder_of(task.field), *beside}:  # type: ignore[attr-defined]
        assert torch.equal(now[name], before[name])
    assert len(beside) == 5 and not torch.equal(now["surface.place.bias"], before["surface.place.bias"])
    assert torch.equal(task.field.media[0].grid.table, table)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_decoder_that_does_not_fit_is_refused(scenes: list[Scene], tmp_path: Path) -> None:
    config = config_of(train={"steps": 2})
    train(config, [scenes[0].path], tmp_path / "run", recipe=RECIPE, resume=False, world=ALONE, quiet=True)
    for kind in ({**SMALL_HASH, "hidden_width": 12}, SMALL_NERF):
        field = build_field(make_config(kind), setting_of(scenes[0]))
        with pytest.raises(ResumeError, match=r"step-00000002.pt: its decoder does not fit"):
            start_warm(field, tmp_path / "run")
    with pytest.raises(ResumeError, match=r"nowhere: not a run folder"):
        start_warm(field, tmp_path / "nowhere")


def test_scenes_of_other_bands_are_refused(scenes: list[Scene]) -> None:
    class Other:
        path, wavelengths_nm = Path("other.zarr"), np.array([670.0, 870.0])

    with pytest.raises(SceneError, match=r"other.zarr: bands \[670.0, 870.0\] nm"):
        _refuse_other_bands([scenes[0], Other()])  # type: ignore[list-item]


@pytest.mark.parametrize("world", [{"tiles": 2}, {"ranks_per_scene": 2}])
def test_scenes_that_share_a_decoder_are_whole(world: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"world.shared_decoder trains whole scenes"):
        make_config(world={"shared_decoder": True, **world})
