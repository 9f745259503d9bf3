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
_MOST = 1000  # steps of a view that are looked at, in either direction: enough for six unknowns
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
        latitude_LP: NDArray[np.floating[Any]],
        longitude_LP: NDArray[np.floating[Any]],
        altitude_LP: NDArray[np.floating[Any]],
    ) -> None:
        """Takes in a view.

        Args:
            view: Which one this is.
            valid_LP: (L, P) which pixels are valid.
            latitude_LP: (L, P) geodetic latitude of the pixels [degrees].
            longitude_LP: (L, P) longitude [degrees].
            altitude_LP: (L, P) height above the ellipsoid [m].
        """
        ground = [values.ravel() for values in (latitude_LP, longitude_LP, altitude_LP)]
        pixels = valid_LP.shape[1]
        some = 1 + valid_LP.size // (16 * _MOST)  # lines of which one is looked at
        this, below = valid_LP[::some], valid_LP[1::some]
        neighbours = (this[: len(below)] & below, pixels), (this[:, :-1] & this[:, 1:], 1)
        for axis, (both, step) in enumerate(neighbours):
            known = np.flatnonzero(both)
            line, pixel = np.divmod(known[:: 1 + len(known) // _MOST], max(1, both.shape[1]))
            starts, ends = (
                self._frame.from_geodetic(
                    *(values[line * some * pixels + pixel + move] for values in ground)
                )[:, :2]
                for move in (0, step)
            )
            terms = _terms((starts + ends) / 2 * self._scale + self._offset)
            self._normal[view, axis] += terms.T @ terms
            self._right[view, axis] += terms.T @ (ends - starts)

    def solve(self) -> NDArray[np.float32]:
        """(V, TERMS, 4) coefficients of x and y of a step to the next line, then to the next pixel [m].

        Zero for a view without neighbouring pixels: its rays are points.
        """
        solution = np.linalg.pinv(self._normal, rcond=1e-9, hermitian=True) @ self._right
        return np.concatenate([solution[:, 0], solution[:, 1]], -1).astype(np.float32)


def _terms(unit_N2: Floats) -> Floats:
    x, y = unit_N2.T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
