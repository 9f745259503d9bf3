"""From what an extraction stored of its grid back to the grid."""

from __future__ import annotations

from typing import Any

from atmonr.extract.grids.base import FloatArray, Grid
from atmonr.extract.grids.curtain import CurtainGrid
from atmonr.extract.grids.l1c import L1cGrid
from atmonr.extract.grids.sphere import GlobalGrid
from atmonr.extract.grids.voxel import VoxelGrid


def restore(values: dict[str, Any], stored: dict[str, FloatArray]) -> Grid:
    """Rebuild a grid from what its `to_json` and `stored` returned.

    Raises:
        KeyError, TypeError, ValueError: If that is not what they hold.
    """
    kinds = {kind.kind: kind for kind in (VoxelGrid, L1cGrid, CurtainGrid, GlobalGrid)}
    return kinds[values["kind"]].from_json(values, stored)
