"""`atmonr extract`: sample a trained field on a grid, each rank its own shards."""

from __future__ import annotations

import hashlib
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
from atmonr.extract.grid import VoxelGrid
from atmonr.extract.parts import Parts
from atmonr.extract.shards import Shard, pull
from atmonr.geo.frame import Frame
from atmonr.run import Run
from atmonr.stop import StopRequest
from atmonr.world import World

# Bounds the memory of a query: a hash grid holds about a kilobyte a point.
_POINTS_AT_ONCE = 1 << 17
# Between HARP2's steepest views forward and backward, one pixel of shift is a fifth of a pixel of height.
_VERTICAL_PER_HORIZONTAL = 0.25


class Extinction(Protocol):
    """What extraction asks of a field."""

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        """Frame coordinates (x, y, height) [m], fp32 (N, 3), to extinction [m^-1], (N, 1 or bands)."""
        ...


def extract(
    run: Path,
    out: Path,
    *,
    grid: str = "voxel",
    horizontal_step_m: float | None = None,
    vertical_step_m: float | None = None,
    max_height_m: float | None = None,
    bbox: Sequence[float] | None = None,
    scene: str | None = None,
    world: World | None = None,
    quiet: bool = False,
) -> Path:
    """Write the extinction of a scene's newest checkpoint to the shards of `out`.

    An extraction that was interrupted continues when it is asked for again, on any number of ranks; finished
    shards are kept if their receipts fit them.

    Args:
        run: Run folder.
        out: Folder to make, or to complete.
        grid: Kind of grid; "voxel" is the only one.
        horizontal_step_m: Cell size along x and y; the scene's pixel size by default.
        vertical_step_m: Cell size along altitude; a quarter of the horizontal one by default.
        max_height_m: Top of the grid above the ellipsoid; the top of the modelled atmosphere by default.
        bbox: West, south, east, north [degrees] to keep; everything by default.
        scene: Name of the scene; may be left out if the run has one.
        world: The ranks that share the work; this process alone by default.
        quiet: Show no progress.

    Returns:
        `out`.

    Raises:
        UsageError: If the request does not fit the scene, or `out` holds something else.
        ResumeError: If the run folder lacks the scene or a checkpoint.
        SceneError: If the field gives values that are not finite or negative.
        StoreError: If `out` cannot be written.
        StoppedError: If a signal asked to stop; finished shards are kept.
    """
    from atmonr.fields.load import load_field

    world = world or World.single()
    opened = Run.open(run)
    name = _scene_name(opened, scene)
    info = opened.scene_info(name)
    asked = voxel_grid(info, grid, horizontal_step_m, vertical_step_m, max_height_m, bbox)
    source = describe_source(opened, name, info)
    field = load_field(opened, name, world.device)
    if world.rank == 0:
        centre = asked.points((slice(0, 1), slice(0, 1), slice(0, 1)))
        bands = sample(field, centre, world.device).shape[0]
        Parts.create_or_resume(out, asked, bands, source)
    world.barrier()
    parts = Parts.open(out)
    if _fill_together(parts, field, world, quiet=quiet):
        raise StoppedError(f"{out}: stopped; the same command completes it")
    return out


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


def voxel_grid(
    info: dict[str, Any],
    kind: str,
    horizontal_step_m: float | None,
    vertical_step_m: float | None,
    max_height_m: float | None,
    bbox: Sequence[float] | None,
) -> VoxelGrid:
    """Return the grid that was asked for, defaults filled in from the scene.

    Raises:
        UsageError: If it does not fit the scene.
    """
    if kind != "voxel":
        raise UsageError(f"--grid {kind}: unknown grid; valid: voxel")
    top = float(info["top_height_m"])
    height = top if max_height_m is None else float(max_height_m)
    if not 0 < height <= top:
        raise UsageError(
            f"--max-height-m {height:g}: expected more than 0 and at most {top:g} m, the modelled top"
        )
    horizontal = float(info["pixel_m"]) if horizontal_step_m is None else horizontal_step_m
    vertical = horizontal * _VERTICAL_PER_HORIZONTAL if vertical_step_m is None else vertical_step_m
    return VoxelGrid.covering(
        Frame.from_json(info["frame"]),
        info["footprint_m"],
        height,
        horizontal_step_m=horizontal,
        vertical_step_m=vertical,
        bbox_deg=bbox,
    )


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
        "scene": info,
        "config_toml": run.config.toml(),
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
            parts.write(shard, sample_shard(field, parts, shard, device))
            written += 1
    return written


def sample_shard(field: Extinction, parts: Parts, shard: Shard, device: torch.device) -> NDArray[np.float32]:
    """Return a shard's extinction [m^-1], shape (band, altitude, y, x), queried some levels at a time."""
    z, y, x = shard.slices
    shape = tuple(stop - start for start, stop in zip(shard.start, shard.stop, strict=True))
    values = np.empty((parts.bands, *shape), np.float32)
    levels = max(_POINTS_AT_ONCE // (shape[1] * shape[2]), 1)
    for low in range(z.start, z.stop, levels):
        high = min(low + levels, z.stop)
        points = parts.grid.points((slice(low, high), y, x))
        values[:, low - z.start : high - z.start] = sample(field, points, device)
    return values


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
