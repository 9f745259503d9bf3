"""What grids share whose columns are given by latitude and longitude."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from atmonr.extract.grids.base import Coordinate, FloatArray, Grid, Slices
from atmonr.geo.frame import Frame

_NAMES = {"latitude": "degrees_north", "longitude": "degrees_east"}


class GeographicGrid(Grid):
    """Columns whose latitude and longitude are known before their place in the frame."""

    @abstractmethod
    def latitude_longitude(self, *columns: slice) -> tuple[FloatArray, FloatArray]:
        """Return latitude and longitude [degrees] of columns, each of the columns' shape."""

    def places_m(self, columns: Slices) -> FloatArray:
        """Return where columns stand: x and y in the frame [m], (..., 2), NaN for a column without place."""
        return places(self.frame, *self.latitude_longitude(*columns))


def places(frame: Frame, latitude_deg: FloatArray, longitude_deg: FloatArray) -> FloatArray:
    """Return x and y in a frame [m], (..., 2); NaN for a place that is missing or on the far side."""
    known = np.isfinite(latitude_deg) & np.isfinite(longitude_deg)
    xy = np.full((*known.shape, 2), np.nan)
    xy[known] = frame.from_geodetic(latitude_deg[known], longitude_deg[known])[:, :2]
    return xy


def horizontal_coordinate(
    name: str, dims: tuple[str, ...], values: FloatArray, bounds: FloatArray | None = None, **more: str
) -> Coordinate:
    """Return the coordinate latitude or longitude [degrees]."""
    attributes = {"standard_name": name, "long_name": f"{name} of the column", "units": _NAMES[name]}
    return Coordinate(name, dims, values, attributes | more, bounds)
