"""How large a ray's pixel is: a pixel is an area, and cloud edges lie inside it.

The size of a pixel is the distance to its neighbours on the ground, which holds all that the granule tells of
it: a view's obliqueness, the place in the swath, the sampling of the instrument. It varies smoothly within a
view, so that a quadratic of place per view says it for all rays and no ray has to carry its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.geo.frame import Frame

TERMS = 6  # of a quadratic of two variables
_MOST = 800  # steps of a view that are looked at, in either direction: enough for six unknowns
Floats = NDArray[np.float64]


class FootprintFit:
    """Least squares for the pixels of any number of views."""

    def __init__(self, frame: Frame, views: int) -> None:
        """
        Args:
            frame: Of the scene.
            views: How many views there are.
        """
        scale, offset = frame.affine()
        self._frame = frame
        self._scale, self._offset = np.array(scale[:2]), np.array(offset[:2])
        self._normal = np.zeros((views, 2, TERMS, TERMS))
        self._right = np.zeros((views, 2, TERMS, 2))

    def add(
        self,
        view: int,
        valid_LP: NDArray[np.bool_],
        latitude_N: NDArray[np.floating[Any]],
        longitude_N: NDArray[np.floating[Any]],
        altitude_N: NDArray[np.floating[Any]],
    ) -> None:
        """Takes in a view.

        Args:
            view: Which one this is.
            valid_LP: (L, P) which pixels are valid.
            latitude_N: (N,) geodetic latitude of those, in order [degrees].
            longitude_N: (N,) longitude [degrees].
            altitude_N: (N,) height above the ellipsoid [m].
        """
        neighbours = _neighbours(valid_LP)
        known = np.concatenate(neighbours, axis=1)
        ground = (values[known] for values in (latitude_N, longitude_N, altitude_N))
        starts, ends = self._frame.from_geodetic(*ground)[..., :2]
        terms = _terms((starts + ends) / 2 * self._scale + self._offset)
        down = neighbours[0].shape[1]
        for axis, part in enumerate((slice(down), slice(down, None))):
            self._normal[view, axis] += terms[part].T @ terms[part]
            self._right[view, axis] += terms[part].T @ (ends - starts)[part]

    def solve(self) -> NDArray[np.float32]:
        """(V, TERMS, 4) coefficients of x and y of a step to the next line, then to the next pixel [m].

        Zero for a view without neighbouring pixels: its rays are points.
        """
        solution = np.linalg.pinv(self._normal, rcond=1e-9, hermitian=True) @ self._right
        return np.concatenate([solution[:, 0], solution[:, 1]], -1).astype(np.float32)


def _neighbours(valid_LP: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Some pixels and their neighbours in the next line, and some and their neighbours to the right.

    Returns:
        Twice (2, n) places among all valid pixels, a pixel and its neighbour.
    """
    every = 1 + valid_LP.size // (16 * _MOST)  # lines of which one is looked at
    counts = [np.count_nonzero(valid_LP[line : line + every]) for line in range(0, len(valid_LP), every)]
    this, below = valid_LP[::every], valid_LP[1::every]
    # The number of valid pixels until one, itself included: the place of its neighbour to the right.
    until = np.cumsum([0, *counts[:-1]])[:, None] + np.cumsum(this, axis=1)
    until_below = until[: len(below), -1:] + np.cumsum(below, axis=1)
    down = _thinned(this[: len(below)] & below)
    right = _thinned(this[:, :-1] & this[:, 1:])
    return np.stack([until[down], until_below[down]]) - 1, np.stack([until[right] - 1, until[right]])


def _thinned(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of some of the places where a mask is set."""
    place = np.flatnonzero(mask)
    row, column = np.divmod(place[:: 1 + len(place) // _MOST], max(1, mask.shape[1]))
    return row, column


def _terms(unit_N2: Floats) -> Floats:
    x, y = unit_N2.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
