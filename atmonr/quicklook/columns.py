"""An extract whose columns stand on latitude and longitude, or on the bins of a Level-1C file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.evaluate.drawing import figure
from atmonr.evaluate.extract_file import ascending
from atmonr.evaluate.truth import cell_edges
from atmonr.evaluate.volume import CLOUD_PER_M, cloud_top_m, optical_depth
from atmonr.quicklook.dataset import one_band, opened
from atmonr.quicklook.ground import Ground
from atmonr.quicklook.panels import (
    amounts,
    draw_cloud_top,
    draw_level,
    draw_optical_depth,
    draw_profile,
    plain,
)

FloatArray = NDArray[np.float64]

_MAP_CELLS = 600
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class _Sums:
    """Optical depth and cloud top of every column, mean of every level; NaN where nothing is known."""

    optical_depth: FloatArray
    cloud_top_m: FloatArray
    mean_per_m: FloatArray


def draw_columns(path: Path, picture: Path, wavelength_nm: float) -> None:
    """Draw maps of cloud top, optical depth and the level with most cloud.

    Args:
        path: File with extinction on altitude and two horizontal dimensions, and the place of every column.
        picture: PNG to write.
        wavelength_nm: The band nearest to it is drawn.

    Raises:
        SceneError: If the file is not as expected, or no column has a place.
    """
    with opened(path) as dataset:
        altitude = ascending(path, "z", dataset["z"].values)
        extinction = one_band(dataset, wavelength_nm).transpose("z", ...)
        place = _place(path, dataset, extinction)
        sums = _sums(extinction, cell_edges(altitude))
        level = int(np.nan_to_num(sums.mean_per_m).argmax())
        at_level = extinction[level].values.astype(np.float64)
    ground = Ground.around(*place, _MAP_CELLS)
    with figure(picture, (10.0, 8.6), 2, 2) as (drawn, axes):
        draw_cloud_top(axes[0, 0], ground, ground.show(sums.cloud_top_m, *place))
        draw_optical_depth(axes[0, 1], ground, ground.show(sums.optical_depth, *place))
        shown = ground.show(at_level, *place)
        draw_level(axes[1, 0], ground, shown, float(altitude[level]), amounts(at_level))
        draw_profile(axes[1, 1], sums.mean_per_m, cell_edges(altitude))
        drawn.suptitle(plain(f"{path.name}; grey: nothing known, or no cloud top"), fontsize=10)


def _place(path: Path, dataset: xr.Dataset, extinction: xr.DataArray) -> tuple[FloatArray, FloatArray]:
    """Latitude and longitude of every column, each of shape (row, column)."""
    row, column = (str(dim) for dim in extinction.dims[1:])
    sizes = {dim: extinction.sizes[dim] for dim in (row, column)}
    latitude, longitude = (
        # On both dimensions, or on one of them.
        np.asarray(dataset[name].variable.set_dims(sizes).transpose(row, column).values, np.float64)
        for name in ("latitude", "longitude")
    )
    if not (np.isfinite(latitude) & np.isfinite(longitude)).any():
        raise SceneError(f"{path}: variable latitude: no column has a place; expected some")
    return latitude, longitude


def _sums(extinction: xr.DataArray, edges_m: FloatArray) -> _Sums:
    """Sums over columns and levels, some rows at a time."""
    depths, tops = [], []
    levels, rows, _ = extinction.shape
    total, count = np.zeros(levels), np.zeros(levels)
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = extinction[:, start : start + _ROWS_AT_ONCE].values.astype(np.float64)
        known = np.isfinite(part)
        total += np.where(known, part, 0.0).sum(axis=(1, 2))
        count += known.sum(axis=(1, 2))
        upright = np.moveaxis(part, 0, -1)
        depth = optical_depth(np.nan_to_num(upright), np.diff(edges_m))
        depths.append(np.where(np.isnan(upright).all(-1), np.nan, depth))
        tops.append(cloud_top_m(upright >= CLOUD_PER_M, edges_m[1:]))
    mean = np.divide(total, count, out=np.full(levels, np.nan), where=count > 0)
    return _Sums(np.concatenate(depths), np.concatenate(tops), mean)
