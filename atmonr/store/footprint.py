"""Where on the ground a granule lies: its pixels' size, bounds, outline and the satellite's track."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from atmonr.errors import GranuleError
from atmonr.geo.frame import Frame
from atmonr.sensors.granule import Granule
from atmonr.store.survey import BoundingBox, Survey


def nadir_places(part: Survey, bbox: BoundingBox | None) -> NDArray[np.float32]:
    """(2, L, P) latitude and longitude of the view nearest to nadir, NaN outside the bounding box.

    After `scene_block` has seen all of the survey, they are NaN where a ray is not usable, too.
    """
    places = np.stack([part.latitude[part.nadir_view], part.longitude[part.nadir_view]])
    if bbox is not None:
        places[:, ~bbox.contains(places[0], places[1])] = np.nan
    return places


def footprint_of(granule: Granule, frame: Frame, nadir: NDArray[np.float32]) -> dict[str, Any]:
    """Of (2, L, P) the nadir view: median distance of neighbouring pixels, bounds and outline of all [m]."""
    places = frame.from_geodetic(nadir[0], nadir[1])[..., :2]
    steps = [np.linalg.norm(np.diff(places, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    spacing = np.concatenate(steps)
    spacing = spacing[np.isfinite(spacing)]
    if spacing.size == 0 or np.median(spacing) == 0.0:
        raise GranuleError(
            f"{granule.path}: latitude and longitude of the view nearest to nadir put no two neighbouring"
            " pixels at different places; expected an image to tell the pixel size from"
        )
    bounds = [*np.nanmin(places, axis=(0, 1)).tolist(), *np.nanmax(places, axis=(0, 1)).tolist()]
    outline = _outline(places.reshape(-1, 2))
    # Attributes that every reader understands have one dimension.
    corners = [value for corner in outline for value in corner]
    return {
        "pixel_m": float(np.median(spacing)),
        "footprint_m": bounds,
        "outline_m": corners,
        "track_m": _track(places),
    }


def _track(places_m: NDArray[np.float64]) -> list[float]:
    """Start and end, x and y [m], of the middle of (L, P, 2) places from the first line to the last."""
    lines = [line[np.isfinite(line).all(-1)] for line in places_m]
    middles = [line.mean(axis=0) for line in lines if len(line)]
    return np.round(np.concatenate([middles[0], middles[-1]]), 1).tolist()


def _outline(places_m: NDArray[np.float64]) -> list[list[float]]:
    """Corners of the convex hull of (N, 2) places [m], counterclockwise; none if they lie on a line."""
    places = places_m[np.isfinite(places_m).all(-1)]
    try:
        # The swath is as good as convex; a tenth of a metre keeps rounding from making corners.
        return np.round(places[ConvexHull(np.round(places, 1)).vertices], 1).tolist()
    except QhullError:
        return []
