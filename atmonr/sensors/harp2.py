"""PACE HARP2 Level-1B: 90 views of a swath, each with its own geolocation.

No public file documents every detail, so nothing here depends on one: sizes, packing, wavelengths, optional
variables and the order of lines and pixels are taken from the file and checked.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.sensors.granule import OPTIONAL_QUANTITIES, QUANTITIES, Granule
from atmonr.sensors.harp2_header import (
    EXPECTED,
    check_identity,
    granule_name,
    read_sun_earth_distance,
    read_times,
    read_views,
)
from atmonr.sensors.netcdf import NetcdfFile
from atmonr.sensors.orientation import find_flips, sensor_behind

_PATHS = {
    "radiance": "observation_data/i",
    "q": "observation_data/q",
    "u": "observation_data/u",
    **{name: f"geolocation_data/{name}" for name in QUANTITIES if name != "radiance"},
}
_ANGLES = ("sensor_zenith_angle", "sensor_azimuth_angle", "solar_zenith_angle", "solar_azimuth_angle")
_TIME = "navigation_data/seconds_of_day"
_DAY_S = 86400.0
_SAMPLE_LINES = 16
_OBLIQUE_DEG = 20.0  # views from here on have a clear direction along the track


def open_harp2(path: Path | str) -> Granule:
    """Open a HARP2 Level-1B granule of any version, near-real-time copies included.

    Args:
        path: the netCDF-4 file.

    Returns:
        The granule; close it or use it in a `with` statement.

    Raises:
        GranuleError: the file is missing, empty, truncated, not HARP2 Level-1B, lacks a variable, or holds
            values that cannot be.
    """
    file = NetcdfFile(Path(path), EXPECTED)
    try:
        return _open(file)
    except BaseException:
        file.close()
        raise


def _open(file: NetcdfFile) -> Granule:
    check_identity(file)
    notes: list[str] = []
    views = read_views(file, notes)
    shape = _image_shape(file, views.angle_deg.size)
    start, end = read_times(file, notes)
    distance = read_sun_earth_distance(file, start, notes)
    unscaled = _wrongly_scaled(file, shape)
    if unscaled:
        notes.append(f"the scale factors of {', '.join(unscaled)} are wrong: the stored values are degrees")
    source = _Lines(file, shape, start, unscaled)
    source.flipped = _find_flips(source, views.angle_deg)
    notes += _azimuth_notes(source, views.angle_deg)
    names = [name for name in ("q", "u") if file.has(_PATHS[name])]
    if source.has_time:
        names.append("time")
    elif file.has(_TIME):
        notes.append(
            f"{_TIME} has the shape {file.shape(_TIME)}, which is not understood: times are left out"
        )
    return Granule(
        path=file.path,
        name=granule_name(file),
        shape=shape,
        time_start=start,
        time_end=end,
        sun_earth_distance=distance,
        view_angle_deg=views.angle_deg,
        wavelength_nm=views.wavelength_nm,
        solar_irradiance=views.solar_irradiance,
        band=views.band,
        band_wavelength_nm=views.band_wavelength_nm,
        optional=tuple(names),
        flipped=source.flipped,
        notes=tuple(notes),
        source=source,
    )


class _Lines:
    """Reads variables by lines counted northwards (the `LineSource` of a granule)."""

    def __init__(
        self, file: NetcdfFile, shape: tuple[int, int, int], start: datetime, unscaled: tuple[str, ...]
    ) -> None:
        self._file, self._shape, self._start, self._unscaled = file, shape, start, unscaled
        self.flipped = (False, False)
        n_views, n_lines, _ = shape
        self.has_time = file.has(_TIME) and file.shape(_TIME) in ((n_views, n_lines), (n_lines,))

    def read(self, name: str, lines: slice) -> NDArray[Any]:
        if name == "time":
            return self._read_time(lines)
        return self._read(name, slice(None), lines)

    def read_view(self, name: str, view: int) -> NDArray[np.float32]:
        """(L, P) values of one view."""
        return self._read(name, view, slice(0, self._shape[1]))

    def close(self) -> None:
        self._file.close()

    def _read(self, name: str, views: int | slice, lines: slice) -> NDArray[np.float32]:
        index = (views, self._stored(lines), slice(None))
        values = self._file.read(_PATHS[name], index, unpack=name not in self._unscaled)
        flip_lines, flip_pixels = self.flipped
        return values[..., :: -1 if flip_lines else 1, :: -1 if flip_pixels else 1]

    def _read_time(self, lines: slice) -> NDArray[np.float64]:
        """(V, l) seconds since 1970, on whichever day is nearest to the begin of the granule."""
        seconds = self._file.read_double(_TIME, (..., self._stored(lines)))
        midnight = self._start.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        time = midnight + seconds
        time -= _DAY_S * np.round((time - self._start.timestamp()) / _DAY_S)
        time = time[..., :: -1 if self.flipped[0] else 1]
        return np.broadcast_to(time, (self._shape[0], time.shape[-1]))

    def _stored(self, lines: slice) -> slice:
        """The same lines in the order of the file."""
        if not self.flipped[0]:
            return lines
        return slice(self._shape[1] - lines.stop, self._shape[1] - lines.start)


def _image_shape(file: NetcdfFile, n_views: int) -> tuple[int, int, int]:
    """Views, lines and pixels, the same for all variables.

    Raises:
        GranuleError: a variable is missing or has another shape.
    """
    first = file.shape(_PATHS["latitude"])
    if len(first) != 3 or first[0] != n_views or 0 in first:
        raise GranuleError(
            f"{file.path}: {_PATHS['latitude']} has the shape {first}; expected"
            f" (views, lines, pixels) with {n_views} views"
        )
    required = [_PATHS[name] for name in QUANTITIES]
    optional = [_PATHS[name] for name in OPTIONAL_QUANTITIES if name in _PATHS and file.has(_PATHS[name])]
    for path in required + optional:
        if file.shape(path) != first:
            raise GranuleError(f"{file.path}: {path} has the shape {file.shape(path)}; expected {first}")
    return first[0], first[1], first[2]


def _wrongly_scaled(file: NetcdfFile, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Angles that are stored in degrees although they carry a scale factor.

    Real files have been seen with wrong scale factors on the viewing geometry. The zenith angles of 90 views
    cannot all be below one degree, nor can one be above 180, so such values show that the scale is wrong.
    """
    packed = [name for name in _ANGLES if file.is_packed(_PATHS[name])]
    if "sensor_zenith_angle" not in packed:
        return ()
    middle = max(0, shape[1] // 2 - _SAMPLE_LINES // 2)
    for start in (middle, *range(0, shape[1], _SAMPLE_LINES)):
        index = (slice(None), slice(start, start + _SAMPLE_LINES), slice(None))
        largest = np.fmax.reduce(file.read(_PATHS["sensor_zenith_angle"], index), axis=None)
        if np.isfinite(largest):
            break
    if not np.isfinite(largest) or 1.0 <= largest <= 180.0:
        return ()

    def plausible(name: str) -> bool:
        stored = file.read(_PATHS[name], index, unpack=False)
        quantity = QUANTITIES[name]
        return not ((stored < quantity.lower) | (stored > quantity.upper)).any()

    return tuple(name for name in packed if plausible(name))


def _find_flips(source: _Lines, view_angle_deg: NDArray[np.float32]) -> tuple[bool, bool]:
    """Flips of the most nadir view that has any geolocation."""
    for view in np.argsort(np.abs(view_angle_deg)):
        latitude = source.read_view("latitude", view)
        if np.isfinite(latitude).any():
            return find_flips(latitude, source.read_view("longitude", view))
    return False, False


def _azimuth_notes(source: _Lines, view_angle_deg: NDArray[np.float32]) -> list[str]:
    """A note if azimuths seem to point from the sensor to the pixel.

    A view that looks forward must find its sensor behind the pixels, one that looks aft before them. Where
    that cannot be told, or lines do not follow the flight, this is no reason to refuse a granule.
    """
    evidence = 0.0
    for view in (int(np.argmax(view_angle_deg)), int(np.argmin(view_angle_deg))):
        angle = float(view_angle_deg[view])
        if abs(angle) >= _OBLIQUE_DEG:
            place = [source.read_view(name, view) for name in ("latitude", "longitude")]
            behind = sensor_behind(place[0], place[1], source.read_view("sensor_azimuth_angle", view))
            evidence += np.sign(angle) * behind
    if evidence > -0.5:
        return []
    return ["sensor_azimuth_angle seems to point from sensor to pixel: views looking forward see it ahead"]
