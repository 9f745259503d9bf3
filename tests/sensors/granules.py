"""A writer of small HARP2 Level-1B files in every layout that a reader may meet, with faults on demand.

It knows nothing of the package: places come from PROJ, so a reader's answer can be checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import pyproj

FILL = -32767
NAME = "PACE_HARP2.20250605T161356.L1B.V3.nc"
WAVELENGTHS_NM = np.repeat([549.57, 664.57, 865.63, 440.16], [10, 60, 10, 10])
IRRADIANCES = np.repeat([1860.0, 1530.0, 960.0, 1830.0], [10, 60, 10, 10])
GREEN_DEG = [56.28, 43.31, 32.60, 20.19, 6.18, -8.04, -21.95, -34.26, -44.47, -53.24]
RED_DEG = [
    *[
        55.72,
        54.42,
        53.12,
        51.71,
        50.29,
        48.72,
        47.21,
        45.71,
        44.22,
        42.51,
        40.81,
        39.01,
        37.30,
        35.40,
        33.50,
    ],
    *[31.61, 29.60, 27.60, 25.49, 23.50, 21.29, 19.09, 16.79, 14.39, 11.96, 9.80, 7.31, 4.88, 2.57, 0.27],
    *[-2.23, -4.53, -6.93, -9.34, -11.74, -14.04, -16.34, -18.65, -20.84, -22.95, -25.15, -27.25, -29.36],
    *[-31.36, -33.26, -35.07, -36.96, -38.76, -40.47, -42.07, -43.77, -45.27, -46.75, -48.38, -49.87, -51.16],
    *[-52.67, -53.97, -55.28, -56.48],
]
NIR_DEG = [55.12, 46.51, 30.60, 17.89, 3.77, -10.44, -17.44, -30.36, -46.07, -54.57]
BLUE_DEG = [53.82, 44.92, 34.40, 22.39, 8.48, -5.73, -19.75, -32.26, -42.87, -55.88]
VIEW_ANGLES_DEG = np.array(GREEN_DEG + RED_DEG + NIR_DEG + BLUE_DEG)
ANGLES = ("sensor_zenith_angle", "sensor_azimuth_angle", "solar_zenith_angle", "solar_azimuth_angle")
GEOLOCATION = ("latitude", "longitude", "surface_altitude", *ANGLES)


@dataclass(frozen=True)
class Layout:
    """How a file stores what it stores.

    Attributes:
        packed: angles, altitude and radiances as scaled 16-bit integers.
        early: wavelengths as (views, 1), no irradiances, no times, no polarisation.
        scale_attribute_wrong: angles in degrees with a scale factor that must not be applied.
        fill_attribute: whether missing values are declared.
        time_per_view: seconds_of_day as (views, lines), otherwise (lines,).
        omit: names of variables that are left out.
    """

    packed: bool = False
    early: bool = False
    scale_attribute_wrong: bool = False
    fill_attribute: bool = True
    time_per_view: bool = True
    omit: tuple[str, ...] = ()


def make_fields(
    image: tuple[int, int] = (12, 9),
    centre: tuple[float, float] = (18.0, -61.5),
    spacing_m: float = 3000.0,
    lines: slice = slice(None),
) -> dict[str, np.ndarray]:
    """Fields (90, L, P) of a swath that flies along +y of an equidistant map around the centre.

    NaN stands for missing; `lines` makes a part of the image only.
    """
    n_lines, n_pixels = image
    y = (np.arange(n_lines)[lines] - (n_lines - 1) / 2) * spacing_m
    x = (np.arange(n_pixels) - (n_pixels - 1) / 2) * spacing_m
    grid_x, grid_y = np.meshgrid(x, y)
    plane = pyproj.Proj(proj="aeqd", lat_0=centre[0], lon_0=centre[1], ellps="WGS84")
    lon, lat = plane(grid_x, grid_y, inverse=True)
    lon_behind, lat_behind = plane(grid_x, grid_y - 100.0, inverse=True)
    back = pyproj.Geod(ellps="WGS84").inv(lon, lat, lon_behind, lat_behind)[0]
    angle = VIEW_ANGLES_DEG[:, None, None]
    azimuth = np.where(angle >= 0, back, back + 180.0)
    shape = azimuth.shape
    wave = np.cos(grid_x / 7e3) * np.cos(grid_y / 5e3)
    fields = {
        "latitude": lat,
        "longitude": lon,
        "surface_altitude": np.round(40.0 + 30.0 * wave),
        "sensor_zenith_angle": np.round(np.abs(angle) * 1.2 + 0.01, 2) + 0.0 * grid_x,
        "sensor_azimuth_angle": np.round((azimuth + 180.0) % 360.0 - 180.0, 2),
        "solar_zenith_angle": np.round(40.0 + grid_y / 1e6, 2),
        # The sun stands in one direction of the map; -42 degrees from north at the centre.
        "solar_azimuth_angle": np.round((back + 318.0) % 360.0 - 180.0, 2),
        "i": np.round((100.0 + 80.0 * wave + angle) / 0.05) * 0.05,
        "q": np.round(2.0 * wave / 0.05) * 0.05,
        "u": np.round(-1.0 * wave / 0.05) * 0.05,
    }
    return {name: np.array(np.broadcast_to(values, shape), np.float32) for name, values in fields.items()}


def write_granule(
    path: Path,
    fields: dict[str, np.ndarray] | None = None,
    layout: Layout = Layout(),
    edit: Callable[[netCDF4.Dataset], None] | None = None,
) -> Path:
    """Write a whole granule; `edit` may then spoil the file."""
    fields = make_fields() if fields is None else fields
    with create_granule(path, fields["latitude"].shape[1:], layout) as file:
        fill_granule(file, fields, slice(None))
    if edit is not None:
        with netCDF4.Dataset(path, "a") as file:
            edit(file)
    return path


def create_granule(path: Path, image: tuple[int, int], layout: Layout) -> netCDF4.Dataset:
    """An open file with everything but the fields."""
    file = netCDF4.Dataset(path, "w")
    file.title, file.instrument = "PACE HARP2 Level-1B Data", "HARP2"
    file.processing_level, file.product_name = "L1B", NAME
    file.time_coverage_start, file.time_coverage_end = "2025-06-05T16:13:56Z", "2025-06-05T16:18:55Z"
    file.createDimension("views", 90)
    file.createDimension("swath_lines", image[0])
    file.createDimension("swath_pixels", image[1])
    bands = file.createGroup("sensor_views_bands")
    _vector(bands, "sensor_view_angle", ("views",), VIEW_ANGLES_DEG)
    file.createDimension("intensity_bands_per_view", 1)
    if "intensity_wavelength" not in layout.omit:
        dimensions = ("views", "intensity_bands_per_view") if layout.early else ("views",)
        _vector(bands, "intensity_wavelength", dimensions, WAVELENGTHS_NM)
    if not layout.early:
        file.sun_earth_distance = np.float32(1.0146)
        _vector(bands, "intensity_f0", ("views",), IRRADIANCES)
        _write_times(file, image[0], layout)
    geolocation, observation = file.createGroup("geolocation_data"), file.createGroup("observation_data")
    for name in GEOLOCATION:
        _create_field(geolocation, name, layout)
    for name in ("i",) if layout.early else ("i", "q", "u"):
        _create_field(observation, name, layout)
    return file


def fill_granule(file: netCDF4.Dataset, fields: dict[str, np.ndarray], lines: slice) -> None:
    """Write fields (NaN = missing) into a block of lines."""
    for group in ("geolocation_data", "observation_data"):
        for name, variable in file[group].variables.items():
            values = fields[name].astype(np.float64)
            if variable.dtype == np.int16:
                values = np.round(values / variable.scale_factor)
            variable.set_auto_maskandscale(False)
            variable[:, lines, :] = np.where(np.isnan(values), FILL, values).astype(variable.dtype)


def _vector(group: netCDF4.Group, name: str, dimensions: tuple[str, ...], values: np.ndarray) -> None:
    variable = group.createVariable(name, "f4", dimensions, fill_value=FILL)
    variable[:] = values.reshape(variable.shape)


def _write_times(file: netCDF4.Dataset, n_lines: int, layout: Layout) -> None:
    dimensions = ("views", "swath_lines") if layout.time_per_view else ("swath_lines",)
    seconds = 58436.0 + 0.4 * np.arange(n_lines) + (np.zeros((90, 1)) if layout.time_per_view else 0.0)
    navigation = file.createGroup("navigation_data")
    if "seconds_of_day" not in layout.omit:
        navigation.createVariable("seconds_of_day", "f8", dimensions, fill_value=FILL)[:] = seconds


def _create_field(group: netCDF4.Group, name: str, layout: Layout) -> None:
    if name in layout.omit:
        return
    scales = {**dict.fromkeys(ANGLES, 0.01), "surface_altitude": 1.0, "i": 0.05, "q": 0.05, "u": 0.05}
    packed = layout.packed and name in scales
    variable = group.createVariable(
        name,
        "i2" if packed else "f4",
        ("views", "swath_lines", "swath_pixels"),
        fill_value=FILL if layout.fill_attribute else None,
    )
    if packed or (layout.scale_attribute_wrong and name in ANGLES):
        variable.scale_factor = np.float32(scales[name])
