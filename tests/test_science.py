"""What the whole chain must get right, run as users run it, from a simulated granule to its scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Chain = Callable[..., dict[str, Any]]

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "instant_ngp.toml"

# A purely absorbing slab over bright ground: what is seen through it is dimmed by exp(-depth) whatever the
# ground is, so that absolute extinction is known exactly and no phase function is involved.
SLAB = ["--preset", "absorber", "--surface", "land"]
SLAB_SETTINGS = [
    "light.single_scattering_albedo=0",
    "light.every_steps=50",
    "loss.sparsity=5e-5",
    "train.table_learning_rate=1e-2",
    "train.steps=600",
    "track.uri=off",
]


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Runs the commands on one simulated scene and returns its scores, on columns of half a pixel."""

    def atmonr(*arguments: str | Path) -> None:
        subprocess.run([sys.executable, "-m", "atmonr", *map(str, arguments)], check=True, cwd=tmp_path)

    def run(scene: list[str], top_height_m: int, pixel_m: float, settings: list[str]) -> dict[str, Any]:
        atmonr("simulate", *scene, "-o", tmp_path / "granule", "--quiet")
        granule = next((tmp_path / "granule").glob("PACE_HARP2.*.nc"))
        atmonr("ingest", granule, "-o", tmp_path / "s.zarr", "--top-height-m", str(top_height_m), "--quiet")
        sets = [word for setting in settings for word in ("--set", setting)]
        run = ["--run", tmp_path / "run", "--quiet"]
        atmonr("train", "-c", CONFIG, "--scene", tmp_path / "s.zarr", *run, *sets)
        atmonr("extract", *run, "--horizontal-step-m", str(pixel_m / 2), "-o", tmp_path / "parts.zarr")
        atmonr("merge", tmp_path / "parts.zarr", "-o", tmp_path / "extract.nc")
        truth, out = tmp_path / "granule" / "truth.nc", tmp_path / "score.json"
        atmonr("evaluate", tmp_path / "extract.nc", "--truth", truth, "-o", out)
        scores: dict[str, Any] = json.loads(out.read_text())["volume"]
        return scores

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        pytest.param("0", "0", id="equator", marks=pytest.mark.long),
        pytest.param("60", "20", id="60 N"),
        pytest.param("10", "180", id="dateline"),
        pytest.param("-20", "90", id="longitude 90", marks=pytest.mark.long),
    ],
)
def test_a_slab_of_known_optical_depth_comes_back_in_inverse_metres(
    chain: Chain, latitude: str, longitude: str
) -> None:
    place = ["--latitude", latitude, "--longitude", longitude]
    score = chain([*SLAB, *place], 8000, 320.0, SLAB_SETTINGS)
    # Depth over the slab's own thickness is its extinction; the rest of the column must stay empty.
    assert score["optical_depth_mean_cloudy"] == pytest.approx(
        score["optical_depth_mean_cloudy_true"], rel=0.05
    )
    assert score["iou_best"] > 0.8
    assert score["clear_to_cloudy_optical_depth"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "surface", "seed", "pixel_m", "steps"),
    [
        ("deep", "land", "11", 1500.0, 4000),
        pytest.param("stratocumulus", "ocean", "3", 320.0, 1500, marks=pytest.mark.long),
    ],
    ids=["a storm over textured land", "broken cloud over the sea"],
)
def test_clear_air_stays_clear_under_a_blue_sky(
    chain: Chain, preset: str, surface: str, seed: str, pixel_m: float, steps: int
) -> None:
    scene = ["--preset", preset, "--surface", surface, "--rayleigh", "--noise", "0.01", "--seed", seed]
    score = chain(scene, 20000, pixel_m, [f"train.steps={steps}", "track.uri=off"])
    assert score["clear_to_cloudy_optical_depth"] <= 0.05
    assert score["iou_best"] >= 0.5
