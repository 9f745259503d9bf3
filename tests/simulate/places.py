"""Directions and places by PROJ and plain trigonometry: nothing of the package is used."""

from __future__ import annotations

import numpy as np
import pyproj
import torch
from numpy.typing import NDArray
from torch import Tensor


def towards(zenith_deg: float, azimuth_deg: float) -> Tensor:
    """Unit vector (x east, y north, up) of a zenith angle and a clockwise azimuth."""
    zenith, azimuth = np.radians([zenith_deg, azimuth_deg])
    return torch.tensor(
        [np.sin(zenith) * np.sin(azimuth), np.sin(zenith) * np.cos(azimuth), np.cos(zenith)],
        dtype=torch.float32,
    )


def ecef(latitude: object, longitude: object, height: object) -> NDArray[np.float64]:
    """Earth-centred metres, by PROJ."""
    transform = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    values = np.broadcast_arrays(longitude, latitude, height)
    return np.stack(transform.transform(*values), axis=-1)


def line_of_sight(latitude: NDArray, longitude: NDArray, zenith: NDArray, azimuth: NDArray) -> NDArray:
    """Earth-centred unit vectors from pixels to the sensor, from the derivatives of PROJ's coordinates."""
    origin = ecef(latitude, longitude, 0.0)
    up = ecef(latitude, longitude, 1000.0) - origin
    north = ecef(latitude + 1e-5, longitude, 0.0) - ecef(latitude - 1e-5, longitude, 0.0)
    up, north = (vector / np.linalg.norm(vector, axis=-1, keepdims=True) for vector in (up, north))
    east = np.cross(north, up)
    zenith, azimuth = np.radians(zenith)[..., None], np.radians(azimuth)[..., None]
    return np.sin(zenith) * (np.sin(azimuth) * east + np.cos(azimuth) * north) + np.cos(zenith) * up
