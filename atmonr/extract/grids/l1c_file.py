"""Where the bins of a HARP2 L1C file are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atmonr.errors import GranuleError
from atmonr.extract.grids.base import FloatArray
from atmonr.sensors.netcdf import NetcdfFile

_EXPECTED = "a PACE HARP2 L1C file"


def read_bins(path: Path) -> tuple[FloatArray, FloatArray]:
    """Return latitude and longitude [degrees] of the bins, (rows, columns), NaN where the file has none.

    Raises:
        GranuleError: If the file cannot be read or has no such bins.
    """
    file = NetcdfFile(path, _EXPECTED)
    try:
        latitude, longitude = (
            file.read_double(f"geolocation_data/{name}") for name in ("latitude", "longitude")
        )
    finally:
        file.close()
    if latitude.ndim != 2 or latitude.shape != longitude.shape:
        raise GranuleError(
            f"{path}: geolocation_data/latitude and longitude have the shapes {latitude.shape} and "
            f"{longitude.shape}; expected the same two dimensions in {_EXPECTED}"
        )
    wrong = (np.abs(latitude) > 90) | (np.abs(longitude) > 360)
    return np.where(wrong, np.nan, latitude), np.where(wrong, np.nan, longitude)
