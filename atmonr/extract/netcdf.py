"""What the product file says about itself (CF-1.11, ACDD-1.3)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import netCDF4
import numpy as np

from atmonr import __version__
from atmonr.extract.grid import VoxelGrid
from atmonr.geo.ellipsoid import SEMI_MAJOR_M, SEMI_MINOR_M

# Latitude and longitude are computed, written and compressed in squares of so many columns an edge.
_COLUMNS_AT_ONCE = 256
# Chunks are written whole and never again: the 64 MiB that the library keeps of each variable are of no use.
_CHUNK_CACHE_BYTES = 1 << 20
_COORDINATES: dict[str, dict[str, str]] = {
    "altitude": {
        "standard_name": "height_above_reference_ellipsoid",
        "long_name": "height of the cell centre above the WGS-84 ellipsoid",
        "units": "m",
        "positive": "up",
        "axis": "Z",
    },
    "y": {
        "long_name": "distance of the cell centre from the frame's centre, northward there",
        "units": "m",
        "axis": "Y",
    },
    "x": {
        "long_name": "distance of the cell centre from the frame's centre, eastward there",
        "units": "m",
        "axis": "X",
    },
}
_FRAME_COMMENT = (
    "x and y are coordinates of the foot of the vertical on the ellipsoid: its orthographic projection on "
    "the tangent plane at the frame's centre, stretched radially to arc length with the radius of curvature "
    "of its direction. Every (y, x) is a vertical column; its latitude and longitude are exact."
)
MISSING = np.float32(netCDF4.default_fillvals["f4"])


@dataclass(frozen=True)
class Product:
    """What a file of extinction is about to hold.

    Attributes:
        grid: Its cells.
        band_wavelengths_nm: One per band, or empty when all bands share one extinction.
        start: When the observation began, in ISO 8601, if that is one moment and known.
        attributes: Global attributes beside those that every product has.
    """

    grid: VoxelGrid
    band_wavelengths_nm: tuple[float, ...] = ()
    start: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[str, ...]:
        """Dimensions of the extinction."""
        return ("band", *self.grid.dims) if self.band_wavelengths_nm else self.grid.dims


def define(dataset: netCDF4.Dataset, product: Product) -> netCDF4.Variable:
    """Write everything but the extinction itself into a new file.

    Args:
        dataset: Open for writing, empty.
        product: What it will hold.

    Returns:
        The variable of the extinction.
    """
    for name, values in product.grid.coords().items():
        dataset.createDimension(name, values.size)
        variable = dataset.createVariable(name, "f8", (name,))
        variable.setncatts(_COORDINATES[name])
        variable[:] = values
    _write_crs(dataset)
    _write_latitude_longitude(dataset, product.grid)
    coordinates = ["latitude", "longitude"]
    if product.start is not None:
        _write_time(dataset, product.start)
        coordinates.append("time")
    if product.band_wavelengths_nm:
        _write_bands(dataset, product.band_wavelengths_nm)
        coordinates.append("wavelength")
    variable = create_cells(dataset, product, "extinction", "f4", product.dims, fill_value=MISSING)
    variable.setncatts(
        {
            # No standard name: CF has one for aerosol, which leaves out cloud droplets, and none for clouds.
            "long_name": "volume extinction coefficient of cloud and aerosol particles",
            "units": "m-1",
            "coordinates": " ".join(coordinates),
            "grid_mapping": "crs: latitude longitude",
            "cell_methods": "altitude: y: x: point",
            "comment": "Fitted to measured radiances, which say little about the inside of opaque clouds.",
        }
    )
    dataset.setncatts(_attributes(product))
    return variable


def create_cells(
    dataset: netCDF4.Dataset,
    product: Product,
    name: str,
    kind: str,
    dims: tuple[str, ...],
    fill_value: np.float32 | None = None,
) -> netCDF4.Variable:
    """Create a compressed variable with a value for every cell."""
    return dataset.createVariable(
        name,
        kind,
        dims,
        zlib=True,
        complevel=4,
        shuffle=True,
        # Alike along altitude and the horizontal: levels and columns are both read.
        chunksizes=(1,) * (len(dims) - 3) + product.grid.chunk_shape,
        chunk_cache=_CHUNK_CACHE_BYTES,
        fill_value=fill_value,
    )


def _write_crs(dataset: netCDF4.Dataset) -> None:
    variable = dataset.createVariable("crs", "i4")
    variable.setncatts(
        {
            "grid_mapping_name": "latitude_longitude",
            "long_name": "datum of latitude, longitude and altitude",
            "reference_ellipsoid_name": "WGS 84",
            "semi_major_axis": SEMI_MAJOR_M,
            "inverse_flattening": SEMI_MAJOR_M / (SEMI_MAJOR_M - SEMI_MINOR_M),
            "longitude_of_prime_meridian": 0.0,
        }
    )


def _write_time(dataset: netCDF4.Dataset, start: str) -> None:
    """Write the start of the observation as a scalar coordinate."""
    moment = datetime.fromisoformat(start)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    variable = dataset.createVariable("time", "f8")
    variable.setncatts(
        {
            "standard_name": "time",
            "long_name": "start of the observation",
            "units": "seconds since 1970-01-01T00:00:00Z",
            "calendar": "standard",
        }
    )
    variable[...] = moment.timestamp()


def _write_latitude_longitude(dataset: netCDF4.Dataset, grid: VoxelGrid) -> None:
    _, ny, nx = grid.shape
    edge = _COLUMNS_AT_ONCE
    for name, units in {"latitude": "degrees_north", "longitude": "degrees_east"}.items():
        chunks = (min(edge, ny), min(edge, nx))
        variable = dataset.createVariable(
            name,
            "f8",
            ("y", "x"),
            zlib=True,
            shuffle=True,
            chunksizes=chunks,
            chunk_cache=_CHUNK_CACHE_BYTES,
        )
        variable.setncatts({"standard_name": name, "long_name": f"{name} of the column", "units": units})
    for row in range(0, ny, edge):
        for column in range(0, nx, edge):
            where = slice(row, min(row + edge, ny)), slice(column, min(column + edge, nx))
            dataset["latitude"][where], dataset["longitude"][where] = grid.latitude_longitude(*where)


def _write_bands(dataset: netCDF4.Dataset, wavelengths_nm: tuple[float, ...]) -> None:
    dataset.createDimension("band", len(wavelengths_nm))
    band = dataset.createVariable("band", "i4", ("band",))
    band.setncatts({"long_name": "index of the spectral band, by wavelength", "units": "1"})
    band[:] = np.arange(len(wavelengths_nm))
    wavelength = dataset.createVariable("wavelength", "f8", ("band",))
    wavelength.setncatts(
        {
            "standard_name": "sensor_band_central_radiation_wavelength",
            "long_name": "central wavelength of the band",
            "units": "nm",
        }
    )
    wavelength[:] = wavelengths_nm


def _attributes(product: Product) -> dict[str, Any]:
    """Global attributes: conventions, geometry, and what made the file."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    attributes = {
        "Conventions": "CF-1.11, ACDD-1.3",
        "history": f"{now} atmonr {__version__} merge",
        "date_created": now,
        "frame": json.dumps(product.grid.frame.to_json()),
        "frame_comment": _FRAME_COMMENT,
        "horizontal_spacing_m": product.grid.step_m[1],
        "vertical_spacing_m": product.grid.step_m[0],
        **product.attributes,
    }
    return {name: value for name, value in attributes.items() if value not in ("", [])}
