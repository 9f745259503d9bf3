"""The bins of a HARP2 L1C file, with regular levels of height above each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from atmonr.extract.grids.base import (
    ALTITUDE_ATTRIBUTES,
    Coordinate,
    FloatArray,
    Slices,
    checksum,
    count_of_steps,
    upright,
)
from atmonr.extract.grids.geographic import GeographicGrid, horizontal_coordinate
from atmonr.geo.frame import Frame


@dataclass(frozen=True, eq=False)
class L1cGrid(GeographicGrid):
    """Columns at the bins of an L1C file, all of them and in its order.

    Attributes:
        frame: Frame of the scene.
        latitude_deg: Of the bins, shape (rows, columns), NaN where the file has none.
        longitude_deg: Likewise.
        step_m: Height of a cell; the lowest stands on the ellipsoid [m].
        levels: Number of cells upward.
        source: Name and checksum of the file.
    """

    frame: Frame
    latitude_deg: FloatArray
    longitude_deg: FloatArray
    step_m: float
    levels: int
    source: dict[str, Any]

    kind: ClassVar[str] = "l1c"
    dims: ClassVar[tuple[str, ...]] = ("z", "bins_along_track", "bins_across_track")

    def __post_init__(self) -> None:
        self._refuse_too_many_cells()

    @classmethod
    def covering(
        cls,
        frame: Frame,
        latitude_deg: FloatArray,
        longitude_deg: FloatArray,
        top_m: float,
        vertical_step_m: float,
        source: dict[str, Any],
    ) -> L1cGrid:
        """Return the grid of bins with cells from the ellipsoid up to at least `top_m`.

        Raises:
            UsageError: If the step is not positive, or the grid is too large.
        """
        levels = count_of_steps("vertical", 0.0, top_m, vertical_step_m)
        return cls(frame, latitude_deg, longitude_deg, float(vertical_step_m), levels, source)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Number of levels, rows and columns."""
        return (self.levels, *self.latitude_deg.shape)

    @property
    def altitude_m(self) -> FloatArray:
        """Heights of the cell centres above the ellipsoid [m], upward."""
        return np.asarray(self.step_m * (np.arange(self.levels) + 0.5))

    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of bins."""
        return self.latitude_deg[columns], self.longitude_deg[columns]

    def heights_m(self, slices: Slices) -> FloatArray:
        """Return heights of levels [m], shape (n_altitude, 1, 1)."""
        return upright(self.altitude_m[slices[0]], 2)

    def coordinates(self) -> list[Coordinate]:
        """Return altitude of the levels, latitude and longitude of the bins."""
        return [
            Coordinate("z", ("z",), self.altitude_m, {**ALTITUDE_ATTRIBUTES, "axis": "Z"}),
            horizontal_coordinate("latitude", self.dims[1:], self.latitude_deg),
            horizontal_coordinate("longitude", self.dims[1:], self.longitude_deg),
        ]

    def attributes(self) -> dict[str, Any]:
        """Return whose bins these are, and the step."""
        comment = "bins of the L1C file, all of them and in its order"
        return {"grid_comment": comment, "vertical_spacing_m": self.step_m}

    def inputs(self) -> list[dict[str, Any]]:
        """Return name and checksum of the L1C file."""
        return [self.source]

    def stored(self) -> dict[str, FloatArray]:
        """Return latitude and longitude of the bins, stacked."""
        return {"bins": np.stack([self.latitude_deg, self.longitude_deg])}

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values, with a checksum in place of the bins."""
        return {
            "kind": self.kind,
            "frame": self.frame.to_json(),
            "step_m": self.step_m,
            "levels": self.levels,
            "source": self.source,
            "stored": {name: checksum(values) for name, values in self.stored().items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], stored: dict[str, FloatArray]) -> L1cGrid:
        """Rebuild a grid from what `to_json` and `stored` returned."""
        latitude, longitude = stored["bins"]
        frame = Frame.from_json(values["frame"])
        return cls(
            frame, latitude, longitude, float(values["step_m"]), int(values["levels"]), values["source"]
        )
