"""When each line, or each pixel, of a HARP2 granule was seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError
from atmonr.sensors.harp2_header import parse_time
from atmonr.sensors.images import VIEW_FIRST, VIEW_LAST, Images, find_axes

_SECONDS_OF_DAY = "navigation_data/seconds_of_day"
_NADIR_TIME, _OFFSETS = "bin_attributes/nadir_view_time", "bin_attributes/view_time_offsets"
_DAY_S = 86400.0
_OBLIQUE_DEG = 20.0  # views from here on clearly come before or after the nadir view

Seconds = NDArray[np.float64]


class Times(Protocol):
    """Reads when pixels were seen."""

    def read(self, images: Images, views: NDArray[np.integer], lines: slice) -> Seconds:
        """(v, l) or (v, l, P) seconds since 1970, NaN where missing."""


@dataclass(frozen=True)
class LineTimes:
    """Level-1B: seconds of the day of every line, of each view or of all views together."""

    start: datetime

    def read(self, images: Images, views: NDArray[np.integer], lines: slice) -> Seconds:
        """(v, l) seconds since 1970, NaN where missing."""
        seconds = images.file.read_double(_SECONDS_OF_DAY, (..., images.stored_lines(lines)))
        time = _nearest_day(self.start, _midnight(self.start) + seconds)
        time = time[..., :: -1 if images.flipped[0] else 1]
        return time[views] if time.ndim == 2 else np.tile(time, (len(views), 1))


@dataclass(frozen=True)
class BinTimes:
    """Level-1C: the time at which the nadir view sees each row, and how much earlier or later others do.

    Attributes:
        start: begin of the granule.
        zero: what the nadir view's times count from [s since 1970].
        sign: of the offsets, 1 where later is positive.
    """

    start: datetime
    zero: float
    sign: float

    def read(self, images: Images, views: NDArray[np.integer], lines: slice) -> Seconds:
        """(v, l, P) seconds since 1970, NaN where missing."""
        nadir = images.file.read_double(_NADIR_TIME, (images.stored_lines(lines),))
        nadir = nadir[:: -1 if images.flipped[0] else 1]
        offsets = images.read("time", views, lines)
        return _nearest_day(self.start, self.zero + nadir[:, None] + self.sign * offsets.astype(np.float64))


def find_line_times(images: Images, start: datetime, notes: list[str]) -> LineTimes | None:
    """Times of Level-1B, None where there are none or, with a note, they cannot be understood."""
    if not images.file.has(_SECONDS_OF_DAY):
        return None
    found, (views, lines, _) = images.file.shape(_SECONDS_OF_DAY), images.shape
    if found in ((views, lines), (lines,)):
        return LineTimes(start)
    notes.append(f"{_SECONDS_OF_DAY} has the shape {found}, which is not understood: times are left out")
    return None


def find_bin_times(
    images: Images, start: datetime, view_angle_deg: NDArray[np.float32], notes: list[str]
) -> BinTimes | None:
    """Times of Level-1C, None where there are none or, with a note, they cannot be understood.

    Documents differ on which of the two times an offset is subtracted from, so it is told from what must be:
    a view that looks forward sees a place before the nadir view does. Offsets join `images.places` as "time".
    """
    file = images.file
    if not (file.has(_NADIR_TIME) or file.has(_OFFSETS)):
        return None
    try:
        if file.shape(_NADIR_TIME) != images.shape[1:2]:
            raise GranuleError(f"{_NADIR_TIME} has the shape {file.shape(_NADIR_TIME)}")
        axes = find_axes(file, _OFFSETS, images.shape, (VIEW_LAST, VIEW_FIRST))
    except GranuleError as error:
        notes.append(f"{str(error).removeprefix(f'{file.path}: ')}: times are left out")
        return None
    images.places["time"] = (_OFFSETS, axes)
    since = re.search(r"since\s+(\S.*)", file.text(_NADIR_TIME, "units"))
    zero = parse_time(since.group(1)) if since else None
    return BinTimes(start, zero.timestamp() if zero else _midnight(start), _sign(images, view_angle_deg))


def _sign(images: Images, view_angle_deg: NDArray[np.float32]) -> float:
    evidence = 0.0
    for view in (int(np.argmax(view_angle_deg)), int(np.argmin(view_angle_deg))):
        angle = float(view_angle_deg[view])
        offset = images.read_view("time", view)
        if abs(angle) >= _OBLIQUE_DEG and np.isfinite(offset).any():
            evidence += np.sign(angle) * float(np.nanmean(offset))
    return -1.0 if evidence > 0.0 else 1.0


def _midnight(start: datetime) -> float:
    return start.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _nearest_day(start: datetime, time: Seconds) -> Seconds:
    """The same time of day on whichever day is nearest to the begin of the granule."""
    return time - _DAY_S * np.round((time - start.timestamp()) / _DAY_S)
