"""A satellite's track over a scene: which part of it lies there, how far in time, how long.

A track is a sequence of places, one per profile of a lidar. Everything works at the poles and across the
dateline, because distances and insides are found in Earth-centred or frame coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atmonr.geo.ellipsoid import Floats, geodetic_to_ecef
from atmonr.geo.frame import Frame

# What a public list of PACE and EarthCARE match-ups (seanremy/pace-earthcare-matchups) allows.
MAX_TIME_OFFSET_S = 300.0


@dataclass(frozen=True)
class TrackMatch:
    """The part of a track that lies over a scene.

    Attributes:
        profiles: Range of indices into the track.
        time_offset_s: From the scene's observation to the middle profile of the range [s]: positive when
            the lidar came later, 0 when it came while the scene was observed, NaN when that is not known.
    """

    profiles: slice
    time_offset_s: float


def match_track(
    inside: ArrayLike, time_s: ArrayLike, observed_s: tuple[float, float] | None
) -> TrackMatch | None:
    """Find the longest contiguous part of a track inside a scene.

    Args:
        inside: Whether each profile lies inside, shape (N,).
        time_s: When each was measured [seconds since an epoch], shape (N,).
        observed_s: Begin and end of the scene's observation, since the same epoch, if known.

    Returns:
        The match, None if no profile is inside. Of parts of equal length it is the first.
    """
    profiles = longest_run(inside)
    if profiles.start == profiles.stop:
        return None
    moment = float(np.asarray(time_s, np.float64)[(profiles.start + profiles.stop - 1) // 2])
    if observed_s is None:
        return TrackMatch(profiles, float("nan"))
    begin, end = observed_s
    return TrackMatch(profiles, moment - min(max(moment, begin), end))


def longest_run(inside: ArrayLike) -> slice:
    """Return the longest contiguous range that is true throughout, the first of them, perhaps empty."""
    flags = np.concatenate([[False], np.asarray(inside, bool), [False]]).astype(np.int8)
    starts, stops = (np.flatnonzero(np.diff(flags) == change) for change in (1, -1))
    if starts.size == 0:
        return slice(0, 0)
    best = int(np.argmax(stops - starts))
    return slice(int(starts[best]), int(stops[best]))


def inside_box(
    frame: Frame, box_m: Sequence[float], latitude_deg: ArrayLike, longitude_deg: ArrayLike
) -> NDArray[np.bool_]:
    """Return which places lie in a box of a frame; places that are missing (NaN) do not.

    Args:
        frame: Frame of the box.
        box_m: West, south, east and north limits [m].
        latitude_deg: Latitudes, shape (N,).
        longitude_deg: Longitudes, shape (N,).
    """
    west, south, east, north = box_m
    x, y, _ = np.moveaxis(frame.from_geodetic(latitude_deg, longitude_deg), -1, 0)
    inside: NDArray[np.bool_] = (x >= west) & (x <= east) & (y >= south) & (y <= north)  # False for NaN
    return inside


def distance_along_m(latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Floats:
    """Return how far each place of a track is from the first, along it at the ellipsoid [m], shape (N,)."""
    places = geodetic_to_ecef(latitude_deg, longitude_deg, 0.0)
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])
