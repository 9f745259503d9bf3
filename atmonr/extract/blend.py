"""The mean of scenes in a block of a mosaic, one scene after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atmonr.extract.netcdf import MISSING

Values = NDArray[np.float32]

WEIGHTS = (
    "Where granules overlap, a cell is their mean, each weighted by the square of its column's horizontal "
    "distance to the edge of the granule's extract; a granule fades to nothing at its edge."
)


@dataclass
class Blend:
    """Columns of air in which scenes are mixed.

    Attributes:
        mean: Extinction so far [m^-1], shape (band, *block).
        weight: Of all scenes so far, shape (*block).
        seen: Bits of the scenes that contribute, shape (*block).
        surface_m: Mean height of the ground [m], shape (*columns).
        surface_weight: Of the scenes that know the ground.
    """

    mean: Values
    weight: Values
    seen: NDArray[Any]
    surface_m: Values
    surface_weight: Values

    @classmethod
    def of_nothing(cls, bands: int, shape: tuple[int, ...], scenes: int) -> Self:
        """Return a block without any scene.

        Args:
            bands: Number of bands, 1 if they share one extinction.
            shape: Of the block.
            scenes: How many may come.
        """
        cells, columns = (np.zeros(shape, np.float32) for shape in ((bands, *shape), shape[1:]))
        return cls(
            cells, np.zeros(shape, np.float32), np.zeros(shape, flag_type(scenes)), columns, columns.copy()
        )

    def add(self, bit: int, values: Values, own: Values) -> None:
        """Mix a scene in.

        Args:
            bit: Which.
            values: Its extinction [m^-1], shape (band, *block); any where its weight is 0.
            own: Its weight, shape (*block).
        """
        self.weight += own
        # A running mean: a cell with one scene gets exactly that scene's value.
        share = np.divide(own, self.weight, out=np.zeros_like(own), where=own > 0)
        self.mean += np.where(own > 0, values - self.mean, 0) * share
        self.seen[own > 0] |= self.seen.dtype.type(1 << bit)

    def add_surface(self, surface_m: Values, own: Values) -> None:
        """Mix in the ground of a scene [m], NaN where it is not known, with weights, both (*columns)."""
        own = np.where(np.isnan(surface_m), 0, own).astype(np.float32)
        self.surface_weight += own
        share = np.divide(own, self.surface_weight, out=np.zeros_like(own), where=own > 0)
        self.surface_m += np.where(own > 0, surface_m - self.surface_m, 0) * share

    def finish(self, heights_m: NDArray[np.float64]) -> None:
        """Mark as missing what no scene tells of and what is below the ground.

        Args:
            heights_m: Of the cells [m], what broadcasts to the block.
        """
        self.surface_m[self.surface_weight == 0] = np.nan
        with np.errstate(invalid="ignore"):
            below = np.broadcast_to(heights_m < self.surface_m, self.weight.shape)
        self.seen[below] = 0
        self.mean[:, (self.weight == 0) | below] = MISSING
        self.surface_m[self.surface_weight == 0] = MISSING


def flag_type(count: int) -> np.dtype[Any]:
    """Return the smallest type with a bit for each of a number of scenes."""
    return np.dtype(next(kind for kind in ("u1", "u2", "u4", "u8") if count <= 8 * np.dtype(kind).itemsize))
