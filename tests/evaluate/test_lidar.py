"""Scores of two curtains: which cells count, what each number is, and how many samples it has."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from atmonr.evaluate.lidar import REASONS, cell_edges_m, compare, score_curtains

PROFILES, LEVELS = 6, 20
HEIGHT_M = np.tile(50.0 + 100.0 * np.arange(LEVELS), (PROFILES, 1))


def cloud(base: int = 8, top: int = 11, extinction_per_m: float = 2e-3) -> np.ndarray:
    """Cloud in all profiles but the outer ones, on levels base to top, faint haze elsewhere."""
    values = np.full((PROFILES, LEVELS), 1e-6)
    values[1:-1, base:top] = extinction_per_m
    return values


def lidar(extinction: np.ndarray | None = None, **changed: np.ndarray) -> xr.Dataset:
    variables = {
        "height": HEIGHT_M,
        "extinction_per_m": cloud() if extinction is None else extinction,
        "quality_status": np.zeros((PROFILES, LEVELS), np.int8),
        "simple_classification": np.zeros((PROFILES, LEVELS), np.int8),
        "surface_height": np.full(PROFILES, -20.0),
    } | changed
    return xr.Dataset({name: (("profile", "level")[: v.ndim], v) for name, v in variables.items()})


def score(extract: np.ndarray, profiles: xr.Dataset | None = None) -> dict:
    return score_curtains(compare(lidar() if profiles is None else profiles, extract))


def test_the_same_cloud_is_perfect_in_every_score():
    scores = score(cloud())
    assert scores["compared_cells"] == scores["cells"] == PROFILES * LEVELS
    assert scores["extinction"]["samples"] == PROFILES * LEVELS
    assert scores["extinction"]["epsilon"] == scores["extinction"]["rmse_per_m"] == 0.0
    assert scores["cloud_mask"]["iou"] == 1.0
    assert scores["cloud_mask"]["cloudy_in_both"] == 4 * 3
    top = scores["cloud_top"]
    assert (top["rmse_m"], top["bias_m"], top["samples"]) == (0.0, 0.0, 4)
    assert top["profiles_clear_in_both"] == 2


def test_a_cloud_two_levels_too_high_is_worse_by_just_that():
    scores = score(cloud(10, 13))
    assert scores["cloud_top"]["bias_m"] == scores["cloud_top"]["rmse_m"] == pytest.approx(200.0)
    assert scores["cloud_mask"]["iou"] == pytest.approx(1 / 5)
    assert scores["extinction"]["epsilon"] == pytest.approx(4 / 3, rel=2e-2)
    assert abs(scores["extinction"]["delta"]) < 1e-9


def test_a_faint_cloud_is_in_place_but_too_thin():
    scores = score(cloud(extinction_per_m=1e-3))
    assert scores["cloud_mask"]["iou"] == 1.0
    assert scores["extinction"]["delta"] == pytest.approx(-0.5, abs=0.02)


def test_clouds_that_only_one_sees_are_counted_apart():
    missed, invented = score(np.full((PROFILES, LEVELS), 1e-6)), score(cloud(), lidar(np.zeros_like(cloud())))
    assert missed["cloud_mask"]["cloudy_in_lidar_only"] == 12
    assert missed["cloud_top"]["profiles_cloudy_in_lidar_only"] == 4
    assert invented["cloud_mask"]["cloudy_in_extract_only"] == 12
    assert invented["cloud_top"]["profiles_cloudy_in_extract_only"] == 4
    assert missed["cloud_top"]["samples"] == invented["cloud_top"]["samples"] == 0
    assert np.isnan(missed["cloud_top"]["rmse_m"])


def test_what_is_left_out_is_counted_by_reason():
    extract, profiles = cloud(), lidar(surface_height=np.array([-20.0, -20.0, -20.0, -20.0, -20.0, 150.0]))
    profiles["height"].values[0, 0] = np.nan
    profiles["simple_classification"].values[0, 1] = -2
    extract[0, 2:5] = np.nan
    profiles["simple_classification"].values[0, 5] = -1
    profiles["extinction_per_m"].values[1, 9:11] = np.nan
    profiles["quality_status"].values[2, 8] = 2
    profiles["quality_status"].values[2, 9] = 1  # still good enough
    excluded = score(extract, profiles)["excluded"]
    assert tuple(excluded) == REASONS
    # Of the last profile, two levels reach below 150 m.
    assert [excluded[name]["cells"] for name in REASONS] == [1, 3, 3, 1, 2, 1]
    assert [excluded[name]["cloudy_extract"] for name in REASONS] == [0, 0, 0, 0, 2, 1]
    assert excluded["poor_quality"]["cloudy_lidar"] == 1


def test_what_lies_under_too_much_cloud_does_not_count_even_where_no_flag_says_so():
    thick = lidar(cloud(extinction_per_m=0.02), quality_status=np.zeros((PROFILES, LEVELS), np.int8))
    scores = score(np.where(HEIGHT_M < 900.0, 0.02, cloud(extinction_per_m=0.02)), thick)
    # Two levels make optical depth 4: the third and all below are hidden, in the four cloudy profiles.
    assert scores["excluded"]["attenuated"]["cells"] == 4 * 9
    assert scores["cloud_mask"]["cloudy_in_both"] == 4 * 2
    assert scores["cloud_top"]["rmse_m"] == 0.0


def test_a_cloud_top_that_is_not_compared_is_not_scored():
    """It would look right at the top of the extract, wherever the cloud ends."""
    low = cloud()
    low[:, 10:] = np.nan
    scores = score(low)
    assert scores["cloud_top"]["profiles_top_not_compared"] == 4
    assert scores["cloud_top"]["samples"] == 0
    assert scores["excluded"]["outside_extract"]["cloudy_lidar"] == 4


def test_aerosol_is_no_cloud_to_the_lidar():
    kind = np.where(cloud() > 1e-3, 3, 0).astype(np.int8)
    scores = score(cloud(), lidar(simple_classification=kind))
    assert scores["cloud_mask"]["cloudy_in_both"] == 0
    assert scores["cloud_mask"]["cloudy_in_extract_only"] == 12


def test_files_without_flags_and_surface_are_compared_all_the_same():
    bare = lidar().drop_vars(["quality_status", "simple_classification", "surface_height"])
    assert score(cloud(), bare)["cloud_mask"]["iou"] == 1.0


def test_edges_lie_between_heights_and_beside_gaps_where_they_would():
    height = np.array([[0.0, 100.0, 200.0, 300.0, 800.0], [10.0, 110.0, np.nan, 310.0, 810.0]])
    lower, upper = cell_edges_m(height)
    np.testing.assert_allclose(lower[0], [-50.0, 50.0, 150.0, 250.0, 550.0])
    np.testing.assert_allclose(upper[0], [50.0, 150.0, 250.0, 550.0, 1050.0])
    np.testing.assert_allclose(lower[1], [-40.0, 60.0, np.nan, 260.0, 560.0])
    np.testing.assert_allclose(upper[1], [60.0, 160.0, np.nan, 560.0, 1060.0])
