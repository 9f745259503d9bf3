"""What every grid of an extract can do: the contract that sampling, shards, merging and netCDF rely on.

A grid is a set of vertical columns of air. Its first dimension goes along the columns, the others tell the
columns apart. The coordinates that a file holds are the coordinates that the field was asked at.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.geo.frame import Frame

FloatArray = NDArray[np.float64]
Slices = tuple[slice, ...]

MAX_CELLS = 2_000_000_000
# A step that divides the extent but for rounding must not add a sliver of one more cell.
TINY = 1e-9
# Chunks of 32 cells an edge (128 KiB) serve a level and a column about equally well.
_CHUNK_CELLS = 32
_MAX_SHARD_CELLS = 256
_ENOUGH_SHARDS = 256

ALTITUDE_ATTRIBUTES = {
    "standard_name": "height_above_reference_ellipsoid",
    "long_name": "height of the cell centre above the WGS-84 ellipsoid",
    "units": "m",
    "positive": "up",
}
TIME_ATTRIBUTES = {
    "standard_name": "time",
    "units": "seconds since 1970-01-01T00:00:00Z",
    "calendar": "standard",
    "units_metadata": "leap_seconds: none",
}


@dataclass(frozen=True)
class Coordinate:
    """A coordinate as the file holds it.

    Attributes:
        name: Of the variable.
        dims: Of the grid's dimensions, those it has.
        values: fp64 or integers; NaN where missing.
        attributes: By CF.
        bounds: Edges of the cells, shape (*values.shape, 2), if it has any.
    """

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    attributes: dict[str, str] = field(default_factory=dict)
    bounds: FloatArray | None = None


class Grid(ABC):
    """Columns of air in the frame of a scene.

    Attributes:
        kind: What `--grid` calls it.
        dims: Names of the dimensions, the vertical one first.
        frame: The local frame in which the field is asked.
        shape: Number of cells along `dims`.
    """

    kind: ClassVar[str]
    dims: ClassVar[tuple[str, ...]]

    frame: Frame
    shape: tuple[int, ...]

    @abstractmethod
    def places_m(self, columns: Slices) -> FloatArray:
        """Return where columns stand: x and y in the frame [m], (..., 2), NaN for a column without place."""

    @abstractmethod
    def heights_m(self, slices: Slices) -> FloatArray:
        """Return heights above the ellipsoid [m] of a block of cells, or what broadcasts to its shape."""

    @abstractmethod
    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of columns, each of the columns' shape."""

    @abstractmethod
    def coordinates(self) -> list[Coordinate]:
        """Return what the file says of where the cells are.

        Latitude and longitude may be left out: they are then computed from `latitude_longitude`.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values, with checksums in place of what `stored` returns."""

    def stored(self) -> dict[str, FloatArray]:
        """Return what is too long for JSON."""
        return {}

    def attributes(self) -> dict[str, Any]:
        """Return global attributes that describe the grid in a file."""
        return {}

    def inputs(self) -> list[dict[str, Any]]:
        """Return name and checksum of the files that the grid comes from."""
        return []

    def points(self, slices: Slices) -> FloatArray:
        """Return the centres of a block of cells as frame coordinates.

        Args:
            slices: Index ranges along `dims`.

        Returns:
            (x, y, height) [m], shape (*block, 3): the very places that `coordinates` tells.
        """
        places, heights = self.places_m(slices[1:]), self.heights_m(slices)
        points = np.empty((heights.shape[0], *places.shape[:-1], 3))
        points[..., :2] = places
        points[..., 2] = heights
        return points

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Cells of one chunk, the unit of compression and of reading."""
        return tuple(min(n, _CHUNK_CELLS) for n in self.shape)

    @property
    def shard_shape(self) -> tuple[int, ...]:
        """Cells of one shard, the unit of work and of writing; a multiple of `chunk_shape`.

        Shards are whole columns. They grow with the grid, so that a small grid still has work for many
        ranks and a large one does not become a folder of many thousand files. They depend on the grid
        alone, never on the number of ranks, so that another number of ranks can finish the work.
        """
        deep, *wide = self.chunk_shape
        edge = _CHUNK_CELLS
        while edge < _MAX_SHARD_CELLS and self._tiles(edge) > _ENOUGH_SHARDS:
            edge *= 2
        times = edge // _CHUNK_CELLS
        return (deep * math.ceil(self.shape[0] / deep), *(chunk * times for chunk in wide))

    @property
    def digest(self) -> str:
        """SHA-256 of the grid's definition."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def _tiles(self, edge: int) -> int:
        return math.prod(math.ceil(n / edge) for n in self.shape[1:])

    def _refuse_too_many_cells(self) -> None:
        if math.prod(self.shape) > MAX_CELLS:
            cells = " x ".join(str(n) for n in self.shape)
            raise UsageError(
                f"the grid would have {cells} cells ({', '.join(self.dims)}), more than {MAX_CELLS:.0e}; "
                "ask for a larger step, or for less: a smaller box, a lower top or fewer scenes"
            )


def count_of_steps(what: str, low: float, high: float, step_m: float) -> int:
    """Return the smallest number of steps that cover low to high.

    Raises:
        UsageError: If the extent or the step is not positive, or the step is far too small.
    """
    if not (math.isfinite(step_m) and step_m > 0 and high > low):
        raise UsageError(
            f"{what} grid from {low:g} to {high:g} m in steps of {step_m:g} m: "
            "expected a positive extent and step"
        )
    extent = (high - low) / step_m
    if extent > MAX_CELLS:
        raise UsageError(
            f"{what} step of {step_m:g} m is too fine for {high - low:g} m: ask for a larger step"
        )
    return max(math.ceil(extent - TINY), 1)


def checksum(values: FloatArray) -> str:
    """SHA-256 of numbers, as little-endian fp64."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()


def upright(heights_m: FloatArray, columns: int) -> FloatArray:
    """Heights (N,) that all columns share, shaped to broadcast against blocks with that many column axes."""
    return heights_m.reshape(-1, *(1,) * columns)
