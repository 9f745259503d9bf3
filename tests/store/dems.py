"""A writer of small elevation models laid out like ETOPO1_ocssw.nc, with the Himalayas where they belong."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np

FILL = -32767


def synthetic_height_m(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Heights of solid ground: sea floor at -4000 m, a mountain in Tibet and an island at 18 N, 61 W."""
    height = np.full(np.broadcast_shapes(latitude.shape, longitude.shape), -4000.0)
    height = np.where(np.hypot(latitude - 30.0, longitude - 87.0) < 12.0, 6000.0, height)
    return np.where(np.hypot(latitude - 18.0, longitude + 61.0) < 8.0, 900.0, height)


def write_dem(
    path: Path,
    *,
    step_deg: float = 2.0,
    north_first: bool = False,
    cells: bool = False,
    with_latitudes: bool = False,
    with_water: bool = True,
    west_deg: float = -180.0,
    height_m=synthetic_height_m,
) -> Path:
    """Write a global model; heights are a function of latitude and longitude, seas have a surface at 0 m."""
    inset = step_deg / 2 if cells else 0.0
    extra = 0 if cells else 1
    latitude = -90.0 + inset + step_deg * np.arange(round(180 / step_deg) + extra)
    longitude = west_deg + inset + step_deg * np.arange(round(360 / step_deg) + extra)
    if north_first:
        latitude = latitude[::-1]
    height = height_m(latitude[:, None], (longitude[None] + 180.0) % 360.0 - 180.0)
    missing = np.isnan(height)
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("lat", latitude.size)
        file.createDimension("lon", longitude.size)
        file.left_lon, file.right_lon, file.lower_lat, file.upper_lat = (
            west_deg,
            west_deg + 360.0,
            -90.0,
            90.0,
        )
        file.geospatial_lat_resolution = file.geospatial_lon_resolution = step_deg
        if with_latitudes:
            file.createVariable("lat", "f8", ("lat",))[:] = latitude
            file.createVariable("lon", "f8", ("lon",))[:] = longitude
        variable = file.createVariable("height", "i2", ("lat", "lon"), zlib=True)
        variable.units, variable.missing_value = "m", np.int16(FILL)
        variable[:] = np.where(missing, FILL, np.round(np.nan_to_num(height)))
        if with_water:
            water = file.createVariable("water_surface_height", "i2", ("lat", "lon"), fill_value=FILL)
            water.units = "m"
            water.set_auto_mask(False)
            water[:] = np.where(height < 0, 0, FILL)
    return path
