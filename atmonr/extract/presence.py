"""Which cells of an extraction hold something: those of air that the scene's images looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.extract.footprint import Footprint
from atmonr.extract.grids.base import Grid, Slices


@dataclass(frozen=True)
class Presence:
    """The limits of what a scene tells.

    Attributes:
        footprint: What its images looked at.
        low_m: Bottom of the modelled atmosphere [m above the ellipsoid].
        top_m: Its top [m].
        surface_m: Height of the ground under the grid's columns [m], NaN where it is not known; None if it
            is known nowhere.
    """

    footprint: Footprint
    low_m: float
    top_m: float
    surface_m: NDArray[np.float32] | None

    @classmethod
    def of(cls, grid: Grid, scene: dict[str, Any], surface_m: NDArray[np.float32] | None) -> Presence:
        """Return the limits of a scene, from what the run folder tells of it."""
        low, top = grid.frame.lower_m[2], scene.get("top_height_m", grid.frame.upper_m[2])
        return cls(Footprint.of(scene), min(low, 0.0), float(top), surface_m)

    def cells(self, grid: Grid, slices: Slices) -> NDArray[np.bool_]:
        """Return which cells of a block have their centre in air that the scene tells of."""
        heights, columns = grid.heights_m(slices), slices[1:]
        # Comparisons with NaN are False: a cell without height is missing, unknown ground hides nothing.
        with np.errstate(invalid="ignore"):
            present = (heights >= self.low_m) & (heights <= self.top_m)
            present = present & self.footprint.holds(grid.places_m(columns))
            if self.surface_m is not None:
                present &= ~(heights < self.surface_m[columns])
        return present


def can_be_asked(grid: Grid, columns: Slices) -> NDArray[np.bool_]:
    """Return which columns stand in the box in which the field is defined."""
    low, high = np.array(grid.frame.lower_m[:2]), np.array(grid.frame.upper_m[:2])
    places = grid.places_m(columns)
    with np.errstate(invalid="ignore"):
        return np.asarray(((places >= low) & (places <= high)).all(-1))
