"""Height of land and water from a global elevation model such as NASA's ETOPO1_ocssw.nc.

Two readers of that file disagree on which end its rows begin at, so the order is taken from its latitudes or,
where it has none, from a mountain that only the northern hemisphere has.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.errors import GranuleError
from atmonr.geo.datum import SEA_LEVEL, Datum
from atmonr.geo.ellipsoid import Floats
from atmonr.sensors.netcdf import NetcdfFile

EXPECTED = "a global elevation model like ETOPO1_ocssw.nc"

_EVEREST_DEG = 27.99, 86.93  # latitude, longitude; at its mirror in the south there is the Indian Ocean
_MOUNTAIN_M, _SEA_M = 5000.0, 0.0
_TILE = 512  # nodes along each side of what is read at once
_BATCH = 1 << 20  # places looked up at once: bounds the memory of their four neighbours


class _Nodes(NamedTuple):
    """Where the heights of a grid over the whole Earth stand.

    Attributes:
        rows: number of rows.
        columns: number of different columns; a last one that repeats the first is not counted.
        step_deg: between neighbours, both ways.
        south_deg: latitude of the southernmost row.
        west_deg: longitude of the first column.
    """

    rows: int
    columns: int
    step_deg: float
    south_deg: float
    west_deg: float


class Dem:
    """A global elevation model, open for reading; use it in a `with` statement or call `close`.

    Attributes:
        path: the file.
        datum: what its heights are measured from: mean sea level. No geoid comes with the program, so heights
            are given as they are; `datum.off_ellipsoid_m` is the error of taking them for ellipsoidal.
    """

    datum: Datum = SEA_LEVEL

    def __init__(self, path: Path, file: NetcdfFile, nodes: _Nodes, northwards: bool) -> None:
        self.path = path
        self._file, self._nodes, self._northwards = file, nodes, northwards
        self._has_water = file.has("water_surface_height")

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a model whose nodes (ETOPO1) or cells (GEBCO) cover the Earth, rows in either order.

        Args:
            path: netCDF-4 file with `height` [m] and, where there is water, `water_surface_height` [m].

        Raises:
            GranuleError: the file is missing, is no such model, or does not tell the order of its rows.
        """
        path = Path(path)
        file = NetcdfFile(path, EXPECTED)
        try:
            nodes = _nodes(file)
            return cls(path, file, nodes, _goes_north(file, nodes))
        except BaseException:
            file.close()
            raise

    def height_m(self, latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Floats:
        """Heights of the surface of land or, where the model knows of water, of the water.

        Without `water_surface_height` in the file, what lies below zero counts as sea at zero.

        Args:
            latitude_deg: (...) geodetic latitudes [degrees].
            longitude_deg: (...) longitudes [degrees], any turn; broadcast against the latitudes.

        Returns:
            (...) heights above `datum` [m], bilinear between neighbours, across the dateline and the poles
            too; NaN where a neighbour or the place is missing.

        Raises:
            GranuleError: the file is damaged.
        """
        latitude, longitude = np.broadcast_arrays(
            np.asarray(latitude_deg, np.float64), np.asarray(longitude_deg, np.float64)
        )
        height = np.full(latitude.size, np.nan)
        located = np.flatnonzero(np.isfinite(latitude) & np.isfinite(longitude) & (np.abs(latitude) <= 90.0))
        flat = latitude.ravel(), longitude.ravel()
        for start in range(0, located.size, _BATCH):
            some = located[start : start + _BATCH]
            height[some] = self._bilinear(flat[0][some], flat[1][some])
        return height.reshape(latitude.shape)

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bilinear(self, latitude: Floats, longitude: Floats) -> Floats:
        """(N,) heights between the four nodes around each place."""
        nodes = self._nodes
        y = (latitude - nodes.south_deg) / nodes.step_deg
        x = (longitude - nodes.west_deg) / nodes.step_deg
        south, west = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
        height = np.zeros_like(latitude)
        up, right = y - south, x - west
        corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
        values = self._at(
            np.stack([south + row for row, _ in corners]), np.stack([west + column for _, column in corners])
        )
        for (row, column), value in zip(corners, values, strict=True):
            weight = (up if row else 1.0 - up) * (right if column else 1.0 - right)
            # A neighbour without weight may be missing, or not be there at all.
            height += np.where(weight > 0.0, weight * value, 0.0)
        return height

    def _at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
        """Heights at nodes, rows counted from the south; one beyond a pole is on the other side of it."""
        nodes = self._nodes
        beyond = (rows < 0) | (rows >= nodes.rows)
        # Rows of cells end half a step before the pole, a row of nodes is the pole itself.
        mirror = 1 if nodes.south_deg > -90.0 else 0
        rows = np.where(rows < 0, -rows - mirror, rows)
        rows = np.where(rows >= nodes.rows, 2 * (nodes.rows - 1) + mirror - rows, rows)
        columns = (columns + np.where(beyond, nodes.columns // 2, 0)) % nodes.columns
        if not self._northwards:
            rows = nodes.rows - 1 - rows
        tile = (rows // _TILE) * (-(-nodes.columns // _TILE)) + columns // _TILE
        order = np.argsort(tile, axis=None, kind="stable")
        flat_rows, flat_columns = rows.ravel()[order], columns.ravel()[order]
        starts = np.flatnonzero(np.diff(tile.ravel()[order], prepend=-1))
        found = np.empty(order.size)
        for start, stop in zip(starts, [*starts[1:], order.size], strict=True):
            row, column = flat_rows[start] // _TILE * _TILE, flat_columns[start] // _TILE * _TILE
            block = self._read(slice(row, row + _TILE), slice(column, column + _TILE))
            found[start:stop] = block[flat_rows[start:stop] - row, flat_columns[start:stop] - column]
        height = np.empty(order.size)
        height[order] = found
        return height.reshape(rows.shape)

    def _read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        height = self._file.read("height", (rows, columns))
        if not self._has_water:
            return np.maximum(height, np.float32(0.0))
        water = self._file.read("water_surface_height", (rows, columns))
        return np.where(np.isnan(water), height, water)


def _nodes(file: NetcdfFile) -> _Nodes:
    """The grid that the shape of `height` stands for.

    Raises:
        GranuleError: it is missing, or not a grid over the whole Earth.
    """
    shape = file.shape("height")
    cells = len(shape) == 2 and shape[0] > 1 and shape[1] == 2 * shape[0]
    points = len(shape) == 2 and shape[0] > 2 and shape[1] - 1 == 2 * (shape[0] - 1)
    if not (cells or points):
        raise GranuleError(
            f"{file.path}: height has the shape {shape}; expected (latitude, longitude) of the whole Earth in"
            " equal steps, as (n, 2 n) cells or (n + 1, 2 n + 1) nodes"
        )
    if file.has("water_surface_height") and file.shape("water_surface_height") != shape:
        found = file.shape("water_surface_height")
        raise GranuleError(f"{file.path}: water_surface_height has the shape {found}; expected {shape}")
    rows, columns = shape[0], shape[1] - (0 if cells else 1)
    step = 360.0 / columns
    inset = 0.5 * step if cells else 0.0
    return _Nodes(rows, columns, step, -90.0 + inset, _western_edge(file, step) + inset)


def _western_edge(file: NetcdfFile, step_deg: float) -> float:
    first: Any = file.attribute("left_lon")
    if file.has("lon"):
        longitudes = file.read_double("lon").ravel()
        if not longitudes.size:
            raise GranuleError(f"{file.path}: lon is empty; expected a longitude for every column")
        first = float(longitudes[0])
    if first is None:
        return -180.0
    for edge in (-180.0, 0.0):
        if isinstance(first, float) and abs(first - edge) <= step_deg:
            return edge
    raise GranuleError(f"{file.path}: the first longitude is {first!r}; expected -180 or 0 degrees")


def _goes_north(file: NetcdfFile, nodes: _Nodes) -> bool:
    """Whether rows begin in the south, told by `lat` or, without it, by where the Himalayas are.

    Raises:
        GranuleError: neither tells.
    """
    if file.has("lat") and len(file.shape("lat")) == 1:
        steps = np.diff(file.read_double("lat"))
        if steps.size == nodes.rows - 1 and ((steps > 0).all() or (steps < 0).all()):
            return bool(steps[0] > 0)
        raise GranuleError(f"{file.path}: lat is not sorted; expected {nodes.rows} latitudes in order")
    latitude, longitude = _EVEREST_DEG
    column = round((longitude - nodes.west_deg) / nodes.step_deg) % nodes.columns
    heights = []
    for place in (latitude, -latitude):
        row = round((place - nodes.south_deg) / nodes.step_deg)
        heights.append(float(file.read("height", (slice(row, row + 1), slice(column, column + 1)))[0, 0]))
    as_if_northwards, mirrored = heights
    if as_if_northwards > _MOUNTAIN_M and mirrored <= _SEA_M:
        return True
    if mirrored > _MOUNTAIN_M and as_if_northwards <= _SEA_M:
        return False
    raise GranuleError(
        f"{file.path}: cannot tell the order of rows: there is no lat, and height is {as_if_northwards:g} and"
        f" {mirrored:g} m at rows for {latitude:g} N and S, {longitude:g} E; expected the Himalayas (above"
        f" {_MOUNTAIN_M:g} m) in one of them and sea in the other"
    )
