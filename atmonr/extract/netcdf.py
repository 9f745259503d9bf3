"""What the product file says about itself (CF-1.11, ACDD-1.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import netCDF4
import numpy as np

from atmonr import __version__
from atmonr.extract.grids.base import TIME_ATTRIBUTES, FloatArray, Grid
from atmonr.geo.ellipsoid import SEMI_MAJOR_M, SEMI_MINOR_M
from atmonr.provenance import provenance

# Latitude and longitude are computed, written and compressed in squares of so many columns an edge.
_COLUMNS_AT_ONCE = 256
# Chunks are written whole and never again: the 64 MiB that the library keeps of each variable are of no use.
_CHUNK_CACHE_BYTES = 1 << 20
_EDGES = "bounds"  # the dimension of the two edges of a cell
MISSING = np.float32(netCDF4.default_fillvals["f4"])
_NO_PLACE = np.float64(netCDF4.default_fillvals["f8"])


@dataclass(frozen=True)
class Product:
    """What a file of extinction is about to hold.

    Attributes:
        grid: Its cells.
        band_wavelengths_nm: One per band, or empty when all bands share one extinction.
        start: When the observation began, in ISO 8601, if that is known.
        end: When it ended, likewise.
        surface: Which ground cells are above, as `atmonr.extract.surface` describes it; None if unknown.
        ray_count: What the counts of rays are, in words; None if there are none.
        attributes: Global attributes beside those that every product has.
    """

    grid: Grid
    band_wavelengths_nm: tuple[float, ...] = ()
    start: str | None = None
    end: str | None = None
    surface: dict[str, Any] | None = None
    ray_count: str | None = None
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
    for name, size in zip(product.grid.dims, product.grid.shape, strict=True):
        dataset.createDimension(name, size)
    _write_crs(dataset)
    coordinates = _write_coordinates(dataset, product.grid)
    if product.start is not None:
        _write_time(dataset, product.start, product.end)
        coordinates.append("time")
    if product.band_wavelengths_nm:
        _write_bands(dataset, product.band_wavelengths_nm)
        coordinates.append("wavelength")
    where = {"coordinates": " ".join(coordinates)} if coordinates else {}
    ancillary = []
    if product.surface is not None:
        _define_surface(dataset, product, product.surface)
        ancillary.append("surface_altitude")
    if product.ray_count is not None:
        _define_ray_count(dataset, product, product.ray_count)
        ancillary.append("ray_count")
    variable = create_cells(dataset, product, "extinction", "f4", product.dims, fill_value=MISSING)
    variable.setncatts(
        {
            # No standard name: CF has one for aerosol, which leaves out cloud droplets, and none for clouds.
            "long_name": "volume extinction coefficient of cloud and aerosol particles",
            "units": "m-1",
            **where,
            "grid_mapping": "crs",
            "cell_methods": f"{': '.join(product.grid.dims)}: point",
            "comment": "Fitted to measured radiances, which say little about the inside of opaque clouds. "
            "Missing where the scene's images did not look, above the modelled top and below the ground, if "
            "that is known.",
            **({"ancillary_variables": " ".join(ancillary)} if ancillary else {}),
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
    fill_value: np.generic | None = None,
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
        chunksizes=(1,) * (len(dims) - len(product.grid.dims)) + product.grid.chunk_shape,
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
            "horizontal_datum_name": "World Geodetic System 1984",
            "prime_meridian_name": "Greenwich",
            "semi_major_axis": SEMI_MAJOR_M,
            "inverse_flattening": SEMI_MAJOR_M / (SEMI_MAJOR_M - SEMI_MINOR_M),
            "longitude_of_prime_meridian": 0.0,
        }
    )


def moment(iso: str) -> float:
    """Return a time in seconds since 1970-01-01 UTC; without a zone it is UTC."""
    when = datetime.fromisoformat(iso)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _write_time(dataset: netCDF4.Dataset, start: str, end: str | None) -> None:
    """Write the start of the observation as a scalar coordinate, bounded by its start and end."""
    variable = dataset.createVariable("time", "f8")
    variable.setncatts({**TIME_ATTRIBUTES, "long_name": "start of the observation"})
    variable[...] = moment(start)
    if end:
        _write_bounds(dataset, variable, np.array([moment(start), moment(end)]))


def _write_coordinates(dataset: netCDF4.Dataset, grid: Grid) -> list[str]:
    """Write where cells are; return the names of what is no coordinate of a dimension."""
    names = []
    for coordinate in grid.coordinates():
        values, dims = coordinate.values, coordinate.dims
        missing = values.dtype.kind == "f" and bool(np.isnan(values).any())
        variable = dataset.createVariable(
            coordinate.name,
            values.dtype,
            dims,
            zlib=len(dims) > 1,
            shuffle=len(dims) > 1,
            chunksizes=tuple(min(_COLUMNS_AT_ONCE, n) for n in values.shape) if len(dims) > 1 else None,
            fill_value=_NO_PLACE if missing else None,
        )
        variable.setncatts(coordinate.attributes)
        variable[:] = np.where(np.isnan(values), _NO_PLACE, values) if missing else values
        if coordinate.bounds is not None:
            _write_bounds(dataset, variable, coordinate.bounds)
        if dims != (coordinate.name,):
            names.append(coordinate.name)
    if "latitude" not in dataset.variables:
        _write_latitude_longitude(dataset, grid)
        names += ["latitude", "longitude"]
    return names


def _write_bounds(dataset: netCDF4.Dataset, variable: netCDF4.Variable, edges: FloatArray) -> None:
    """Write the edges of cells beside a coordinate, shape (*coordinate, 2)."""
    if _EDGES not in dataset.dimensions:
        dataset.createDimension(_EDGES, 2)
    variable.bounds = f"{variable.name}_bounds"
    dataset.createVariable(variable.bounds, "f8", (*variable.dimensions, _EDGES))[:] = edges


def _write_latitude_longitude(dataset: netCDF4.Dataset, grid: Grid) -> None:
    """Write what follows from the grid, some columns at a time."""
    dims, (ny, nx), edge = grid.dims[1:], grid.shape[1:], _COLUMNS_AT_ONCE
    for name, units in {"latitude": "degrees_north", "longitude": "degrees_east"}.items():
        variable = _create_columns(dataset, name, "f8", dims, (min(edge, ny), min(edge, nx)))
        variable.setncatts({"standard_name": name, "long_name": f"{name} of the column", "units": units})
    for row in range(0, ny, edge):
        for column in range(0, nx, edge):
            where = slice(row, min(row + edge, ny)), slice(column, min(column + edge, nx))
            dataset["latitude"][where], dataset["longitude"][where] = grid.latitude_longitude(*where)


def _create_columns(
    dataset: netCDF4.Dataset,
    name: str,
    kind: str,
    dims: tuple[str, ...],
    chunks: tuple[int, ...],
    fill_value: np.generic | None = None,
) -> netCDF4.Variable:
    return dataset.createVariable(
        name,
        kind,
        dims,
        zlib=True,
        shuffle=True,
        chunksizes=chunks,
        chunk_cache=_CHUNK_CACHE_BYTES,
        fill_value=fill_value,
    )


def _define_surface(dataset: netCDF4.Dataset, product: Product, surface: dict[str, Any]) -> None:
    dims = product.grid.dims[1:]
    chunks = tuple(min(_COLUMNS_AT_ONCE, n) for n in product.grid.shape[1:])
    variable = _create_columns(dataset, "surface_altitude", "f4", dims, chunks, MISSING)
    off_m = surface["off_ellipsoid_m"]
    error = f" Heights of cells are above the ellipsoid, which may be {off_m:g} m off." * (off_m > 0)
    variable.setncatts(
        {
            "standard_name": surface["standard_name"],
            "long_name": "altitude of the ground under the column",
            "units": "m",
            "datum": surface["datum"],
            "source": surface["source"],
            "comment": f"Cells with their centre below it are missing.{error}",
            **of_columns(dataset, dims),
        }
    )


def _define_ray_count(dataset: netCDF4.Dataset, product: Product, meaning: str) -> None:
    variable = create_cells(dataset, product, "ray_count", "i4", product.grid.dims)
    variable.setncatts(
        {
            "long_name": "number of rays that look at the cell's surroundings",
            "units": "1",
            "comment": meaning,
            **of_columns(dataset, product.grid.dims),
        }
    )


def of_columns(dataset: netCDF4.Dataset, dims: tuple[str, ...]) -> dict[str, str]:
    """Attributes that say where a variable's values are."""
    names = [
        name
        for name in ("z", "latitude", "longitude")
        if name in dataset.variables and name not in dims and set(dataset[name].dimensions) <= set(dims)
    ]
    return {"grid_mapping": "crs"} | ({"coordinates": " ".join(names)} if names else {})


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
    made = provenance()
    attributes = {
        "Conventions": "CF-1.11, ACDD-1.3",
        "history": f"{made['created_utc']} atmonr {__version__} merge",
        "date_created": made["created_utc"],
        "code_version": __version__,
        "code_commit": made["git_commit"] or "",
        "container_image": made["container_image"] or "",
        "grid": product.grid.kind,
        **product.grid.attributes(),
        **product.attributes,
    }
    return {name: value for name, value in attributes.items() if value not in ("", [])}
