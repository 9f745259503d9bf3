"""A granule, or a scene, as eyes would see it, and as it changes with the angle of view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atmonr.evaluate.drawing import figure
from atmonr.quicklook.film import write_film
from atmonr.quicklook.ground import Ground, draw_graticule
from atmonr.quicklook.panels import plain
from atmonr.quicklook.views import (
    Image,
    Views,
    describe,
    red_views,
    refuse_dark,
    true_colour_views,
)

FloatArray = NDArray[np.float64]

_GAMMA = 2.2  # of an ordinary screen, whose answer it undoes
_STILL_CELLS, _FILM_CELLS = 800, 300
_MISSING = 0.75  # grey


def true_colour(source: Views, path: Path) -> None:
    """Draw the near-nadir views of red, green and blue as one picture.

    Args:
        source: Granule or scene.
        path: PNG to write.

    Raises:
        GranuleError: If the granule cannot be read.
        SceneError: If the scene cannot, or nothing is seen.
    """
    views = true_colour_views(source)
    images = source.read(views, 1)
    refuse_dark(source, images)
    ground = _ground_of(images, _STILL_CELLS)
    white = _white(images)
    channels = [ground.show(*image) for image in images]
    colour = np.where(np.isfinite(channels).all(0), [_toned(c, white) for c in channels], _MISSING)
    what = ", ".join(
        f"{name} {describe(source, v)}" for name, v in zip(("red", "green", "blue"), views, strict=True)
    )
    with figure(path, _size(ground), 1, 1) as (_, axes):
        axis = axes[0, 0]
        axis.imshow(np.moveaxis(colour, 0, -1), extent=ground.edges_km, origin="lower")
        draw_graticule(axis, ground)
        axis.set_title(f"{plain(source.name)}, true colour\n{what}\n{_tone(white)}", fontsize=8)


def view_angles(source: Views, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Draw all views of the red band one after the other, on one map and with one tone.

    Args:
        source: Granule or scene.
        path: GIF or MP4 to write.
        progress: Called with the number of finished frames and of all frames.

    Raises:
        GranuleError: If the granule cannot be read.
        SceneError: If the scene cannot, or nothing is seen.
    """
    views = red_views(source)
    every = max(1, -(-max(source.shape[1:]) // _FILM_CELLS))
    images = source.read(views, every)
    refuse_dark(source, images)
    ground = _ground_of(images, _FILM_CELLS)
    white = _white(images)

    def frame(number: int) -> tuple[FloatArray, str]:
        seen = ground.show(*images[number])
        shown = np.where(np.isfinite(seen), _toned(seen, white), np.nan)
        return (
            shown,
            f"{plain(source.name)}\n{describe(source, views[number])}, as seen on the ground\n{_tone(white)}",
        )

    write_film(path, ground, len(views), frame, size=_size(ground), progress=progress)


def _ground_of(images: list[Image], max_cells: int) -> Ground:
    """The map of all that any of the views sees."""
    seen = [np.isfinite(image.reflectance) for image in images]
    latitude, longitude = (
        np.concatenate([np.where(s, image[which], np.nan) for s, image in zip(seen, images, strict=True)])
        for which in (1, 2)
    )
    return Ground.around(latitude, longitude, max_cells)


def _white(images: list[Image]) -> float:
    """The reflectance that is shown white: an outlier shall not darken the rest."""
    seen = np.concatenate([image.reflectance[np.isfinite(image.reflectance)] for image in images])
    return float(np.quantile(seen, 0.999)) or 1.0


def _toned(reflectance: FloatArray, white: float) -> FloatArray:
    return np.asarray(np.clip(np.nan_to_num(reflectance) / white, 0.0, 1.0) ** (1.0 / _GAMMA))


def _tone(white: float) -> str:
    return f"brightness (reflectance / {white:.2g})$^{{1/{_GAMMA:g}}}$, air not removed"


def _size(ground: Ground) -> tuple[float, float]:
    """Inches of a picture that leaves little margin around the map."""
    west, east, south, north = ground.edges_km
    tall = (north - south) / (east - west)
    width = float(np.clip(7.0 / tall, 4.5, 9.0))
    return width, min((width - 1.0) * tall, 9.0) + 1.3
