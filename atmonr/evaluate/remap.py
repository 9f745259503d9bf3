"""An extract brought onto other cells: those of a truth, or those of a lidar's profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.evaluate.extract_file import ExtractFile
from atmonr.evaluate.truth import Truth, cell_edges

FloatArray = NDArray[np.float64]

_MOST_SAMPLES = 8


def on_truth_cells(extract: ExtractFile, truth: Truth) -> tuple[FloatArray, FloatArray]:
    """Average an extract over the cells of a truth.

    A cell of the extract has its value throughout, so that columns keep their optical depth; interpolating
    between centres would smear every cloud edge by half a cell. Each truth cell is sampled at points that
    divide it evenly: along each axis at least 2, and as many as it holds cells of the extract.

    Args:
        extract: The extract; the band nearest to the truth's wavelength is taken.
        truth: Whose cells.

    Returns:
        The extinction [m^-1], shape (X, Y, Z), and the fraction of every cell that lies inside the extract;
        what lies outside counts as zero extinction.

    Raises:
        SceneError: If the two do not overlap.
    """
    columns = extract.frame.from_geodetic(truth.latitude_deg, truth.longitude_deg)[..., :2]
    box = _box_around(extract, columns, min(columns.shape[:2]), truth.wavelength_nm)
    nx, ny, nz = _samples(columns, truth.altitude_m, (extract.x_m, extract.y_m, extract.altitude_m))
    total, covered = np.zeros(truth.extinction_per_m.shape), np.zeros(truth.extinction_per_m.shape)
    lower, height = truth.edges_m[:-1], np.diff(truth.edges_m)
    for u, v in product(_offsets(nx), _offsets(ny)):
        xy = _shifted(_shifted(columns, u, 0), v, 1)
        for w in _offsets(nz):
            values, inside = box.look_up(xy, lower + (w + 0.5) * height)
            total += values
            covered += inside
    if not covered.any():
        raise SceneError(
            f"{extract.path}: lies nowhere inside {truth.path}; expected an extract of the same place"
        )
    return total / (nx * ny * nz), covered / (nx * ny * nz)


def on_track_cells(
    extract: ExtractFile,
    latitude_deg: FloatArray,
    longitude_deg: FloatArray,
    lower_m: FloatArray,
    upper_m: FloatArray,
    wavelength_nm: float,
) -> FloatArray:
    """Average an extract over the cells of a track's profiles.

    A profile stands for the track half-way to its neighbours. Cells are sampled as those of a truth are.

    Args:
        extract: The extract; the band nearest to the wavelength is taken.
        latitude_deg: Latitude of consecutive profiles, shape (N,).
        longitude_deg: Longitude, likewise.
        lower_m: Lower edges of the cells [m above the ellipsoid], shape (N, L), NaN where there is no cell.
        upper_m: Upper edges, likewise.
        wavelength_nm: That of the lidar.

    Returns:
        The extinction [m^-1], shape (N, L), NaN in cells that are not wholly inside the extract.
    """
    columns = extract.frame.from_geodetic(latitude_deg, longitude_deg)[..., :2]
    box = _box_around(extract, columns, columns.shape[0], wavelength_nm)
    thickness = upper_m - lower_m
    # A single profile has no direction to spread along.
    along = 1 if len(columns) == 1 else _count(np.diff(columns, axis=0), (extract.x_m, extract.y_m))
    up = _count(thickness[..., None], (extract.altitude_m,))
    total, covered = np.zeros(lower_m.shape), np.ones(lower_m.shape, bool)
    for u, v in product(_offsets(along), _offsets(up)):
        place = _shifted(columns, u, 0) if along > 1 else columns
        values, inside = box.look_up(place, lower_m + (v + 0.5) * thickness)
        total += values
        covered &= inside
    return np.where(covered, total / (along * up), np.nan)


@dataclass(frozen=True)
class _Box:
    """Part of an extract, in memory: cell edges [m] along altitude, y and x, values of shape (Z, Y, X)."""

    edges_m: tuple[FloatArray, FloatArray, FloatArray]
    values: NDArray[np.float32]

    def look_up(self, xy: FloatArray, heights_m: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Values at columns (..., 2) times heights (Z,) or (..., Z), zero outside; whether that is inside."""
        cells, inside = [], np.ones(1, bool)
        for edges, at in zip(self.edges_m, (heights_m, xy[..., 1, None], xy[..., 0, None]), strict=True):
            cell = np.searchsorted(edges, at, side="right") - 1
            inside = inside & (cell >= 0) & (cell < edges.size - 1)
            cells.append(np.clip(cell, 0, edges.size - 2))
        values = self.values[tuple(cells)]
        inside = inside & ~np.isnan(values)  # not every cell is air that a scene covers
        return np.where(inside, values, 0.0), inside


def _box_around(extract: ExtractFile, columns: FloatArray, side: int, wavelength_nm: float) -> _Box:
    """Read the cells of an extract that the columns, so many or more to a side, may touch."""
    parts = []
    for axis, centres in enumerate((extract.x_m, extract.y_m)):
        wanted = columns[..., axis][np.isfinite(columns[..., axis])]
        if not wanted.size:
            # Nothing within the frame's reach: any one cell will do, none will be touched.
            parts.append(slice(0, 1))
            continue
        # The outermost truth cells reach half a cell farther than their centres.
        margin = float(np.ptp(wanted)) / max(side - 1, 1)
        first, last = np.searchsorted(cell_edges(centres), [wanted.min() - margin, wanted.max() + margin])
        start = min(max(int(first) - 1, 0), centres.size - 1)
        parts.append(slice(start, max(int(last), start + 1)))
    x, y = parts
    edges = (
        cell_edges(extract.altitude_m),
        cell_edges(extract.y_m)[y.start : y.stop + 1],
        cell_edges(extract.x_m)[x.start : x.stop + 1],
    )
    return _Box(edges, extract.extinction(wavelength_nm, y, x))


def _samples(columns: FloatArray, altitude_m: FloatArray, centres: Sequence[FloatArray]) -> list[int]:
    """Sub-points of a truth cell along its three axes."""
    cells = [np.diff(columns, axis=axis) for axis in (0, 1)] + [np.diff(altitude_m)[:, None]]
    return [_count(cell_m, (axis,)) for cell_m, axis in zip(cells, centres, strict=True)]


def _count(cell_m: FloatArray, centres: Sequence[FloatArray]) -> int:
    """Sub-points of cells, given as vectors (..., D) along them, by the finest of the centres' spacings."""
    step_m = min(float(np.median(np.diff(axis))) for axis in centres)
    lengths = np.linalg.norm(cell_m, axis=-1)
    lengths = lengths[np.isfinite(lengths)]  # columns may lie beyond the frame's reach, heights be missing
    ratio = float(np.median(lengths)) / step_m if lengths.size else 0.0
    return int(np.clip(np.ceil(ratio - 1e-6), 2, _MOST_SAMPLES))


def _offsets(n: int) -> FloatArray:
    """Centres of n equal parts of a cell from -1/2 to 1/2."""
    return (np.arange(n) + 0.5) / n - 0.5


def _shifted(columns: FloatArray, by: float, axis: int) -> FloatArray:
    """Columns moved by a fraction of a cell along an index, linear between neighbours and beyond the last."""
    columns = np.moveaxis(columns, axis, 0)
    forward = np.diff(columns, axis=0)
    slope = np.concatenate([forward, forward[-1:]]) if by > 0 else np.concatenate([forward[:1], forward])
    return np.moveaxis(columns + by * slope, 0, axis)
