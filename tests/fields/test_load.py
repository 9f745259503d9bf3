"""A run folder alone gives back the trained field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from atmonr.config import Config
from atmonr.errors import ResumeError
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.load import load_field
from atmonr.run import Run
from atmonr.tasks.base import Part
from atmonr.train.checkpoint import Checkpoints
from atmonr.world import World
from tests.fields.make import SMALL_HASH, SMALL_NERF, make_config, make_setting

CPU = torch.device("cpu")


@dataclass
class Trained:
    """As much of a task as a checkpoint needs."""

    parts: dict[str, Part]


def shaken(config: Config) -> AtmosphereField:
    field = build_field(config, make_setting())
    torch.manual_seed(5)
    for tensor in (*field.parameters(), *field.light.buffers()):
        torch.nn.init.normal_(tensor)
    return field


def save(folder: Path, config: Config, field: AtmosphereField, step: int = 7) -> Run:
    run = Run.create(folder, config, {"s": {**make_setting().to_json(), "scene_id": "1"}}, {})
    checkpoints = Checkpoints(run, "s", config.digest, "1", keep=2, world=World.single("cpu"))
    checkpoints.save(step, Trained({"": Part(field, {})}))  # type: ignore[arg-type]
    return run


@pytest.mark.parametrize("kind", [SMALL_HASH, SMALL_NERF])
def test_a_loaded_field_is_the_saved_one_bit_for_bit(tmp_path: Path, kind: dict[str, object]) -> None:
    config = make_config(kind)
    field = shaken(config)
    run = save(tmp_path / "run", config, field)
    loaded = load_field(run, "s", CPU)
    assert not loaded.training
    state, expected = loaded.state_dict(), field.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    where = torch.rand(30, 3) * 10_000
    assert torch.equal(loaded.extinction(where), field.extinction(where))


def test_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    config = make_config()
    run = save(tmp_path / "run", config, shaken(config), step=100)
    field = shaken(config)
    torch.nn.init.constant_(field.air, 0.25)
    trained = Trained({"": Part(field, {})})
    Checkpoints(run, "s", config.digest, "1", 2, World.single("cpu")).save(200, trained)  # type: ignore[arg-type]
    assert load_field(run, "s", CPU).air.item() == 0.25


def test_an_untrained_scene_is_refused(tmp_path: Path) -> None:
    run = Run.create(
        tmp_path / "run", make_config(), {"s": {**make_setting().to_json(), "scene_id": "1"}}, {}
    )
    with pytest.raises(ResumeError, match="no checkpoint of scene 's' yet"):
        load_field(run, "s", CPU)


def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    run = save(tmp_path / "run", make_config(), shaken(make_config(SMALL_NERF)))
    with pytest.raises(ResumeError, match=r"step-00000007\.pt: does not fit the run's config") as caught:
        load_field(run, "s", CPU)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run = save(tmp_path / "run", make_config(), shaken(make_config()))
    path = run.checkpoint("s", 7)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResumeError, match="damaged checkpoint"):
        load_field(run, "s", CPU)
