"""What ranks tell each other of the rays that pass through the tiles of several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atmonr.feed.tiles import TileBatch
from atmonr.render.segments import Runs
from atmonr.tasks.base import Peers

_BYTES = 2 * 4  # radiance and transmittance of a run, fp32: a ray has one band


class Crossings:
    """The rays of a batch that pass through several tiles, as one rank sees them.

    Every rank with a run of such a ray knows all its runs from its geometry. Each therefore knows what comes
    from whom, and in which order: by position in the batch, then along the ray. Two numbers a run are all
    that travels.
    """

    def __init__(self, batches: Sequence[TileBatch], owners: NDArray[np.int64], rank: int, size: int) -> None:
        """
        Args:
            batches: The rays of the batch in each of this rank's tiles.
            owners: Rank of each tile.
            rank: This rank.
            size: Number of ranks.
        """
        self._crossing = [np.flatnonzero((batch.runs >= 0).sum(1) > 1) for batch in batches]
        chosen = [batch.slots[cross] for batch, cross in zip(batches, self._crossing, strict=True)]
        slots = np.unique(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
        self._rows = [np.searchsorted(slots, part) for part in chosen]
        self.runs = max((batch.runs.shape[1] for batch in batches), default=1)
        tiles = np.full((len(slots), self.runs), -1, np.int32)
        for batch, cross, rows in zip(batches, self._crossing, self._rows, strict=True):
            tiles[rows, : batch.runs.shape[1]] = batch.runs[cross]
        owner = np.where(tiles >= 0, owners[tiles], -1)
        mine = owner == rank
        none = np.empty(0, np.int64)
        others = [peer for peer in range(size) if peer != rank and (owner == peer).any()]
        self._sent = [none] * size
        self._received = [none] * size
        for peer in others:
            theirs = owner == peer
            self._sent[peer] = np.flatnonzero(mine & theirs.any(1, keepdims=True))
            self._received[peer] = np.flatnonzero(theirs)
        self._entries = len(slots) * self.runs

    @property
    def rays(self) -> int:
        """Rays of the batch that pass through several tiles, one of them this rank's."""
        return self._entries // self.runs

    @property
    def bytes_sent(self) -> int:
        """What this rank sends to all others together."""
        return _BYTES * sum(len(part) for part in self._sent)

    def swap(self, batches: Sequence[TileBatch], runs: Sequence[Runs], peers: Peers) -> list[Tensor]:
        """Fill in what runs in other tiles contribute; called by all peers.

        Args:
            batches: As given to the constructor.
            runs: What the runs in each of this rank's tiles contribute.
            peers: The ranks.

        Returns:
            For each tile (b, M, 2) radiance and transmittance of every run of its rays that is not in this
            tile; no gradient passes. Entries of the tile's own runs, and beyond the last run, are 0 and 1.
        """
        device = runs[0].radiance.device if runs else torch.device("cpu")
        table = torch.zeros(self._entries, 2, device=device)
        for batch, cross, rows, part in zip(batches, self._crossing, self._rows, runs, strict=True):
            ray, run = np.nonzero(batch.runs[cross] == batch.tile)
            values = torch.stack([part.radiance, part.transmittance], -1).detach()
            place = torch.from_numpy(rows[ray] * self.runs + run).to(device)
            table[place] = values[torch.from_numpy(cross[ray]).to(device), torch.from_numpy(run).to(device)]
        outgoing = table[torch.from_numpy(np.concatenate(self._sent)).to(device)]
        sent, received = ([len(part) for part in parts] for parts in (self._sent, self._received))
        incoming = peers.exchange_(outgoing, sent, received)
        table[torch.from_numpy(np.concatenate(self._received)).to(device)] = incoming
        return [
            self._others(batch, cross, rows, table)
            for batch, cross, rows in zip(batches, self._crossing, self._rows, strict=True)
        ]

    def _others(
        self, batch: TileBatch, cross: NDArray[np.int64], rows: NDArray[np.int64], table: Tensor
    ) -> Tensor:
        most = batch.runs.shape[1]
        result = table.new_tensor([0.0, 1.0]).repeat(len(batch.slots), most, 1)
        tiles = batch.runs[cross]
        ray, run = np.nonzero((tiles >= 0) & (tiles != batch.tile))
        found = table[torch.from_numpy(rows[ray] * self.runs + run).to(table.device)]
        result[torch.from_numpy(cross[ray]).to(table.device), torch.from_numpy(run).to(table.device)] = found
        return result
