"""Small scenes for tests of what uses rays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from atmonr.store.scene import Scene, open_scene
from tests.sensors.granules import NAME, make_fields, write_granule

Fields = dict[str, NDArray[np.float32]]


def make_scene(folder: Path, fields: Fields | None = None, **options: Any) -> Scene:
    """Write a granule and ingest it as `scene.zarr`; 90 views of 12 by 9 pixels unless `fields` differ."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_harp2(write_granule(folder / NAME, fields)) as granule:
        return open_scene(ingest(granule, folder / "scene.zarr", **options))


def slanted(fields: Fields, steepest_deg: float) -> Fields:
    """The same swath seen from lower, up to a sensor zenith angle."""
    zenith = fields["sensor_zenith_angle"]
    return {**fields, "sensor_zenith_angle": (zenith * (steepest_deg / zenith.max())).astype(np.float32)}


__all__ = ["Fields", "make_fields", "make_scene", "slanted"]
