"""What a HARP2 file says about itself: level, times, distance of the sun, table of views."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.sensors.netcdf import NetcdfFile

EXPECTED = "a PACE HARP2 Level-1B or Level-1C granule"

Level = Literal["L1B", "L1C"]
_TITLES: dict[Level, str] = {"L1B": "harp2 level-1b", "L1C": "harp2 level-1c"}
_NAME = re.compile(r"PACE_HARP2\.(\d{8}T\d{6})")


class _Band(NamedTuple):
    """A HARP2 band: its published centres lie between two wavelengths [nm]; irradiance [W m-2 um-1]."""

    name: str
    shortest_nm: float
    longest_nm: float
    solar_irradiance: float  # at 1 au, standard solar spectrum, for files that do not give it


# Centres of the instrument's description and of real files differ by some nanometres.
_BANDS = (
    _Band("blue", 440.16, 441.0, 1830.0),
    _Band("green", 549.0, 549.57, 1860.0),
    _Band("red", 664.57, 669.0, 1530.0),
    _Band("near infrared", 865.63, 873.0, 960.0),
)
_TOLERANCE_NM = 5.0


class Views(NamedTuple):
    """The table of views; arrays have one value per view unless said otherwise."""

    angle_deg: NDArray[np.float32]
    wavelength_nm: NDArray[np.float32]
    solar_irradiance: NDArray[np.float32]
    band: NDArray[np.int8]
    band_wavelength_nm: NDArray[np.float32]  # one per band


def read_level(file: NetcdfFile) -> Level:
    """Which of the two products a file is, by its title, else by its instrument and level.

    Raises:
        GranuleError: title, instrument and processing level say that it is neither.
    """
    title, instrument, level = (file.attribute(name) for name in ("title", "instrument", "processing_level"))
    for known, words in _TITLES.items():
        if words in str(title).lower():
            return known
    for known in _TITLES:
        if str(instrument).upper() == "HARP2" and str(level).upper() == known:
            return known
    raise GranuleError(
        f"{file.path}: is not {EXPECTED}: title is {title!r}, instrument {instrument!r},"
        f" processing_level {level!r}; expected a title with 'HARP2 Level-1B' or 'HARP2 Level-1C'"
    )


def granule_name(file: NetcdfFile) -> str:
    """Sensor and time stamp; the same for all levels, versions and near-real-time copies of a granule."""
    match = _NAME.search(file.path.name)
    return match.group(0) if match else file.path.stem


def read_times(file: NetcdfFile, notes: list[str]) -> tuple[datetime, datetime | None]:
    """Begin and end of the observation (UTC); the begin may come from the file's name.

    Raises:
        GranuleError: neither the file nor its name tells the begin.
    """
    start, end = (parse_time(file.attribute(f"time_coverage_{edge}")) for edge in ("start", "end"))
    if start is None:
        match = _NAME.search(file.path.name)
        start = parse_time(match.group(1)) if match else None
        notes.append("time_coverage_start is not readable: the begin is taken from the file's name")
    if start is None:
        raise GranuleError(
            f"{file.path}: time_coverage_start is {file.attribute('time_coverage_start')!r}; expected a time"
            " like 2025-06-05T16:13:56Z, there or in the file's name"
        )
    return start, end


def read_sun_earth_distance(file: NetcdfFile, start: datetime, notes: list[str]) -> float:
    """Distance of the sun in astronomical units, computed from the date if the file does not give it.

    Source of the formula: The Astronomical Almanac, "low precision formulas for the Sun" (0.0001 au).

    Raises:
        GranuleError: the file gives an impossible distance.
    """
    distance = file.attribute("sun_earth_distance")
    if distance is None:
        days = (start - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400.0
        anomaly = np.radians(357.528 + 0.9856003 * days)
        notes.append("sun_earth_distance is missing: computed from the date")
        return float(1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2.0 * anomaly))
    if not (isinstance(distance, float) and 0.98 <= distance <= 1.02):
        raise GranuleError(f"{file.path}: sun_earth_distance is {distance!r}; expected 0.98 to 1.02 au")
    return distance


def read_views(file: NetcdfFile, notes: list[str]) -> Views:
    """The table of views, its bands found from wavelengths that need not be the nominal ones.

    Raises:
        GranuleError: a value is missing or impossible, or a band has no view.
    """
    angle = file.read("sensor_views_bands/sensor_view_angle").ravel()
    wavelength = file.read("sensor_views_bands/intensity_wavelength").ravel()
    if wavelength.shape != angle.shape:
        raise GranuleError(
            f"{file.path}: sensor_views_bands/intensity_wavelength has {wavelength.size} values for"
            f" {angle.size} views; expected one per view"
        )
    if not np.isfinite(angle).all() or np.abs(angle).max(initial=0.0) > 90.0:
        raise GranuleError(
            f"{file.path}: sensor_views_bands/sensor_view_angle has missing or impossible values;"
            " expected -90 to 90 degrees for every view"
        )
    band = _assign_bands(file, wavelength)
    irradiance = _read_irradiance(file, band, notes)
    centres = np.array([np.median(wavelength[band == index]) for index in range(len(_BANDS))])
    return Views(angle, wavelength, irradiance, band, centres.astype(np.float32))


def _assign_bands(file: NetcdfFile, wavelength_nm: NDArray[np.float32]) -> NDArray[np.int8]:
    band = np.full(wavelength_nm.shape, -1, dtype=np.int8)
    for index, expected in enumerate(_BANDS):
        lower, upper = expected.shortest_nm - _TOLERANCE_NM, expected.longest_nm + _TOLERANCE_NM
        band[(wavelength_nm >= lower) & (wavelength_nm <= upper)] = index
        if not (band == index).any():
            raise GranuleError(
                f"{file.path}: sensor_views_bands/intensity_wavelength has no {expected.name} view;"
                f" expected at least one in {lower:.0f} to {upper:.0f} nm"
            )
    if (band < 0).any():
        stray = wavelength_nm[band < 0][0]
        raise GranuleError(
            f"{file.path}: sensor_views_bands/intensity_wavelength has the value {stray:g};"
            f" expected wavelengths within {_TOLERANCE_NM:g} nm of the four HARP2 bands"
        )
    return band


def _read_irradiance(file: NetcdfFile, band: NDArray[np.int8], notes: list[str]) -> NDArray[np.float32]:
    name = "sensor_views_bands/intensity_f0"
    if not file.has(name):
        notes.append(f"{name} is missing: solar irradiances of a standard spectrum are used")
        return np.array([_BANDS[index].solar_irradiance for index in band], dtype=np.float32)
    irradiance = file.read(name).ravel()
    if irradiance.shape != band.shape or not ((irradiance > 0.0) & (irradiance <= 4000.0)).all():
        raise GranuleError(
            f"{file.path}: {name} has missing or impossible values; expected one of 0 to 4000 W m-2 um-1"
            " for every view"
        )
    return irradiance


def parse_time(value: str | float | None) -> datetime | None:
    """A time stamp, with or without fraction and zone (UTC then); None if it cannot be read."""
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
