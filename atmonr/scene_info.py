"""What is told of a scene in its own attributes, in run folders and in extractions: checked when it is read.

Files travel and get damaged, and what follows from these few values (the size of arrays, say) must not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

_MOST_BANDS = 64
_FARTHEST_M = 2.1e7  # half around the Earth
_MOST_PIXELS = 2_000_000_000


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    expected: str


def check_scene_info(info: Mapping[str, Any]) -> None:
    """Refuse values that no scene has; keys that are missing are left to whoever needs them.

    Raises:
        ValueError: Names the key and what was expected.
    """
    for key, rule in _RULES.items():
        if key in info and not rule.holds(info[key]):
            raise ValueError(f"{key} is {repr(info[key])[:80]}; expected {rule.expected}")
    if {"footprint_m", "pixel_m"} <= info.keys():
        west, south, east, north = info["footprint_m"]
        if (east - west) / info["pixel_m"] * (north - south) / info["pixel_m"] > _MOST_PIXELS:
            raise ValueError(f"pixel_m is {info['pixel_m']:g}; expected fewer pixels in footprint_m")


def _number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    # A boolean is an integer to Python. Comparisons with NaN are false.
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value < high


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _wavelengths(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) <= _MOST_BANDS and all(_number(v, 0.0) for v in value)
    )


def _place(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_number(v, -_FARTHEST_M, _FARTHEST_M) for v in value)


def _footprint(value: Any) -> bool:
    return _place(value) and len(value) == 4 and value[0] < value[2] and value[1] < value[3]


def _outline(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_place(pair) and len(pair) == 2 for pair in value)


def _sun(value: Any) -> bool:
    rows = value if isinstance(value, list | tuple) else []
    widths = {len(row) if isinstance(row, list | tuple) and all(map(_number, row)) else 0 for row in rows}
    return len(rows) == 3 and len(widths) == 1 and widths <= {1, 6}


_RULES = {
    **dict.fromkeys(("name", "scene_id", "granule", "path"), _Rule(_text, "text")),
    **dict.fromkeys(("time_coverage_start", "time_coverage_end"), _Rule(_time, "a time in ISO 8601")),
    "pixel_m": _Rule(lambda value: _number(value, 0.0, _FARTHEST_M), "a length above 0 m"),
    "top_height_m": _Rule(lambda value: _number(value, 0.0, 1e6), "a height above 0, up to 1e6 m"),
    "footprint_m": _Rule(_footprint, "west, south, east, north limits [m]"),
    "outline_m": _Rule(_outline, "pairs of x and y [m]"),
    "wavelengths_nm": _Rule(_wavelengths, f"up to {_MOST_BANDS} wavelengths [nm]"),
    "sun": _Rule(_sun, "three rows of one or six numbers"),
    "rays": _Rule(lambda value: _number(value, -1) and isinstance(value, int), "a number of rays"),
    "provenance": _Rule(lambda value: isinstance(value, dict), "a JSON object"),
}
