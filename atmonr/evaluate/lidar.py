"""Scores of an extract's curtain against a lidar's: pure functions, fp64.

Arrays are (profile, level) on the lidar's own cells, levels upwards. Only cells in which both can be trusted
are compared; why others are not is counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from atmonr.evaluate import volume
from atmonr.evaluate.volume import CLOUD_PER_M
from atmonr.sensors.earthcare import AEROSOL, NO_CODE, SURFACE

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Below this optical depth of what is above, too little light returns.
OPAQUE_DEPTH = 3.0
ATTENUATED = -1  # of simple_classification, by its sibling ATL_TC__2A
WORST_QUALITY = 1  # of quality_status, 0 good to 3 bad
CLOUD_RULE = f"extinction > {CLOUD_PER_M:g} m-1; in the lidar, not where it is classified as aerosol"

# Why a cell is not compared; the first that holds is what is counted.
REASONS = (
    "no_height",
    "below_surface",
    "outside_extract",
    "attenuated",
    "no_lidar_value",
    "poor_quality",
)
COMPARED = -1


@dataclass(frozen=True)
class Curtains:
    """An extract and a lidar on the same cells.

    Attributes:
        extract_per_m: Extinction of the extract [m^-1], NaN where it has none, shape (P, L).
        lidar_per_m: Extinction of the lidar [m^-1], NaN where it has none.
        lidar_cloud: Where the lidar has cloud, compared or not.
        lower_m: Lower edges of the cells [m above the ellipsoid], NaN where the height is missing.
        upper_m: Upper edges.
        reason: `COMPARED`, or the index in `REASONS` of why the cell is not.
    """

    extract_per_m: FloatArray
    lidar_per_m: FloatArray
    lidar_cloud: BoolArray
    lower_m: FloatArray
    upper_m: FloatArray
    reason: NDArray[np.int8]

    @property
    def compared(self) -> BoolArray:
        """Which cells count."""
        return self.reason == COMPARED

    @property
    def extract_cloud(self) -> BoolArray:
        """Where the extract has cloud, compared or not."""
        return self.extract_per_m > CLOUD_PER_M  # False for NaN


def cell_edges_m(height_m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper edges of the cells around heights (P, L) that rise along L and may be missing.

    Edges are half-way to the neighbours, beside a gap or an end as far as is usual at that level.
    """
    step = np.diff(height_m, axis=1)
    usual = np.nanmedian(np.where(np.isfinite(step), step, np.nanmedian(step)), axis=0)
    ends = np.full((height_m.shape[0], 1), np.nan)
    below, above = np.concatenate([ends, step], axis=1), np.concatenate([step, ends], axis=1)
    below = np.where(np.isfinite(below), below, np.concatenate([usual[:1], usual]))
    above = np.where(np.isfinite(above), above, np.concatenate([usual, usual[-1:]]))
    return height_m - below / 2, height_m + above / 2


def compare(profiles: xr.Dataset, extract_per_m: FloatArray) -> Curtains:
    """Put an extract beside the lidar and decide which cells are compared.

    Args:
        profiles: What `read_profiles` returned, or some of its profiles.
        extract_per_m: The extract on the same cells [m^-1], NaN where it has no value, shape (P, L).
    """
    height, lidar = (np.asarray(profiles[name].values) for name in ("height", "extinction_per_m"))
    kind, quality = (_codes(profiles, name) for name in ("simple_classification", "quality_status"))
    lower, upper = cell_edges_m(height)
    under = (kind != NO_CODE) & (kind <= SURFACE)
    if "surface_height" in profiles:
        under |= lower < np.asarray(profiles["surface_height"].values)[:, None]  # False for NaN
    above = np.clip(np.where(under, 0.0, np.nan_to_num(lidar * (upper - lower))), 0.0, None)
    depth_above = np.cumsum(above[:, ::-1], axis=1)[:, ::-1] - above
    reasons = {
        "no_height": ~np.isfinite(height),
        "below_surface": under,
        "outside_extract": ~np.isfinite(extract_per_m),
        "attenuated": (kind == ATTENUATED) | (depth_above > OPAQUE_DEPTH),
        "no_lidar_value": ~np.isfinite(lidar),
        "poor_quality": quality > WORST_QUALITY,
    }
    found = np.select(list(reasons.values()), list(range(len(REASONS))), COMPARED).astype(np.int8)
    cloud = (lidar > CLOUD_PER_M) & (kind != AEROSOL) & ~under
    return Curtains(extract_per_m, lidar, cloud, lower, upper, found)


