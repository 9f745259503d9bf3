"""Reflectances of chosen views with their places, from a granule or from the scene made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.sensors.granule import Granule
from atmonr.store.scene import Scene

FloatArray = NDArray[np.float64]

# What eyes call red, green and blue; the nearest bands of the sensor are taken.
RED_NM, GREEN_NM, BLUE_NM = 665.0, 550.0, 440.0
_LINES_AT_ONCE = 64


class Image(NamedTuple):
    """One view.

    Attributes:
        reflectance: pi L d^2 / (F0 cos(solar zenith angle)), shape (line, pixel); NaN where missing.
        latitude_deg: Of the same shape.
        longitude_deg: Likewise.
    """

    reflectance: FloatArray
    latitude_deg: FloatArray
    longitude_deg: FloatArray


# Images of some views, of every so many lines and pixels.
Read = Callable[[Sequence[int], int], list[Image]]


@dataclass(frozen=True)
class Views:
    """What can be looked at from several angles.

    Attributes:
        name: The granule's.
        shape: Number of views, lines and pixels.
        wavelength_nm: (V,) of the views.
        angle_deg: (V,) from nadir at the instrument, positive forward.
        read: Gives images of some views, of every so many lines and pixels.
    """

    name: str
    shape: tuple[int, int, int]
    wavelength_nm: NDArray[np.float32]
    angle_deg: NDArray[np.float32]
    read: Read


def granule_views(granule: Granule) -> Views:
    """Return the views of an open granule."""

    def read(views: Sequence[int], every: int) -> list[Image]:
        chosen = list(views)
        names = ("radiance", "latitude", "longitude", "solar_zenith_angle")
        blocks: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        lines_at_once = every * -(-_LINES_AT_ONCE // every)
        for start in range(0, granule.shape[1], lines_at_once):
            block = granule.read_lines(slice(start, start + lines_at_once), names)
            for name in names:
                blocks[name].append(block[name].to_numpy()[chosen, ::every, ::every])
        radiance, latitude, longitude, zenith = (np.concatenate(blocks[name], axis=1) for name in names)
        cosine = np.cos(np.radians(zenith, dtype=np.float64))
        scale = np.pi * granule.sun_earth_distance**2 / granule.solar_irradiance[chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            reflectance = np.where(cosine > 0.0, radiance * scale[:, None, None] / cosine, np.nan)
        return [
            Image(*(np.asarray(values, np.float64) for values in image))
            for image in zip(reflectance, latitude, longitude, strict=True)
        ]

    return Views(granule.name, granule.shape, granule.wavelength_nm, granule.view_angle_deg, read)


def scene_views(scene: Scene) -> Views:
    """Return the views of a scene."""

    def read_one(name: str, view: int, every: int) -> FloatArray:
        values = scene.read(name, views=slice(view, view + 1))[0, ::every, ::every]
        return np.asarray(values, np.float64)

    def read(views: Sequence[int], every: int) -> list[Image]:
        names = ("reflectance", "latitude", "longitude")
        return [Image(*(read_one(name, view, every) for name in names)) for view in views]

    return Views(scene.granule, scene.shape, scene.read("wavelength_nm"), scene.view_angle_deg, read)


def true_colour_views(source: Views) -> tuple[int, int, int]:
    """Return the red, green and blue views that look most alike: green nearest to nadir, others beside it.

    The bands look along different angles. Cloud at some height is seen displaced between them, the less the
    nearer their angles are.
    """
    green = int(min(_band(source, GREEN_NM), key=lambda view: abs(source.angle_deg[view])))
    angle = source.angle_deg[green]
    red, blue = (
        int(min(_band(source, wavelength), key=lambda view: abs(source.angle_deg[view] - angle)))
        for wavelength in (RED_NM, BLUE_NM)
    )
    return red, green, blue


def red_views(source: Views) -> list[int]:
    """Return the views of the red band, from the most forward to the most backward one."""
    return sorted(_band(source, RED_NM), key=lambda view: -float(source.angle_deg[view]))


def describe(source: Views, view: int) -> str:
    """Return wavelength and angle of a view as text."""
    return f"{source.wavelength_nm[view]:.0f} nm at {source.angle_deg[view]:+.1f}°"


def refuse_dark(source: Views, images: Sequence[Image]) -> None:
    """Refuse views of nothing.

    Raises:
        SceneError: If no pixel of any has a reflectance and a place.
    """
    if not any(np.isfinite(np.stack(image)).all(axis=0).any() for image in images):
        raise SceneError(f"{source.name}: no pixel of these views has a radiance and a place; expected some")


def _band(source: Views, wavelength_nm: float) -> list[int]:
    """The views of the band nearest to a wavelength."""
    nearest = source.wavelength_nm[np.argmin(np.abs(source.wavelength_nm - wavelength_nm))]
    return [int(view) for view in np.flatnonzero(np.abs(source.wavelength_nm - nearest) < 5.0)]
