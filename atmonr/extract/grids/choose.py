"""From the options of `atmonr extract` to a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atmonr.atomic import sha256
from atmonr.errors import UsageError
from atmonr.extract.footprint import Footprint
from atmonr.extract.grids.base import Grid
from atmonr.extract.grids.curtain import CurtainGrid
from atmonr.extract.grids.geographic import places
from atmonr.extract.grids.l1c import L1cGrid
from atmonr.extract.grids.sphere import (
    DEFAULT_GROWTH,
    DEFAULT_STEP_DEG,
    DEFAULT_THICKNESS_M,
    GlobalGrid,
    Lattice,
)
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.geo.frame import Frame

# Between HARP2's steepest views forward and backward, one pixel of shift is a fifth of a pixel of height.
_VERTICAL_PER_HORIZONTAL = 0.25
# Which options each kind of grid has; an option that would be of no effect is a mistake.
_OPTIONS = {
    "voxel": {"horizontal_step_m", "vertical_step_m", "max_height_m", "bbox"},
    "l1c": {"l1c", "vertical_step_m", "max_height_m"},
    "curtain": {"earthcare"},
    "global": {"step_deg", "vertical_step_m", "growth", "max_height_m"},
}


@dataclass(frozen=True)
class GridRequest:
    """Which grid is wanted; None stands for what suits the scene.

    Attributes:
        kind: "voxel", "l1c", "curtain" or "global".
        horizontal_step_m: Cell size along x and y; the scene's pixel size by default.
        vertical_step_m: Cell size along altitude; a quarter of the horizontal one or of the pixel by default,
            of a global grid the thickness of the lowest level, 100 m by default.
        max_height_m: Top of the grid above the ellipsoid; the top of the modelled atmosphere by default.
        bbox: West, south, east, north [degrees] to keep; everything by default.
        l1c: L1C file with the bins.
        earthcare: ATL_EBD_2A file with the profiles.
        step_deg: Cell size of a global grid along latitude and longitude; 0.05 by default.
        growth: How much thicker each level of a global grid is than the one below; 0.03 by default.
    """

    kind: str = "voxel"
    horizontal_step_m: float | None = None
    vertical_step_m: float | None = None
    max_height_m: float | None = None
    bbox: Sequence[float] | None = None
    l1c: Path | None = None
    earthcare: Path | None = None
    step_deg: float | None = None
    growth: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _OPTIONS:
            raise UsageError(f"--grid {self.kind}: unknown grid; valid: {', '.join(_OPTIONS)}")
        idle = [
            name
            for name, value in vars(self).items()
            if name != "kind" and value is not None and name not in _OPTIONS[self.kind]
        ]
        if idle:
            valid = ", ".join(sorted(map(_option, _OPTIONS[self.kind])))
            raise UsageError(f"{_option(idle[0])}: is not for --grid {self.kind}, which has {valid}")


def choose_grid(info: dict[str, Any], request: GridRequest) -> Grid:
    """Return the grid that was asked for, defaults filled in from the scene.

    Args:
        info: What the run folder tells of the scene.
        request: What was asked for.

    Raises:
        UsageError: If it does not fit the scene.
        GranuleError: If a file cannot be read.
    """
    makers = {"voxel": _voxel, "l1c": _l1c, "curtain": _curtain, "global": _global}
    return makers[request.kind](info, request)


def _voxel(info: dict[str, Any], request: GridRequest) -> Grid:
    top_m = _top(info, request)
    horizontal = float(info["pixel_m"]) if request.horizontal_step_m is None else request.horizontal_step_m
    vertical = request.vertical_step_m
    return VoxelGrid.covering(
        Frame.from_json(info["frame"]),
        info["footprint_m"],
        top_m,
        horizontal_step_m=horizontal,
        vertical_step_m=horizontal * _VERTICAL_PER_HORIZONTAL if vertical is None else vertical,
        bbox_deg=request.bbox,
    )


def _l1c(info: dict[str, Any], request: GridRequest) -> Grid:
    from atmonr.extract.grids.l1c_file import read_bins

    path = _file(request, request.l1c, "--l1c")
    latitude, longitude = read_bins(path)
    vertical = request.vertical_step_m
    if vertical is None:
        vertical = float(info["pixel_m"]) * _VERTICAL_PER_HORIZONTAL
    frame = Frame.from_json(info["frame"])
    if not Footprint.of(info).holds(places(frame, latitude, longitude)).any():
        raise UsageError(f"{path}: no bin lies in the scene; expected the L1C file of the same granule")
    return L1cGrid.covering(frame, latitude, longitude, _top(info, request), vertical, _source(path))


def _curtain(info: dict[str, Any], request: GridRequest) -> Grid:
    from atmonr.sensors.earthcare import read_profiles

    path = _file(request, request.earthcare, "--earthcare")
    profiles = read_profiles(path)
    frame = Frame.from_json(info["frame"])
    latitude, longitude, time = (
        np.asarray(profiles[name].values, np.float64) for name in ("latitude", "longitude", "time")
    )
    inside = np.flatnonzero(Footprint.of(info).holds(places(frame, latitude, longitude)))
    if not inside.size:
        raise UsageError(f"{path}: no profile lies in the scene; expected a track that crosses it")
    some = slice(int(inside[0]), int(inside[-1]) + 1)
    height = np.asarray(profiles["height"].transpose("level", "profile").values, np.float64)
    return CurtainGrid(
        frame,
        latitude[some],
        longitude[some],
        time[some],
        np.ascontiguousarray(height[:, some]),
        some.start,
        _source(path),
    )


def _global(info: dict[str, Any], request: GridRequest) -> Grid:
    lattice = Lattice(
        DEFAULT_STEP_DEG if request.step_deg is None else request.step_deg,
        DEFAULT_THICKNESS_M if request.vertical_step_m is None else request.vertical_step_m,
        DEFAULT_GROWTH if request.growth is None else request.growth,
    )
    frame = Frame.from_json(info["frame"])
    return GlobalGrid.covering(frame, info["footprint_m"], _top(info, request), lattice)


def _top(info: dict[str, Any], request: GridRequest) -> float:
    top = float(info["top_height_m"])
    height = top if request.max_height_m is None else float(request.max_height_m)
    if not 0 < height <= top:
        raise UsageError(
            f"--max-height-m {height:g}: expected more than 0 and at most {top:g} m, the modelled top"
        )
    return height


def _file(request: GridRequest, path: Path | None, option: str) -> Path:
    if path is None:
        raise UsageError(f"--grid {request.kind}: expected {option} with the file to take the places from")
    return path


def _source(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256(path)}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
