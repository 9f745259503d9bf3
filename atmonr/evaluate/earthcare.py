"""An extract beside an EarthCARE frame: matched in time and space, compared, drawn."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from atmonr.atomic import sha256
from atmonr.errors import SceneError
from atmonr.evaluate.lidar import OPAQUE_DEPTH, WORST_QUALITY, Curtains, cell_edges_m, compare, score_curtains
from atmonr.evaluate.track_file import TrackFile, observed_s
from atmonr.geo.track import TrackMatch, distance_along_m, match_track
from atmonr.sensors.earthcare import WAVELENGTH_NM, read_profiles

_WAVELENGTH_NOTE = (
    "not corrected: droplets and ice crystals, much larger than either wavelength, weaken both alike;"
    " aerosol weakens the shorter one more"
)


def score_earthcare(
    extract: TrackFile, frame: Path, max_time_offset_s: float, pictures: Path | None
) -> dict[str, Any]:
    """Match a frame to an extract and score the extract on its profiles.

    Args:
        extract: The extract.
        frame: ATL_EBD_2A file.
        max_time_offset_s: By how much the lidar may have passed before or after the observation [s].
        pictures: Folder for pictures; none are drawn without it.

    Returns:
        The match, what was compared, and the scores.

    Raises:
        GranuleError: If the frame is unreadable or not as expected.
        SceneError: If the two do not meet in space or time, or the extract is unreadable.
        StoreError: If a picture cannot be written.
    """
    whole = read_profiles(frame)
    match = _match(extract, whole, frame, max_time_offset_s)
    profiles = whole.isel(profile=match.profiles)
    lower, upper = cell_edges_m(np.asarray(profiles["height"].values))
    curtains = compare(profiles, extract.on_cells(whole, match.profiles, lower, upper))
    scores = {
        "file": frame.name,
        "sha256": sha256(frame),
        "match": _describe(match, profiles, max_time_offset_s),
        "lidar_wavelength_nm": WAVELENGTH_NM,
        "extract_wavelengths_nm": list(extract.wavelengths_nm),
        "wavelength_difference": _WAVELENGTH_NOTE,
        "compared": (
            "cells inside the extract and above the surface, with a lidar value of quality"
            f" {WORST_QUALITY} or better, under an optical depth of at most {OPAQUE_DEPTH:g}"
        ),
        **score_curtains(curtains),
    }
    if pictures is not None:
        _draw(pictures, profiles, curtains, scores)
    return scores


def _match(extract: TrackFile, profiles: xr.Dataset, frame: Path, limit_s: float) -> TrackMatch:
    time, height = np.asarray(profiles["time"].values), np.asarray(profiles["height"].values)
    whole = np.isfinite(time) & np.isfinite(np.diff(height, axis=1)).any(axis=1)
    match = match_track(extract.holds(profiles) & whole, time, observed_s(extract.attrs))
    if match is None:
        place = np.stack([profiles["latitude"].values, profiles["longitude"].values], axis=1)
        first, *_, last = place[np.isfinite(place).all(axis=1)].tolist() * 2  # if it is one place only
        raise SceneError(
            f"{frame}: no profile lies inside {extract.path}; expected a track that crosses it, this one runs"
            f" from {first[0]:.2f}, {first[1]:.2f} to {last[0]:.2f}, {last[1]:.2f} (latitude, longitude)"
        )
    if abs(match.time_offset_s) > limit_s:  # an unknown offset, NaN, passes
        when = "after" if match.time_offset_s > 0 else "before"
        raise SceneError(
            f"{frame}: passes {abs(match.time_offset_s):.0f} s {when} the observation of {extract.path};"
            f" expected at most {limit_s:g} s (--max-time-offset-s), because clouds move and change"
        )
    return match


def _describe(match: TrackMatch, profiles: xr.Dataset, limit_s: float) -> dict[str, Any]:
    latitude, longitude, time = (
        np.asarray(profiles[name].values) for name in ("latitude", "longitude", "time")
    )
    return {
        "profiles": int(time.size),
        "first_profile": match.profiles.start,
        "last_profile": match.profiles.stop - 1,
        "first_place_deg": [float(latitude[0]), float(longitude[0])],
        "last_place_deg": [float(latitude[-1]), float(longitude[-1])],
        "length_km": float(distance_along_m(latitude, longitude)[-1] / 1e3),
        "first_time": datetime.fromtimestamp(float(time[0]), UTC).isoformat(timespec="milliseconds"),
        "last_time": datetime.fromtimestamp(float(time[-1]), UTC).isoformat(timespec="milliseconds"),
        "time_offset_s": match.time_offset_s,
        "max_time_offset_s": limit_s,
        "surface_datum": str(profiles["surface_height"].attrs["datum"])
        if "surface_height" in profiles
        else "the file has no surface",
    }


def _draw(folder: Path, profiles: xr.Dataset, curtains: Curtains, scores: dict[str, Any]) -> None:
    from atmonr.evaluate import lidar_pictures

    lidar_pictures.curtains(profiles, curtains, folder / "earthcare_curtains.png", scores=scores)
    lidar_pictures.profiles(curtains, folder / "earthcare_profiles.png", scores=scores)
