from __future__ import annotations

import numpy as np
import pytest

from atmonr.evaluate.image import psnr, ssim


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.cumsum(np.cumsum(rng.normal(size=(30, 24)), 0), 1)
    target = (target - target.min()) / np.ptp(target)
    return target, target + 0.05 * rng.normal(size=target.shape)


def reference_ssim(target: np.ndarray, rendered: np.ndarray, valid: np.ndarray, peak: float) -> float:
    """Structural similarity by its definition, one pixel at a time."""
    scores = []
    lines, pixels = np.indices(target.shape)
    for i, j in np.argwhere(valid):
        weight = np.exp(-((lines - i) ** 2 + (pixels - j) ** 2) / (2 * 1.5**2))
        near = valid & (abs(lines - i) <= 5) & (abs(pixels - j) <= 5)
        w, a, b = weight[near] / weight[near].sum(), target[near], rendered[near]
        mean_a, mean_b = (w * a).sum(), (w * b).sum()
        var_a, var_b = (w * (a - mean_a) ** 2).sum(), (w * (b - mean_b) ** 2).sum()
        covariance = (w * (a - mean_a) * (b - mean_b)).sum()
        c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
        scores.append(
            (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
            / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )  # fmt: skip
    return float(np.mean(scores))


def test_psnr_of_a_known_error():
    target = np.zeros((4, 5))
    score = psnr(target, target + 0.1, np.ones((4, 5)), peak=1.0)
    assert score.value == pytest.approx(20.0)
    assert score.pixels == 20
    assert psnr(target, target + 0.1, np.ones((4, 5)), peak=10.0).value == pytest.approx(40.0)


def test_pixels_that_are_invalid_in_both_images_raise_no_score(images):
    # Counting fill values as equal adds 2.2 dB when 60 % are valid.
    target, rendered = images
    valid = np.random.default_rng(1).random(target.shape) < 0.6
    score = psnr(target, rendered, valid, peak=1.0)
    filled = psnr(np.where(valid, target, 0), np.where(valid, rendered, 0), np.ones_like(valid), peak=1.0)
    assert score.pixels == valid.sum()
    assert score.value == pytest.approx(-10 * np.log10(np.mean((target - rendered)[valid] ** 2)))
    assert filled.value - score.value == pytest.approx(10 * np.log10(valid.size / valid.sum()))


@pytest.mark.parametrize("score", [psnr, ssim])
def test_what_invalid_pixels_hold_does_not_matter(images, score):
    target, rendered = (image.copy() for image in images)
    valid = np.ones(target.shape, bool)
    valid[5:9, 3:20] = False
    clean = score(target, rendered, valid, peak=1.0)
    target[~valid], rendered[~valid] = np.nan, 1e9
    assert score(target, rendered, valid, peak=1.0) == clean


def test_ssim_follows_its_definition(images):
    target, rendered = images
    valid = np.ones(target.shape, bool)
    valid[:, 7:10] = False
    valid[20, :] = False
    for mask, peak in ((np.ones_like(valid), 1.0), (valid, 0.4)):
        score = ssim(target, rendered, mask, peak=peak)
        assert score.value == pytest.approx(reference_ssim(target, rendered, mask, peak), abs=1e-9)
        assert score.pixels == mask.sum()


def test_identical_images_score_best_and_noise_worse(images):
    target, rendered = images
    valid = np.ones(target.shape)
    assert psnr(target, target, valid, peak=1.0).value == np.inf
    assert ssim(target, target, valid, peak=1.0).value == pytest.approx(1.0)
    assert ssim(target, rendered, valid, peak=1.0).value < 0.99


@pytest.mark.parametrize("score", [psnr, ssim])
def test_no_valid_pixel_gives_no_score(images, score):
    nothing = score(*images, np.zeros(images[0].shape), peak=1.0)
    assert np.isnan(nothing.value) and nothing.pixels == 0


@pytest.mark.parametrize("score", [psnr, ssim])
def test_images_of_different_shape_are_not_compared(images, score):
    with pytest.raises(ValueError, match="equal shapes"):
        score(images[0][1:], images[1], np.ones(images[1].shape), peak=1.0)
