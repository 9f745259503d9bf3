"""Where a scene has anything to say: what its images looked at, up to the modelled top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Footprint:
    """A convex part of a frame's plane.

    Attributes:
        lines: Lines a, b, c around it, (N, 3): a place is inside by c - a x - b y metres.
    """

    lines: FloatArray

    @classmethod
    def of(cls, scene: dict[str, Any], box_m: Sequence[float] | None = None) -> Footprint:
        """Return what the images of a scene looked at: where none did, nothing was learned.

        Args:
            scene: What the run folder tells of it.
            box_m: West, south, east, north limits [m] that bound it too.
        """
        lines = [np.empty((0, 3))]
        if box_m is not None:
            west, south, east, north = box_m
            lines.append(
                np.array([(1.0, 0.0, east), (-1.0, 0.0, -west), (0.0, 1.0, north), (0.0, -1.0, -south)])
            )
        corners = np.reshape(np.array(scene.get("outline_m") or [], np.float64), (-1, 2))
        if not len(corners) and "footprint_m" in scene:
            west, south, east, north = scene["footprint_m"]
            corners = np.array([(west, south), (east, south), (east, north), (west, north)], np.float64)
        if len(corners):
            along = np.roll(corners, -1, axis=0) - corners
            outward = np.stack([along[:, 1], -along[:, 0]], axis=-1) / np.linalg.norm(along, axis=-1)[:, None]
            # The outline joins centres of pixels.
            reach = (outward * corners).sum(-1) + scene.get("pixel_m", 0.0) / 2
            lines.append(np.column_stack([outward, reach]))
        return cls(np.concatenate(lines))

    def distance_m(self, places_m: FloatArray) -> FloatArray:
        """Return how far places (..., 2) are inside its edge [m], (...); not positive outside.

        A place on the far side of the Earth, which has no coordinates here, is infinitely far outside.
        """
        distance = np.full(places_m.shape[:-1], np.inf)
        with np.errstate(invalid="ignore"):
            for a, b, c in self.lines:
                np.minimum(distance, c - a * places_m[..., 0] - b * places_m[..., 1], out=distance)
        return np.where(np.isfinite(places_m).all(-1) & ~np.isnan(distance), distance, -np.inf)

    def holds(self, places_m: FloatArray) -> NDArray[np.bool_]:
        """Return which places (..., 2) are inside."""
        return self.distance_m(places_m) > 0
