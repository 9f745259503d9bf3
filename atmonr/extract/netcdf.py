"""What the extract file says about itself (CF-1.11, ACDD-1.3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from atmonr import __version__
from atmonr.errors import SceneError
from atmonr.extract.parts import Parts
from atmonr.geo.ellipsoid import SEMI_MAJOR_M, SEMI_MINOR_M

_ROWS_AT_ONCE = 256
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


def define(dataset: netCDF4.Dataset, parts: Parts) -> None:
    """Write everything but the extinction itself into a new file.

    Args:
        dataset: Open for writing, empty.
        parts: The extraction it will hold.

    Raises:
        SceneError: If the extraction lacks what the file must tell.
    """
    grid = parts.grid
    for name, values in grid.coords().items():
        dataset.createDimension(name, values.size)
        variable = dataset.createVariable(name, "f8", (name,))
        variable.setncatts(_COORDINATES[name])
        variable[:] = values
    _write_crs(dataset, parts)
    _write_latitude_longitude(dataset, parts)
    coordinates = ["latitude", "longitude"]
    if _write_time(dataset, parts):
        coordinates.append("time")
    if parts.bands > 1:
        _write_bands(dataset, parts)
        coordinates.append("wavelength")
    extra = ("band",) if parts.bands > 1 else ()
    variable = dataset.createVariable(
        "extinction",
        "f4",
        (*extra, *grid.dims),
        zlib=True,
        complevel=4,
        shuffle=True,
        # Alike along altitude and the horizontal: levels and columns are both read.
        chunksizes=(1,) * len(extra) + grid.chunk_shape,
        fill_value=np.float32(netCDF4.default_fillvals["f4"]),
    )
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
    dataset.setncatts(_attributes(parts))


def _write_crs(dataset: netCDF4.Dataset, parts: Parts) -> None:
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


def _write_time(dataset: netCDF4.Dataset, parts: Parts) -> bool:
    """Write the start of the observation as a scalar coordinate, if the scene knows it."""
    start = parts.plan["source"]["scene"].get("time_coverage_start")
    if start is None:
        return False
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
    return True


def _write_latitude_longitude(dataset: netCDF4.Dataset, parts: Parts) -> None:
    names = {"latitude": "degrees_north", "longitude": "degrees_east"}
    for name, units in names.items():
        variable = dataset.createVariable(name, "f8", ("y", "x"), zlib=True, shuffle=True)
        variable.setncatts({"standard_name": name, "long_name": f"{name} of the column", "units": units})
    for row in range(0, parts.grid.shape[1], _ROWS_AT_ONCE):
        rows = slice(row, min(row + _ROWS_AT_ONCE, parts.grid.shape[1]))
        values = parts.grid.latitude_longitude(rows)
        for name, block in zip(names, values, strict=True):
            dataset.variables[name][rows] = block


def _write_bands(dataset: netCDF4.Dataset, parts: Parts) -> None:
    wavelengths = _wavelengths(parts)
    dataset.createDimension("band", parts.bands)
    band = dataset.createVariable("band", "i4", ("band",))
    band.setncatts({"long_name": "index of the spectral band, by wavelength", "units": "1"})
    band[:] = np.arange(parts.bands)
    wavelength = dataset.createVariable("wavelength", "f8", ("band",))
    wavelength.setncatts(
        {
            "standard_name": "sensor_band_central_radiation_wavelength",
            "long_name": "central wavelength of the band",
            "units": "nm",
        }
    )
    wavelength[:] = wavelengths


def _wavelengths(parts: Parts) -> NDArray[np.float64]:
    wavelengths = np.asarray(parts.plan["source"]["scene"].get("wavelengths_nm", []), np.float64)
    if wavelengths.size != parts.bands:
        raise SceneError(
            f"{parts.path}: {wavelengths.size} wavelengths for {parts.bands} bands, expected as many"
        )
    return wavelengths


def _attributes(parts: Parts) -> dict[str, Any]:
    """Global attributes: conventions, origin, and what made the file."""
    source = parts.plan["source"]
    identity, scene = source["identity"], source["scene"]
    provenance = scene.get("provenance", {})
    granule = scene.get("granule", identity["scene"])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    attributes = {
        "Conventions": "CF-1.11, ACDD-1.3",
        "title": f"Three-dimensional cloud extinction retrieved from {granule}",
        "source": f"multi-angle satellite imagery; neural field of atmonr {source['atmonr_version']}",
        "history": f"{now} atmonr {__version__} merge",
        "date_created": now,
        "time_coverage_start": scene.get("time_coverage_start", ""),
        "time_coverage_end": scene.get("time_coverage_end", ""),
        "frame": json.dumps(parts.grid.frame.to_json()),
        "frame_comment": _FRAME_COMMENT,
        "horizontal_spacing_m": parts.grid.step_m[1],
        "vertical_spacing_m": parts.grid.step_m[0],
        "wavelengths_nm": scene.get("wavelengths_nm", []),
        "source_granule": granule,
        "source_file": provenance.get("source", ""),
        "source_sha256": provenance.get("source_sha256", ""),
        "scene": identity["scene"],
        "scene_id": identity["scene_id"],
        "run_config_sha256": identity["config_sha256"],
        "checkpoint": identity["checkpoint"],
        "checkpoint_sha256": identity["checkpoint_sha256"],
        "grid_sha256": parts.grid.digest,
        "config": source["config_toml"],
    }
    return {name: value for name, value in attributes.items() if value not in ("", [])}
