"""Tomography of a scene in tiles: ranks own some each, and learn as if one rank had them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atmonr.config import Config
from atmonr.feed.order import stream
from atmonr.feed.scattered import ScatteredOrder
from atmonr.feed.tiles import TileBatch, TileRays, load_tiles
from atmonr.fields.tiled import build_tile, shared_parameters, tile_name, tiling_of
from atmonr.layout import tile_owners
from atmonr.store.scene import Scene
from atmonr.tasks import heldout
from atmonr.tasks.base import Part, Peers
from atmonr.tasks.clear import Glance, even_sample, glance, start_clear
from atmonr.tasks.crossings import Crossings
from atmonr.tasks.losses import hold_down, image_loss
from atmonr.tasks.tile_view import complete, glimpse, owned_index
from atmonr.tasks.tomography import FIRST_ORDERS, POINTS_AT_ONCE, make_optimizer, setting_of
from atmonr.tasks.view import Camera, Seen


class TiledTomography:
    """Fits one field per tile to the training rays of one scene (a `atmonr.tasks.base.Task`).

    Tiles share the small networks, the air and the light, not the tables. A step exchanges the runs of rays
    that cross borders and sums the gradients of what is shared; the light is solved for the whole scene by
    every rank, from the extinction that all of them put together now and then.
    """

    def __init__(self, config: Config, scene: Scene, device: torch.device, peers: Peers) -> None:
        self._config, self._scene, self._device, self._peers = config, scene, device, peers
        setting = setting_of(scene)
        self.tiling = tiling_of(setting, scene.footprint_m, config.world.tiles)
        self._owners = np.array(tile_owners(len(self.tiling), peers.size))
        own = [int(tile) for tile in np.flatnonzero(self._owners == peers.rank)]
        fields = {tile: build_tile(config, setting, self.tiling, tile).to(device) for tile in own}
        self._light = next(iter(fields.values())).light
        for field in fields.values():
            field.light = self._light
        self.cameras = {tile: Camera(field, config) for tile, field in fields.items()}
        self.parts: Mapping[str, Part] = {
            tile_name(tile): Part(field, {"field": make_optimizer(field, config)})
            for tile, field in fields.items()
        }
        copies = [shared_parameters(field).values() for field in fields.values()]
        self.tied: Sequence[Sequence[nn.Parameter]] = list(map(list, zip(*copies, strict=True)))
        total, self.rays = load_tiles(scene, np.flatnonzero(~scene.holdout), self.tiling, own, device)
        self._held_out_rays, self._held_out = load_tiles(
            scene, np.flatnonzero(scene.holdout), self.tiling, own, device
        )
        self._order = ScatteredOrder(total, config.train.batch_rays, config.train.seed)
        self.crossings: Crossings | None = None  # of the last step

    def begin(self) -> None:
        """Guesses air and ground from rays of all tiles and solves for the light of the untrained fields."""
        together = self._peers.gather_all({tile: self._glance(tile) for tile in self.cameras})
        by_tile = {tile: seen for part in together for tile, seen in part.items() if len(seen[0])}
        parts = [by_tile[tile] for tile in sorted(by_tile)]
        seen = Glance(*(torch.cat(values).to(self._device) for values in zip(*parts, strict=True)))
        for camera in self.cameras.values():
            start_clear(camera.field, seen)
        self._solve_light(FIRST_ORDERS)

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields this rank's part of the one loss of a step, in parts; see `atmonr.tasks.base.Task`."""
        numbers = self._order.batch(step)
        generator = stream(self._device, self._config.train.seed, step, "jitter")
        places = next(iter(self.cameras.values())).places(len(numbers), generator)
        parts = min(self._config.train.ray_chunks, len(numbers))
        for number, part in enumerate(np.array_split(np.arange(len(numbers)), parts)):
            loss = torch.zeros((), device=self._device)
            for batch, seen in self._look(self.rays, numbers[part], places[part[0] : part[-1] + 1]):
                loss = loss + self._loss(batch, seen, len(numbers), step)
            yield "field" if number + 1 == parts else "", loss

    def after_step(self, step: int) -> None:
        """Solves for the light in the cloud as it now is, every so many steps."""
        if (step + 1) % self._config.light.every_steps == 0:
            self._solve_light(self._config.light.orders)

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on an even sample of the held-out rays, by metric name."""
        numbers = even_sample(self._held_out_rays, heldout.QUICK_RAYS).numpy()
        squares = torch.zeros((), dtype=torch.float64)
        for batch, rendered in self._render(self._held_out, numbers):
            error = rendered - batch.rays.reflectance[owned_index(batch, True, self._device)]
            squares += error.double().square().sum().cpu()
        peaks = [float(rays.table.reflectance.max()) for rays in self._held_out.values() if len(rays.number)]
        peak = max(max(part, default=0.0) for part in self._peers.gather_all(peaks))
        return heldout.quick_score(peak, float(self._peers.all_reduce_sum_(squares)) / len(numbers))

    def finish(self, pictures: Sequence[Path]) -> list[dict[str, Any]]:
        """Draws target beside rendered views and returns PSNR and SSIM of all held-out views."""
        views = [self._seen_view(index) for index in heldout.heldout_views(self._scene)]
        return [heldout.full_scores(self._scene, views, pictures[0]) if self._peers.rank == 0 else {}]

    def _look(
        self, rays: Mapping[int, TileRays], numbers: NDArray[np.int64], places: Tensor
    ) -> Iterator[tuple[TileBatch, Seen]]:
        """What the rays of a batch show, tile by tile; called by all ranks."""
        batches = [batch for tile in self.cameras if len((batch := rays[tile].batch(numbers)).slots)]
        slots = [torch.from_numpy(batch.slots).to(self._device) for batch in batches]
        glimpses = [
            glimpse(self.cameras[batch.tile], batch, places[slot])
            for batch, slot in zip(batches, slots, strict=True)
        ]
        self.crossings = Crossings(batches, self._owners, self._peers.rank, self._peers.size)
        others = self.crossings.swap(batches, [seen.runs for seen in glimpses], self._peers)
        for batch, seen, other in zip(batches, glimpses, others, strict=True):
            yield batch, complete(self.cameras[batch.tile], batch, seen, other)

    def _loss(self, batch: TileBatch, seen: Seen, rays: int, step: int) -> Tensor:
        """One tile's part of the mean over all rays of a batch.

        A ray's loss counts where the ray is owned; elsewhere only its gradient does.
        """
        weights = self._config.loss
        held = hold_down(seen, weights, step / self._config.train.steps)
        loss = (held + weights.departure * seen.departure.mean()) * (len(seen.reflectance) / rays)
        for owned in (True, False):
            index = owned_index(batch, owned, self._device)
            if len(index):
                image = image_loss(seen.reflectance[index], batch.rays.reflectance[index], weights)
                image = image * (len(index) / rays)
                loss = loss + (image if owned else image - image.detach())
        return loss

    @torch.no_grad()
    def _render(
        self, rays: Mapping[int, TileRays], numbers: NDArray[np.int64]
    ) -> Iterator[tuple[TileBatch, Tensor]]:
        """(n,) reflectance of the rays that each tile owns, rendered as `heldout.render` does."""
        samples = next(iter(self.cameras.values())).samples
        for start in range(0, len(numbers), heldout.RAYS_AT_ONCE):
            part = numbers[start : start + heldout.RAYS_AT_ONCE]
            totals: dict[int, tuple[TileBatch, Tensor]] = {}
            for place in heldout.QUARTERS:
                middle = torch.tensor(place, device=self._device).expand(len(part), samples, 3)
                for batch, seen in self._look(rays, part, middle):
                    before = totals[batch.tile][1] if batch.tile in totals else 0.0
                    share = seen.reflectance / len(heldout.QUARTERS)
                    totals[batch.tile] = (batch, before + share[owned_index(batch, True, self._device)])
            yield from totals.values()

    def _seen_view(self, index: int) -> heldout.View:
        """A held-out view, complete on rank 0."""
        total, rays = load_tiles(
            self._scene, np.array([index]), self.tiling, list(self.cameras), self._device
        )
        found = []
        for start in range(0, total, heldout.RAYS_AT_ONCE):
            numbers = np.arange(start, min(start + heldout.RAYS_AT_ONCE, total))
            for batch, rendered in self._render(rays, numbers):
                target = batch.rays.reflectance[owned_index(batch, True, self._device)]
                place = numbers[batch.slots[batch.owned]]
                found.append((place, target.cpu().numpy(), rendered.cpu().numpy()))
        both = np.full((2, total), np.nan)
        for part in self._peers.gather_all(found):
            for place, *values in part:
                both[:, place] = values
        view, valid = heldout.empty_view(self._scene, index), heldout.valid_pixels(self._scene, index)
        view.target[valid], view.rendered[valid] = both
        return view

    def _glance(self, tile: int) -> Glance:
        """An even sample of the rays that a tile owns, on the host."""
        rays = self.rays[tile]
        first = np.full(len(rays.number), tile)
        first[rays.crossing] = rays.runs[:, 0]
        owned = torch.from_numpy(np.flatnonzero(first == tile))
        chosen = owned[even_sample(len(owned))] if len(owned) else owned
        return Glance(*(values.cpu() for values in glance(self.cameras[tile], rays.table, chosen)))

    @torch.no_grad()
    def _solve_light(self, orders: int) -> None:
        """Every rank fills in the extinction in its own tiles, and all solve the same problem."""
        extinction = []
        for points in self._light.points_m().split(POINTS_AT_ONCE):
            # In fp64, in which it does not show in which order the shares of tiles are added up.
            values = points.new_zeros(len(points), dtype=torch.float64)
            for tile, camera in self.cameras.items():
                share = self.tiling.share(tile, points[:, 0], points[:, 1])
                index = share.nonzero()[:, 0]
                found = camera.field.similar_extinction(points[index]).mean(1) * share[index]
                values.index_add_(0, index, found.double())
            extinction.append(values)
        whole = self._peers.all_reduce_sum_(torch.cat(extinction)).float()
        albedo = next(iter(self.cameras.values())).field.similar_albedo
        self._light.solve(whole, albedo, orders)
