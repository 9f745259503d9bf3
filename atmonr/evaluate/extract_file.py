"""Read what `merge` wrote, the part that is asked for."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.errors import GpuMemoryError, SceneError
from atmonr.geo.frame import Frame
from atmonr.netcdf_probe import deadly

FloatArray = NDArray[np.float64]

MOST_EXTINCTION_PER_M = 1e3  # opaque within a millimetre
_MOST_VALUES = 2_000_000_000
_FARTHEST_M = 2.1e7  # half around the Earth
# How netCDF and xarray fail on files that are damaged or strange.
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


@dataclass(frozen=True)
class ExtractFile:
    """Coordinates of an extract, and its extinction on demand.

    Attributes:
        path: The file.
        frame: Frame of x and y.
        x_m: Cell centres along x [m], ascending, shape (X,).
        y_m: Cell centres along y [m], ascending, shape (Y,).
        altitude_m: Cell centres [m above the ellipsoid], ascending, shape (Z,).
        wavelengths_nm: One per band, or empty when all bands share one extinction.
        attrs: Global attributes of the file.
        mosaic: Whether it holds several scenes.
    """

    path: Path
    frame: Frame
    x_m: FloatArray
    y_m: FloatArray
    altitude_m: FloatArray
    wavelengths_nm: tuple[float, ...]
    attrs: dict[str, Any]
    mosaic: bool = False

    def extinction(self, wavelength_nm: float, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return extinction [m^-1] of shape (z, rows, columns) of the band nearest to a wavelength.

        Cells that no scene covers, or that are under ground, are NaN.

        Raises:
            SceneError: If the file cannot be read or holds a value that is negative or not finite.
        """
        with open_dataset(self.path) as dataset:
            variable = dataset["extinction"].isel(y=rows, x=columns)
            if self.wavelengths_nm:
                variable = variable.isel(band=nearest_band(self.wavelengths_nm, wavelength_nm))
            values = numbers(self.path, variable, ("z", "y", "x")).astype(np.float32)
        known = values[~np.isnan(values)]
        if not (known.min(initial=0.0) >= 0 and known.max(initial=0.0) <= MOST_EXTINCTION_PER_M):
            raise SceneError(
                f"{self.path}: variable extinction: negative or infinite values; expected 0 to"
                f" {MOST_EXTINCTION_PER_M:g} m-1 or missing"
            )
        return values


