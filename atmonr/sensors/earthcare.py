"""EarthCARE ATL_EBD_2A: profiles of extinction that a lidar measures along its track, an eighth of an orbit.

Real files are HDF5 that netCDF-4 reads. Sizes, the order of levels and the datum of the surface are taken
from the file and checked, because no public file documents every detail.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.sensors.netcdf import NetcdfFile

PRODUCT = "ATL_EBD_2A"
WAVELENGTH_NM = 355.0
# Codes of simple_classification that public readers agree on; 1 and 2 are kinds of cloud.
CLEAR, AEROSOL, SURFACE = 0, 3, -2
NO_CODE = -128  # fill of quality_status and simple_classification

_EXPECTED = f"an EarthCARE {PRODUCT} file (HDF5)"
_TYPE = "HeaderData/FixedProductHeader/File_Type"
_DATA = "ScienceData/"
_EXTINCTION = "particle_extinction_coefficient_355nm"
_EPOCH_S = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
# A float fill is 9.97e36; whatever the attributes say, no quantity here reaches a fraction of it.
_FILL_FLOOR = 1e30
_LEAST_LEVELS = 2
_HEIGHTS_M = (-2_000.0, 100_000.0)
_MOST_EXTINCTION_PER_M = 10.0  # one sees ten centimetres
_LEAST_GEOID_M = 5.0  # a smaller offset does not tell the two datums of the surface apart

Floats = NDArray[np.float64]


def read_profiles(path: Path | str) -> xr.Dataset:
    """Read the profiles of an ATL_EBD_2A file.

    Missing values are handled value by value: a level that is missing in one profile is kept in the others,
    and a profile without a place or time is kept with NaN there. The file stores levels downwards; here they
    go up.

    Args:
        path: the HDF5 file.

    Returns:
        Dataset with dimensions profile (in the order of the track) and level (upwards), float64 or int8:
        time (profile) in seconds since 1970-01-01 UTC, latitude and longitude (profile) in degrees (longitude
        in [-180, 180)), height (profile, level) in metres above the WGS-84 ellipsoid, extinction_per_m
        (profile, level) at 355 nm, NaN where missing or beyond +-10 m-1. Where the file has them:
        extinction_error_per_m; quality_status (0 good to 3 bad) and simple_classification, -128 where
        missing; surface_height (profile) in metres above the ellipsoid, how that is known in its attribute
        `datum`; geoid_offset (profile), the geoid's height above the ellipsoid. The attribute `product_name`
        is the file's name.

    Raises:
        GranuleError: the file is missing, empty, truncated, of another product, lacks a variable, or holds
            values that cannot be.
    """
    file = NetcdfFile(Path(path), _EXPECTED)
    try:
        _check_type(file)
        return _read(file)
    finally:
        file.close()


def _check_type(file: NetcdfFile) -> None:
    found = file.string(_TYPE)
    if found is None:
        if PRODUCT not in file.path.name:
            raise GranuleError(
                f"{file.path}: has no {_TYPE}, and its name does not say {PRODUCT}; expected {_EXPECTED}"
            )
    elif found.strip() != PRODUCT:
        raise GranuleError(f"{file.path}: {_TYPE} is {found.strip()[:40]!r}; expected {PRODUCT!r}")


def _read(file: NetcdfFile) -> xr.Dataset:
    shape = file.shape(_DATA + "height")
    if len(shape) != 2 or shape[0] < 1 or shape[1] < _LEAST_LEVELS:
        raise GranuleError(
            f"{file.path}: {_DATA}height has the shape {shape}; expected (profiles, levels), {_LEAST_LEVELS}"
            " levels or more"
        )
    track, curtain = shape[:1], shape
    height = _values(file, "height", curtain, *_HEIGHTS_M)
    upwards = _upwards(file, height)
    longitude = _values(file, "longitude", track, -180.0, 360.0)
    seconds = _values(file, "time", track, 0.0, math.inf)
    data: dict[str, Any] = {
        "time": _variable(seconds + _EPOCH_S, "seconds since 1970-01-01 00:00:00", standard_name="time"),
        "latitude": _variable(
            _values(file, "latitude", track, -90.0, 90.0), "degrees_north", standard_name="latitude"
        ),
        "longitude": _variable(
            np.where(longitude >= 180.0, longitude - 360.0, longitude),
            "degrees_east",
            standard_name="longitude",
        ),
        "height": _variable(height[:, upwards], "m", standard_name="height_above_reference_ellipsoid"),
    }
    for name, suffix in (("extinction_per_m", ""), ("extinction_error_per_m", "_error")):
        if suffix and not file.has(_DATA + _EXTINCTION + suffix):
            continue
        values = _values(file, _EXTINCTION + suffix, curtain)[:, upwards]
        values[np.abs(values) > _MOST_EXTINCTION_PER_M] = np.nan
        data[name] = _variable(values, "m-1", wavelength_nm=WAVELENGTH_NM)
    for name in ("quality_status", "simple_classification"):
        if file.has(_DATA + name):
            data[name] = _variable(_codes(file, name, curtain)[:, upwards], "1")
    data |= _surface(file, track)
    return xr.Dataset(data, attrs={"product_name": file.path.name, "wavelength_nm": WAVELENGTH_NM})


def _variable(values: NDArray[Any], units: str, **attributes: Any) -> tuple[Any, ...]:
    return ("profile", "level")[: values.ndim], values, {"units": units, **attributes}


def _values(
    file: NetcdfFile, name: str, shape: tuple[int, ...], lower: float = -math.inf, upper: float = math.inf
) -> Floats:
    """A variable of a known shape, NaN where missing, every value within a range."""
    found = file.shape(_DATA + name)
    if found != shape:
        raise GranuleError(f"{file.path}: {_DATA}{name} has the shape {found}; expected {shape}")
    with np.errstate(invalid="ignore"):  # the bits of a damaged value may be a NaN that signals
        values = file.read_double(_DATA + name)
    values[np.abs(values) >= _FILL_FLOOR] = np.nan
    impossible = (values < lower) | (values > upper)
    if impossible.any():
        raise GranuleError(
            f"{file.path}: {_DATA}{name} has the value {values[impossible][0]:g}; expected {lower:g} to"
            f" {upper:g} or the fill value"
        )
    if not np.isfinite(values).any() and lower > -math.inf:
        raise GranuleError(f"{file.path}: {_DATA}{name} is missing everywhere; expected some values")
    return values


def _codes(file: NetcdfFile, name: str, shape: tuple[int, ...]) -> NDArray[np.int8]:
    values = _values(file, name, shape)
    return np.where(np.abs(values) <= 127, np.nan_to_num(values, nan=NO_CODE), NO_CODE).astype(np.int8)


def _upwards(file: NetcdfFile, height: Floats) -> slice:
    """The slice that puts levels in upward order; missing heights in between do not matter."""
    profiles, levels = np.nonzero(np.isfinite(height))
    same = np.diff(profiles) == 0
    steps = np.diff(height[profiles, levels])[same]
    if steps.size == 0 or not ((steps > 0).all() or (steps < 0).all()):
        raise GranuleError(
            f"{file.path}: {_DATA}height is not in order; expected heights that fall, or rise, from level to"
            " level in every profile"
        )
    return slice(None) if steps[0] > 0 else slice(None, None, -1)


def _surface(file: NetcdfFile, track: tuple[int]) -> dict[str, Any]:
    """The surface above the ellipsoid.

    Public code treats `elevation` as height above the ellipsoid, like `height`, but no document says so.
    Water tells: there the surface is the geoid.
    """
    data: dict[str, Any] = {}
    geoid = None
    if file.has(_DATA + "geoid_offset"):
        geoid = _values(file, "geoid_offset", track)
        data["geoid_offset"] = _variable(geoid, "m", standard_name="geoid_height_above_reference_ellipsoid")
    if not file.has(_DATA + "elevation"):
        return data
    surface = _values(file, "elevation", track)
    datum = "WGS-84 ellipsoid (assumed)"
    if geoid is not None and file.has(_DATA + "land_flag"):
        water = (_values(file, "land_flag", track) == 0) & (np.abs(geoid) >= _LEAST_GEOID_M)
        above_geoid, above_ellipsoid = np.abs(surface[water]), np.abs(surface - geoid)[water]
        if np.isfinite(above_geoid).any():
            datum = "WGS-84 ellipsoid (as seen over water)"
            if np.nanmedian(above_geoid) < np.nanmedian(above_ellipsoid):
                surface = surface + geoid
                datum = "WGS-84 ellipsoid (the file's heights above the geoid plus geoid_offset)"
    data["surface_height"] = _variable(surface, "m", datum=datum)
    return data
