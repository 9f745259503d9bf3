"""Scores of an estimated extinction volume against the true one: pure functions, fp64.

Volumes are arrays (x, y, altitude) on the same cells; `estimate` and `truth` are extinctions [m^-1], none
negative. A score that is not defined (nothing true, nothing varying) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Numerical dust of a simulation is not cloud.
CLOUD_FRACTION_OF_PEAK = 1e-4
# What counts as cloud where no truth tells, of an extract and of a lidar: DART screens ATL_EBD_2A with it (in
# its observation converter ec_atl_ebd).
CLOUD_PER_M = 7.5e-4


def cloud_mask(truth: ArrayLike) -> BoolArray:
    """Return where the truth is cloud: more than `CLOUD_FRACTION_OF_PEAK` of its maximum."""
    truth = np.asarray(truth, np.float64)
    return truth > CLOUD_FRACTION_OF_PEAK * truth.max(initial=0.0)


def relative_l1(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return epsilon = sum |estimate - truth| / sum truth (0 is perfect, 1 is what an empty sky scores)."""
    estimate, truth = _pair(estimate, truth)
    return _ratio(np.abs(estimate - truth).sum(), truth.sum())


def mass_bias(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return delta = (sum estimate - sum truth) / sum truth."""
    estimate, truth = _pair(estimate, truth)
    return _ratio((estimate - truth).sum(), truth.sum())


def best_scale(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Return the factor s that minimises sum |s estimate - truth|; 0 for an estimate of nothing.

    The sum is piecewise linear and convex in s with corners at truth / estimate, so its minimum is the median
    of these ratios weighted by the estimate.
    """
    estimate, truth = (values.ravel() for values in _pair(estimate, truth))
    some = estimate > 0
    if not some.any():
        return 0.0
    weight, ratio = estimate[some], truth[some] / estimate[some]
    order = np.argsort(ratio)
    below = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(below, below[-1] / 2)])


def intersection_over_union(mask: ArrayLike, true_mask: ArrayLike) -> float:
    """Return the Jaccard index of two masks; NaN when both are empty."""
    mask, true_mask = np.asarray(mask, bool), np.asarray(true_mask, bool)
    return _ratio((mask & true_mask).sum(), (mask | true_mask).sum())


@dataclass(frozen=True)
class BestMask:
    """The mask `estimate >= threshold` that overlaps best with the true one."""

    threshold_per_m: float
    iou: float


def best_mask(estimate: ArrayLike, true_mask: ArrayLike) -> BestMask:
    """Return the threshold of the estimate with the highest intersection over union, out of all thresholds.

    Thresholds at or below zero are not tried: they would call empty air cloud.
    """
    values, true = np.asarray(estimate, np.float64).ravel(), np.asarray(true_mask, bool).ravel()
    total = int(true.sum())
    order = np.argsort(-values)
    values, true = values[order], true[order]
    # A threshold takes all cells of equal value or none.
    last_of_ties = np.append(values[1:] != values[:-1], True) & (values > 0)
    if total == 0 or not last_of_ties.any():
        return BestMask(float("nan"), float("nan") if total == 0 else 0.0)
    taken = np.arange(1, values.size + 1)
    hits = np.cumsum(true)
    iou = np.where(last_of_ties, hits / (taken + total - hits), -1.0)
    best = int(np.argmax(iou))
    return BestMask(float(values[best]), float(iou[best]))


def optical_depth(extinction: ArrayLike, thickness_m: ArrayLike) -> FloatArray:
    """Return vertical optical depths.

    Args:
        extinction: Extinction [m^-1], shape (..., altitude).
        thickness_m: Thickness of the levels [m], shape (altitude,).

    Returns:
        Optical depths of shape (...).
    """
    return np.asarray(extinction, np.float64) @ np.asarray(thickness_m, np.float64)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation; NaN for fewer than two samples or when either is constant."""
    if np.size(a) < 2:
        return float("nan")
    ranks_a, ranks_b = rankdata(np.ravel(a)), rankdata(np.ravel(b))
    a_centred, b_centred = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    return _ratio((a_centred * b_centred).sum(), np.sqrt((a_centred**2).sum() * (b_centred**2).sum()))


def cloud_top_m(mask: ArrayLike, upper_edge_m: ArrayLike) -> FloatArray:
    """Return the upper edge of the highest cloudy cell of every column [m]; NaN where there is none.

    Args:
        mask: Cloud mask, shape (..., altitude), altitude upward.
        upper_edge_m: Upper edges of the levels [m], shape (altitude,).
    """
    mask = np.asarray(mask, bool)
    highest = mask.shape[-1] - 1 - np.argmax(mask[..., ::-1], axis=-1)
    return np.where(mask.any(-1), np.asarray(upper_edge_m, np.float64)[highest], np.nan)


def cloud_base_m(mask: ArrayLike, lower_edge_m: ArrayLike) -> FloatArray:
    """Return the lower edge of the lowest cloudy cell of every column [m]; NaN where there is none."""
    mask = np.asarray(mask, bool)
    lowest = np.argmax(mask, axis=-1)
    return np.where(mask.any(-1), np.asarray(lower_edge_m, np.float64)[lowest], np.nan)


@dataclass(frozen=True)
class HeightError:
    """Errors of a height over the columns in which both volumes have a cloud."""

    rmse_m: float
    bias_m: float
    columns: int


def height_error(estimate_m: ArrayLike, truth_m: ArrayLike) -> HeightError:
    """Return root mean square and mean of estimate - truth over columns where both are finite."""
    difference = np.asarray(estimate_m, np.float64) - np.asarray(truth_m, np.float64)
    difference = difference[np.isfinite(difference)]
    n = difference.size
    return HeightError(float(np.sqrt(_ratio((difference**2).sum(), n))), _ratio(difference.sum(), n), n)


def clear_to_cloudy(estimate_od: ArrayLike, true_od: ArrayLike) -> float:
    """Return mean estimated optical depth of truly clear columns over that of truly cloudy ones.

    Clear means a true optical depth of zero. NaN without clear or without cloudy columns; inf when the
    estimate has density in clear columns only.
    """
    estimate, truth = _pair(estimate_od, true_od)
    clear = truth == 0
    if clear.all() or not clear.any():
        return float("nan")
    in_clear, in_cloudy = estimate[clear].mean(), estimate[~clear].mean()
    if in_cloudy == 0:
        return float("inf") if in_clear > 0 else float("nan")
    return float(in_clear / in_cloudy)


def _pair(estimate: ArrayLike, truth: ArrayLike) -> tuple[FloatArray, FloatArray]:
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate has shape {estimate.shape}, truth {truth.shape}: expected equal shapes")
    return estimate, truth


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator) / float(denominator) if denominator else float("nan")
