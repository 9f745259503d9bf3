"""A small scene, fields whose values are known everywhere, and extractions of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from atmonr.extract.grids.voxel import VoxelGrid
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill
from atmonr.geo.frame import Frame

CPU = torch.device("cpu")
SOURCE = {
    "identity": {
        "config_sha256": "c" * 64,
        "scene": "cloud",
        "scene_id": "s" * 64,
        "checkpoint": "step-00001000.pt",
        "checkpoint_sha256": "k" * 64,
    },
    "scene": {
        "wavelengths_nm": [441.0, 549.0, 669.0, 873.0],
        "granule": "G.L1B",
        "time_coverage_start": "2025-06-05T16:13:56+00:00",
        "time_coverage_end": "2025-06-05T16:18:56+00:00",
        "provenance": {"source": "G.nc", "source_sha256": "g" * 64},
    },
    "config_toml": "[train]\nsteps = 1000\n",
    "atmonr_version": "0.1.0",
}


class KnownField:
    """A field made of a function of frame coordinates; counts the points it is asked for."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], bands: int = 1) -> None:
        self.function, self.bands, self.asked = function, bands, 0

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        assert points.dtype == torch.float32
        assert not torch.is_grad_enabled()
        self.asked += len(points)
        values = torch.as_tensor(self.function(points.double().numpy()), dtype=torch.float32)
        return values[:, None] * torch.arange(1, self.bands + 1)


def wave(points: np.ndarray) -> np.ndarray:
    """Something positive that differs from cell to cell."""
    return 0.01 + 0.005 * np.sin(points @ np.array([1e-3, 1.7e-3, 2.9e-3]))


@pytest.fixture
def known_field() -> type[KnownField]:
    return KnownField


@pytest.fixture
def wave_field() -> KnownField:
    return KnownField(wave)


@pytest.fixture
def source() -> dict:
    return SOURCE


@pytest.fixture
def make_grid() -> Callable[..., VoxelGrid]:
    def make(
        latitude=18.0, longitude=-61.5, half_m=6_500.0, top_m=4_000.0, step_m=200.0, **options
    ) -> VoxelGrid:
        corner = (-half_m, -half_m, 0.0), (half_m, half_m, 20_000.0)
        footprint = (-half_m, -half_m, half_m, half_m)
        steps = {"horizontal_step_m": step_m, "vertical_step_m": step_m / 2}
        return VoxelGrid.covering(Frame(latitude, longitude, *corner), footprint, top_m, **(steps | options))

    return make


@pytest.fixture
def finished(tmp_path: Path, make_grid, wave_field, source) -> Parts:
    """A complete extraction of 65 x 65 columns, 40 levels: 9 shards, those at the edges not full."""
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    fill(parts, wave_field, CPU, parts.shards)
    return parts
