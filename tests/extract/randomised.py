"""A run with a real field that no training has touched: its weights are random, so every cell differs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from atmonr.fields.build import build_field
from atmonr.run import Run
from atmonr.tasks.base import Part
from atmonr.train.checkpoint import Checkpoints
from atmonr.world import World
from tests.fields.make import make_config, make_setting

SCENE = "cloud"
# 160 x 160 columns of 40 levels: 25 shards of 0.14 MB.
STEPS = ("--horizontal-step-m", "200", "--vertical-step-m", "500")


@dataclass
class Trained:
    """As much of a task as a checkpoint needs."""

    parts: dict[str, Part]


def make_run(folder: Path, centre: tuple[float, float] = (18.0, -61.5), half_m: float = 40_000.0) -> Run:
    """Make a run folder with one scene and one checkpoint."""
    setting = make_setting(centre, (half_m, half_m))
    config = make_config()
    scene_id = hashlib.sha256(repr(centre).encode()).hexdigest()
    info = {
        **setting.to_json(),
        "name": SCENE,
        "scene_id": scene_id,
        "granule": "G.L1B",
        "footprint_m": [-half_m, -half_m, half_m, half_m],
        "provenance": {"source": "G.nc", "source_sha256": "g" * 64},
    }
    field = build_field(config, setting)
    torch.manual_seed(5)
    for tensor in (*field.parameters(), *field.light.buffers()):
        nn.init.normal_(tensor, std=0.5)
    run = Run.create(folder, config, {SCENE: info}, {})
    trained = Trained({"": Part(field, {})})
    Checkpoints(run, SCENE, config.digest, scene_id, 2, World.single("cpu")).save(7, trained)  # type: ignore[arg-type]
    return run
