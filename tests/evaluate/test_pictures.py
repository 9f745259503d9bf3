from __future__ import annotations

import sys

import numpy as np
import pytest

from atmonr.evaluate import pictures
from atmonr.evaluate.truth import read_truth


def size_of(path) -> tuple[int, int]:
    """Width and height, from the header of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.fixture
def truth(write_truth):
    return read_truth(write_truth())


@pytest.mark.parametrize("what", ["cloud", "nothing"])
@pytest.mark.parametrize(
    "draw", [pictures.truth_sections, pictures.optical_depth_scatter, pictures.mean_profile]
)
def test_any_extract_can_be_drawn(truth, tmp_path, draw, what):
    true = truth.extinction_per_m
    estimate = {"cloud": 0.2 * true, "nothing": 0 * true}[what]
    draw(estimate, truth, tmp_path / "picture.png", scale=5.0)
    width, height = size_of(tmp_path / "picture.png")
    assert width > 400 and height > 400


@pytest.mark.parametrize("lines, pixels", [(40, 20), (10, 60)])
def test_views_with_invalid_pixels_can_be_drawn(tmp_path, lines, pixels):
    target = np.random.default_rng(0).random((2, lines, pixels))
    valid = np.ones(target.shape, bool)
    valid[0, :5], valid[1] = False, False
    pictures.rendered_views(
        np.where(valid, target, np.nan), target + 0.1, valid, tmp_path / "views.png", titles=["a", "b"],
        psnr_db=[20.0, float("nan")],
    )  # fmt: skip
    assert min(size_of(tmp_path / "views.png")) > 200


def test_a_loss_curve_takes_what_records_have(tmp_path):
    records = [{"step": i, "loss": 1 / (i + 1), "rays_per_s": 1e5} for i in range(100)]
    records += [{"step": 50, "heldout_psnr_db": 30.0}, {"step": 99, "loss": None}, {"event": "resumed"}]
    pictures.loss_curve(records[:100], tmp_path / "loss.png")
    pictures.loss_curve(records, tmp_path / "both.png")
    assert size_of(tmp_path / "both.png")[1] > 1.5 * size_of(tmp_path / "loss.png")[1]


def test_drawing_needs_no_display_and_keeps_no_global_figure(truth, tmp_path):
    pictures.mean_profile(truth.extinction_per_m, truth, tmp_path / "profile.png", scale=1.0)
    assert "matplotlib.pyplot" not in sys.modules
