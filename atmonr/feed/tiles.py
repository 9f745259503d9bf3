"""The rays that pass through the tiles of one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.feed.footprint import FootprintFit
from atmonr.feed.rays import RayBatch, RayBlock, RayTable, ray_blocks, table_of
from atmonr.geo.tiles import Tiling
from atmonr.store.scene import Scene


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
        device = self.table.path.device
        index = torch.from_numpy(place).to(device)
        moved = torch.from_numpy(all_cuts).to(device)
        return TileBatch(self.tile, slots, self.table.take(index), moved, all_runs)


def load_tiles(
    scene: Scene, views: NDArray[np.integer], tiling: Tiling, tiles: Sequence[int], device: torch.device
) -> tuple[int, dict[int, TileRays]]:
    """Loads the valid rays of chosen views that pass through chosen tiles.

    The whole scene is read once, some lines at a time; only the tiles' rays are kept.

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
    footprint, numbering = FootprintFit(scene.frame, len(scene.view_band)), _Numbering(len(scene.view_band))
    for block in ray_blocks(scene, views):
        footprint.add(views, block.foot)
        cuts, runs = tiling.runs(block.path, tiling.shifts(numbering.of_block(block.view)))
        for tile, pieces in kept.items():
            chosen = np.flatnonzero((runs == tile).any(1))
            pieces.append(_Piece(block.some(chosen), total + chosen, cuts[chosen], runs[chosen]))
        total += len(block.length_m)
    size = footprint.solve()
    return total, {tile: _joined(scene, tile, pieces, size, device) for tile, pieces in kept.items()}


class _Numbering:
    """Numbers for rays that do not depend on which other views are loaded."""

    _VIEW = 1_000_003  # so that rays of different views to one pixel are no neighbours

    def __init__(self, views: int) -> None:
        self._before = np.zeros(views, np.int64)

    def of_block(self, view: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Of the next rays, which are ordered by view: their places among those of their view, moved on."""
        counts = np.bincount(view, minlength=len(self._before))
        place = np.arange(len(view)) + (self._before - np.cumsum(counts) + counts)[view]
        self._before += counts
        return place + self._VIEW * view.astype(np.int64)


@dataclass(frozen=True)
class _Piece:
    """Some lines' rays through a tile."""

    block: RayBlock
    number: NDArray[np.int64]
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

    return TileRays(
        tile=tile,
        table=table_of(scene, [piece.block for piece in pieces], footprint, device),
        number=np.concatenate([piece.number for piece in pieces]),
        crossing=np.concatenate([chosen + offset for chosen, offset in zip(several, offsets, strict=True)]),
        cuts=np.concatenate(
            [widened(piece.cuts[c], most - 1, np.inf) for piece, c in zip(pieces, several, strict=True)]
        ),
        runs=np.concatenate(
            [widened(piece.runs[c], most, -1) for piece, c in zip(pieces, several, strict=True)]
        ),
    )
