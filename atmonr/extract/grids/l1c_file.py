"""Where the bins of a HARP2 L1C file are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atmonr.errors import GranuleError
from atmonr.extract.grids.base import FloatArray
from atmonr.sensors.harp2 import open_harp2


def read_bins(path: Path) -> tuple[FloatArray, FloatArray]:
    """Return latitude and longitude [degrees] of the bins, (rows, columns), in the order of the file.

    Bins without a place are NaN.

    Raises:
        GranuleError: If the file cannot be read or is no L1C file.
    """
    with open_harp2(path) as granule:
        if granule.level != "L1C":
            raise GranuleError(f"{path}: is of level {granule.level}; expected a HARP2 L1C file")
        # All views of L1C are on the same bins.
        names = "latitude", "longitude"
        view = granule.read_lines(slice(0, granule.shape[1]), names, slice(0, 1)).isel(view=0)
        lines, pixels = (slice(None, None, -1 if flipped else 1) for flipped in granule.flipped)
        latitude, longitude = (
            np.ascontiguousarray(view[name].to_numpy()[lines, pixels], np.float64) for name in names
        )
    return latitude, longitude
