"""Reading the rays of a scene view by view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atmonr.store.layout import CHUNK_VIEWS, SIGHT
from atmonr.store.read_ahead import read_ahead
from atmonr.store.scene import Scene


@dataclass(frozen=True)
class ViewRays:
    """The pixels of one view, as they lie in the scene."""

    view: int
    valid: NDArray[np.bool_]  # (L, P)
    images: dict[str, NDArray[np.float32]]  # (L, P) of SIGHT and reflectance

    def values(self, name: str) -> NDArray[np.float32]:
        """(N,) a variable at the valid pixels, in order."""
        image = self.images[name]
        return image.ravel() if self.valid.all() else image[self.valid]


def valid_pixels(scene: Scene, views: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(K, L, P) where chosen views have rays."""
    first = int(views.min())
    return scene.read("valid", views=slice(first, int(views.max()) + 1))[views - first].astype(bool)


def view_rays(scene: Scene, views: NDArray[np.integer], valid_KLP: NDArray[np.bool_]) -> Iterator[ViewRays]:
    """Yields chosen views one by one; while one is worked on, the next ones are read.

    Args:
        scene: An open scene.
        views: (K,) indices of the views, ascending.
        valid_KLP: Of `valid_pixels`.
    """

    def read(run: NDArray[np.integer]) -> dict[str, NDArray[np.float32]]:
        span = slice(int(run[0]), int(run[-1]) + 1)
        names = (*SIGHT, "reflectance")
        return {name: scene.read(name, views=span).astype(np.float32, copy=False) for name in names}

    # Views that lie in the same chunks are read together.
    runs = np.split(views, np.flatnonzero(np.diff(views // CHUNK_VIEWS)) + 1)
    masks = iter(valid_KLP)
    for run, images in read_ahead(read, runs):
        for view in run:
            place = view - run[0]
            yield ViewRays(int(view), next(masks), {name: image[place] for name, image in images.items()})
        del images  # before the next ones are waited for
