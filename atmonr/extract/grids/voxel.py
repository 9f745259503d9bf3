"""Voxels: exactly the spacing that was asked for, in metres."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import UsageError
from atmonr.extract.grids.base import (
    ALTITUDE_ATTRIBUTES,
    Coordinate,
    FloatArray,
    Grid,
    Slices,
    count_of_steps,
    upright,
)
from atmonr.geo.frame import Frame

_ROWS_AT_ONCE = 256
_FRAME_COMMENT = (
    "x and y are coordinates of the foot of the vertical on the ellipsoid: its orthographic projection on "
    "the tangent plane at the frame's centre, stretched radially to arc length with the radius of curvature "
    "of its direction. Every (y, x) is a vertical column; its latitude and longitude are exact."
)


@dataclass(frozen=True)
class VoxelGrid(Grid):
    """A box of equal cells in the coordinates of a frame; axes are ordered altitude, y, x.

    Attributes:
        frame: The local frame in which x and y are metres and columns are vertical.
        first_m: Centre of the first cell along altitude, y and x [m].
        step_m: Size of a cell along altitude, y and x [m].
        shape: Number of cells along altitude, y and x.
    """

    frame: Frame
    first_m: tuple[float, float, float]
    step_m: tuple[float, float, float]
    shape: tuple[int, int, int]

    kind: ClassVar[str] = "voxel"
    dims: ClassVar[tuple[str, ...]] = ("z", "y", "x")

    def __post_init__(self) -> None:
        self._refuse_too_many_cells()

    @classmethod
    def covering(
        cls,
        frame: Frame,
        footprint_m: Sequence[float],
        top_m: float,
        *,
        horizontal_step_m: float,
        vertical_step_m: float,
        bbox_deg: Sequence[float] | None = None,
    ) -> VoxelGrid:
        """Return the grid of a scene's footprint, from the ellipsoid up to at least `top_m`.

        The number of cells is the smallest that covers the footprint; what they cover too much is shared
        equally by opposite sides. The lowest cells stand on the ellipsoid.

        Args:
            frame: Frame of the scene.
            footprint_m: West, south, east and north limits in the frame [m].
            top_m: Height to be covered [m above the ellipsoid].
            horizontal_step_m: Cell size along x and y [m].
            vertical_step_m: Cell size along altitude [m].
            bbox_deg: Keep only the rows and columns with a cell centre inside west, south, east, north
                [degrees]; west > east crosses the dateline.

        Raises:
            UsageError: If a size is not positive, the box holds no cell, or the grid is too large.
        """
        west, south, east, north = (float(v) for v in footprint_m)
        y, dy, ny = _axis("horizontal", south, north, horizontal_step_m, centred=True)
        x, dx, nx = _axis("horizontal", west, east, horizontal_step_m, centred=True)
        # Last, because its step follows from the horizontal one unless it is given.
        z, dz, nz = _axis("vertical", 0.0, float(top_m), vertical_step_m, centred=False)
        if bbox_deg is None:
            return cls(frame, (z, y, x), (dz, dy, dx), (nz, ny, nx))
        layer = cls(frame, (z, y, x), (dz, dy, dx), (1, ny, nx))
        (y0, y1), (x0, x1) = layer._rows_and_columns_inside(bbox_deg)
        return cls(frame, (z, y + y0 * dy, x + x0 * dx), (dz, dy, dx), (nz, y1 - y0, x1 - x0))

    @property
    def altitude_m(self) -> FloatArray:
        """Heights of the cell centres above the ellipsoid [m], upward, shape (n_altitude,)."""
        return self._centres(0)

    @property
    def y_m(self) -> FloatArray:
        """Northward frame coordinates of the cell centres [m], shape (n_y,)."""
        return self._centres(1)

    @property
    def x_m(self) -> FloatArray:
        """Eastward frame coordinates of the cell centres [m], shape (n_x,)."""
        return self._centres(2)

    def coordinates(self) -> list[Coordinate]:
        """Return altitude, y and x of the cell centres [m]."""
        where = "distance of the cell centre from the frame's centre,"
        return [
            Coordinate("z", ("z",), self.altitude_m, {**ALTITUDE_ATTRIBUTES, "axis": "Z"}),
            Coordinate(
                "y", ("y",), self.y_m, {"long_name": f"{where} northward there", "units": "m", "axis": "Y"}
            ),
            Coordinate(
                "x", ("x",), self.x_m, {"long_name": f"{where} eastward there", "units": "m", "axis": "X"}
            ),
        ]

    def attributes(self) -> dict[str, Any]:
        """Return the frame that x and y are in, and the steps."""
        return {
            "frame": json.dumps(self.frame.to_json()),
            "frame_comment": _FRAME_COMMENT,
            "horizontal_spacing_m": self.step_m[1],
            "vertical_spacing_m": self.step_m[0],
        }

    def places_m(self, columns: Slices) -> FloatArray:
        """Return x and y of columns [m], shape (n_y, n_x, 2): the very numbers `coordinates` gives."""
        y, x = (self._centres(axis)[part] for axis, part in enumerate(columns, 1))
        return np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)

    def heights_m(self, slices: Slices) -> FloatArray:
        """Return heights of levels [m], shape (n_altitude, 1, 1)."""
        return upright(self.altitude_m[slices[0]], 2)

    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of columns of air, each of shape (n_rows, n_columns)."""
        places = self.places_m((*columns, slice(None), slice(None))[:2])
        latitude, longitude, _ = self.frame.to_geodetic(np.pad(places, ((0, 0), (0, 0), (0, 1))))
        return latitude, longitude

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values."""
        return {
            "kind": self.kind,
            "frame": self.frame.to_json(),
            "first_m": list(self.first_m),
            "step_m": list(self.step_m),
            "shape": list(self.shape),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], stored: dict[str, FloatArray] | None = None) -> VoxelGrid:
        """Rebuild a grid from what `to_json` returned; nothing else is stored."""
        first, step = (
            (float(z), float(y), float(x)) for z, y, x in (values[key] for key in ("first_m", "step_m"))
        )
        nz, ny, nx = (int(n) for n in values["shape"])
        shape = nz, ny, nx
        if not (np.isfinite(first).all() and np.isfinite(step).all() and min(step) > 0 and min(shape) > 0):
            raise ValueError(f"cells at {first} m, {step} m large, {shape} of them")
        return cls(Frame.from_json(values["frame"]), first, step, shape)

    def _centres(self, axis: int) -> FloatArray:
        # Never linspace between rounded ends: that stretches the step.
        return self.first_m[axis] + self.step_m[axis] * np.arange(self.shape[axis], dtype=np.float64)

    def _rows_and_columns_inside(self, bbox_deg: Sequence[float]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Index ranges of the rows and columns with a centre inside a geographic box.

        The test is made on the cells' own latitude and longitude, so that it holds at the poles and across
        the dateline, where the corners of the box say little about the frame.
        """
        west, south, east, north = (float(v) for v in bbox_deg)
        asked = f"--bbox {west:g} {south:g} {east:g} {north:g}"
        if not (-90 <= south < north <= 90 and -360 <= west <= 360 and -360 <= east <= 360 and west != east):
            raise UsageError(
                f"{asked}: expected west, south, east and north in degrees "
                "with -90 <= south < north <= 90 and different west, east within -360 to 360"
            )
        # 0 would mean an empty range, yet -180 to 180 means every longitude.
        width = (east - west) % 360 or 360.0
        in_row = np.zeros(self.shape[1], bool)
        in_column = np.zeros(self.shape[2], bool)
        for row in range(0, self.shape[1], _ROWS_AT_ONCE):
            rows = slice(row, row + _ROWS_AT_ONCE)
            latitude, longitude = self.latitude_longitude(rows)
            inside = (latitude >= south) & (latitude <= north) & ((longitude - west) % 360 <= width)
            in_row[rows] = inside.any(1)
            in_column |= inside.any(0)
        if not in_row.any():
            raise UsageError(
                f"{asked}: no cell of the scene lies inside; "
                "expected west, south, east and north in degrees within the scene"
            )
        return _span(in_row), _span(in_column)


def _axis(what: str, low: float, high: float, step_m: float, *, centred: bool) -> tuple[float, float, int]:
    """First centre, step and number of cells covering low to high."""
    n = count_of_steps(what, low, high, step_m)
    start = (low + high - n * step_m) / 2 if centred else low
    return start + step_m / 2, float(step_m), n


def _span(present: NDArray[np.bool_]) -> tuple[int, int]:
    hit = np.flatnonzero(present)
    return int(hit[0]), int(hit[-1]) + 1
