"""The ground under the columns of a grid: cells below it hold no air."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from atmonr.atomic import sha256
from atmonr.extract.grids.base import FloatArray, Grid
from atmonr.geo.datum import ELLIPSOID, SEA_LEVEL, UNSTATED
from atmonr.geo.frame import Frame
from atmonr.store.dem import Dem
from atmonr.store.scene import Scene

_ROWS_AT_ONCE = 64


class Surface(Protocol):
    """Something that knows how high the ground is."""

    def height_m(self, grid: Grid, columns: tuple[slice, ...]) -> FloatArray:
        """Return the height of the ground under columns of a grid [m], NaN where it is not known."""
        ...


def describe_dem(path: Path) -> dict[str, Any]:
    """Return JSON data that says which elevation model the heights are of.

    Raises:
        GranuleError: If it is no elevation model.
    """
    with Dem.open(path) as dem:
        datum = dem.datum
    return {
        "source": f"elevation model {path.name}, bilinear",
        "datum": datum.name,
        "standard_name": datum.standard_name,
        "off_ellipsoid_m": datum.off_ellipsoid_m,
        "file": path.name,
        "sha256": sha256(path),
    }


def describe_scene_surface(scene: Scene) -> dict[str, Any]:
    """Return JSON data that says that the heights are those of the scene's own pixels."""
    name = scene.dataset["surface_altitude"].attrs.get("vertical_datum", UNSTATED.name)
    datum = {known.name: known for known in (ELLIPSOID, SEA_LEVEL)}.get(name, UNSTATED)
    return {
        "source": "surface altitude of the nearest pixel of the granule's view nearest to nadir",
        "datum": datum.name,
        "standard_name": datum.standard_name,
        "off_ellipsoid_m": datum.off_ellipsoid_m,
    }


def column_heights(grid: Grid, surface: Surface) -> NDArray[np.float32]:
    """Return the height of the ground under every column of a grid [m], NaN where it is not known."""
    heights = np.empty(grid.shape[1:], np.float32)
    for row in range(0, heights.shape[0], _ROWS_AT_ONCE):
        some = (slice(row, row + _ROWS_AT_ONCE), *(slice(None),) * (heights.ndim - 1))
        heights[some] = surface.height_m(grid, some)
    return heights


@dataclass(frozen=True)
class SceneSurface:
    """The ground as the pixels of a scene's view nearest to nadir lie on it.

    Attributes:
        tree: Places of the pixels in the frame.
        altitude_m: Their altitudes.
    """

    tree: cKDTree
    altitude_m: FloatArray

    @classmethod
    def of(cls, scene: Scene) -> SceneSurface:
        """Read the ground of the view nearest to nadir that has any usable pixel."""
        for view in np.argsort(np.abs(scene.view_angle_deg), kind="stable"):
            latitude, longitude, altitude = (
                scene.read(name, views=slice(view, view + 1)).astype(np.float64)
                for name in ("latitude", "longitude", "surface_altitude")
            )
            known = np.isfinite(latitude) & np.isfinite(longitude) & np.isfinite(altitude)
            if known.any():
                break
        return cls(cKDTree(_places(scene.frame, latitude[known], longitude[known])), altitude[known])

    def height_m(self, grid: Grid, columns: tuple[slice, ...]) -> FloatArray:
        """Return the altitude of the pixel nearest to each column [m]; NaN for a column without place."""
        places = grid.places_m(columns)
        known = np.isfinite(places).all(-1)
        heights = np.full(known.shape, np.nan)
        heights[known] = self.altitude_m[self.tree.query(places[known])[1]]
        return heights


@dataclass(frozen=True)
class DemSurface:
    """The ground of an elevation model, above the model's own datum.

    Attributes:
        dem: Gives heights [m] at latitudes and longitudes [degrees].
    """

    dem: Dem

    def height_m(self, grid: Grid, columns: tuple[slice, ...]) -> FloatArray:
        """Return the model's height of the ground under columns [m]."""
        return np.asarray(self.dem.height_m(*grid.latitude_longitude(*columns)), np.float64)


@contextmanager
def dem_surface(path: Path) -> Iterator[DemSurface]:
    """Open an elevation model as the ground."""
    with Dem.open(path) as dem:
        yield DemSurface(dem)


def _places(frame: Frame, latitude_deg: FloatArray, longitude_deg: FloatArray) -> FloatArray:
    return frame.from_geodetic(latitude_deg, longitude_deg)[:, :2]
