"""The rays that pass through the tiles of one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.feed.footprint import FootprintFit
from atmonr.feed.rays import RayBatch, RayTable, table_of
from atmonr.geo.paths import paths_of
from atmonr.geo.tiles import Tiling
from atmonr.store.scene import Scene
from atmonr.store.views import valid_pixels, view_rays

_VIEW = 1_000_003  # numbers between views, so that rays of different views to one pixel are no neighbours


@dataclass(frozen=True)
class TileBatch:
    """The rays of a batch that pass through one tile, b of the batch's B.

    What decides with whom to exchange is kept on the host, so that nobody waits for the device to learn it.
    """

    tile: int
    slots: NDArray[np.int64]  # (b,) positions in the batch, ascending
    rays: RayBatch
    cuts: (
        Tensor  # (b, M - 1) fractions of the rays at which runs end, on the device; infinite beyond the last
    )
    runs: NDArray[np.int32]  # (b, M) tile of each run, -1 beyond the last

    @property
    def owned(self) -> NDArray[np.bool_]:
        """(b,) whether this tile answers for a ray: it is the first one that the ray meets."""
        return self.runs[:, 0] == self.tile


@dataclass(frozen=True)
class TileRays:
    """All rays of some views that pass through one tile.

    Most pass through no other: only for those that do are cuts and runs kept, on the host.
    """

    tile: int
    table: RayTable  # R rays
    number: NDArray[np.int64]  # (R,) ascending: which rays of the whole scene's these are
    crossing: NDArray[np.int64]  # (C,) ascending positions in the table of rays with several runs
    cuts: NDArray[np.float32]  # (C, M - 1)
    runs: NDArray[np.int32]  # (C, M)

    def batch(self, numbers: NDArray[np.int64]) -> TileBatch:
        """The tile's rays among those with (B,) numbers."""
        place = np.searchsorted(self.number, numbers)
        place = np.minimum(place, max(len(self.number) - 1, 0))
        hit = self.number[place] == numbers if len(self.number) else np.zeros(len(numbers), bool)
        slots, place = np.flatnonzero(hit), place[hit]
        row = np.searchsorted(self.crossing, place)
        row = np.minimum(row, max(len(self.crossing) - 1, 0))
        crosses = self.crossing[row] == place if len(self.crossing) else np.zeros(len(place), bool)
        cuts, runs = self.cuts[row[crosses]], self.runs[row[crosses]]
        most = int((runs >= 0).sum(1).max(initial=1))
        all_cuts = np.full((len(place), most - 1), np.inf, np.float32)
        all_runs = np.full((len(place), most), -1, np.int32)
        all_runs[:, 0] = self.tile
        all_cuts[crosses], all_runs[crosses] = cuts[:, : most - 1], runs[:, :most]
        device = self.table.view.device
        index = torch.from_numpy(place).to(device)
        moved = torch.from_numpy(all_cuts).to(device)
        return TileBatch(self.tile, slots, self.table.take(index), moved, all_runs)


def load_tiles(
    scene: Scene, views: NDArray[np.integer], tiling: Tiling, tiles: Sequence[int], device: torch.device
) -> tuple[int, dict[int, TileRays]]:
    """Loads the valid rays of chosen views that pass through chosen tiles.

    The whole scene is read once, view by view; only the tiles' rays are kept.

    Args:
        scene: An open scene.
        views: (K,) indices of the views to load.
        tiling: How the scene is cut.
        tiles: Numbers of the tiles; one may turn out to have no ray.
        device: Where the tables are to live.

    Returns:
        The number of valid rays of these views in the whole scene, and the rays of each tile. Rays are
        numbered as `atmonr.feed.rays.load_rays` would order them.
    """
    kept: dict[int, list[_Piece]] = {tile: [] for tile in tiles}
    total = 0
    footprint = FootprintFit(scene.frame, len(scene.view_band))
    for rays in view_rays(scene, views, valid_pixels(scene, views)):
        footprint.add(rays.view, rays.valid, *rays.rows[:3])
        path = paths_of(scene.frame, scene.top_height_m, *rays.rows[:-1]).path
        # Borders are moved by numbers that do not depend on which other views are loaded.
        cuts, runs = tiling.runs(path, tiling.shifts(_VIEW * rays.view + np.arange(len(path))))
        for tile, pieces in kept.items():
            chosen = np.flatnonzero((runs == tile).any(1))
            pieces.append(_Piece(rays.view, total + chosen, rays.rows[:, chosen], cuts[chosen], runs[chosen]))
        total += len(path)
    size = footprint.solve()
    return total, {tile: _joined(scene, tile, pieces, size, device) for tile, pieces in kept.items()}


@dataclass(frozen=True)
class _Piece:
    """One view's rays through a tile."""

    view: int
    number: NDArray[np.int64]
    rows: NDArray[np.float32]  # (6, n) line of sight and reflectance
    cuts: NDArray[np.float32]
    runs: NDArray[np.int32]


def _joined(
    scene: Scene, tile: int, pieces: list[_Piece], footprint: NDArray[np.float32], device: torch.device
) -> TileRays:
    most = max(piece.runs.shape[1] for piece in pieces)
    several = [np.flatnonzero((piece.runs >= 0).sum(1) > 1) for piece in pieces]
    offsets = np.cumsum([0, *(len(piece.number) for piece in pieces[:-1])])

    def widened(array: NDArray, width: int, filler: float) -> NDArray:
        return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=filler)

    rows = torch.from_numpy(np.concatenate([piece.rows for piece in pieces], 1))
    view = np.concatenate([np.full(len(piece.number), piece.view, np.uint8) for piece in pieces])
    return TileRays(
        tile=tile,
        table=table_of(scene, rows[:-1], rows[-1], torch.from_numpy(view), footprint, device),
        number=np.concatenate([piece.number for piece in pieces]),
        crossing=np.concatenate([chosen + offset for chosen, offset in zip(several, offsets, strict=True)]),
        cuts=np.concatenate(
            [widened(piece.cuts[c], most - 1, np.inf) for piece, c in zip(pieces, several, strict=True)]
        ),
        runs=np.concatenate(
            [widened(piece.runs[c], most, -1) for piece, c in zip(pieces, several, strict=True)]
        ),
    )
