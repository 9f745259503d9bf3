"""The true cloud, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.errors import SceneError, UsageError
from atmonr.evaluate.extract_file import MOST_EXTINCTION_PER_M, ascending, numbers, open_dataset

FloatArray = NDArray[np.float64]

_MOST_LEVELS = 100_000
_COLUMN = ("x", "y")
_VOLUME = ("x", "y", "altitude")


@dataclass(frozen=True)
class Truth:
    """A known extinction volume.

    Attributes:
        path: The file.
        latitude_deg: Latitude of the columns, shape (X, Y).
        longitude_deg: Longitude of the columns, shape (X, Y).
        altitude_m: Cell centres [m above the ellipsoid], ascending, shape (Z,).
        extinction_per_m: Shape (X, Y, Z).
        wavelength_nm: At which it holds.
    """

    path: Path
    latitude_deg: FloatArray
    longitude_deg: FloatArray
    altitude_m: FloatArray
    extinction_per_m: FloatArray
    wavelength_nm: float

    @property
    def edges_m(self) -> FloatArray:
        """Edges of the levels [m], half-way between the centres, shape (Z + 1,)."""
        return cell_edges(self.altitude_m)


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    Raises:
        SceneError: If it is unreadable, or a variable is missing or not as expected; names file and variable.
    """
    with open_dataset(path, "a truth file") as dataset:
        return _read(path, dataset)


def _read(path: Path, dataset: xr.Dataset) -> Truth:
    latitude, longitude = (_variable(path, dataset, name, _COLUMN) for name in ("latitude", "longitude"))
    if (np.abs(latitude) > 90).any():
        raise SceneError(f"{path}: variable latitude: expected degrees within -90 to 90")
    if min(latitude.shape) < 2:
        raise SceneError(
            f"{path}: variable latitude: shape {latitude.shape}; expected at least 2 columns each way"
        )
    altitude = ascending(path, "altitude", _variable(path, dataset, "altitude", ("altitude",)))
    extinction = _variable(path, dataset, "extinction_coefficient", _VOLUME)
    if not (extinction.min() >= 0.0 and 0.0 < extinction.max() <= MOST_EXTINCTION_PER_M):
        raise SceneError(
            f"{path}: variable extinction_coefficient: expected values >= 0 m-1, some of them more,"
            f" none above {MOST_EXTINCTION_PER_M:g}"
        )
    try:
        wavelength = float(dataset.attrs["wavelength_nm"])
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{path}: attribute wavelength_nm: expected a number") from error
    if not 0.0 < wavelength < np.inf:
        raise SceneError(f"{path}: attribute wavelength_nm is {wavelength:g}; expected more than 0")
    return Truth(path, latitude, longitude, altitude, extinction, wavelength)


def with_clear_air(truth: Truth, low_m: float, high_m: float) -> Truth:
    """Return the truth with clear levels of its own spacing added until it spans low to high.

    There is nothing above and below the true cloud; density that an extract puts there is an error too.
    """
    altitude = truth.altitude_m
    first, last = altitude[1] - altitude[0], altitude[-1] - altitude[-2]
    edges = truth.edges_m
    missing = (edges[0] - low_m) / first, (high_m - edges[-1]) / last
    if max(missing) > _MOST_LEVELS:
        raise SceneError(
            f"{truth.path}: variable altitude: levels {min(first, last):g} m apart; expected levels that"
            f" reach from {low_m:g} to {high_m:g} m in fewer than {_MOST_LEVELS}"
        )
    below, above = (max(int(np.ceil(levels - 1e-9)), 0) for levels in missing)
    levels = np.concatenate(
        [
            altitude[0] - first * np.arange(below, 0, -1),
            altitude,
            altitude[-1] + last * np.arange(1, above + 1),
        ]
    )
    extinction = np.pad(truth.extinction_per_m, ((0, 0), (0, 0), (below, above)))
    return Truth(truth.path, truth.latitude_deg, truth.longitude_deg, levels, extinction, truth.wavelength_nm)


def coarsened(truth: Truth, columns: int) -> Truth:
    """Return the means of blocks of columns x columns of the truth; what makes no whole block is left out.

    Raises:
        UsageError: If that leaves fewer than 2 columns each way.
    """
    if columns < 1 or min(truth.latitude_deg.shape) < 2 * columns:
        raise UsageError(
            f"--coarsen {columns}: expected at least 1, and at most half of the "
            f"{min(truth.latitude_deg.shape)} columns of {truth.path} along its shorter side"
        )
    longitude = np.radians(truth.longitude_deg)
    sine, cosine = (block_means(part, columns) for part in (np.sin(longitude), np.cos(longitude)))
    return Truth(
        truth.path,
        block_means(truth.latitude_deg, columns),
        np.degrees(np.arctan2(sine, cosine)),  # the dateline may cross a block
        truth.altitude_m,
        block_means(truth.extinction_per_m, columns),
        truth.wavelength_nm,
    )


def block_means(values: FloatArray, columns: int) -> FloatArray:
    """(X // columns, Y // columns, ...) means of blocks of (X, Y, ...) values; a rest is left out."""
    x, y = (size // columns for size in values.shape[:2])
    blocks = values[: x * columns, : y * columns].reshape(x, columns, y, columns, *values.shape[2:])
    means: FloatArray = blocks.mean(axis=(1, 3))
    return means


def cell_edges(centres: FloatArray) -> FloatArray:
    """Return cell edges half-way between centres; the outer ones are as far out as the next are in."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])


def _variable(path: Path, dataset: xr.Dataset, name: str, dims: tuple[str, ...]) -> FloatArray:
    if name not in dataset.variables:
        raise SceneError(f"{path}: variable {name} is missing; expected it on ({', '.join(dims)})")
    values = numbers(path, dataset[name], dims)
    if not np.isfinite(values).all():
        raise SceneError(f"{path}: variable {name}: missing or non-finite values; expected none")
    return values
