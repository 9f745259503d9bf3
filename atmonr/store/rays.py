"""What an ingest makes of a block of views: which rays are usable, and their reflectances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.sensors.granule import Granule
from atmonr.store.layout import GEOMETRY, MISSING_QUALITY, scene_name
from atmonr.store.survey import BoundingBox

Block = dict[str, NDArray[Any]]

MAX_SOLAR_ZENITH_DEG = 85.0  # beyond, sunlight is too slant for a plane-parallel normalisation
_RADIANCES = ("radiance", "q", "u", "radiance_stdev", "q_stdev", "u_stdev")
_OF_ALL_RAYS = ("observations", "quality", "time")  # they tell why a ray is not usable


def usable_rays(
    block: Mapping[str, NDArray[Any]],
    bbox: BoundingBox | None,
    max_view_zenith_deg: float,
    top_height_m: float,
) -> NDArray[np.bool_]:
    """(V, L, P) rays with a radiance, complete geometry, a high enough sensor and sun, below the top."""
    # Comparisons with NaN are False.
    valid = block["sensor_zenith_angle"] <= np.float32(max_view_zenith_deg)
    valid &= block["solar_zenith_angle"] < np.float32(MAX_SOLAR_ZENITH_DEG)
    valid &= block["surface_altitude"] < np.float32(top_height_m)
    for name in ("radiance", "latitude", "longitude", "sensor_azimuth_angle", "solar_azimuth_angle"):
        valid &= np.isfinite(block[name])
    if bbox is not None:
        valid &= bbox.contains(block["latitude"], block["longitude"])
    return valid


def scene_block(granule: Granule, block: Block, valid: NDArray[np.bool_], views: slice) -> Block:
    """Everything a scene keeps of a block of views, NaN where a ray is not usable.

    Radiances (and q, u, standard deviations) become pi L d^2 / (F0 cos(solar zenith angle)). Arrays of the
    block are overwritten, to spare copies of a large block.

    Returns:
        Arrays (V, L, P), or (V, L) for the time of lines, by their name in the scene.
    """
    scale = (np.pi * granule.sun_earth_distance**2 / granule.solar_irradiance[views]).astype(np.float32)
    unusable = ~valid
    for view, factor in enumerate(scale):
        slant = factor / np.cos(np.radians(block["solar_zenith_angle"][view]))
        for name in _RADIANCES:
            if name in block:
                block[name][view] *= slant
    if unusable.any():
        for name in (*GEOMETRY, *_RADIANCES):
            if name in block:
                np.copyto(block[name], np.nan, where=unusable)
    if "quality" in block:
        block["quality"] = np.nan_to_num(block["quality"], nan=MISSING_QUALITY).astype(np.uint8)
    return {**{scene_name(name): values for name, values in block.items()}, "valid": valid.view(np.uint8)}
