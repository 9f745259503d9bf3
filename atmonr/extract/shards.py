"""Who computes which piece of a grid: pure arithmetic, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from atmonr.extract.grids.base import Grid, Slices


@dataclass(frozen=True, order=True)
class Shard:
    """One whole Zarr shard of a grid; indices run along its dimensions.

    Attributes:
        index: Position in the grid of shards.
        start: First cell.
        stop: One past the last cell; at the far edges less than a full shard away.
    """

    index: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the shard, unique in its grid and fit for a file name."""
        return "-".join(str(i) for i in self.index)

    @property
    def slices(self) -> Slices:
        """Index ranges of the shard's cells."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along the dimensions."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


def shards(grid: Grid) -> list[Shard]:
    """Return every shard of a grid: disjoint, and together the whole grid."""
    size = grid.shard_shape
    counts = [ceil(n / edge) for n, edge in zip(grid.shape, size, strict=True)]
    found = []
    for index in product(*(range(count) for count in counts)):
        start = tuple(i * edge for i, edge in zip(index, size, strict=True))
        stop = tuple(min(i + edge, n) for i, edge, n in zip(start, size, grid.shape, strict=True))
        found.append(Shard(index, start, stop))
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
