"""An extract along a track: extinction over distance and height."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.evaluate.drawing import figure
from atmonr.evaluate.truth import cell_edges
from atmonr.geo.ellipsoid import geodetic_to_ecef
from atmonr.quicklook.dataset import one_band, opened
from atmonr.quicklook.ground import degrees
from atmonr.quicklook.panels import ALTITUDE, CLOUD_COLOURS, EXTINCTION, UNKNOWN, amounts, plain

FloatArray = NDArray[np.float64]

_PLACES = 6  # ticks with latitude and longitude


def draw_curtain(path: Path, picture: Path, wavelength_nm: float) -> None:
    """Draw the extinction of profiles along a track.

    Args:
        path: File with extinction on (level, profile), the altitude of each of its cells and the place of
            every profile.
        picture: PNG to write.
        wavelength_nm: The band nearest to it is drawn.

    Raises:
        SceneError: If the file is not as expected, or no profile has a place.
    """
    extinction, altitude, latitude, longitude = _read(path, wavelength_nm)
    along_km = _along_km(latitude, longitude)
    height_km = _without_gaps(altitude) / 1e3
    across = np.broadcast_to(cell_edges(along_km), (height_km.shape[0] + 1, along_km.size + 1))
    edges = np.apply_along_axis(cell_edges, 0, height_km)
    edges = np.concatenate([edges[:, :1], (edges[:, 1:] + edges[:, :-1]) / 2, edges[:, -1:]], axis=1)
    with figure(picture, (9.0, 4.2), 1, 1) as (drawn, axes):
        axis = axes[0, 0]
        axis.set_facecolor(UNKNOWN)
        mesh = axis.pcolormesh(
            across, edges, extinction, norm=amounts(extinction), cmap=CLOUD_COLOURS, rasterized=True
        )
        drawn.colorbar(mesh, ax=axis, label=EXTINCTION, extend="max", aspect=25)
        ticks = np.unique(np.linspace(0, along_km.size - 1, _PLACES).round().astype(int))
        names = [
            f"{along_km[i]:.0f} km\n{degrees(latitude[i], 'N', 'S')}\n{degrees(longitude[i], 'E', 'W')}"
            for i in ticks
        ]
        axis.set_xticks(along_km[ticks], names)
        axis.set(ylabel=ALTITUDE, xlabel="distance along the track")
        axis.set_title(plain(f"{path.name}: extinction under the track; grey: nothing known"))


def _read(path: Path, wavelength_nm: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Extinction and altitude (level, profile), heights upward; latitude and longitude of the profiles."""
    with opened(path) as dataset:
        extinction, altitude = (
            values.transpose("level", "profile").values.astype(np.float64)
            for values in (one_band(dataset, wavelength_nm), dataset["z"])
        )
        latitude, longitude = (
            np.broadcast_to(dataset[name].values.astype(np.float64), extinction.shape[1:])
            for name in ("latitude", "longitude")
        )
    placed = np.isfinite(latitude) & np.isfinite(longitude) & np.isfinite(altitude).any(axis=0)
    if placed.sum() < 2 or extinction.shape[0] < 2:
        raise SceneError(f"{path}: expected at least 2 levels and 2 profiles with a place and heights")
    extinction, altitude = extinction[:, placed], altitude[:, placed]
    if np.nanmean(np.diff(altitude, axis=0)) < 0:
        extinction, altitude = extinction[::-1], altitude[::-1]
    return extinction, altitude, latitude[placed], longitude[placed]


def _along_km(latitude_deg: FloatArray, longitude_deg: FloatArray) -> FloatArray:
    """Distance from the first profile, summed over chords [km]."""
    steps = np.linalg.norm(np.diff(geodetic_to_ecef(latitude_deg, longitude_deg, 0.0), axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(np.maximum(steps, 1.0))]) / 1e3


def _without_gaps(altitude_m: FloatArray) -> FloatArray:
    """Heights with those that a profile lacks as they are in others; nothing is drawn there."""
    level = np.arange(altitude_m.shape[0])
    usual = np.array(
        [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in altitude_m]
    )
    known = np.isfinite(usual)
    usual = np.interp(level, level[known], usual[known])
    return np.where(np.isfinite(altitude_m), altitude_m, usual[:, None])
