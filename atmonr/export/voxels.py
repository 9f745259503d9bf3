"""A product as a box of equal cells, read a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.evaluate.extract_file import ExtractFile, open_extract

# Columns along an edge of a block: whole chunks of the file, whole leaves of an OpenVDB tree.
BLOCK_COLUMNS = 128
# Coordinates are written in double precision, but may have been rounded by whoever copied the file.
_EVEN = 1e-3


@dataclass(frozen=True)
class Voxels:
    """Cells of a product in the order x, y, z.

    Attributes:
        file: The product.
        first_m: Centre of the first cell: x east, y north, z up from the ellipsoid [m].
        step_m: Size of a cell [m].
        shape: Number of cells along x, y and z.
    """

    file: ExtractFile
    first_m: tuple[float, float, float]
    step_m: tuple[float, float, float]
    shape: tuple[int, int, int]

    @property
    def fields(self) -> dict[str, float]:
        """Wavelength [nm] of every field by its name; NaN where all bands share one extinction."""
        bands = self.file.wavelengths_nm
        # Two bands within a nanometre must not share a name.
        digits = 0 if len({round(band) for band in bands}) == len(bands) else 3
        return {f"extinction_{band:.{digits}f}": band for band in bands} if bands else {"extinction": np.nan}

    def blocks(self, wavelength_nm: float) -> Iterator[tuple[tuple[int, int, int], NDArray[np.float32]]]:
        """Yield the index of the first cell and the extinction [m^-1], (x, y, z), of blocks of columns.

        Cells without a value are 0.

        Raises:
            SceneError: If the file cannot be read or holds a value that is negative or infinite.
        """
        nx, ny, _ = self.shape
        for j in range(0, ny, BLOCK_COLUMNS):
            for i in range(0, nx, BLOCK_COLUMNS):
                rows, columns = slice(j, j + BLOCK_COLUMNS), slice(i, i + BLOCK_COLUMNS)
                values = self.file.extinction(wavelength_nm, rows, columns)
                yield (i, j, 0), np.ascontiguousarray(np.nan_to_num(values, nan=0.0).transpose(2, 1, 0))


def open_voxels(path: Path) -> Voxels:
    """Open a product on a voxel grid.

    Raises:
        SceneError: If the file is not a product, or is on another kind of grid.
    """
    file = open_extract(path)
    axes = {"x": file.x_m, "y": file.y_m, "z": file.altitude_m}
    steps = [float(axis[-1] - axis[0]) / (axis.size - 1) for axis in axes.values()]
    for (name, axis), step in zip(axes.items(), steps, strict=True):
        if np.abs(np.diff(axis) - step).max() > _EVEN * step:
            raise SceneError(
                f"{path}: variable {name}: cells of different sizes; only a voxel grid can be exported: "
                "use atmonr extract --grid voxel"
            )
    first = [float(axis[0]) for axis in axes.values()]
    shape = [axis.size for axis in axes.values()]
    return Voxels(
        file, (first[0], first[1], first[2]), (steps[0], steps[1], steps[2]), (shape[0], shape[1], shape[2])
    )


def coarse(
    voxels: Voxels, wavelength_nm: float, most_cells: int
) -> tuple[NDArray[np.float32], tuple[float, float, float], tuple[float, float, float]]:
    """Read the whole extinction, averaged over square blocks of columns where it would be too large.

    Returns:
        Extinction (z, y, x) [m^-1] of at most `most_cells` or few more, centre of the first cell and size of
        cells, x, y, z [m].
    """
    nx, ny, nz = voxels.shape
    edge = 1
    # A power of two divides the blocks that are read.
    while nx * ny * nz > most_cells * edge**2 and edge < BLOCK_COLUMNS:
        edge *= 2
    values = np.zeros((nz, -(-ny // edge), -(-nx // edge)), np.float32)
    for (i, j, _), block in voxels.blocks(wavelength_nm):
        x, y = (-(-size // edge) for size in block.shape[:2])
        padded = np.pad(block, ((0, x * edge - block.shape[0]), (0, y * edge - block.shape[1]), (0, 0)))
        mean = padded.reshape(x, edge, y, edge, nz).mean(axis=(1, 3))
        values[:, j // edge : j // edge + y, i // edge : i // edge + x] = mean.transpose(2, 1, 0)
    (x0, y0, z0), (dx, dy, dz) = voxels.first_m, voxels.step_m
    aside = (edge - 1) / 2.0
    return values, (x0 + aside * dx, y0 + aside * dy, z0), (dx * edge, dy * edge, dz)
