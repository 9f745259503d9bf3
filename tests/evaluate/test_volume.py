from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr

from atmonr.evaluate import volume

amounts = arrays(np.float64, 30, elements=st.floats(0.0, 10.0).map(lambda v: round(v, 3)))


@pytest.fixture
def cloud() -> np.ndarray:
    truth = np.zeros((6, 5, 8))
    truth[1:4, 1:4, 2:6] = np.random.default_rng(0).uniform(0.01, 0.1, (3, 3, 4))
    return truth


def test_a_scaled_truth_has_the_right_shape_and_a_known_bias(cloud):
    estimate = 0.2 * cloud
    assert volume.relative_l1(estimate, cloud) == pytest.approx(0.8)
    assert volume.mass_bias(estimate, cloud) == pytest.approx(-0.8)
    scale = volume.best_scale(estimate, cloud)
    assert scale == pytest.approx(5.0)
    assert volume.relative_l1(scale * estimate, cloud) == pytest.approx(0.0, abs=1e-12)
    assert volume.best_mask(estimate, volume.cloud_mask(cloud)).iou == 1.0


def test_an_empty_sky_scores_one(cloud):
    nothing = np.zeros_like(cloud)
    assert volume.relative_l1(nothing, cloud) == 1.0
    assert volume.mass_bias(nothing, cloud) == -1.0
    assert volume.best_scale(nothing, cloud) == 0.0
    assert volume.best_mask(nothing, volume.cloud_mask(cloud)).iou == 0.0


def test_what_is_not_defined_is_nan_without_a_warning(cloud):
    nothing = np.zeros_like(cloud)
    assert np.isnan(volume.relative_l1(cloud, nothing))
    assert np.isnan(volume.intersection_over_union(nothing, nothing))
    assert np.isnan(volume.best_mask(cloud, nothing > 0).iou)
    assert np.isnan(volume.rank_correlation([1.0, 1.0], [1.0, 2.0]))
    assert np.isnan(volume.rank_correlation([], []))
    assert np.isnan(volume.clear_to_cloudy([1.0, 2.0], [3.0, 4.0]))
    assert np.isnan(volume.height_error([np.nan], [1.0]).rmse_m)


@given(estimate=amounts, truth=amounts)
@settings(max_examples=60, deadline=None)
def test_no_scale_beats_the_best_scale(estimate, truth):
    def error(scale: float) -> float:
        return float(np.abs(scale * estimate - truth).sum())

    best = error(volume.best_scale(estimate, truth))
    found = minimize_scalar(error, bounds=(0.0, 100.0), method="bounded").fun
    assert best <= found + 1e-9
    assert all(best <= error(ratio) + 1e-9 for ratio in truth[estimate > 0] / estimate[estimate > 0])


@given(estimate=amounts, mask=arrays(np.bool_, 30))
@settings(max_examples=60, deadline=None)
def test_no_threshold_beats_the_best_mask(estimate, mask):
    best = volume.best_mask(estimate, mask)
    candidates = [value for value in estimate if value > 0]
    if not mask.any() or not candidates:
        return
    brute = max(volume.intersection_over_union(estimate >= value, mask) for value in candidates)
    assert best.iou == pytest.approx(brute)
    assert volume.intersection_over_union(estimate >= best.threshold_per_m, mask) == pytest.approx(best.iou)


def test_intersection_over_union_of_a_shifted_slab():
    slab, shifted = np.zeros((4, 4, 10), bool), np.zeros((4, 4, 10), bool)
    slab[..., 2:6], shifted[..., 3:7] = True, True
    assert volume.intersection_over_union(shifted, slab) == 3 / 5


def test_a_slab_two_levels_too_high_has_that_cloud_top_and_base_error():
    edges = np.arange(11) * 250.0
    slab, shifted = np.zeros((3, 3, 10), bool), np.zeros((3, 3, 10), bool)
    slab[:2, :, 2:6], shifted[1:, :, 4:8] = True, True
    for height, part in ((volume.cloud_top_m, edges[1:]), (volume.cloud_base_m, edges[:-1])):
        error = volume.height_error(height(shifted, part), height(slab, part))
        # Only the middle row has a cloud in both.
        assert (error.rmse_m, error.bias_m, error.columns) == (500.0, 500.0, 3)
    assert volume.cloud_top_m(slab, edges[1:])[0, 0] == 1500.0
    assert volume.cloud_base_m(slab, edges[:-1])[0, 0] == 500.0
    assert np.isnan(volume.cloud_top_m(slab, edges[1:])[2, 0])


def test_optical_depth_integrates_over_uneven_levels():
    assert volume.optical_depth([[0.01, 0.02, 0.0]], [100.0, 50.0, 900.0]) == pytest.approx([2.0])


def test_rank_correlation_is_spearmans_with_ties():
    a, b = np.random.default_rng(1).integers(0, 5, (2, 200))
    assert volume.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert volume.rank_correlation([1, 2, 3], [1, 8, 27]) == pytest.approx(1.0)


def test_density_in_clear_columns_shows():
    true = np.array([0.0, 0.0, 4.0, 8.0])
    assert volume.clear_to_cloudy([0.0, 0.0, 1.0, 2.0], true) == 0.0
    assert volume.clear_to_cloudy([0.1, 0.2, 1.0, 2.0], true) == pytest.approx(0.1)
    assert volume.clear_to_cloudy([1.0, 1.0, 0.0, 0.0], true) == np.inf


def test_numerical_dust_is_not_cloud(cloud):
    dusty = cloud + 1e-9
    assert np.array_equal(volume.cloud_mask(dusty), cloud > 0)
    assert not volume.cloud_mask(np.zeros(3)).any()


def test_volumes_on_different_cells_are_not_compared(cloud):
    with pytest.raises(ValueError, match="equal shapes"):
        volume.relative_l1(cloud[1:], cloud)
