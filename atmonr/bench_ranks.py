"""What several ranks gain in each way of sharing the work, beside one of them alone, in the same run."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from atmonr.bench import CONFIG, simulated
from atmonr.config import Config
from atmonr.store.scene import Scene, open_scene
from atmonr.tasks.base import Task
from atmonr.tasks.joint import JointTomography
from atmonr.tasks.tiled import TiledTomography
from atmonr.tasks.tomography import Tomography
from atmonr.train.loop import fit
from atmonr.world import World

ROUNDS = 5  # each way in turn, so that a busy moment of the machine hits all of them
STEPS = 4  # per way and round; the fastest round counts


@dataclass(frozen=True)
class CountingWorld(World):
    """A world that notes how many bytes this rank gives to others."""

    given: Counter[str] = field(default_factory=Counter)

    def all_reduce_sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """As that of `World`."""
        self.given["summed"] += tensor.nbytes if self.size > 1 else 0
        return super().all_reduce_sum_(tensor)

    def exchange_(self, outgoing: torch.Tensor, sent: Sequence[int], received: Sequence[int]) -> torch.Tensor:
        """As that of `World`."""
        row = outgoing.nbytes // max(1, len(outgoing))
        self.given["sent"] += row * (sum(sent) - sent[self.rank]) if self.size > 1 else 0
        return super().exchange_(outgoing, sent, received)


@dataclass(frozen=True)
class _Way:
    """A way of sharing the work."""

    build: Callable[[CountingWorld], Any]  # makes the task
    held: Callable[[Any], int]  # training rays that a task keeps on its device
    rays: int  # of a step, over all ranks
    together: bool = True
    only_first: bool = False


def bench_ranks(world: World, scene: Path | None = None) -> list[dict[str, Any]]:
    """Measures training steps in each way; called on every rank.

    Args:
        world: All ranks, at least two.
        scene: Scene to use, on a disk that all ranks see; by default a small simulated one.

    Returns:
        For each way: milliseconds per step, rays per second of all ranks together, their ratio to those of
        one rank alone, and, of the rank that has most, rays and parameters held and bytes given per step.
        Times are this rank's, who waits for the last in every round.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = str(scene or simulated(Path(folder))) if world.rank == 0 else None
        opened = open_scene(Path(world.broadcast_object(made)))
        ways = _ways(opened, world)
        tasks = {name: _built(way, world) for name, way in ways.items()}
        world.barrier()  # rank 0 removes the scene that all have now read
    best = dict.fromkeys(ways, float("inf"))
    for number in range(ROUNDS + 1):
        for name, (task, group) in tasks.items():
            seconds = _seconds(task, group, world, number * STEPS)
            if number > 0:  # the first round warms up
                best[name] = min(best[name], seconds)
    held = {name: _most(world, ways[name], *built) for name, built in tasks.items()}
    alone = next(iter(ways))
    return [
        {
            "way": name,
            "milliseconds_per_step": 1e3 * best[name],
            "rays_per_s": way.rays / best[name],
            "speedup": way.rays / best[name] / (ways[alone].rays / best[alone]),
            **held[name],
        }
        for name, way in ways.items()
    ]


def _ways(scene: Scene, world: World) -> dict[str, _Way]:
    def config(**settings: Any) -> Config:
        return Config.model_validate({**CONFIG, "world": settings})

    def whole(settings: Config) -> Callable[[CountingWorld], Task]:
        return lambda peers: Tomography(settings, scene, peers.device, peers)

    def scenes(task: JointTomography) -> int:
        return sum(len(own.rays) for own in task.tasks.values())

    def tiles(task: TiledTomography) -> int:
        return sum(len(own.number) for own in task.rays.values())

    def one(task: Tomography) -> int:
        return len(task.rays)

    rays, every = CONFIG["train"]["batch_rays"], world.size
    tiled, joint = config(tiles=every), config(shared_decoder=True)
    return {
        "one rank alone": _Way(whole(config()), one, rays, together=False, only_first=True),
        "a scene each": _Way(whole(config()), one, every * rays, together=False),
        "rays of one scene": _Way(whole(config(ranks_per_scene=every)), one, rays),
        "tiles of one scene": _Way(
            lambda peers: TiledTomography(tiled, scene, peers.device, peers), tiles, rays
        ),
        "a scene each, one decoder": _Way(
            lambda peers: JointTomography(joint, [scene] * every, peers.device, peers), scenes, every * rays
        ),
    }


def _built(way: _Way, world: World) -> tuple[Task | None, CountingWorld]:
    """The task of this rank, if it takes part, and those that it shares it with."""
    group = world if way.together else world.split([world.rank])
    counting = CountingWorld(**{known.name: getattr(group, known.name) for known in fields(group)})
    if way.only_first and world.rank > 0:
        return None, counting
    torch.manual_seed(0)
    task = way.build(counting)
    task.begin()
    return task, counting


def _seconds(task: Task | None, group: CountingWorld, world: World, start: int) -> float:
    """Seconds per step until the last rank has done its steps."""
    group.given.clear()
    world.barrier()
    began = time.perf_counter()
    if task is not None:
        fit(
            task,
            steps=start + STEPS,
            start_step=start,
            world=group,
            at_boundary=lambda _: None,
            warmup_steps=0,
        )
        if group.device.type == "cuda":
            torch.cuda.synchronize(group.device)
    world.barrier()
    return (time.perf_counter() - began) / STEPS


def _most(world: World, way: _Way, task: Task | None, group: CountingWorld) -> dict[str, int]:
    """What the rank that has most holds, and gives in a step."""
    own = {"rays_held": 0, "parameters": 0}
    if task is not None:
        own = {"rays_held": way.held(task), "parameters": _parameters(task)}
    own |= {f"bytes_{how}_per_step": group.given[how] // STEPS for how in ("summed", "sent")}
    every = world.gather_all(own)
    return {name: max(part[name] for part in every) for name in own}


def _parameters(task: Task) -> int:
    return sum(p.numel() for part in task.parts.values() for p in part.module.parameters())
