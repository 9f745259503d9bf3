"""Where the sun stood and which way the sensor flew, for whoever shows a product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from atmonr.geo.sun import sun_direction


def viewing(scene: Mapping[str, Any]) -> dict[str, float]:
    """Return attributes of a product from the description of its scene; those it cannot tell are left out.

    Angles are those at the middle of the scene's frame, azimuths clockwise from its y axis, which points
    north at the frame's centre.
    """
    found: dict[str, float] = {}
    if scene.get("sun"):
        x, y, up = (float(v) for v in sun_direction(scene["sun"], 0.5, 0.5))
        found["solar_zenith_deg"] = round(math.degrees(math.atan2(math.hypot(x, y), up)), 3)
        found["solar_azimuth_deg"] = round(_azimuth_deg(x, y), 3)
    if len(scene.get("track_m") or ()) == 4:
        x0, y0, x1, y1 = scene["track_m"]
        found["sensor_heading_deg"] = round(_azimuth_deg(x1 - x0, y1 - y0), 3)
    return found


def _azimuth_deg(x: float, y: float) -> float:
    return math.degrees(math.atan2(x, y)) % 360.0
