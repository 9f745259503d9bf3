"""Small grids of every kind around a place, a scene that they lie in, and a field that tells where it is
asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from atmonr.extract.grids.base import Grid
from atmonr.extract.grids.curtain import CurtainGrid
from atmonr.extract.grids.l1c import L1cGrid
from atmonr.extract.grids.sphere import GlobalGrid, Lattice
from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill
from atmonr.geo.frame import Frame

PLACES = {
    "equator": (0.0, 20.0),
    "60 north": (60.0, -20.0),
    "35 south": (-35.0, 100.0),
    "dateline": (18.0, 179.98),
    "longitude 90": (18.0, 90.0),
    "longitude -90": (-18.0, -90.0),
    "north pole": (90.0, 0.0),
    "south pole": (-89.9, 130.0),
}
HALF_M, TOP_M, PIXEL_M = 30_000.0, 2_000.0, 3_000.0
SOURCE = {"file": "source.nc", "sha256": "f" * 64}
DEGREE_M = 111_000.0


def frame_at(latitude: float, longitude: float) -> Frame:
    return Frame(latitude, longitude, (-2 * HALF_M, -2 * HALF_M, -10.0), (2 * HALF_M, 2 * HALF_M, TOP_M + 1))


def scene_of(frame: Frame, turn_deg: float = 12.0) -> dict[str, Any]:
    """What a run folder tells of a scene: a square picture of 60 km, turned against the frame."""
    turn = np.radians(turn_deg)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * HALF_M
    outline = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    reach = float(np.abs(outline).max())
    return {
        "frame": frame.to_json(),
        "footprint_m": [-reach, -reach, reach, reach],
        "outline_m": outline.tolist(),
        "pixel_m": PIXEL_M,
        "top_height_m": TOP_M,
    }


def make(kind: str, latitude: float, longitude: float) -> Grid:
    """A grid that reaches beyond the scene on all sides."""
    frame = frame_at(latitude, longitude)
    scene = scene_of(frame)
    if kind == "voxel":
        box = [value * 1.2 for value in scene["footprint_m"]]
        return VoxelGrid.covering(frame, box, TOP_M, horizontal_step_m=PIXEL_M, vertical_step_m=250.0)
    if kind == "global":
        # Around a pole a row has all longitudes.
        step_deg = 0.25 if abs(latitude) > 89 else 0.05
        return GlobalGrid.covering(frame, scene["footprint_m"], TOP_M, Lattice(step_deg, 100.0, 0.1))
    across = np.linspace(-1.5 * HALF_M, 1.5 * HALF_M, 17)
    if kind == "l1c":
        y, x = np.meshgrid(across, across[:13], indexing="ij")
        lat, lon, _ = frame.to_geodetic(np.stack([x + 0.2 * y, y, 0 * x], -1))
        lat[3, 4] = lon[3, 4] = np.nan
        return L1cGrid.covering(frame, lat, lon, TOP_M, 250.0, SOURCE)
    track = np.stack([0.3 * across + 100.0, across, 0 * across], -1)
    lat, lon, _ = frame.to_geodetic(track)
    height = -500.0 + 100.0 * np.arange(40)[:, None] + 3.0 * np.arange(17)
    height[5, 6] = np.nan
    lat[2] = lon[2] = np.nan
    return CurtainGrid(frame, lat, lon, 1.749e9 + 0.15 * np.arange(17), height, 11, SOURCE)


class WhereField:
    """Four bands that tell latitude, longitude (as cosine and sine, without a jump) and altitude."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        xyz = points.double().numpy()
        assert np.isfinite(xyz).all()
        return torch.as_tensor(bands_of(*self.frame.to_geodetic(xyz)), dtype=torch.float32)


def bands_of(lat: np.ndarray, lon: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Relative to whole degrees nearby, because single precision keeps metres of them only."""
    east, north = np.radians(lon), np.radians(lat)
    first = 2 + np.cos(north) * np.cos(east)
    return np.stack([(lat + 91.5) % 2 + 1.0, first, 2 + np.cos(north) * np.sin(east), height + 1_000.0], -1)


def extract(path: Path, grid: Grid, source: dict, scene: dict, name: str = "cloud", field=None) -> Parts:
    """A whole extraction of a field, by default of one that tells where it is asked."""
    identity = {**source["identity"], "scene": name, "scene_id": f"{name:s<64}"}
    about = {**source["scene"], "granule": f"G.{name}", **scene}
    parts = Parts.create_or_resume(path, grid, 4, {**source, "identity": identity, "scene": about})
    fill(parts, field or WhereField(grid.frame), torch.device("cpu"), parts.shards)
    return parts
