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
_MOST = 2000  # steps of a block and view that are looked at: enough for six unknowns
Floats = NDArray[np.float64]


class FootprintFit:
    """Least squares over any number of blocks of lines: adds up, then solves."""

    def __init__(self, frame: Frame, views: int) -> None:
        """
        Args:
            frame: Of the scene.
            views: How many views there are.
        """
        scale, offset = frame.affine()
        self._scale, self._offset = np.array(scale[:2]), np.array(offset[:2])
        self._normal = np.zeros((views, 2, TERMS, TERMS))
        self._right = np.zeros((views, 2, TERMS, 2))

    def add(self, views: NDArray[np.integer], foot_VLP2: NDArray[np.floating[Any]]) -> None:
        """Takes in some lines.

        Args:
            views: (V,) which views these are.
            foot_VLP2: (V, L, P, 2) x, y of the ground under each pixel [m], NaN where it is not valid.
        """
        for view, foot_LP2 in zip(views, foot_VLP2, strict=True):
            foot = foot_LP2.astype(np.float64)
            for axis, (first, second) in enumerate(((foot[:-1], foot[1:]), (foot[:, :-1], foot[:, 1:]))):
                known = np.flatnonzero(np.isfinite((second - first).sum(-1)))
                some = known[:: 1 + len(known) // _MOST]
                starts = first.reshape(-1, 2)[some]
                steps = second.reshape(-1, 2)[some] - starts
                terms = _terms((starts + steps / 2) * self._scale + self._offset)
                self._normal[view, axis] += terms.T @ terms
                self._right[view, axis] += terms.T @ steps

    def solve(self) -> NDArray[np.float32]:
        """(V, TERMS, 4) coefficients of x and y of a step to the next line, then to the next pixel [m].

        Zero for a view without neighbouring pixels: its rays are points.
        """
        solution = np.linalg.pinv(self._normal, rcond=1e-9, hermitian=True) @ self._right
        return np.concatenate([solution[:, 0], solution[:, 1]], -1).astype(np.float32)


def _terms(unit_N2: Floats) -> Floats:
    x, y = unit_N2.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
