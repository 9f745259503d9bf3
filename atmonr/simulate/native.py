"""Write a simulated observation as a HARP2 file, in one of three packings that readers must take."""

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

Product = Literal["L1B", "L1C"]
Packing = Literal["float", "packed", "early"]

START = datetime(2025, 6, 5, 16, 13, 56, tzinfo=UTC)
GRANULE_NAME = f"PACE_HARP2.{START:%Y%m%dT%H%M%S}.L1B.V3.nc"
GRANULE_NAMES: dict[Product, str] = {
    "L1B": GRANULE_NAME,
    "L1C": f"PACE_HARP2.{START:%Y%m%dT%H%M%S}.L1C.V3.5km.nc",
}
SUN_EARTH_DISTANCE_AU = 1.0146  # on that day
FILL = -32767.0
LARGEST_SHORT = 32766  # brighter pixels saturate
RADIANCE_UNIT = "W m^-2 sr^-1 um^-1"

# Dimensions of an image of all views, of one that all views share, and what follows for one per band.
_IMAGE = ("views", "swath_lines", "swath_pixels")
_ROWS, _COLUMNS, _VIEWS, _BAND = (
    "bins_along_track",
    "bins_across_track",
    "number_of_views",
    "intensity_bands_per_view",
)
_ANGLE_STEP_DEG, _ALTITUDE_STEP_M, _RADIANCE_STEP = 0.01, 1.0, 0.05


def write_granule(
    path: Path,
    geometry: Geometry,
    radiance: NDArray[np.floating],
    packing: Packing,
    comment: str,
    product: Product = "L1B",
) -> None:
    """Write a granule.

    Args:
        path: final name; written under a temporary name first.
        geometry: where and how each pixel is seen; for Level-1C all views must see the same places.
        radiance: (V, L, P) [W m-2 sr-1 um-1]; NaN becomes fill.
        packing: "float" stores float32; "packed" stores angles, altitude and radiance as scaled short
            integers; "early" is float32 with a wavelength of two dimensions and without solar irradiance,
            times and bounds, and at Level-1C with views as the first dimension.
        comment: free text for the file's attributes.
        product: "L1B", images as the instrument takes them; "L1C", all on one grid.

    Raises:
        StoreError: if the file cannot be written.
    """
    import netCDF4

    write = _write_l1b if product == "L1B" else _write_l1c
    with atomic_file(path) as temporary, netcdf_errors(path), netCDF4.Dataset(temporary, "w") as file:
        file.setncatts(_attributes(path.name, geometry, packing, comment, product))
        write(file, geometry, radiance, packing)


def _write_l1b(
    file: netCDF4.Dataset, geometry: Geometry, radiance: NDArray[np.floating], packing: Packing
) -> None:
    for name, size in zip(_IMAGE, radiance.shape, strict=True):
        file.createDimension(name, size)
    _write_views(file, packing, "views")
    group = file.createGroup("geolocation_data")
    _write(group, "latitude", geometry.latitude, "degrees_north", None, _IMAGE)
    _write(group, "longitude", geometry.longitude, "degrees_east", None, _IMAGE)
    altitude_step = _ALTITUDE_STEP_M if packing == "packed" else None
    _write(group, "surface_altitude", np.zeros_like(geometry.latitude), "m", altitude_step, _IMAGE)
    _write_angles(group, geometry, packing, _IMAGE)
    step = _RADIANCE_STEP if packing == "packed" else None
    _write(file.createGroup("observation_data"), "i", radiance, RADIANCE_UNIT, step, _IMAGE)
    if packing != "early":
        variable = file.createGroup("navigation_data").createVariable(
            "seconds_of_day", "f8", _IMAGE[:2], fill_value=FILL
        )
        variable.units = "seconds"
        variable[:] = (_second_of_day() + geometry.seconds) % 86400.0


