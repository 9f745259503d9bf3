"""Tomography: one scene's rays to its cloud, without supervision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmonr.config import Config
from atmonr.feed.order import Order, stream
from atmonr.feed.rays import RayTable, load_rays
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.fields.build import build_field
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.setting import Setting
from atmonr.render.transport import Light, illuminate
from atmonr.store.scene import Scene, open_scene
from atmonr.tasks import heldout
from atmonr.tasks.base import Recipe, Share
from atmonr.tasks.clear import start_clear
from atmonr.tasks.losses import image_loss
from atmonr.tasks.view import Camera

_FIRST_ORDERS = 4  # of scattering, before training: enough for the nearly clear field that it starts from
_POINTS_AT_ONCE = 2**18


def setting_of(scene: Scene) -> Setting:
    """What a field must know of a scene."""
    return Setting(
        frame=scene.frame,
        top_height_m=scene.top_height_m,
        pixel_m=scene.pixel_m,
        wavelengths_nm=tuple(float(value) for value in scene.wavelengths_nm),
        sun=scene.sun_direction,
    )


def describe(path: Path) -> dict[str, Any]:
    """What identifies a scene and lets its volume be extracted without it; reads no ray."""
    scene = open_scene(path)
    return {
        **setting_of(scene).to_json(),
        "name": scene.name,
        "scene_id": scene.scene_id,
        "granule": scene.granule,
        "footprint_m": list(scene.footprint_m),
        "provenance": scene.provenance,
        **{key: value for key, value in scene.group.attrs.items() if key.startswith("time_coverage")},
    }


class Tomography:
    """Fits a field to the training rays of one scene (a `atmonr.tasks.base.Task`)."""

    def __init__(self, config: Config, scene: Scene, device: torch.device) -> None:
        self._config, self._scene, self._device = config, scene, device
        self.field: AtmosphereField = build_field(config, setting_of(scene)).to(device)
        self.module: nn.Module = self.field
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"field": _optimizer(self.field, config)}
        self.rays: RayTable = load_rays(scene, np.flatnonzero(~scene.holdout), device)
        self.camera = Camera(self.field, config)
        start_clear(self.field, self.camera, self.rays)
        self._quick_score = heldout.QuickScore(scene, device)
        self._order = Order(len(self.rays), config.train.batch_rays, config.train.seed, device)
        self._solve_light(_FIRST_ORDERS)

    def losses(self, step: int, share: Share) -> Iterator[tuple[str, Tensor]]:
        """Yields the one loss of a step; see `atmonr.tasks.base.Task`."""
        chosen = self._order.batch(step)
        generator = stream(self._device, self._config.train.seed, step, "jitter")
        places = self.camera.places(len(chosen), generator)
        part = slice(share.index * len(chosen) // share.count, (share.index + 1) * len(chosen) // share.count)
        rays = self.rays.take(chosen[part])
        weights = self._config.loss
        loss = torch.zeros((), device=self._device)
        for seen in self.camera.look(rays, places[part]):
            loss = loss + image_loss(seen.reflectance, rays.reflectance, weights)
            loss = loss + weights.sparsity * seen.sparsity.mean()
            loss = loss + weights.departure * seen.departure.mean()
        yield "field", loss

    def after_step(self, step: int) -> None:
        """Solves for the light in the cloud as it now is, every so many steps."""
        if (step + 1) % self._config.light.every_steps == 0:
            self._solve_light(self._config.light.orders)

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on an even sample of the held-out rays, by metric name."""
        return self._quick_score(self.camera)

    def finish(self, pictures: Path) -> dict[str, Any]:
        """Draws target beside rendered views and returns PSNR and SSIM of all held-out views."""
        return heldout.full_scores(self._scene, self.camera, self._device, pictures)

    @torch.no_grad()
    def _solve_light(self, orders: int) -> None:
        grid = self.field.light
        extinction = torch.cat(
            [self.field.similar_extinction(part).mean(1) for part in grid.points().split(_POINTS_AT_ONCE)]
        ).view(grid.shape)
        before = Light(grid.volume[0], grid.volume[1], grid.ground)
        albedo = self.field.similar_albedo
        grid.keep(illuminate(extinction, albedo, grid.spacing_m, grid.sun(), before, orders), extinction)


def _optimizer(field: AtmosphereField, config: Config) -> torch.optim.Optimizer:
    """Adam with a larger rate for hash tables; no weight decay, which would pull clear air towards a haze."""
    tables = [module.table for module in field.modules() if isinstance(module, HashGrid)]
    ids = {id(table) for table in tables}
    others = [parameter for parameter in field.parameters() if id(parameter) not in ids]
    groups = [{"params": others, "lr": config.train.learning_rate}]
    if tables:
        groups.append({"params": tables, "lr": config.train.table_learning_rate})
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)


def build(config: Config, path: Path, device: torch.device) -> Tomography:
    """A task with the scene's rays resident on the device; weights from torch's default generator."""
    return Tomography(config, open_scene(path), device)


RECIPE = Recipe(describe=describe, build=build)
