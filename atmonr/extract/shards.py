"""Who computes which piece of a grid: pure arithmetic, no files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil

from atmonr.errors import UsageError
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


def plan(grid: VoxelGrid, ranks: int) -> list[list[Shard]]:
    """Return the shards of each rank.

    A shard has exactly one owner, so no file has two writers: concurrent writes of parts of one Zarr shard
    lose data. Shards are dealt in turn, so no rank has more than one shard more than another. They may be
    computed in any order, and again, with the same result.

    Args:
        grid: What to divide.
        ranks: Number of ranks; those beyond the number of shards get an empty list.

    Raises:
        UsageError: If `ranks` is not positive.
    """
    if ranks < 1:
        raise UsageError(f"cannot divide a grid among {ranks} ranks: expected at least one")
    everything = shards(grid)
    return [everything[rank::ranks] for rank in range(ranks)]
