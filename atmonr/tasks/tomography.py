"""Tomography: one scene's rays to its cloud, without supervision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from atmonr.fields.decoder import start_warm
from atmonr.fields.hashgrid import HashGrid
from atmonr.fields.setting import Setting
from atmonr.store.scene import Scene
from atmonr.tasks import heldout
from atmonr.tasks.base import Part, Peers, parameters_of
from atmonr.tasks.clear import even_sample, glance, start_clear
from atmonr.tasks.losses import hold_down, image_loss
from atmonr.tasks.view import Camera

FIRST_ORDERS = 4  # of scattering, before training: enough for the nearly clear field that it starts from
POINTS_AT_ONCE = 2**18
_SOONER = 8  # how many times as often a warm start solves for the light in the beginning


def setting_of(scene: Scene) -> Setting:
    """What a field must know of a scene."""
    return Setting(
        frame=scene.frame,
        top_height_m=scene.top_height_m,
        pixel_m=scene.pixel_m,
        wavelengths_nm=tuple(float(value) for value in scene.wavelengths_nm),
        sun=scene.sun_direction,
    )


class Tomography:
    """Fits a field to the training rays of one scene (a `atmonr.tasks.base.Task`).

    All ranks hold the whole scene alike and share the rays of every batch.
    """

    def __init__(self, config: Config, scene: Scene, device: torch.device, peers: Peers) -> None:
        self._config, self._scene, self._device, self._peers = config, scene, device, peers
        self.field: AtmosphereField = build_field(config, setting_of(scene)).to(device)
        self.optimizers = {"field": make_optimizer(self.field, config)}
        self.parts: Mapping[str, Part] = {"": Part(self.field, self.optimizers)}
        self.tied: Sequence[Sequence[nn.Parameter]] = parameters_of(self.parts)
        self.rays: RayTable = load_rays(scene, np.flatnonzero(~scene.holdout), device)
        self.camera = Camera(self.field, config)
        self._quick_score = heldout.QuickScore(scene, device)
        self._order = Order(len(self.rays), config.train.batch_rays, config.train.seed, device)

    def begin(self) -> None:
        """Guesses air and ground and solves for the light of the untrained field."""
        if self._config.train.warm_start is not None:
            start_warm(self.field, Path(self._config.train.warm_start))
        start_clear(self.field, glance(self.camera, self.rays, even_sample(len(self.rays))))
        self._solve_light(FIRST_ORDERS)

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields the one loss of a step, in parts; see `atmonr.tasks.base.Task`."""
        chosen = self._order.batch(step)
        generator = stream(self._device, self._config.train.seed, step, "jitter")
        places = self.camera.places(len(chosen), generator)
        index, count = self._peers.rank, self._peers.size
        mine = slice(index * len(chosen) // count, (index + 1) * len(chosen) // count)
        chosen, places = chosen[mine], places[mine]
        parts = min(self._config.train.ray_chunks, len(chosen))
        weights = self._config.loss
        for number, part in enumerate(torch.arange(len(chosen), device=self._device).tensor_split(parts)):
            rays = self.rays.take(chosen[part])
            loss = torch.zeros((), device=self._device)
            for seen in self.camera.look(rays, places[part]):
                loss = loss + image_loss(seen.reflectance, rays.reflectance, weights)
                loss = loss + hold_down(seen, weights, step / self._config.train.steps)
                loss = loss + weights.departure * seen.departure.mean()
            yield "field" if number + 1 == parts else "", loss * (len(part) / len(chosen)) / count

    def after_step(self, step: int) -> None:
        """Solves for the light in the cloud as it now is, every so many steps."""
        every = self._config.light.every_steps
        if self._config.train.warm_start is not None and step < every:
            # A learned decoder makes cloud within tens of steps, and the light has to keep up.
            every = max(1, every // _SOONER)
        if (step + 1) % every == 0:
            self._solve_light(self._config.light.orders)

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on an even sample of the held-out rays, by metric name."""
        return self._quick_score(self.camera) if self._peers.rank == 0 else {}

    def finish(self, pictures: Sequence[Path]) -> list[dict[str, Any]]:
        """Draws target beside rendered views and returns PSNR and SSIM of all held-out views."""
        if self._peers.rank > 0:
            return [{}]
        indices = heldout.heldout_views(self._scene)
        views = (heldout.seen_view(self._scene, self.camera, self._device, index) for index in indices)
        return [heldout.full_scores(self._scene, views, pictures[0])]

    @torch.no_grad()
    def _solve_light(self, orders: int) -> None:
        points = self.field.light.points_m().split(POINTS_AT_ONCE)
        extinction = torch.cat([self.field.similar_extinction(part).mean(1) for part in points])
        self.field.light.solve(extinction, self.field.similar_albedo, orders)


def make_optimizer(field: AtmosphereField, config: Config) -> torch.optim.Optimizer:
    """Adam with a larger rate for hash tables; no weight decay, which would pull clear air towards a haze."""
    tables = [module.table for module in field.modules() if isinstance(module, HashGrid)]
    ids = {id(table) for table in tables}
    others = [parameter for parameter in field.parameters() if id(parameter) not in ids]
    groups = [{"params": others, "lr": config.train.learning_rate}]
    if tables:
        groups.append({"params": tables, "lr": config.train.table_learning_rate})
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
