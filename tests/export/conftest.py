"""A small cloud as a product, written by the project's own writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from atmonr.extract.grid import VoxelGrid
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill
from atmonr.simulate.clouds import build, preset_named
from tests.evaluate.conftest import write_extract  # noqa: F401

CPU = torch.device("cpu")
BANDS_NM = [440.16, 549.57, 664.57, 865.63]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Threads of tests that run side by side would wait for each other more than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class CloudField:
    """A procedural cumulus; each band a little thinner than the one before."""

    def __init__(self, bands: int) -> None:
        self.volume = build(preset_named("cumulus"), 48, 40, 320.0, 18.0, -61.5, 0.0, 7)
        axes = self.volume.x_m, self.volume.y_m, self.volume.altitude_m
        self._at = RegularGridInterpolator(
            axes, self.volume.extinction_per_m, bounds_error=False, fill_value=0
        )
        self._bands = bands

    def extinction(self, points: torch.Tensor) -> torch.Tensor:
        values = torch.as_tensor(self._at(points.double().numpy()), dtype=torch.float32)
        return values[:, None] * torch.linspace(1.0, 0.7, self._bands)


@pytest.fixture(scope="session")
def write_product(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Extract and merge a cumulus of 4 km x 3 km x 2 km or so, in one band or four."""

    def write(bands: int = 1, step_m: float = 200.0) -> Path:
        folder = tmp_path_factory.mktemp("product")
        field = CloudField(bands)
        footprint = (-2_000.0, -3_000.0, 2_000.0, 1_500.0)
        steps = {"horizontal_step_m": step_m, "vertical_step_m": step_m / 2}
        grid = VoxelGrid.covering(field.volume.frame, footprint, 3_200.0, **steps)
        scene = {
            "granule": "G.L1B",
            "wavelengths_nm": BANDS_NM,
            "time_coverage_start": "2025-06-05T16:13:56+00:00",
            "sun": [[0.6], [0.0], [0.8]],  # in the east
            "track_m": [100.0, -3_000.0, -400.0, 1_500.0],
        }
        identity = dict.fromkeys(("config_sha256", "scene_id", "checkpoint_sha256"), "c" * 64)
        identity |= {"scene": "cloud", "checkpoint": "step-00000001.pt"}
        source = {"identity": identity, "scene": scene, "config_toml": "", "atmonr_version": "0"}
        parts = Parts.create_or_resume(folder / "parts.zarr", grid, bands, source)
        fill(parts, field, CPU, parts.shards)
        return merge([parts.path], folder / "extract.nc")

    return write


@pytest.fixture(scope="session")
def product(write_product: Callable[..., Path]) -> Path:
    """One extinction for all bands."""
    return write_product()
