"""An extract as seen from a lidar's track: which profiles it holds, and its extinction on their cells.

Two kinds of extract serve: one on a voxel grid, averaged over the cells of the profiles, and one on the very
profiles of a lidar's file (`atmonr extract --grid curtain`), taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.evaluate.extract_file import (
    ExtractFile,
    nearest_band,
    numbers,
    open_dataset,
    open_extract,
    read_wavelengths,
)
from atmonr.evaluate.remap import on_track_cells
from atmonr.evaluate.truth import cell_edges
from atmonr.geo.track import inside_box
from atmonr.sensors.earthcare import WAVELENGTH_NM

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_PROFILES = {"level", "profile"}
_MOST_PROFILES = 2**31
_SAME_HEIGHT_M, _SAME_PLACE_DEG = 0.1, 1e-4  # far above rounding, far below a profile's spacing


class TrackFile(Protocol):
    """An extract along a track."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Its global attributes."""

    @property
    def wavelengths_nm(self) -> tuple[float, ...]:
        """That of the band that is compared, or of all bands if they share one extinction; may be empty."""

    def holds(self, profiles: xr.Dataset) -> BoolArray:
        """Whether each profile of a lidar's file lies inside; those without a place do not."""

    def on_cells(
        self, profiles: xr.Dataset, some: slice, lower_m: FloatArray, upper_m: FloatArray
    ) -> FloatArray:
        """Extinction on the cells of consecutive profiles.

        Args:
            profiles: All profiles of the lidar's file.
            some: Those that are wanted, P of them, which `holds` has found inside.
            lower_m: Lower edges of their cells [m above the ellipsoid], shape (P, L), NaN for no cell.
            upper_m: Upper edges.

        Returns:
            Extinction [m^-1], shape (P, L), NaN where the extract has none.

        Raises:
            SceneError: If the file is damaged, or of other profiles.
        """


def open_track_file(path: Path) -> TrackFile:
    """Open an extract on either kind of grid.

    Raises:
        SceneError: If it is unreadable, or on neither.
    """
    with open_dataset(path) as dataset:
        if "extinction" in dataset and set(dataset["extinction"].dims) >= _PROFILES:
            return _read_curtain(path, dataset)
    return VoxelTrack(open_extract(path))


def observed_s(attrs: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return begin and end of an extract's observation [s since 1970-01-01 UTC], None if it tells neither."""
    times = []
    for edge in ("start", "end"):
        try:
            moment = datetime.fromisoformat(str(attrs.get(f"time_coverage_{edge}", "")))
        except ValueError:
            continue
        times.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return (min(times), max(times)) if times else None


@dataclass(frozen=True)
class VoxelTrack:
    """An extract on a voxel grid."""

    file: ExtractFile

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self.file.attrs

    @property
    def wavelengths_nm(self) -> tuple[float, ...]:
        return _compared(self.file.wavelengths_nm, self.attrs)

    def holds(self, profiles: xr.Dataset) -> BoolArray:
        (west, east), (south, north) = (cell_edges(axis)[[0, -1]] for axis in (self.file.x_m, self.file.y_m))
        return inside_box(self.file.frame, (west, south, east, north), *_places(profiles))

    def on_cells(
        self, profiles: xr.Dataset, some: slice, lower_m: FloatArray, upper_m: FloatArray
    ) -> FloatArray:
        latitude, longitude = (values[some] for values in _places(profiles))
        return on_track_cells(self.file, latitude, longitude, lower_m, upper_m, WAVELENGTH_NM)


@dataclass(frozen=True)
class CurtainFile:
    """An extract on some profiles of a lidar's file.

    Attributes:
        path: The file.
        attrs: Global attributes.
        wavelengths_nm: See `TrackFile`.
        index: Index of every profile in the lidar's file, ascending, shape (P,).
        latitude_deg: Latitude of the profiles.
        height_m: Heights of their levels [m above the ellipsoid], upwards, NaN where missing, shape (P, L).
        extinction_per_m: On these [m^-1].
    """

    path: Path
    attrs: Mapping[str, Any]
    wavelengths_nm: tuple[float, ...]
    index: NDArray[np.int64]
    latitude_deg: FloatArray
    height_m: FloatArray
    extinction_per_m: FloatArray

    def holds(self, profiles: xr.Dataset) -> BoolArray:
        latitude, _ = _places(profiles)
        inside = np.zeros(latitude.size, bool)
        inside[self.index[self.index < latitude.size]] = True
        return inside & np.isfinite(latitude)

    def on_cells(
        self, profiles: xr.Dataset, some: slice, lower_m: FloatArray, upper_m: FloatArray
    ) -> FloatArray:
        rows = np.searchsorted(self.index, np.arange(some.start, some.stop))
        theirs = np.asarray(profiles["height"].values)[some], _places(profiles)[0][some]
        same = self.height_m.shape[1] == theirs[0].shape[1] and all(
            np.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True)
            for a, b, tolerance in (
                (self.height_m[rows], theirs[0], _SAME_HEIGHT_M),
                (self.latitude_deg[rows], theirs[1], _SAME_PLACE_DEG),
            )
        )
        if not same:
            raise SceneError(
                f"{self.path}: its profiles are not those of {profiles.attrs['product_name']}; expected the"
                " file that it was extracted with"
            )
        return self.extinction_per_m[rows]


def _read_curtain(path: Path, dataset: xr.Dataset) -> CurtainFile:
    missing = [name for name in ("profile", "z", "latitude") if name not in dataset.variables]
    if missing:
        raise SceneError(f"{path}: variable {missing[0]} is missing; expected a curtain from atmonr merge")
    extinction = dataset["extinction"]
    bands: tuple[float, ...] = ()
    if "band" in extinction.dims:
        bands = read_wavelengths(path, dataset)
        extinction = extinction.isel(band=nearest_band(bands, WAVELENGTH_NM))
    values, height = (
        numbers(path, variable, ("profile", "level")) for variable in (extinction, dataset["z"])
    )
    if (values < 0).any() or np.isinf(values).any():
        raise SceneError(f"{path}: variable extinction: expected finite values >= 0 m-1, or missing ones")
    index = numbers(path, dataset["profile"], ("profile",))
    if not index.size or not (index[0] >= 0 and (np.diff(index) > 0).all() and index[-1] < _MOST_PROFILES):
        raise SceneError(f"{path}: variable profile: expected indices that ascend from 0 on")
    latitude = numbers(path, dataset["latitude"], ("profile",))
    attrs = dict(dataset.attrs)
    return CurtainFile(path, attrs, _compared(bands, attrs), index.astype(np.int64), latitude, height, values)


def _places(profiles: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    return np.asarray(profiles["latitude"].values), np.asarray(profiles["longitude"].values)


def _compared(bands_nm: tuple[float, ...], attrs: Mapping[str, Any]) -> tuple[float, ...]:
    if bands_nm:
        return (bands_nm[nearest_band(bands_nm, WAVELENGTH_NM)],)
    told = np.ravel(attrs.get("wavelengths_nm", ()))
    return tuple(float(value) for value in told) if told.dtype.kind in "iuf" else ()
