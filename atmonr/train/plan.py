"""What a session has to do: which scenes, in which order, on which ranks, and how long each may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atmonr.config import Config
from atmonr.layout import Layout, layout, predict, pull_order
from atmonr.run import Run

RAY_BYTES = 25  # of the table that a rank holds on its device, see `atmonr.feed.rays.RayTable`


@dataclass(frozen=True)
class SceneWork:
    """A scene and what is left to do for it.

    Attributes:
        name: Names its results.
        path: Where it is.
        rays: Usable rays for training; None if the scene does not tell.
        size_bytes: Of its files; 0 if every scene tells its rays.
        steps_left: 0 for a finished scene.
        seconds_per_step: As measured when it was trained before; None if it was not.
        failure: How it failed in the session before, such as "DivergedError at step 12"; None if it did not.
    """

    name: str
    path: Path
    rays: int | None
    size_bytes: int
    steps_left: int
    seconds_per_step: float | None = None
    failure: str | None = None


def survey(
    config: Config, scenes: Sequence[Path], infos: Sequence[Mapping[str, Any]], run: Run | None
) -> list[SceneWork]:
    """Return the work of every scene.

    Args:
        config: The run's settings.
        scenes: Where the scenes are.
        infos: What the recipe's `describe` says of each.
        run: The run folder that tells what is done already; None for a new run.
    """
    # Many files to look at, on a file system that many use.
    sizing = any("rays" not in info for info in infos)
    work = [
        SceneWork(
            name=str(info["name"]),
            path=path,
            rays=info.get("rays"),
            size_bytes=_size_bytes(path) if sizing else 0,
            steps_left=config.train.steps,
        )
        for path, info in zip(scenes, infos, strict=True)
    ]
    return work if run is None else [_after(scene, config, run) for scene in work]


def costs(scenes: Sequence[SceneWork]) -> list[float]:
    """Return how long each scene may take, in seconds as soon as one of them has been measured.

    A scene that was never trained is taken to need time per step in proportion to its rays, or to the size
    of its files where it does not tell how many rays it has.
    """
    sizes = [scene.rays for scene in scenes]
    if None in sizes:
        sizes = [scene.size_bytes for scene in scenes]
    measured = [
        (scene.seconds_per_step, size or 0)
        for scene, size in zip(scenes, sizes, strict=True)
        if scene.seconds_per_step
    ]
    total = sum(size for _, size in measured)
    rate = sum(seconds for seconds, _ in measured) / total if total else 1.0
    return [
        scene.steps_left * (scene.seconds_per_step or (size or 0) * rate)
        for scene, size in zip(scenes, sizes, strict=True)
    ]


def order(scenes: Sequence[SceneWork]) -> list[int]:
    """Return positions of the unfinished scenes in the order in which they are taken.

    Those that failed before come last: one that ends its group again then keeps no other from being trained.
    """
    longest_first = [index for index in pull_order(costs(scenes)) if scenes[index].steps_left]
    return sorted(longest_first, key=lambda index: scenes[index].failure is not None)


@dataclass(frozen=True)
class Plan:
    """What a number of ranks would do.

    Attributes:
        ranks: Groups, and owners of tiles.
        scenes: All scenes, finished ones too.
        taken: For each group, the scenes that it is expected to take, as positions in `scenes`.
        busy: For each group, its time at work as a share of that of the group that ends last.
    """

    ranks: Layout
    scenes: list[SceneWork]
    taken: list[list[int]]
    busy: list[float]

    @property
    def waves(self) -> int:
        """Largest number of scenes that one group takes."""
        return max(len(scenes) for scenes in self.taken)

    def rays_per_rank(self, scene: SceneWork) -> list[int] | None:
        """Return how many rays each rank of a group holds of a scene; None if the scene does not tell.

        Ranks that share the rays of each batch hold all rays. With tiles, even shares are assumed.
        """
        if scene.rays is None:
            return None
        owners = self.ranks.tile_owners
        group = len(self.ranks.groups[0])
        if len(owners) == 1:
            return [scene.rays] * group
        return [scene.rays * owners.count(rank) // len(owners) for rank in range(group)]


def plan_of(config: Config, scenes: list[SceneWork], world_size: int) -> Plan:
    """Return what `world_size` ranks would do; needs none of them.

    Raises:
        WorldError: If ranks and scenes cannot be matched.
    """
    ranks = layout(world_size, len(scenes), config.world.tiles, config.world.ranks_per_scene)
    each = costs(scenes)
    taken = predict(each, order(scenes), len(ranks.groups))
    loads = [sum(each[scene] for scene in mine) for mine in taken]
    return Plan(ranks, scenes, taken, [load / (max(loads) or 1.0) for load in loads])


def _after(scene: SceneWork, config: Config, run: Run) -> SceneWork:
    """Return a scene's work with what the run folder knows of it."""
    last = (run.read_metrics(scene.name) or [{}])[-1]
    done, failed = run.done(scene.name), run.failed(scene.name)
    step, wall_s = last.get("step", 0), last.get("wall_s")
    finished = done is not None and done.get("steps", 0) >= config.train.steps
    return replace(
        scene,
        steps_left=0 if finished else max(1, config.train.steps - step),
        seconds_per_step=wall_s / step if step and wall_s else None,
        failure=f"{failed.get('error')} at step {failed.get('step')}" if failed else None,
    )


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
