"""A task small enough to train in a second, with everything that a real one has."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atmonr.config import Config
from atmonr.errors import SceneError
from atmonr.tasks.base import Part, Peers, Recipe, parameters_of

CELLS = 8
TABLE = 37  # fewer entries than cells, so that cells share them as in a hash grid


class ToyModule(nn.Module):
    """A hashed table of features and a small network; `average` follows the table as a slow copy."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TABLE, 4)
        self.network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
        self.register_buffer("average", torch.zeros(TABLE, 4))

    def forward(self, x_N2: Tensor) -> Tensor:
        cell_N2 = (x_N2 * CELLS).long()
        entry_N = (cell_N2[:, 0] * 2654435761 ^ cell_N2[:, 1]) % TABLE
        return self.network(torch.cat([self.table(entry_N), x_N2], dim=1))[:, 0]


class ToyTask:
    """Learns a smooth function of the unit square."""

    def __init__(self, config: Config, path: Path, device: torch.device, peers: Peers) -> None:
        self.peers = peers
        self.scene = read_scene(path)
        if "unreadable" in self.scene:
            raise SceneError(f"{path}: a damaged toy scene")
        self.seed = config.train.seed
        self.rays = config.train.batch_rays
        self.device = device
        self.module = ToyModule().to(device)
        groups = [
            {"params": self.module.table.parameters(), "lr": config.train.learning_rate},
            {"params": self.module.network.parameters(), "lr": config.train.learning_rate / 10},
        ]
        self.optimizers = {"adam": torch.optim.AdamW(groups, fused=True)}
        self.parts = {"": Part(self.module, self.optimizers)}
        self.tied = parameters_of(self.parts)

    def begin(self) -> None:
        pass

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
        time.sleep(self.scene.get("sleep_s", 0))
        self._fail(step)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        index, count = self.peers.rank, self.peers.size
        part = self.rays // count
        x_N2 = torch.rand(self.rays, 2, generator=generator)[index * part :][:part].to(self.device)
        loss = (self.module(x_N2) - truth(x_N2)).square().mean()
        yield "adam", loss / count * (float("nan") if step == self.scene.get("nan_at_step") else 1.0)

    def after_step(self, step: int) -> None:
        self.module.average.lerp_(self.module.table.weight.detach(), 0.1)

    def evaluate(self, step: int) -> dict[str, float]:
        x_N2 = torch.rand(256, 2, generator=torch.Generator().manual_seed(1)).to(self.device)
        with torch.no_grad():
            return {"heldout_mse": float((self.module(x_N2) - truth(x_N2)).square().mean())}

    def finish(self, pictures: Sequence[Path]) -> list[dict[str, Any]]:
        if self.peers.rank == 0:
            (pictures[0] / "closing.png").write_bytes(b"a picture")
        return [{"score": self.evaluate(0), "psnr": [float("inf")]}]

    def _fail(self, step: int) -> None:
        """Fail, or be told to stop, on one rank where the scene says so."""
        if [self.peers.rank, step] == self.scene.get("signal_at_rank_step"):
            os.kill(os.getpid(), signal.Signals[self.scene["signal"]])
        if [self.peers.rank, step] == self.scene.get("bug_at_rank_step"):
            raise RuntimeError("a bug")
        if [self.peers.rank, step] == self.scene.get("memory_at_rank_step"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nDetails follow")


def truth(x_N2: Tensor) -> Tensor:
    """The function to learn."""
    return torch.sin(6 * x_N2[:, 0]) * torch.cos(4 * x_N2[:, 1])


def read_scene(path: Path) -> dict[str, Any]:
    """Read a toy scene: a JSON file with `name`, `scene_id` and what should go wrong."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise SceneError(f"{path}: not a toy scene: {error}") from error


def write_scene(folder: Path, name: str, **wrong: Any) -> Path:
    """Write a toy scene."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"name": name, "scene_id": f"id-of-{name}", **wrong}))
    return path


RECIPE = Recipe(describe=read_scene, build=ToyTask)
