"""`atmonr extract`: sample a trained field on a grid, each rank its own shards."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from atmonr import __version__
from atmonr.atomic import sha256
from atmonr.errors import ResumeError, StoppedError, UsageError
from atmonr.extract.columns import describe_columns, find_scene, keep_columns
from atmonr.extract.grids.base import Grid
from atmonr.extract.grids.choose import GridRequest, choose_grid
from atmonr.extract.parts import Parts
from atmonr.extract.presence import can_be_asked
from atmonr.extract.shards import Shard, pull
from atmonr.run import Run
from atmonr.stop import StopRequest
from atmonr.world import World

# Bounds the memory of a query: a hash grid holds about a kilobyte a point.
_POINTS_AT_ONCE = 1 << 17
_CODE = "atmonr", "git_commit", "container_image"


class Extinction(Protocol):
    """What extraction asks of a field."""

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        """Frame coordinates (x, y, height) [m], fp32 (N, 3), to extinction [m^-1], (N, 1 or bands)."""
        ...


def extract(
    run: Path,
    out: Path,
    *,
    grid: GridRequest | None = None,
    scene: str | None = None,
    scene_store: Path | None = None,
    dem: Path | None = None,
    world: World | None = None,
    quiet: bool = False,
) -> Path:
    """Write the extinction of a scene's newest checkpoint to the shards of `out`.

    An extraction that was interrupted continues when it is asked for again, on any number of ranks; finished
    shards are kept if their receipts fit them.

    Args:
        run: Run folder.
        out: Folder to make, or to complete.
        grid: Where to sample it; voxels of the scene's pixel by default.
        scene: Name of the scene; may be left out if the run has one.
        scene_store: Where the scene's rays lie; as a rule where they lay when it was trained.
        dem: Elevation model that tells where the ground is; the scene's own pixels do by default.
        world: The ranks that share the work; this process alone by default.
        quiet: Show no progress.

    Returns:
        `out`.

    Raises:
        UsageError: If the request does not fit the scene, or `out` holds something else.
        ResumeError: If the run folder lacks the scene or a checkpoint.
        GranuleError: If a file that the grid or the ground comes from cannot be read.
        SceneError: If the field gives values that are not finite or negative, or the scene is not there.
        StoreError: If `out` cannot be written.
        StoppedError: If a signal asked to stop; finished shards are kept.
    """
    from atmonr.fields.load import load_field, refuse_unusable

    world = world or World.single()
    opened = Run.open(run)
    name = _scene_name(opened, scene)
    info = opened.scene_info(name)
    refuse_unusable(opened, name)
    asked = choose_grid(info, grid or GridRequest())
    rays = find_scene(info, scene_store)
    source = {**describe_source(opened, name, info), **describe_columns(rays, dem)}
    field = load_field(opened, name, world.device)
    if world.rank == 0:
        centre = np.array([[(low + high) / 2 for low, high in zip(*_box(asked), strict=True)]])
        bands = sample(field, centre, world.device).shape[0]
        keep_columns(Parts.create_or_resume(out, asked, bands, source), rays, dem)
    world.barrier()
    parts = Parts.open(out)
    if _fill_together(parts, field, world, quiet=quiet):
        raise StoppedError(f"{out}: stopped; the same command completes it")
    return out


def _box(grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return grid.frame.lower_m, grid.frame.upper_m


def _fill_together(parts: Parts, field: Extinction, world: World, *, quiet: bool) -> bool:
    """Have all ranks write what is missing; return whether a signal to one of them asked to stop."""
    # A name of its own for every extraction, should one world do several.
    counter = world.broadcast_object(f"shards {uuid4().hex}")
    todo = pull(parts.shards, lambda: world.next_number(counter))
    with StopRequest(None) as stop, _progress(parts.shards, shown=not quiet and world.rank == 0) as watched:
        fill(parts, field, world.device, watched(_until_stopped(todo, stop)))
        # In here, so that a signal while the others finish their shards does not end this rank alone.
        return world.any(stop.requested())


def _until_stopped(todo: Iterator[Shard], stop: StopRequest) -> Iterator[Shard]:
    """Yield shards until somebody asks to stop; then take the rest, so that no other rank goes on either."""
    for shard in todo:
        if stop.requested():
            deque(todo, maxlen=0)
            return
        yield shard


def describe_source(run: Run, scene: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return what an extract is made from: what its file must tell, and what must not change midway.

    Raises:
        ResumeError: If the scene has no checkpoint yet.
    """
    latest = run.latest(scene)
    if not latest.is_file():
        raise ResumeError(f"{latest}: no checkpoint of scene '{scene}' yet; train first")
    files = _checkpoint_files(run, scene, run.latest_step(scene))
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise ResumeError(
            f"{latest}: names no checkpoint beside it ({absent[0].name} is missing); name another one in it "
            "or train on"
        )
    digests = [sha256(file) for file in files]
    return {
        "identity": {
            "config_sha256": run.config.digest,
            "scene": scene,
            "scene_id": info["scene_id"],
            "checkpoint": latest.read_text(encoding="utf-8").strip(),
            # Of tiles, that of the list of their checksums, as `sha256sum` would print it of that text.
            "checkpoint_sha256": digests[0] if len(files) == 1 else _digest(digests),
        },
        # Where it lies is of no concern to a product.
        "scene": {key: value for key, value in info.items() if key != "path"},
        "config_toml": run.config.toml(),
        "training_code": {key: run.provenance.get(key) for key in _CODE},
        "atmonr_version": __version__,
    }


