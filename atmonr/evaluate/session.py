"""`atmonr evaluate`: one JSON file of scores, and pictures if wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.atomic import atomic_file, sha256
from atmonr.errors import SceneError, UsageError
from atmonr.evaluate import volume
from atmonr.evaluate.earthcare import score_earthcare
from atmonr.evaluate.extract_file import ExtractFile
from atmonr.evaluate.remap import on_truth_cells
from atmonr.evaluate.track_file import VoxelTrack, open_track_file
from atmonr.evaluate.truth import Truth, block_means, cell_edges, coarsened, read_truth, with_clear_air
from atmonr.geo.track import MAX_TIME_OFFSET_S
from atmonr.json_file import read_json
from atmonr.run import Run

# 0.1 per kilometre: thinner than any cloud that reflected sunlight shows as one.
FIXED_THRESHOLD_PER_M = 1e-4

FloatArray = NDArray[np.float64]


def evaluate(
    extract: Path,
    *,
    truth: Path | None,
    run: Path | None,
    out: Path,
    pictures: Path | None,
    coarsen: int = 1,
    earthcare: Path | None = None,
    max_time_offset_s: float = MAX_TIME_OFFSET_S,
) -> dict[str, Any]:
    """Score an extract and write the scores as JSON.

    Args:
        extract: File from `atmonr merge`; one on a curtain grid is scored against its lidar only.
        truth: File with the true extinction; without it the volume is not scored.
        run: Run folder, for the scores on held-out rays and the loss curve.
        out: JSON file to make; undefined scores are null in it.
        pictures: Folder for pictures, made if need be; none are drawn without it.
        coarsen: Blocks of this many columns each way are averaged, in truth and extract, before the volume
            is scored: for a truth that is finer than what the sensor could see.
        earthcare: EarthCARE ATL_EBD_2A file, to compare the extract with along the lidar's track.
        max_time_offset_s: By how much the lidar may have passed before or after the observation [s].

    Returns:
        What `out` holds.

    Raises:
        UsageError: If there is nothing to score against, `out` exists, a mosaic is scored as a run's, or the
            truth is too small to be coarsened so.
        SceneError: If an input is unreadable or not as expected, or does not meet the extract.
        GranuleError: If the lidar's file is unreadable or not as expected.
        ResumeError: If `run` is not a run folder.
        StoreError: If `out` or a picture cannot be written.
    """
    if truth is None and run is None and earthcare is None:
        raise UsageError("nothing to score against: give --truth, --earthcare, --run or several")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another name or remove it first")
    track = open_track_file(extract)
    file = track.file if isinstance(track, VoxelTrack) else None
    if file is None and (truth is not None or run is not None):
        raise UsageError(f"{extract}: is on a lidar's profiles; --truth and --run need one on a voxel grid")
    identity = {"file": extract.name, "sha256": sha256(extract), **_identity(track.attrs)}
    score: dict[str, Any] = {"extract": identity}
    if file is not None and run is not None:
        score["heldout"] = _heldout(Run.open(run), file, pictures)
    if file is not None and truth is not None:
        score |= _against_truth(file, truth, coarsen, pictures)
    if earthcare is not None:
        score["earthcare"] = score_earthcare(track, earthcare, max_time_offset_s, pictures)
    score = _finite(score)
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps(score, indent=2) + "\n", encoding="utf-8")
    return score


def _against_truth(file: ExtractFile, path: Path, coarsen: int, pictures: Path | None) -> dict[str, Any]:
    """What the truth is, and the scores of the volume."""
    known = read_truth(path)
    edges = cell_edges(file.altitude_m)
    padded = with_clear_air(known, edges[0], edges[-1])
    estimate, covered = on_truth_cells(file, padded)
    if coarsen > 1:
        padded = coarsened(padded, coarsen)
        estimate, covered = (block_means(values, coarsen) for values in (estimate, covered))
    scores = score_volume(estimate, padded, covered)
    if pictures is not None:
        _draw_volume(pictures, estimate, padded, scores)
    identity = {"file": path.name, "sha256": sha256(path), "wavelength_nm": known.wavelength_nm}
    return {"truth": {**identity, "coarsened_columns": coarsen}, "volume": scores}


def score_volume(estimate: FloatArray, truth: Truth, covered: FloatArray) -> dict[str, Any]:
    """Return all scores of an extract on the cells of a truth.

    Args:
        estimate: Extinction of the extract [m^-1], shape (X, Y, Z) of the truth.
        truth: The truth, on all levels of the extract.
        covered: Fraction of each cell that the extract covers.
    """
    true = truth.extinction_per_m
    mask = volume.cloud_mask(true)
    scale = volume.best_scale(estimate, true)
    best = volume.best_mask(estimate, mask)
    return {
        "cells": true.size,
        "cloudy_cells": int(mask.sum()),
        "cloud_mask": f"true extinction > {volume.CLOUD_FRACTION_OF_PEAK:g} of its maximum",
        "covered_fraction": float(covered.mean()),
        "covered_fraction_of_true_mass": float((covered * true).sum() / true.sum()),
        "epsilon": volume.relative_l1(estimate, true),
        "delta": volume.mass_bias(estimate, true),
        "best_scale": scale,
        "epsilon_after_scale": volume.relative_l1(scale * estimate, true),
        "delta_after_scale": volume.mass_bias(scale * estimate, true),
        "iou_best": best.iou,
        "iou_best_threshold_per_m": best.threshold_per_m,
        "iou_fixed": volume.intersection_over_union(estimate > FIXED_THRESHOLD_PER_M, mask),
        "iou_fixed_threshold_per_m": FIXED_THRESHOLD_PER_M,
        **_score_columns(estimate, truth),
        # A comparison with NaN is false: without a threshold no column has a cloud.
        **_score_heights(estimate >= best.threshold_per_m, mask, truth),
    }


def _score_columns(estimate: FloatArray, truth: Truth) -> dict[str, Any]:
    thickness = np.diff(truth.edges_m)
    found = volume.optical_depth(estimate, thickness)
    true = volume.optical_depth(truth.extinction_per_m, thickness)
    cloudy = true > 0
    return {
        "columns": true.size,
        "cloudy_columns": int(cloudy.sum()),
        "optical_depth_spearman_cloudy": volume.rank_correlation(found[cloudy], true[cloudy]),
        "optical_depth_spearman_all": volume.rank_correlation(found, true),
        "optical_depth_mean_cloudy": float(found[cloudy].mean()),
        "optical_depth_mean_cloudy_true": float(true[cloudy].mean()),
        "optical_depth_bias_cloudy": volume.mass_bias(found[cloudy], true[cloudy]),
        "clear_to_cloudy_optical_depth": volume.clear_to_cloudy(found, true),
    }


def _score_heights(found: NDArray[np.bool_], true: NDArray[np.bool_], truth: Truth) -> dict[str, Any]:
    lower, upper = truth.edges_m[:-1], truth.edges_m[1:]
    level_m = float(np.median(np.diff(truth.edges_m)))
    errors = {
        "cloud_top": volume.height_error(volume.cloud_top_m(found, upper), volume.cloud_top_m(true, upper)),
        "cloud_base": volume.height_error(
            volume.cloud_base_m(found, lower), volume.cloud_base_m(true, lower)
        ),
    }
    return {name: {**asdict(error), "rmse_cells": error.rmse_m / level_m} for name, error in errors.items()}


def _heldout(run: Run, file: ExtractFile, pictures: Path | None) -> dict[str, Any]:
    """The trainer's scores on held-out rays, and the loss curve if pictures are wanted."""
    scene = _scene_of(run, file)
    records = run.read_metrics(scene)
    if pictures is not None and records:
        from atmonr.evaluate.pictures import loss_curve

        loss_curve(records, pictures / "loss.png")
    path = run.heldout(scene)
    if not path.is_file():
        raise SceneError(f"{path}: missing; expected the held-out scores that finished training writes")
    return read_json(path)


def _scene_of(run: Run, file: ExtractFile) -> str:
    if file.mosaic:
        raise UsageError(f"{file.path}: is a mosaic of several scenes, which no run trained; leave --run out")
    scene, scene_id = file.attrs.get("scene"), file.attrs.get("scene_id")
    for name in run.scene_names:
        if name == scene and run.scene_info(name).get("scene_id") == scene_id:
            return name
    raise SceneError(f"{file.path}: is of scene '{scene}' ({scene_id}), which {run.path} was not trained on")


def _draw_volume(folder: Path, estimate: FloatArray, truth: Truth, scores: dict[str, Any]) -> None:
    from atmonr.evaluate import pictures

    pictures.truth_sections(estimate, truth, folder / "sections.png", scale=scores["best_scale"])
    pictures.optical_depth_scatter(estimate, truth, folder / "optical_depth.png", scale=scores["best_scale"])
    pictures.mean_profile(estimate, truth, folder / "profile.png", scale=scores["best_scale"])


def _identity(attrs: Mapping[str, Any]) -> dict[str, Any]:
    names = ("scene", "scene_id", "checkpoint", "checkpoint_sha256", "run_config_sha256")
    return {name: str(attrs[name]) for name in names if name in attrs}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