def _write_l1c(
    file: netCDF4.Dataset, geometry: Geometry, radiance: NDArray[np.floating], packing: Packing
) -> None:
    for name, size in zip((_VIEWS, _ROWS, _COLUMNS, _BAND), (*radiance.shape, 1), strict=True):
        file.createDimension(name, size)
    _write_views(file, packing, _VIEWS)
    dimensions = (_VIEWS, _ROWS, _COLUMNS) if packing == "early" else (_ROWS, _COLUMNS, _VIEWS)
    group = file.createGroup("geolocation_data")
    _write(group, "latitude", geometry.latitude[0], "degrees_north", None, (_ROWS, _COLUMNS))
    _write(group, "longitude", geometry.longitude[0], "degrees_east", None, (_ROWS, _COLUMNS))
    altitude_step = _ALTITUDE_STEP_M if packing == "packed" else None
    flat = np.zeros_like(geometry.latitude[0])
    _write(group, "height", flat, "meters", altitude_step, (_ROWS, _COLUMNS))
    _write_angles(group, geometry, packing, dimensions)
    group = file.createGroup("observation_data")
    band = () if packing == "early" else (_BAND,)
    step = _RADIANCE_STEP if packing == "packed" else None
    _write(group, "i", radiance, RADIANCE_UNIT, step, (*dimensions, *band))
    count = np.isfinite(radiance).astype(np.float32)
    _write(group, "number_of_observations", count, "1", None, dimensions)
    if packing != "early":
        _write_bin_times(file.createGroup("bin_attributes"), geometry, dimensions)


def _write_bin_times(group: netCDF4.Group, geometry: Geometry, dimensions: tuple[str, ...]) -> None:
    """When the nadir view saw each row, and how much earlier each view did."""
    nadir = geometry.seconds[np.argmin(np.abs(view_angles()))]
    variable = group.createVariable("nadir_view_time", "f8", (_ROWS,), fill_value=FILL)
    variable.units = f"seconds since {START:%Y-%m-%d}"
    variable[:] = _second_of_day() + nadir
    earlier = np.broadcast_to((nadir - geometry.seconds)[:, :, None], geometry.latitude.shape)
    _write(group, "view_time_offsets", earlier, "seconds", None, dimensions)


def _second_of_day() -> int:
    return START.hour * 3600 + START.minute * 60 + START.second


def _attributes(
    name: str, geometry: Geometry, packing: Packing, comment: str, product: Product
) -> dict[str, object]:
    end = START + timedelta(seconds=float(geometry.seconds.max()))
    attributes: dict[str, object] = {
        "title": f"PACE HARP2 Level-{product[1:]} Data",
        "instrument": "HARP2",
        "processing_level": product,
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


def _write_views(file: netCDF4.Dataset, packing: Packing, dimension: str) -> None:
    group = file.createGroup("sensor_views_bands")
    names = {"sensor_view_angle": (view_angles(), "degrees"), "intensity_wavelength": (wavelengths(), "nm")}
    dimensions: tuple[str, ...] = (dimension,)
    if packing != "early":
        names["intensity_f0"] = (irradiances(), "W m^-2 um^-1")
    elif _BAND in file.dimensions:  # Level-1C
        dimensions = (_BAND, dimension)
    else:
        group.createDimension(_BAND, 1)
        dimensions = (dimension, _BAND)
    for name, (values, unit) in names.items():
        own = dimensions if name == "intensity_wavelength" else (dimension,)
        variable = group.createVariable(name, "f4", own, fill_value=FILL)
        variable.units = unit
        variable[:] = values.reshape(variable.shape)


def _write_angles(
    group: netCDF4.Group, geometry: Geometry, packing: Packing, dimensions: tuple[str, ...]
) -> None:
    step = _ANGLE_STEP_DEG if packing == "packed" else None
    for name in ("sensor_zenith", "sensor_azimuth", "solar_zenith", "solar_azimuth"):
        _write(group, f"{name}_angle", getattr(geometry, name), "degrees", step, dimensions)


def _write(
    group: netCDF4.Group,
    name: str,
    values: NDArray[np.floating],
    unit: str,
    step: float | None,
    dimensions: tuple[str, ...],
) -> None:
    """Images (V, L, P) or one (L, P); with a `step`, as short integers that many units apart, NaN as fill."""
    by_view = dimensions[0] in ("views", _VIEWS)
    if _VIEWS in dimensions and not by_view:
        values = np.moveaxis(values, 0, 2)
    variable = group.createVariable(
        name,
        "f4" if step is None else "i2",
        dimensions,
        zlib=True,
        shuffle=True,
        complevel=4,
        chunksizes=(1, *values.shape[1:]) if by_view else None,
        fill_value=FILL if step is None else int(FILL),
    )
    variable.units = unit
    stored = np.asarray(values, np.float64)
    if step is not None:
        variable.scale_factor = np.float32(step)
        variable.add_offset = np.float32(0)
        stored = np.clip(np.rint(stored / step), -LARGEST_SHORT, LARGEST_SHORT)
    variable.set_auto_maskandscale(False)
    variable[:] = np.where(np.isnan(values), FILL, stored).reshape(variable.shape)