def open_extract(path: Path) -> ExtractFile:
    """Read the coordinates of an extract.

    Raises:
        SceneError: If the file is not an extract; names the file and what is missing.
    """
    with open_dataset(path) as dataset:
        grid = str(dataset.attrs.get("grid", "voxel"))
        if grid != "voxel":
            raise SceneError(
                f"{path}: is on a {grid} grid; expected voxels, from atmonr extract --grid voxel"
            )
        missing = [name for name in ("extinction", "x", "y", "z") if name not in dataset.variables]
        if missing or "frame" not in dataset.attrs:
            lacking = f"variable {missing[0]}" if missing else "attribute frame"
            raise SceneError(f"{path}: {lacking} is missing; expected the output of atmonr merge")
        dims = dataset["extinction"].dims
        if set(dims) - {"band"} != {"z", "y", "x"}:
            raise SceneError(
                f"{path}: variable extinction: dimensions {dims}, expected (z, y, x) or those and band"
            )
        x, y, altitude = (
            ascending(path, name, numbers(path, dataset[name], (name,))) for name in ("x", "y", "z")
        )
        wavelengths = read_wavelengths(path, dataset) if "band" in dims else ()
        attrs = dict(dataset.attrs)
        mosaic = "contributing_granules" in dataset.variables
    try:
        frame = Frame.from_json(json.loads(attrs["frame"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SceneError(
            f"{path}: attribute frame: expected the JSON that atmonr merge wrote ({error})"
        ) from error
    return ExtractFile(path, frame, x, y, altitude, wavelengths, attrs, mosaic)


def ascending(path: Path, name: str, values: Sequence[float] | NDArray[Any]) -> FloatArray:
    """Return a coordinate as fp64, checked to be one-dimensional, finite, ascending and of 2 values or more.

    Raises:
        SceneError: Otherwise; names file and variable.
    """
    coordinate = np.asarray(values, np.float64)
    if coordinate.ndim != 1 or not (np.abs(coordinate) <= _FARTHEST_M).all():
        raise SceneError(
            f"{path}: variable {name}: expected finite values along one dimension, up to {_FARTHEST_M:g} m"
        )
    if coordinate.size < 2 or (np.diff(coordinate) <= 0).any():
        raise SceneError(f"{path}: variable {name}: expected at least 2 values, ascending")
    return coordinate


def read_wavelengths(path: Path, dataset: xr.Dataset) -> tuple[float, ...]:
    """Return the wavelengths of an extract's bands [nm].

    Raises:
        SceneError: If it has none, or they are not finite.
    """
    if "wavelength" not in dataset.variables:
        raise SceneError(f"{path}: variable wavelength is missing; expected one value per band")
    wavelengths = numbers(path, dataset["wavelength"], ("band",))
    if not wavelengths.size or not np.isfinite(wavelengths).all():
        raise SceneError(f"{path}: variable wavelength: expected one finite value per band")
    return tuple(wavelengths.tolist())


def nearest_band(wavelengths_nm: Sequence[float], wavelength_nm: float) -> int:
    """Return the index of the band nearest to a wavelength."""
    return int(np.argmin(np.abs(np.subtract(wavelengths_nm, wavelength_nm))))


def open_dataset(path: Path, expected: str = "the output of atmonr merge") -> xr.Dataset:
    """Open a netCDF file; its values are then to be read by `numbers`.

    Raises:
        SceneError: If there is none, or it is not netCDF.
    """
    if not path.is_file():
        raise SceneError(f"{path}: no such file; expected {expected}")
    if how := deadly(path):
        raise SceneError(f"{path}: damaged: {how}; expected {expected}")
    try:
        with warnings.catch_warnings():
            # What matters of that, `numbers` refuses: several fill values, a dimension twice.
            warnings.simplefilter("ignore")
            # Nobody here needs times, whose units may be anything.
            dataset = xr.open_dataset(path, engine="netcdf4", decode_times=False)
    except MemoryError as error:
        raise GpuMemoryError(f"{path}: too little memory for its coordinates ({error})") from error
    except _DAMAGE as error:
        raise SceneError(f"{path}: cannot be read as netCDF ({error}); expected {expected}") from error
    for name, variable in dataset.variables.items():
        if len(set(variable.dims)) < variable.ndim:  # xarray makes no sense of that
            dataset.close()
            raise SceneError(f"{path}: variable {name}: has a dimension twice: {variable.dims}")
    return dataset


def numbers(path: Path, variable: xr.DataArray, dims: Sequence[str]) -> FloatArray:
    """Read a variable as fp64, NaN where missing, its dimensions in the order that is wanted.

    Raises:
        SceneError: If it has other dimensions, holds no numbers, or cannot be read.
        GpuMemoryError: If there is too little memory for it.
    """
    what = f"{path}: variable {variable.name}"
    if variable.ndim != len(dims) or set(variable.dims) != set(dims):
        raise SceneError(f"{what}: dimensions {variable.dims}, expected ({', '.join(dims)})")
    if variable.dtype.kind not in "iuf":
        raise SceneError(f"{what}: type {variable.dtype}, expected numbers")
    if variable.size > _MOST_VALUES:
        raise SceneError(f"{what}: shape {variable.shape}; expected at most {_MOST_VALUES:.0e} values")
    try:
        return np.asarray(variable.transpose(*dims).values, np.float64)
    except MemoryError as error:
        raise GpuMemoryError(f"{what}: too little memory for its shape {variable.shape}") from error
    except _DAMAGE as error:
        raise SceneError(f"{what}: cannot be read ({error}); the file is damaged") from error
