"""How well two scenes agree where both have columns, gathered piece by piece in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

_MOST_RANKED = 1 << 15
# An odd number scatters consecutive columns over all 64-bit numbers.
_SCATTER = np.uint64(0x9E3779B97F4A7C15)

FloatArray = NDArray[np.float64]


@dataclass
class Overlap:
    """Columns that two scenes share.

    Attributes:
        columns: How many.
        totals: Sums of the optical depths of one and of the other.
    """

    columns: int = 0
    totals: FloatArray = field(default_factory=lambda: np.zeros(2))
    _halvings: int = 0
    _keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    _pairs: FloatArray = field(default_factory=lambda: np.empty((0, 2)))

    def add(self, number: NDArray[np.int64], a: FloatArray, b: FloatArray) -> None:
        """Take note of some columns.

        Args:
            number: Of each column, shape (N,), never twice the same.
            a: Optical depth in one scene, shape (N,).
            b: Optical depth in the other.
        """
        pairs = np.stack([a, b], axis=-1).astype(np.float64)
        self.columns += len(pairs)
        self.totals = self.totals + pairs.sum(0)
        self._keys = np.concatenate([self._keys, number.astype(np.uint64) * _SCATTER])
        self._pairs = np.concatenate([self._pairs, pairs])
        self._thin_out()

    def summary(self) -> dict[str, Any]:
        """Return JSON data: columns, mean optical depths, their ratio, rank correlation."""
        mean_a, mean_b = (float(total) / self.columns for total in self.totals)
        return {
            "columns": self.columns,
            "mean_optical_depth": [mean_a, mean_b],
            "ratio": mean_a / mean_b if mean_b > 0 else None,
            "rank_correlation": _rank_correlation(self._pairs),
            "ranked_columns": len(self._pairs),
        }

    def _thin_out(self) -> None:
        """Keep a subset that depends on the columns alone, not on the order in which they came."""
        while True:
            if self._halvings:
                keep = self._keys >> np.uint64(64 - self._halvings) == 0
                self._keys, self._pairs = self._keys[keep], self._pairs[keep]
            if len(self._keys) <= _MOST_RANKED:
                return
            self._halvings += 1


def _rank_correlation(pairs: FloatArray) -> float | None:
    """Spearman's; None where one of the two is everywhere the same."""
    ranks = rankdata(pairs, axis=0)
    if len(ranks) < 2 or (np.ptp(ranks, axis=0) == 0).any():
        return None
    return float(np.corrcoef(ranks.T)[0, 1])
