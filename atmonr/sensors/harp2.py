"""PACE HARP2 Level-1B, 90 views of a swath, each with its own geolocation, and Level-1C, all on one grid.

No public file documents every detail, so nothing here depends on one: sizes, packing, wavelengths, optional
variables, the order of dimensions and that of lines and pixels are taken from the file and checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.geo.datum import ELLIPSOID, UNSTATED, Datum
from atmonr.sensors.granule import OPTIONAL_QUANTITIES, QUANTITIES, Granule
from atmonr.sensors.harp2_header import (
    EXPECTED,
    Level,
    granule_name,
    read_level,
    read_sun_earth_distance,
    read_times,
    read_views,
)
from atmonr.sensors.harp2_times import Times, find_bin_times, find_line_times
from atmonr.sensors.images import NO_VIEW, VIEW_FIRST, VIEW_LAST, Axes, Images, find_axes
from atmonr.sensors.netcdf import NetcdfFile
from atmonr.sensors.orientation import find_flips, sensor_behind

_ANGLES = ("sensor_zenith_angle", "sensor_azimuth_angle", "solar_zenith_angle", "solar_azimuth_angle")
_PATHS = {
    "radiance": "observation_data/i",
    "q": "observation_data/q",
    "u": "observation_data/u",
    "radiance_stdev": "observation_data/i_stdev",
    "q_stdev": "observation_data/q_stdev",
    "u_stdev": "observation_data/u_stdev",
    "observations": "observation_data/number_of_observations",
    "quality": "observation_data/qc",
    **{name: f"geolocation_data/{name}" for name in QUANTITIES if name != "radiance"},
}
_ALTITUDE: dict[Level, str] = {"L1B": "geolocation_data/surface_altitude", "L1C": "geolocation_data/height"}
_PLACES = ("latitude", "longitude", "surface_altitude")
_OBLIQUE_DEG = 20.0  # views from here on have a clear direction along the track
_BAND = 32  # lines on both sides of the middle


def open_harp2(path: Path | str) -> Granule:
    """Open a HARP2 granule of Level 1B or 1C, of any version, near-real-time copies included.

    Args:
        path: the netCDF-4 file; what it is, is told from its content.

    Returns:
        The granule; close it or use it in a `with` statement.

    Raises:
        GranuleError: the file is missing, empty, truncated, not HARP2 Level-1B or 1C, lacks a variable, or
            holds values that cannot be.
    """
    file = NetcdfFile(Path(path), EXPECTED)
    try:
        return _open(file)
    except BaseException:
        file.close()
        raise


def _open(file: NetcdfFile) -> Granule:
    level = read_level(file)
    notes: list[str] = []
    views = read_views(file, notes)
    images = _images(file, level, views.angle_deg.size)
    start, end = read_times(file, notes)
    distance = read_sun_earth_distance(file, start, notes)
    images.unscaled = _wrongly_scaled(images, views.angle_deg)
    if images.unscaled:
        names = ", ".join(images.unscaled)
        notes.append(f"the scale factors of {names} are wrong: the stored values are degrees")
    images.flipped = _find_flips(images, views.angle_deg)
    notes += _azimuth_notes(images, views.angle_deg)
    optional = tuple(name for name in OPTIONAL_QUANTITIES if name in images.places)
    times: Times | None
    if level == "L1B":
        times = find_line_times(images, start, notes)
    else:
        times = find_bin_times(images, start, views.angle_deg, notes)
    return Granule(
        path=file.path,
        name=granule_name(file),
        level=level,
        shape=images.shape,
        time_start=start,
        time_end=end,
        sun_earth_distance=distance,
        views=np.arange(views.angle_deg.size, dtype=np.int16),
        view_angle_deg=views.angle_deg,
        wavelength_nm=views.wavelength_nm,
        solar_irradiance=views.solar_irradiance,
        band=views.band,
        band_wavelength_nm=views.band_wavelength_nm,
        optional=(*optional, "time") if times else optional,
        time_per_pixel=level == "L1C",
        flipped=images.flipped,
        altitude_datum=_altitude_datum(file, level),
        quality_flags=_quality_flags(file),
        notes=tuple(notes),
        source=_Source(images, times),
    )


@dataclass(frozen=True)
class _Source:
    """The `ImageSource` of a granule."""

    images: Images
    times: Times | None

    def read(self, name: str, views: NDArray[np.integer], lines: slice) -> NDArray[Any]:
        if name == "time" and self.times is not None:
            return self.times.read(self.images, views, lines)
        return self.images.read(name, views, lines)

    def close(self) -> None:
        self.images.file.close()


def _images(file: NetcdfFile, level: Level, views: int) -> Images:
    """All variables that the file has, their shapes checked against that of the latitude.

    Raises:
        GranuleError: a variable is missing or has another shape.
    """
    latitude = _PATHS["latitude"]
    found = file.shape(latitude)
    if level == "L1B":
        if len(found) != 3 or found[0] != views or 0 in found:
            raise GranuleError(
                f"{file.path}: {latitude} has the shape {found}; expected (views, lines, pixels) with"
                f" {views} views"
            )
    elif len(found) != 2 or 0 in found:
        raise GranuleError(f"{file.path}: {latitude} has the shape {found}; expected (rows, columns)")
    shape = (views, found[-2], found[-1])
    places: dict[str, tuple[str, Axes]] = {}
    for name, usual in _PATHS.items():
        path = _ALTITUDE[level] if name == "surface_altitude" else usual
        if name in OPTIONAL_QUANTITIES and not file.has(path):
            continue
        if level == "L1B":
            allowed: tuple[Axes, ...] = (VIEW_FIRST,)
        else:
            allowed = (NO_VIEW,) if name in _PLACES else (VIEW_LAST, VIEW_FIRST)
        places[name] = path, find_axes(file, path, shape, allowed)
    return Images(file, places, shape)


def _wrongly_scaled(images: Images, view_angle_deg: NDArray[np.float32]) -> tuple[str, ...]:
    """Angles that are stored in degrees although they carry a scale factor.

    Real files have been seen with wrong scale factors on the viewing geometry. The zenith angles of an
    oblique view cannot all be below one degree, nor can one be above 180, so such values show that the scale
    is wrong.
    """
    packed = [name for name in _ANGLES if images.file.is_packed(images.places[name][0])]
    if "sensor_zenith_angle" not in packed:
        return ()
    for view in np.argsort(-np.abs(view_angle_deg), kind="stable"):
        largest = np.fmax.reduce(images.read_view("sensor_zenith_angle", view), axis=None)
        if np.isfinite(largest):
            break
    if not np.isfinite(largest) or 1.0 <= largest <= 180.0:
        return ()

    def plausible(name: str) -> bool:
        stored = images.read_view(name, view, stored=True)
        quantity = QUANTITIES[name]
        return not ((stored < quantity.lower) | (stored > quantity.upper)).any()

    return tuple(name for name in packed if plausible(name))


def _find_flips(images: Images, view_angle_deg: NDArray[np.float32]) -> tuple[bool, bool]:
    """Flips of the most nadir view that has any geolocation; its middle lines tell if most have it."""
    for view in np.argsort(np.abs(view_angle_deg)):
        for lines in (_middle_lines(images), slice(0, images.shape[1])):
            latitude = images.read("latitude", np.array([view]), lines)[0]
            located = np.isfinite(latitude)
            if located.mean() > 0.5 or (located.any() and latitude.shape[0] == images.shape[1]):
                return find_flips(latitude, images.read("longitude", np.array([view]), lines)[0])
        if images.places["latitude"][1] == NO_VIEW:
            break
    return False, False


def _azimuth_notes(images: Images, view_angle_deg: NDArray[np.float32]) -> list[str]:
    """A note if azimuths seem to point from the sensor to the pixel.

    A view that looks forward must find its sensor behind the pixels, one that looks aft before them. Where
    that cannot be told, or lines do not follow the flight, this is no reason to refuse a granule.
    """
    evidence = 0.0
    for view in (int(np.argmax(view_angle_deg)), int(np.argmin(view_angle_deg))):
        angle = float(view_angle_deg[view])
        if abs(angle) >= _OBLIQUE_DEG and evidence < 0.5:  # from there on, nothing could refute it
            names = ("latitude", "longitude", "sensor_azimuth_angle")
            seen = [images.read(name, np.array([view]), _middle_lines(images))[0] for name in names]
            evidence += np.sign(angle) * sensor_behind(*seen)
    if evidence > -0.5:
        return []
    return ["sensor_azimuth_angle seems to point from sensor to pixel: views looking forward see it ahead"]


def _middle_lines(images: Images) -> slice:
    """Enough to tell directions from, and a part of the file's chunks only."""
    middle = images.shape[1] // 2
    return slice(max(0, middle - _BAND), min(images.shape[1], middle + _BAND))


def _altitude_datum(file: NetcdfFile, level: Level) -> Datum:
    """The ellipsoid if the file says so; none has been seen that says anything."""
    words = " ".join(file.text(_ALTITUDE[level], name) for name in ("standard_name", "long_name", "comment"))
    return ELLIPSOID if "ellipsoid" in words.lower() else UNSTATED


def _quality_flags(file: NetcdfFile) -> dict[int, str]:
    """{mask: meaning} from the file's attributes; empty where they are absent or do not fit each other."""
    path = _PATHS["quality"]
    if not file.has(path):
        return {}
    masks, meanings = file.text(path, "flag_masks").split(), file.text(path, "flag_meanings").split()
    if len(masks) != len(meanings) or not all(mask.isdigit() for mask in masks):
        return {}
    return dict(zip(map(int, masks), meanings, strict=True))
