"""Opening extracts that are on no voxel grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from atmonr.errors import SceneError

_NEEDED = ("extinction", "z", "latitude", "longitude")


@contextmanager
def opened(path: Path) -> Iterator[xr.Dataset]:
    """Yield the dataset of an extract with z, latitude and longitude.

    Raises:
        SceneError: If one of these is missing, or anything cannot be read or is not shaped as expected.
    """
    try:
        with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
            lacking = [name for name in _NEEDED if name not in dataset.variables]
            if lacking:
                raise SceneError(
                    f"{path}: variable {lacking[0]} is missing; expected the output of atmonr merge"
                )
            yield dataset
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise SceneError(f"{path}: not as atmonr merge writes it ({reason}); expected its output") from error


def one_band(dataset: xr.Dataset, wavelength_nm: float) -> xr.DataArray:
    """Return the extinction of the band nearest to a wavelength, not yet read."""
    extinction = dataset["extinction"]
    if "band" not in extinction.dims:
        return extinction
    return extinction.isel(band=int(np.argmin(np.abs(dataset["wavelength"].values - wavelength_nm))))
