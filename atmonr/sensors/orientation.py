"""Which way the lines and pixels of an image run on the Earth, near a pole and across the dateline too.

A sphere is enough to tell directions apart, so none of this needs geodesy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Vector = NDArray[np.float64]

_PLENTY = 20_000  # pixels tell the way of an image as well as all
_CLEARLY = 0.2  # cosine between the lines' direction and north from which lines count as going along it


def find_flips(latitude_deg: Image, longitude_deg: Image) -> tuple[bool, bool]:
    """Whether lines, and pixels, must be reversed for lines to go north and pixels east.

    Where lines do not clearly go north or south (the image holds a pole) they are left alone. Pixels are told
    from the handedness of the image seen from above, which means the same at a pole as anywhere.

    Args:
        latitude_deg: (L, P) of one view [degrees], NaN where missing.
        longitude_deg: (L, P) [degrees], any turn.

    Returns:
        Lines reversed, pixels reversed; both False where the image is too small or too empty to tell.
    """
    located = _some_of(np.isfinite(latitude_deg) & np.isfinite(longitude_deg))
    if not located.any():
        return False, False
    places = _unit_vectors(latitude_deg[located], longitude_deg[located])
    middle = places.mean(axis=0)
    middle /= np.linalg.norm(middle)
    along, across = _steps(located, places)
    _, north = _east_north(places)
    flip_lines = bool((north @ along).mean() < -_CLEARLY * np.linalg.norm(along))
    mirrored = bool(np.cross(across, along) @ middle < 0.0)
    return flip_lines, mirrored != flip_lines and bool(np.any(across))


def sensor_behind(latitude_deg: Image, longitude_deg: Image, azimuth_deg: Image) -> float:
    """How far the sensor stands on the side that the lines come from, as seen from the pixels.

    Args:
        latitude_deg: (L, P) of one view, lines in flight order [degrees].
        longitude_deg: (L, P) [degrees].
        azimuth_deg: (L, P) from pixel to sensor, clockwise from north [degrees].

    Returns:
        Mean cosine between the azimuth and the way back along the track: near 1 for a view that looks
        forward, near -1 for one that looks aft; 0 if the image is too small or too empty to tell.
    """
    seen = _some_of(np.isfinite(latitude_deg) & np.isfinite(longitude_deg) & np.isfinite(azimuth_deg))
    if not seen.any():
        return 0.0
    places = _unit_vectors(latitude_deg[seen], longitude_deg[seen])
    along, _ = _steps(seen, places)
    length = float(np.linalg.norm(along))
    if length == 0.0:
        return 0.0
    east, north = _east_north(places)
    azimuth = np.radians(azimuth_deg[seen], dtype=float)[:, None]
    to_sensor = np.sin(azimuth) * east + np.cos(azimuth) * north
    return float(-(to_sensor @ along).mean() / length)


def _some_of(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Some of many pixels, spread evenly; all of a few."""
    where = np.flatnonzero(pixels)
    if where.size > _PLENTY:
        where = where[np.linspace(0, where.size - 1, _PLENTY).astype(int)]
    some = np.zeros_like(pixels)
    some.flat[where] = True
    return some


def _unit_vectors(latitude_deg: Image, longitude_deg: Image) -> Vector:
    latitude, longitude = np.radians(latitude_deg, dtype=float), np.radians(longitude_deg, dtype=float)
    cosine = np.cos(latitude)
    return np.stack([cosine * np.cos(longitude), cosine * np.sin(longitude), np.sin(latitude)], axis=-1)


def _steps(located: NDArray[np.bool_], places: Vector) -> tuple[Vector, Vector]:
    """(3,) step from line to line and from pixel to pixel; least squares does not mind gaps and stripes."""
    index = np.argwhere(located).astype(float)
    index -= index.mean(axis=0)
    along, across = np.linalg.lstsq(index, places - places.mean(axis=0), rcond=None)[0]
    return along, across


def _east_north(places: Vector) -> tuple[Vector, Vector]:
    """Unit vectors east and north at (..., 3) places; zero at a pole."""
    east = np.cross([0.0, 0.0, 1.0], places)
    east = east / np.maximum(np.linalg.norm(east, axis=-1, keepdims=True), 1e-12)
    return east, np.cross(places, east)
