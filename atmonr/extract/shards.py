"""Who computes which piece of a grid: pure arithmetic, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from atmonr.extract.grid import VoxelGrid


@dataclass(frozen=True, order=True)
class Shard:
    """One whole Zarr shard of a grid; indices run along altitude, y and x.

    Attributes:
        index: Position in the grid of shards.
        start: First cell.
        stop: One past the last cell; at the far edges less than a full shard away.
    """

    index: tuple[int, int, int]
    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Name of the shard, unique in its grid and fit for a file name."""
        return "-".join(str(i) for i in self.index)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index ranges of the shard's cells."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


def shards(grid: VoxelGrid) -> list[Shard]:
    """Return every shard of a grid: disjoint, and together the whole grid."""
    size = grid.shard_shape
    counts = [ceil(n / edge) for n, edge in zip(grid.shape, size, strict=True)]
    found = []
    for z, y, x in product(*(range(count) for count in counts)):
        start = (z * size[0], y * size[1], x * size[2])
        stop = (
            min(start[0] + size[0], grid.shape[0]),
            min(start[1] + size[1], grid.shape[1]),
            min(start[2] + size[2], grid.shape[2]),
        )
        found.append(Shard((z, y, x), start, stop))
    return found


def pull(shards: Sequence[Shard], turn: Callable[[], int]) -> Iterator[Shard]:
    """Yield shards as they are asked for, so that a slow rank holds no other up.

    A shard has exactly one owner, so no file has two writers: concurrent writes of parts of one Zarr shard
    lose data. Shards may be computed in any order, by anybody, and again, with the same result.

    Args:
        shards: What is to be shared out, alike on every rank.
        turn: Returns 0, 1, 2, …, each number once among all ranks.
    """
    while (number := turn()) < len(shards):
        yield shards[number]
