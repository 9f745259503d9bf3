"""Reading the rays of a scene view by view."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from atmonr.store.layout import SIGHT
from atmonr.store.plain_files import Place
from atmonr.store.read_ahead import read_ahead
from atmonr.store.scene import Scene

ROWS = (*SIGHT, "reflectance")
_READERS = 4  # files are read at the same time


@dataclass(frozen=True)
class ViewRays:
    """The rays of one view."""

    view: int
    valid: NDArray[np.bool_]  # (L, P) the pixels that they belong to
    rows: NDArray[np.float32]  # (6, N) the variables of ROWS at these pixels, in order

    def place(self, row: int) -> Place:
        """Where values of a row are wanted."""
        whole = self.rows.shape[1] == self.valid.size
        return Place(self.rows[row], None if whole else self.valid)


def valid_pixels(scene: Scene, views: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(K, L, P) where chosen views have rays."""
    valid = np.empty((len(views), *scene.shape[1:]), np.uint8)
    places = {int(view): Place(mask.reshape(-1)) for view, mask in zip(views, valid, strict=True)}
    scene.read_views("valid", places)
    return np.not_equal(valid, 0, out=valid.view(bool))


def read_rays(
    scene: Scene,
    views: NDArray[np.integer],
    valid_KLP: NDArray[np.bool_],
    rows_6R: NDArray[np.float32],
) -> list[ViewRays]:
    """Reads chosen views.

    Args:
        scene: An open scene.
        views: (K,) indices of the views, ascending.
        valid_KLP: Of `valid_pixels`.
        rows_6R: Where the rows of all views are to lie, one after the other.
    """
    ends = np.cumsum([np.count_nonzero(mask) for mask in valid_KLP])
    rows = np.split(rows_6R, ends[:-1], axis=1)
    found = [ViewRays(int(view), mask, part) for view, mask, part in zip(views, valid_KLP, rows, strict=True)]

    def read(piece: tuple[list[ViewRays], int]) -> None:
        run, row = piece
        scene.read_views(ROWS[row], {rays.view: rays.place(row) for rays in run})

    together = scene.views_together(ROWS[-1])
    runs = [list(run) for _, run in groupby(found, lambda rays: rays.view // together)]
    pieces = [(run, row) for run in runs for row in range(len(ROWS))]
    with ThreadPoolExecutor(_READERS, "read rays") as readers:
        for _ in readers.map(read, pieces):
            pass
    return found


def view_rays(scene: Scene, views: NDArray[np.integer], valid_KLP: NDArray[np.bool_]) -> Iterator[ViewRays]:
    """Yields chosen views one by one; while one is worked on, the next ones are read.

    Args:
        scene: An open scene.
        views: (K,) indices of the views, ascending.
        valid_KLP: Of `valid_pixels`.
    """

    def read(run: NDArray[np.integer]) -> list[ViewRays]:
        valid = valid_KLP[run[0] : run[-1] + 1]
        return read_rays(scene, views[run], valid, np.empty((len(ROWS), np.count_nonzero(valid)), np.float32))

    # Views that lie in the same chunks are read together.
    together = scene.views_together(ROWS[-1])
    runs = np.split(np.arange(len(views)), np.flatnonzero(np.diff(views // together)) + 1)
    for _, found in read_ahead(read, runs):
        yield from found
        del found  # before the next ones are waited for
