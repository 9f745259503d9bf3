"""Write a simulated observation as a HARP2 Level-1B file, in one of three packings that readers must take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from atmonr.atomic import atomic_file, netcdf_errors
from atmonr.simulate.instrument import Geometry, irradiances, view_angles, wavelengths

if TYPE_CHECKING:
    import netCDF4

Packing = Literal["float", "packed", "early"]

START = datetime(2025, 6, 5, 16, 13, 56, tzinfo=UTC)
GRANULE_NAME = f"PACE_HARP2.{START:%Y%m%dT%H%M%S}.L1B.V3.nc"
SUN_EARTH_DISTANCE_AU = 1.0146  # on that day
FILL = -32767.0
LARGEST_SHORT = 32766  # brighter pixels saturate
RADIANCE_UNIT = "W m^-2 sr^-1 um^-1"

_IMAGE = ("views", "swath_lines", "swath_pixels")
_ANGLE_STEP_DEG, _ALTITUDE_STEP_M, _RADIANCE_STEP = 0.01, 1.0, 0.05


def write_granule(
    path: Path, geometry: Geometry, radiance: NDArray[np.floating], packing: Packing, comment: str
) -> None:
    """Write a granule.

    Args:
        path: final name; written under a temporary name first.
        geometry: where and how each pixel is seen.
        radiance: (V, L, P) [W m-2 sr-1 um-1]; NaN becomes fill.
        packing: "float" stores float32; "packed" stores angles, altitude and radiance as scaled short
            integers; "early" is float32 with a wavelength of two dimensions and without solar irradiance,
            times and bounds.
        comment: free text for the file's attributes.

    Raises:
        StoreError: if the file cannot be written.
    """
    import netCDF4

    with atomic_file(path) as temporary, netcdf_errors(path), netCDF4.Dataset(temporary, "w") as file:
        for name, size in zip(_IMAGE, radiance.shape, strict=True):
            file.createDimension(name, size)
        file.setncatts(_attributes(path.name, geometry, packing, comment))
        _write_views(file, packing)
        _write_geolocation(file, geometry, packing)
        step = _RADIANCE_STEP if packing == "packed" else None
        _write(file.createGroup("observation_data"), "i", radiance, RADIANCE_UNIT, step)
        if packing != "early":
            group = file.createGroup("navigation_data")
            seconds = START.hour * 3600 + START.minute * 60 + START.second + geometry.seconds
            variable = group.createVariable("seconds_of_day", "f8", _IMAGE[:2], fill_value=FILL)
            variable.units = "seconds"
            variable[:] = seconds % 86400.0


def _attributes(name: str, geometry: Geometry, packing: Packing, comment: str) -> dict[str, object]:
    end = START + timedelta(seconds=float(geometry.seconds.max()))
    attributes: dict[str, object] = {
        "title": "PACE HARP2 Level-1B Data",
        "instrument": "HARP2",
        "processing_level": "L1B",
        "product_name": name,
        "processing_version": "V3",
        "time_coverage_start": f"{START:%Y-%m-%dT%H:%M:%SZ}",
        "time_coverage_end": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "sun_earth_distance": np.float32(SUN_EARTH_DISTANCE_AU),
        "comment": comment,
    }
    if packing != "early":
        corners = [(0, 0), (0, -1), (-1, -1), (-1, 0), (0, 0)]
        nadir = int(np.argmin(np.abs(view_angles())))
        places = [(geometry.latitude[nadir][at], geometry.longitude[nadir][at]) for at in corners]
        ring = ", ".join(f"{latitude:.4f} {longitude:.4f}" for latitude, longitude in places)
        attributes["geospatial_bounds"] = f"POLYGON(({ring}))"
    return attributes


def _write_views(file: netCDF4.Dataset, packing: Packing) -> None:
    group = file.createGroup("sensor_views_bands")
    names = {"sensor_view_angle": (view_angles(), "degrees"), "intensity_wavelength": (wavelengths(), "nm")}
    if packing == "early":
        group.createDimension("intensity_bands_per_view", 1)
    else:
        names["intensity_f0"] = (irradiances(), "W m^-2 um^-1")
    for name, (values, unit) in names.items():
        second = ("intensity_bands_per_view",) if packing == "early" and name != "sensor_view_angle" else ()
        variable = group.createVariable(name, "f4", ("views", *second), fill_value=FILL)
        variable.units = unit
        variable[:] = values[:, None] if second else values


def _write_geolocation(file: netCDF4.Dataset, geometry: Geometry, packing: Packing) -> None:
    group = file.createGroup("geolocation_data")
    angle_step, altitude_step = (_ANGLE_STEP_DEG, _ALTITUDE_STEP_M) if packing == "packed" else (None, None)
    _write(group, "latitude", geometry.latitude, "degrees_north", None)
    _write(group, "longitude", geometry.longitude, "degrees_east", None)
    _write(group, "surface_altitude", np.zeros_like(geometry.latitude), "m", altitude_step)
    _write(group, "sensor_zenith_angle", geometry.sensor_zenith, "degrees", angle_step)
    _write(group, "sensor_azimuth_angle", geometry.sensor_azimuth, "degrees", angle_step)
    _write(group, "solar_zenith_angle", geometry.solar_zenith, "degrees", angle_step)
    _write(group, "solar_azimuth_angle", geometry.solar_azimuth, "degrees", angle_step)


def _write(
    group: netCDF4.Group, name: str, values: NDArray[np.floating], unit: str, step: float | None
) -> None:
    """One image per view; with a `step`, as short integers that many units apart, NaN as fill."""
    variable = group.createVariable(
        name,
        "f4" if step is None else "i2",
        _IMAGE,
        zlib=True,
        shuffle=True,
        complevel=4,
        chunksizes=(1, *values.shape[1:]),
        fill_value=FILL if step is None else int(FILL),
    )
    variable.units = unit
    stored = np.asarray(values, np.float64)
    if step is not None:
        variable.scale_factor = np.float32(step)
        variable.add_offset = np.float32(0)
        stored = np.clip(np.rint(stored / step), -LARGEST_SHORT, LARGEST_SHORT)
    variable.set_auto_maskandscale(False)
    variable[:] = np.where(np.isnan(values), FILL, stored)