def score_curtains(curtains: Curtains) -> dict[str, Any]:
    """Return all scores of an extract's curtain, each with the number of its samples; undefined ones NaN."""
    return {
        "cells": int(curtains.reason.size),
        "compared_cells": int(curtains.compared.sum()),
        "excluded": _excluded(curtains),
        "extinction": _score_extinction(curtains),
        "cloud_mask": _score_mask(curtains),
        "cloud_top": _score_tops(curtains),
    }


def _excluded(curtains: Curtains) -> dict[str, Any]:
    """How many cells are not compared for each reason, and in how many of them either has cloud."""
    counts = {}
    for index, name in enumerate(REASONS):
        here = curtains.reason == index
        counts[name] = {
            "cells": int(here.sum()),
            "cloudy_lidar": int((here & curtains.lidar_cloud).sum()),
            "cloudy_extract": int((here & curtains.extract_cloud).sum()),
        }
    return counts


def _score_extinction(curtains: Curtains) -> dict[str, Any]:
    some = curtains.compared
    found, lidar = curtains.extract_per_m[some], curtains.lidar_per_m[some]
    cloudy = (curtains.lidar_cloud | curtains.extract_cloud)[some]
    return {
        "samples": int(some.sum()),
        "mean_lidar_per_m": _mean(lidar),
        "mean_extract_per_m": _mean(found),
        "rmse_per_m": float(np.sqrt(_mean((found - lidar) ** 2))),
        "epsilon": volume.relative_l1(found, lidar),
        "delta": volume.mass_bias(found, lidar),
        "samples_cloudy_in_either": int(cloudy.sum()),
        "spearman_cloudy_in_either": volume.rank_correlation(found[cloudy], lidar[cloudy]),
    }


def _score_mask(curtains: Curtains) -> dict[str, Any]:
    some = curtains.compared
    found, lidar = curtains.extract_cloud[some], curtains.lidar_cloud[some]
    return {
        "samples": int(some.sum()),
        "cloud": CLOUD_RULE,
        "cloudy_in_both": int((found & lidar).sum()),
        "cloudy_in_lidar_only": int((~found & lidar).sum()),
        "cloudy_in_extract_only": int((found & ~lidar).sum()),
        "clear_in_both": int((~found & ~lidar).sum()),
        "iou": volume.intersection_over_union(found, lidar),
    }


def _score_tops(curtains: Curtains) -> dict[str, Any]:
    """Errors of the cloud-top height, over profiles whose highest cloud, to the lidar, is compared."""
    everywhere = _tops(curtains.lidar_cloud, curtains)
    lidar = _tops(curtains.lidar_cloud & curtains.compared, curtains)
    found = _tops(curtains.extract_cloud & curtains.compared, curtains)
    seen = curtains.compared.any(axis=1)
    hidden = seen & np.isfinite(everywhere) & ~(lidar == everywhere)
    usable = seen & ~hidden
    both, only_lidar, only_found, neither = (
        int((usable & (np.isfinite(lidar) == a) & (np.isfinite(found) == b)).sum())
        for a, b in ((True, True), (True, False), (False, True), (False, False))
    )
    error = asdict(volume.height_error(found[usable], lidar[usable]))
    error["samples"] = error.pop("columns")
    return {
        **error,
        "profiles_cloudy_in_both": both,
        "profiles_cloudy_in_lidar_only": only_lidar,
        "profiles_cloudy_in_extract_only": only_found,
        "profiles_clear_in_both": neither,
        "profiles_top_not_compared": int(hidden.sum()),
        "profiles_not_compared": int((~seen).sum()),
    }


def _tops(cloud: BoolArray, curtains: Curtains) -> FloatArray:
    """Upper edge of the highest cloudy cell of every profile [m], NaN where there is none."""
    top = np.where(cloud & np.isfinite(curtains.upper_m), curtains.upper_m, -np.inf).max(axis=1)
    return np.where(np.isfinite(top), top, np.nan)


def _codes(profiles: xr.Dataset, name: str) -> NDArray[np.int8]:
    if name in profiles:
        return np.asarray(profiles[name].values, np.int8)
    return np.full(profiles["height"].shape, NO_CODE, np.int8)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")
