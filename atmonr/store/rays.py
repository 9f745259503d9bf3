"""What an ingest makes of a block of lines: usable rays, their reflectances, the space they cross."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.geo.frame import Frame
from atmonr.geo.rays import trace
from atmonr.geo.sun import sun_polynomial
from atmonr.sensors.granule import Granule
from atmonr.store.layout import GEOMETRY
from atmonr.store.survey import BoundingBox

Block = dict[str, NDArray[np.float32]]

MAX_SOLAR_ZENITH_DEG = 85.0  # beyond, sunlight is too slant for a plane-parallel normalisation
_VIEWS_AT_ONCE = 15  # bounds the float64 temporaries
_SUN_SAMPLES = 20  # per block of lines and view
# The frame bends a ray's track on the ground by metres (200 m in the most slant and highest case allowed), so
# that a ray may leave the box of its two ends.
_PADDING_M = np.array([250.0, 250.0, 1.0])


def usable_rays(
    data: xr.Dataset, bbox: BoundingBox | None, max_view_zenith_deg: float, top_height_m: float
) -> NDArray[np.bool_]:
    """(V, L, P) rays with a radiance, complete geometry, a high enough sensor and sun, below the top."""
    valid = np.isfinite(data.radiance.to_numpy())
    for name in GEOMETRY:
        valid &= np.isfinite(data[name].to_numpy())
    # Comparisons with NaN are False.
    valid &= data.sensor_zenith_angle.to_numpy() <= max_view_zenith_deg
    valid &= data.solar_zenith_angle.to_numpy() < MAX_SOLAR_ZENITH_DEG
    valid &= data.surface_altitude.to_numpy() < top_height_m
    if bbox is not None:
        valid &= bbox.contains(data.latitude.to_numpy(), data.longitude.to_numpy())
    return valid


def reflectances(granule: Granule, data: xr.Dataset, valid: NDArray[np.bool_]) -> Block:
    """Everything a scene keeps of a block, NaN where a ray is not usable.

    Radiances (and q, u) become pi L d^2 / (F0 cos(solar zenith angle)). The arrays of `data` are overwritten,
    to spare a copy of a large block.

    Returns:
        (V, L, P) float32 arrays by their name in the scene.
    """
    block = {name: data[name].to_numpy() for name in GEOMETRY}
    block["reflectance"] = data.radiance.to_numpy()
    block |= {name: data[name].to_numpy() for name in ("q", "u") if name in data}
    scale = np.pi * granule.sun_earth_distance**2 / granule.solar_irradiance.astype(np.float64)
    for start in range(0, len(valid), _VIEWS_AT_ONCE):
        part = slice(start, start + _VIEWS_AT_ONCE)
        cosine = np.cos(np.radians(block["solar_zenith_angle"][part], dtype=np.float64))
        factor = scale[part, None, None] / np.where(valid[part], cosine, np.nan)
        for name in ("reflectance", "q", "u"):
            if name in block:
                block[name][part] = block[name][part] * factor
    for values in block.values():
        values[~valid] = np.nan
    return block


class Extent:
    """The space that rays cross, and samples of the sun's place, gathered block by block.

    Args:
        frame: a frame with the scene's centre; its box means nothing.
        top_height_m: where rays start [m].
    """

    def __init__(self, frame: Frame, top_height_m: float) -> None:
        self._frame, self._top_height_m = frame, top_height_m
        self._lower, self._upper = np.full(3, np.inf), np.full(3, -np.inf)
        self._sun: list[NDArray[np.float64]] = []

    def add(self, block: Mapping[str, NDArray[np.float32]], valid: NDArray[np.bool_]) -> None:
        """Take in the usable rays of a block of (V, L, P) arrays."""
        for view, usable in enumerate(valid):
            if not usable.any():
                continue
            lat, lon, altitude, zenith, azimuth, sun_zenith, sun_azimuth = (
                block[name][view][usable].astype(np.float64) for name in GEOMETRY
            )
            rays = trace(lat, lon, altitude, zenith, azimuth, self._top_height_m)
            for fraction in (0.0, 1.0):
                ends = self._frame.from_ecef(rays.at(fraction))
                self._lower = np.minimum(self._lower, [ends[:, axis].min() for axis in range(3)])
                self._upper = np.maximum(self._upper, [ends[:, axis].max() for axis in range(3)])
            some = slice(None, None, max(1, lat.size // _SUN_SAMPLES))
            self._sun.append(np.stack([lat[some], lon[some], sun_zenith[some], sun_azimuth[some]]))

    @property
    def empty(self) -> bool:
        """Whether no usable ray has been seen."""
        return not self._sun

    def boxed_frame(self) -> Frame:
        """The frame with the box that holds every sample of every ray."""
        lower, upper = self._lower - _PADDING_M, self._upper + _PADDING_M
        return replace(self._frame, lower_m=tuple(lower.tolist()), upper_m=tuple(upper.tolist()))

    def sun_coefficients(self, frame: Frame) -> list[list[float]]:
        """Coefficients for `atmonr.geo.sun.sun_direction` in a frame."""
        coefficients: list[list[float]] = sun_polynomial(frame, *np.concatenate(self._sun, axis=1)).tolist()
        return coefficients
