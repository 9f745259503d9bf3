"""What the shipped training step gains over the plain way to write it, measured side by side.

Every variant does the same arithmetic on the same rays of the same scene: only how it gets there differs.
Plain habits are added one after the other, so that the table shows what each of them costs.
"""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from atmonr.config import Config
from atmonr.device import DeviceKind, choose_device
from atmonr.feed.rays import RayBatch, RayTable
from atmonr.fields.aspect import Aspect
from atmonr.fields.atmosphere import AtmosphereField, Cloud
from atmonr.fields.hashgrid import HashGrid
from atmonr.geo.ellipsoid import ecef_to_geodetic
from atmonr.geo.frame import Frame
from atmonr.geo.rays import RayLines, trace
from atmonr.store.scene import open_scene
from atmonr.tasks.tomography import Tomography
from atmonr.world import World

_cloud, _take = AtmosphereField.cloud, RayTable.take

ROUNDS = 5  # each variant in turn, so that a busy moment of the machine hits all of them
STEPS = 4  # per variant and round; the fastest round counts

CONFIG: dict[str, dict[str, Any]] = {
    "field": {"method": "instant_ngp"},
    "render": {"samples": 64},
    "train": {"batch_rays": 1024},
}


def bench(scene: Path | None = None, device: DeviceKind = "auto") -> dict[str, Any]:
    """Measures training steps on a scene.

    Args:
        scene: Scene to use; by default a small simulated one.
        device: auto, cpu or cuda.

    Returns:
        Milliseconds per step of every variant, the ratio of the plainest to the shipped one, rays and samples
        per second, bytes per ray on the device, and peak host memory.
    """
    place = choose_device(device, 0)
    config = Config.model_validate(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_scene(scene or simulated(Path(folder)))
        torch.manual_seed(config.train.seed)
        task = Tomography(config, opened, place, World.single(device))
        task.begin()
        times = _measure(task)
    shipped, plain = times["shipped"], list(times.values())[-1]
    rays = config.train.batch_rays
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "device": str(place),
        "threads": torch.get_num_threads(),
        "rays": len(task.rays),
        "bytes_per_ray": task.rays.bytes_per_ray,
        "milliseconds_per_step": {name: 1e3 * seconds for name, seconds in times.items()},
        "speedup_over_plain": plain / shipped,
        "rays_per_s": rays / shipped,
        "samples_per_s": rays * config.render.samples / shipped,
        "peak_memory_mib": peak / 2**20,
    }


def simulated(folder: Path) -> Path:
    """A small scene of simulated cumulus, made in a folder."""
    from atmonr.sensors.harp2 import open_harp2
    from atmonr.simulate.session import simulate
    from atmonr.store.ingest import ingest

    granule, _ = simulate("cumulus", folder, lines=24, pixels=20)
    with open_harp2(granule) as opened:
        return ingest(opened, folder / "scene.zarr")


def _measure(task: Tomography) -> dict[str, float]:
    """Seconds per step of every variant, in the order in which plain habits add up."""
    habits: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "shipped": nullcontext,
        "+ fp64 geodesy per sample": lambda: patch.object(RayTable, "take", _take_followed),
        "+ directions encoded per sample": lambda: patch.object(AtmosphereField, "cloud", _cloud_by_sample),
        "+ plain autograd through the tables": lambda: patch.object(HashGrid, "forward", _plain_forward),
        "+ plain optimizer": lambda: patch.object(task, "optimizers", {"field": _plain_adam(task)}),
        "+ results copied to the host": lambda: patch.object(Tomography, "losses", _copying(task)),
    }
    best = dict.fromkeys(habits, float("inf"))
    for _ in range(ROUNDS):
        with ExitStack() as stack:
            for name, habit in habits.items():
                stack.enter_context(habit())
                _train(task, 1)
                start = time.perf_counter()
                _train(task, STEPS)
                best[name] = min(best[name], (time.perf_counter() - start) / STEPS)
    return best


def _train(task: Tomography, steps: int) -> None:
    for step in range(steps):
        for name, loss in task.losses(step):
            task.optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
            task.optimizers[name].step()
    if task.rays.view.is_cuda:
        torch.cuda.synchronize()


@dataclass(frozen=True)
class _FollowedBatch(RayBatch):
    """Every sample goes to latitude, longitude and height, and from there to the frame, in fp64."""

    lines: RayLines
    frame: Frame

    def points(self, position_BS: Tensor, aside_BS2: Tensor | None = None) -> Tensor:
        along = position_BS.double().cpu().numpy() * self.lines.length_m[:, None]
        xyz = self.lines.origin_ecef[:, None] + along[..., None] * self.lines.direction[:, None]
        found = self.frame.from_geodetic(*ecef_to_geodetic(xyz))
        points = torch.from_numpy(found).to(position_BS)
        if aside_BS2 is not None:
            points[..., :2] += aside_BS2 @ self.pixel
        return points


def _take_followed(table: RayTable, index: Tensor) -> _FollowedBatch:
    latitude, longitude, altitude, zenith, azimuth = table.sight[:, index].cpu().numpy()
    lines = trace(latitude, longitude, altitude, zenith, azimuth, table.top_height_m)
    return _FollowedBatch(**vars(_take(table, index)), lines=lines, frame=table.frame)


def _cloud_by_sample(
    field: AtmosphereField,
    points_BS3: Tensor,
    aspect: Aspect,
    features_BF: Tensor,
    medium: int = -1,
    inside_BS: Tensor | None = None,
) -> Cloud:
    """`AtmosphereField.cloud` as if every sample were a ray of its own, with its own directions."""
    samples = points_BS3.shape[1]
    each = Aspect(*(value.repeat_interleave(samples, 0) for value in aspect))
    cloud = _cloud(field, points_BS3.reshape(-1, 1, 3), each, each.features(), medium, inside_BS)
    return Cloud(*(value.view(-1, samples) for value in cloud))


def _plain_forward(grid: HashGrid, unit_ND: Tensor) -> Tensor:
    """`HashGrid.forward` level by level and corner by corner, with torch's own gradient."""
    encoded = []
    for level in range(grid.levels):
        position = unit_ND.clamp(0.0, 1.0) * grid.scale[level] + 0.5
        cell = position.floor()
        fraction, low = position - cell, cell.long()
        features = torch.zeros(len(unit_ND), grid.features, device=unit_ND.device)
        for corner in itertools.product((0, 1), repeat=grid.axes):
            high = torch.tensor(corner, device=unit_ND.device)
            weight = torch.where(high == 1, fraction, 1.0 - fraction).prod(1)
            place = ((low + high) * grid.stride[level]).unbind(1)
            entry = sum(place) if level < grid.dense_levels else reduce(torch.bitwise_xor, place) & grid.mask
            features = features + weight[:, None] * grid.table[grid.offset[level] + entry]
        encoded.append(features)
    return torch.cat(encoded, 1)


def _plain_adam(task: Tomography) -> torch.optim.Optimizer:
    """The task's optimizer as torch makes it by default, one pass over memory per operation."""
    groups = [{"params": g["params"], "lr": g["lr"]} for g in task.optimizers["field"].param_groups]
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)


def _copying(task: Tomography) -> Callable[..., Iterator[tuple[str, Tensor]]]:
    """`Tomography.losses` that fetches its loss, and as many values as the batch has rays, every step."""
    losses, batch_rays = task.losses, CONFIG["train"]["batch_rays"]

    def copied(_: Tomography, step: int) -> Iterator[tuple[str, Tensor]]:
        for name, loss in losses(step):
            loss.item()
            task.rays.reflectance[:batch_rays].cpu().clone()
            yield name, loss

    return copied
