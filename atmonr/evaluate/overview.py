"""An extract as one looks at it: column maps at its full resolution, and a volume small enough to draw.

The file is read a few rows at a time, so that a mosaic of any size fits in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.evaluate.extract_file import ExtractFile
from atmonr.evaluate.truth import cell_edges
from atmonr.evaluate.volume import CLOUD_PER_M, cloud_top_m, optical_depth

FloatArray = NDArray[np.float64]
Blocks = tuple[int, int, int]

# A chunk of the file: fewer rows at a time would decompress it again and again.
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Overview:
    """What is drawn of an extract, at the band nearest to a wavelength.

    Attributes:
        file: The extract.
        wavelength_nm: Of the band that is shown; None if all bands share one extinction.
        blocks: Cells along altitude, y and x that a value of `extinction` is the mean of.
        altitude_m: Middles of the blocks [m above the ellipsoid], shape (Z,).
        y_m: Likewise northward, shape (Y,).
        x_m: Likewise eastward, shape (X,).
        extinction_per_m: Means over blocks [m^-1], shape (Z, Y, X); NaN where nothing is known.
        optical_depth: Of every column of the file, shape (rows, columns); NaN where nothing is known.
        cloud_top_m: Upper edge [m above the ellipsoid] of the highest cell of at least
            `CLOUD_PER_M`, of every column of the file; NaN in clear ones.
    """

    file: ExtractFile
    wavelength_nm: float | None
    blocks: Blocks
    altitude_m: FloatArray
    y_m: FloatArray
    x_m: FloatArray
    extinction_per_m: FloatArray
    optical_depth: FloatArray
    cloud_top_m: FloatArray


def read_overview(file: ExtractFile, wavelength_nm: float, max_cells: int) -> Overview:
    """Read an extract once, from one side to the other.

    Args:
        file: The extract.
        wavelength_nm: The band nearest to it is read.
        max_cells: Of the volume that is kept.

    Raises:
        SceneError: If the file cannot be read or holds impossible values.
    """
    shape = file.altitude_m.size, file.y_m.size, file.x_m.size
    blocks = blocks_within(shape, max_cells)
    edges = cell_edges(file.altitude_m)
    volumes, depths, tops = [], [], []
    rows_at_once = blocks[1] * -(-_ROWS_AT_ONCE // blocks[1])
    for row in range(0, shape[1], rows_at_once):
        rows = slice(row, min(row + rows_at_once, shape[1]))
        extinction = file.extinction(wavelength_nm, rows, slice(None))
        volumes.append(block_means(extinction, blocks))
        columns = np.moveaxis(extinction, 0, -1)
        depth = optical_depth(np.nan_to_num(columns), np.diff(edges))
        depths.append(np.where(np.isnan(columns).all(-1), np.nan, depth))
        tops.append(cloud_top_m(columns >= CLOUD_PER_M, edges[1:]))
    altitude, y, x = (
        block_means(centres, [size])
        for centres, size in zip((file.altitude_m, file.y_m, file.x_m), blocks, strict=True)
    )
    shown = min(file.wavelengths_nm, key=lambda band: abs(band - wavelength_nm), default=None)
    return Overview(
        file,
        shown,
        blocks,
        altitude,
        y,
        x,
        np.concatenate(volumes, axis=1),
        np.concatenate(depths),
        np.concatenate(tops),
    )


def blocks_within(shape: tuple[int, ...], max_cells: int) -> Blocks:
    """Return the smallest blocks, square in the horizontal, of which so many make up a grid.

    Args:
        shape: Cells of the grid along altitude, y and x.
        max_cells: Blocks that are allowed.
    """
    high, wide = 1, 1
    while np.prod([-(-n // size) for n, size in zip(shape, (high, wide, wide), strict=True)]) > max_cells:
        if max(shape[1:]) / wide >= shape[0] / high:
            wide += 1
        else:
            high += 1
    return high, wide, wide


def block_means(values: ArrayLike, blocks: Sequence[int]) -> FloatArray:
    """Return means over blocks, the last of which may be smaller; what is NaN counts only where all is."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0), known.astype(np.float64)
    for axis, size in enumerate(blocks):
        starts = range(0, values.shape[axis], size)
        total, count = (np.add.reduceat(part, starts, axis=axis) for part in (total, count))
    with np.errstate(invalid="ignore"):
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