def _digest(checksums: Sequence[str]) -> str:
    """SHA-256 of the checksums of a checkpoint's files, one a line."""
    return hashlib.sha256("".join(f"{checksum}\n" for checksum in checksums).encode()).hexdigest()


def _checkpoint_files(run: Run, scene: str, step: int) -> list[Path]:
    from atmonr.fields.tiled import tile_name

    tiles = run.config.world.tiles
    names = [tile_name(tile) for tile in range(tiles)] if tiles > 1 else [""]
    return [run.checkpoint(scene, step, name) for name in names]


def fill(parts: Parts, field: Extinction, device: torch.device, todo: Iterable[Shard]) -> int:
    """Compute and write those shards that are not finished.

    Args:
        parts: The extraction.
        field: What is sampled.
        device: Where the field is.
        todo: Shards of the extraction, which no other rank gets.

    Returns:
        The number of shards written.
    """
    written = 0
    for shard in todo:
        if not parts.verified(shard):
            parts.write(shard, *sample_shard(field, parts, shard, device))
            written += 1
    return written


def sample_shard(
    field: Extinction, parts: Parts, shard: Shard, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Query a shard's cells, some levels at a time.

    Returns:
        The extinction [m^-1], shape (band, *grid) of the shard, NaN where the field could not be asked, and
        where it could, shape (*grid).
    """
    grid, (levels, *columns) = parts.grid, shard.slices
    values = np.full((parts.bands, *shard.shape), np.nan, np.float32)
    asked = np.zeros(shard.shape, bool)
    inside = can_be_asked(grid, tuple(columns))
    if not inside.any():
        return values, asked
    low_m, high_m = grid.frame.lower_m[2], grid.frame.upper_m[2]
    step = max(_POINTS_AT_ONCE // math.prod(shard.shape[1:]), 1)
    for low in range(levels.start, levels.stop, step):
        some = slice(low, min(low + step, levels.stop))
        points = grid.points((some, *columns))
        here = inside & np.isfinite(points[..., 2])
        # Beyond the box the field is not defined; what is there is masked when shards are merged.
        points[..., 2] = points[..., 2].clip(low_m, high_m)
        part = slice(some.start - levels.start, some.stop - levels.start)
        values[:, part][:, here] = sample(field, points[here], device)
        asked[part] = here
    return values, asked


@torch.no_grad()
def sample(field: Extinction, points_m: NDArray[np.float64], device: torch.device) -> NDArray[np.float32]:
    """Return the extinction [m^-1], shape (band, ...), at frame coordinates of shape (..., 3) [m]."""
    flat = torch.as_tensor(points_m.reshape(-1, 3), dtype=torch.float32, device=device)
    values = field.extinction(flat).float().cpu().numpy()
    return np.moveaxis(values, -1, 0).reshape(-1, *points_m.shape[:-1])


def _scene_name(run: Run, scene: str | None) -> str:
    names = run.scene_names
    if scene is None and len(names) != 1:
        raise UsageError(f"{run.path}: has {len(names)} scenes; choose one with --scene: {', '.join(names)}")
    return names[0] if scene is None else scene


@contextmanager
def _progress(
    everything: Sequence[Shard], *, shown: bool
) -> Iterator[Callable[[Iterable[Shard]], Iterable[Shard]]]:
    """Yield a function that watches shards go by; draws a bar if standard error is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda shards: shards
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("extract", total=len(everything))

        def watched(shards: Iterable[Shard]) -> Iterator[Shard]:
            for shard in shards:
                # Shards are handed out in order, so those before this one are with other ranks or finished.
                bar.update(task, completed=everything.index(shard))
                yield shard

        yield watched
