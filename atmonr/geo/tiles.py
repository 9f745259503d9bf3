"""A scene cut into tiles: upright boxes side by side, and which of them a ray passes in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.geo.ellipsoid import Floats
from atmonr.geo.frame import Frame
from atmonr.geo.paths import parabolas
from atmonr.geo.spread import R2

_BLOCK = 32768  # rays cut together: bounds the memory of many cuts


@dataclass(frozen=True)
class Tiling:
    """Columns times rows of tiles in a frame's box, all from its bottom to its top.

    Tiles are numbered along x first. Whatever is at or beyond the outermost cuts belongs to the outermost
    tiles, out to the border of the box.

    No ray sees two tiles at one place, but the borders of rays differ: each is moved by up to `rim_m`, evenly
    spread. Within that rim both neighbours are learned, and a place there belongs to either by the share of
    rays that find it in that tile. Fields that are put together by these shares show no seam.

    Attributes:
        frame: The frame whose box is cut.
        x_cuts_m: Where columns meet, ascending [m].
        y_cuts_m: Where rows meet, ascending [m].
        rim_m: How far borders of rays are moved at most, to either side [m].
    """

    frame: Frame
    x_cuts_m: tuple[float, ...]
    y_cuts_m: tuple[float, ...]
    rim_m: float = 0.0

    @classmethod
    def of(cls, frame: Frame, footprint_m: Sequence[float], tiles: int, rim_m: float = 0.0) -> Tiling:
        """Cut a scene into a number of tiles, as square as that number allows.

        It is the footprint that is divided evenly: that is where rays are.

        Args:
            frame: Frame of the scene.
            footprint_m: West, south, east and north limits of its pixels in the frame [m].
            tiles: At least 1.
            rim_m: See `Tiling`.
        """
        west, south, east, north = (float(value) for value in footprint_m)
        width, depth = max(east - west, 1.0), max(north - south, 1.0)
        pairs = [(columns, tiles // columns) for columns in range(1, tiles + 1) if tiles % columns == 0]
        # The shortest borders: fewest rays cross them.
        columns, rows = min(pairs, key=lambda pair: ((pair[0] - 1) * depth + (pair[1] - 1) * width, pair))
        x = tuple(west + width * k / columns for k in range(1, columns))
        y = tuple(south + depth * k / rows for k in range(1, rows))
        return cls(frame, x, y, rim_m)

    def __len__(self) -> int:
        return (len(self.x_cuts_m) + 1) * (len(self.y_cuts_m) + 1)

    def box(self, tile: int, margin_m: float = 0.0) -> Frame:
        """The frame with one tile as its box, wider by a margin on all four sides."""
        row, column = divmod(tile, len(self.x_cuts_m) + 1)
        (x0, y0, bottom), (x1, y1, top) = self.frame.lower_m, self.frame.upper_m
        x, y = (x0, *self.x_cuts_m, x1), (y0, *self.y_cuts_m, y1)
        lower = (x[column] - margin_m, y[row] - margin_m, bottom)
        upper = (x[column + 1] + margin_m, y[row + 1] + margin_m, top)
        return Frame(self.frame.latitude_deg, self.frame.longitude_deg, lower, upper)

    def tile_at(self, x_m: Any, y_m: Any) -> Any:
        """Number of the tile at frame coordinates [m], NumPy or torch, of the same shape, by unmoved cuts."""
        column, row = (
            sum((values >= cut) * 1 for cut in cuts) if cuts else (values != values) * 1
            for values, cuts in ((x_m, self.x_cuts_m), (y_m, self.y_cuts_m))
        )
        return column + row * (len(self.x_cuts_m) + 1)

    def share(self, tile: int, x_m: Any, y_m: Any) -> Any:
        """Share of a tile at frame coordinates [m], NumPy or torch; shares of all tiles add up to 1."""
        row, column = divmod(tile, len(self.x_cuts_m) + 1)
        return self._between(self.x_cuts_m, column, x_m) * self._between(self.y_cuts_m, row, y_m)

    def _between(self, cuts: tuple[float, ...], part: int, values: Any) -> Any:
        """Share of rays whose border before a part lies below the values, and the one after it above."""
        share = values * 0.0 + 1.0 if part == 0 else self._beyond(cuts[part - 1], values)
        return share if part == len(cuts) else share - self._beyond(cuts[part], values)

    def _beyond(self, cut: float, values: Any) -> Any:
        if self.rim_m == 0.0:
            return (values >= cut) * 1.0
        return ((values - cut) / (2.0 * self.rim_m) + 0.5).clip(0.0, 1.0)

    def shifts(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, 2) by how much the borders of rays with these numbers are moved along x and y [m]."""
        return self.rim_m * (2.0 * np.mod(numbers[:, None] * np.array(R2), 1.0) - 1.0)

    def runs(
        self, paths: ArrayLike, shifts_m: ArrayLike = (0.0, 0.0)
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Cut rays where they pass from one tile into the next.

        Args:
            paths: (R, 3, DEGREE + 1) of `atmonr.geo.paths.Paths`.
            shifts_m: By how much the borders are moved along x and y [m], for each ray or for all.

        Returns:
            (R, M - 1) fractions of each ray at which a run ends, ascending, infinite beyond the last, and
            (R, M) tile of each run, -1 beyond the last. M is the largest number of runs of any ray.
        """
        paths = parabolas(np.asarray(paths)[:, :2].astype(np.float64)).astype(np.float64, copy=False)
        paths[..., 0] -= np.asarray(shifts_m)
        blocks = [self._crossings(paths[start : start + _BLOCK]) for start in range(0, len(paths), _BLOCK)]
        most = max((block.shape[1] for block in blocks), default=0)
        cuts = np.full((len(paths), most), np.inf, np.float32)
        tiles = np.full((len(paths), most + 1), -1, np.int32)
        for number, block in enumerate(blocks):
            part = slice(number * _BLOCK, number * _BLOCK + len(block))
            cuts[part, : block.shape[1]] = block
            tiles[part] = self._tiles_of_runs(paths[part], cuts[part])
        return cuts, tiles

    def _crossings(self, paths: Floats) -> NDArray[np.float32]:
        """(R, most) fractions at which rays meet a cut, ascending, then infinite."""
        roots = [
            root
            for axis, cuts in ((paths[:, 0], self.x_cuts_m), (paths[:, 1], self.y_cuts_m))
            for cut in cuts
            for root in _roots(axis[:, 2], axis[:, 1], axis[:, 0] - cut)
        ]
        found = np.stack(roots, 1).astype(np.float32) if roots else np.empty((len(paths), 0), np.float32)
        # A ray that ends on a border does not cross it.
        found = np.sort(np.where((found > 0.0) & (found < 1.0), found, np.float32(np.inf)), 1)
        return found[:, : int(np.isfinite(found).sum(1).max(initial=0))]

    def _tiles_of_runs(self, paths: Floats, cuts: NDArray[np.float32]) -> NDArray[np.int32]:
        """(R, M) tile in the middle of each run; -1 where there is none."""
        ends = np.concatenate([cuts, np.full((len(cuts), 1), np.inf)], 1).astype(np.float64)
        starts = np.concatenate([np.zeros((len(cuts), 1)), cuts], 1)
        s = 0.5 * (np.minimum(starts, 1.0) + np.minimum(ends, 1.0))
        x, y = (p[:, :1] + s * (p[:, 1:2] + s * p[:, 2:]) for p in (paths[:, 0], paths[:, 1]))
        return np.where(np.isfinite(starts), self.tile_at(x, y), -1).astype(np.int32)


def _roots(a: Floats, b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Both real roots of a s^2 + b s + c without cancellation; NaN or infinite where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        q = -0.5 * (b + np.copysign(np.sqrt(b * b - 4.0 * a * c), b))
        return q / a, c / q
