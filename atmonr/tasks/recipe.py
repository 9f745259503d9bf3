"""How tomography is made from a scene on disk: whole, or in tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from atmonr.config import Config
from atmonr.store.scene import open_scene
from atmonr.tasks.base import Peers, Recipe, Task
from atmonr.tasks.joint import JointTomography
from atmonr.tasks.tiled import TiledTomography
from atmonr.tasks.tomography import Tomography, setting_of


def describe(path: Path) -> dict[str, Any]:
    """What identifies a scene and lets its volume be extracted without it; reads no ray."""
    scene = open_scene(path)
    return {
        **setting_of(scene).to_json(),
        "name": scene.name,
        "path": str(path.resolve()),
        "scene_id": scene.scene_id,
        "granule": scene.granule,
        "footprint_m": list(scene.footprint_m),
        "outline_m": scene.outline_m,
        "rays": scene.training_rays,
        "provenance": scene.provenance,
        **{key: value for key, value in scene.group.attrs.items() if key.startswith("time_coverage")},
    }


def build(config: Config, path: Path, device: torch.device, peers: Peers) -> Task:
    """A task with the scene's rays, or those of this rank's tiles, resident on the device.

    Weights come from torch's default generator, those of tiles from the config's seed.
    """
    kind = TiledTomography if config.world.tiles > 1 else Tomography
    return kind(config, open_scene(path), device, peers)


def together(config: Config, paths: Sequence[Path], device: torch.device, peers: Peers) -> Task:
    """A task with this rank's scenes of several that share a decoder."""
    return JointTomography(config, [open_scene(path) for path in paths], device, peers)


RECIPE = Recipe(describe=describe, build=build, together=together)
