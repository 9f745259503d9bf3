from __future__ import annotations

import json

import numpy as np
import pytest

from atmonr.config import Config
from atmonr.errors import ResumeError, SceneError, UsageError
from atmonr.evaluate.session import evaluate
from atmonr.run import Run

CENTRE_LATITUDE = 18.0


def block(lat, lon, h, x, y):
    """A box of cloud from 3.5 to 4.5 km, about where the default truth has it."""
    inside = (abs(lat - CENTRE_LATITUDE) < 0.014) & (abs(lon + 61.5) < 0.019) & (h > 3_400) & (h < 4_400)
    return np.where(inside, 0.002, 0.0)


def stripes(volume):
    """Every other column of a layer."""
    volume[::2, :, 2:4] = 0.01
    return volume


@pytest.fixture
def score(write_truth, write_extract, tmp_path):
    def run(function, **truth):
        extract, known = write_extract(function), write_truth(**truth)
        return evaluate(extract, truth=known, run=None, out=tmp_path / "score.json", pictures=None)["volume"]

    return run


@pytest.fixture
def run(tmp_path) -> Run:
    config = Config.model_validate({"field": {"method": "instant_ngp"}})
    made = Run.create(tmp_path / "run", config, {"cloud": {"scene_id": "s" * 64}}, {})
    heldout = {"all": {"psnr_db": 44.0, "ssim": 0.99, "n": 1000}, "bands": {}}
    (made.scene_folder("cloud") / "heldout.json").write_text(json.dumps(heldout))
    for step in range(0, 500, 50):
        made.append_metrics("cloud", {"step": step, "loss": 1.0 / (step + 1)})
    return made


def test_a_layer_of_known_optical_depth_keeps_its_units_and_its_place(score):
    layer = np.zeros((14, 10, 6))
    layer[..., 2:4] = 0.01
    scores = score(lambda lat, lon, h, x, y: np.where((h > 3_600) & (h < 4_400), 0.01, 0.0), extinction=layer)
    assert scores["optical_depth_mean_cloudy_true"] == pytest.approx(8.0)
    assert scores["optical_depth_mean_cloudy"] == pytest.approx(8.0, rel=1e-3)
    assert abs(scores["delta"]) < 1e-3
    assert scores["epsilon"] < 0.1
    assert scores["iou_best"] == 1.0
    assert scores["cloud_top"]["rmse_m"] == 0.0
    assert scores["covered_fraction_of_true_mass"] == 1.0


def test_a_faint_cloud_in_the_right_place_scores_well_after_the_best_scale(score):
    scores = score(block)
    assert scores["epsilon"] > 0.75
    assert scores["best_scale"] == pytest.approx(5.0, rel=0.2)
    assert scores["epsilon_after_scale"] < 0.5
    assert scores["iou_best"] > 0.6
    assert scores["clear_to_cloudy_optical_depth"] < 0.05


def test_a_cloud_half_a_block_wide_is_found_on_coarser_columns(write_truth, write_extract, tmp_path):
    """What a pixel cannot tell apart is not held against it, and is averaged in truth and extract alike."""
    truth = write_truth(extinction=stripes(np.zeros((14, 10, 6))))
    grey = write_extract(lambda lat, lon, h, x, y: np.where((h > 3_600) & (h < 4_400), 0.005, 0.0))
    fine, coarse = (
        evaluate(grey, truth=truth, run=None, out=tmp_path / f"{n}.json", pictures=None, coarsen=n)
        for n in (1, 2)
    )
    assert fine["volume"]["iou_best"] == pytest.approx(0.5)
    assert coarse["volume"]["iou_best"] == 1.0
    assert coarse["volume"]["epsilon"] < 0.01
    assert (fine["volume"]["cells"], coarse["volume"]["cells"]) == (14 * 10 * 20, 7 * 5 * 20)
    assert coarse["truth"]["coarsened_columns"] == 2


def test_an_upside_down_extract_scores_badly(score):
    scores = score(lambda lat, lon, h, x, y: block(lat, lon, 6_500.0 - h, x, y))
    assert scores["iou_best"] < 0.3
    assert scores["epsilon_after_scale"] > 0.9


def test_haze_below_the_levels_of_the_truth_file_is_not_overlooked(score):
    scores = score(lambda lat, lon, h, x, y: block(lat, lon, h, x, y) + np.where(h < 1_000, 0.001, 0.0))
    assert scores["clear_to_cloudy_optical_depth"] > 0.2
    assert scores["delta"] > -0.5


def test_a_zero_field_is_scored_not_refused(score, tmp_path):
    scores = score(lambda lat, lon, h, x, y: np.zeros_like(h))
    assert scores["epsilon"] == 1.0 and scores["iou_best"] == 0.0
    assert scores["cloud_top"]["rmse_m"] is None
    # NaN is no JSON.
    json.loads((tmp_path / "score.json").read_text(), parse_constant=pytest.fail)


def test_the_file_holds_what_is_returned(write_truth, write_extract, run, tmp_path):
    out = tmp_path / "score.json"
    score = evaluate(write_extract(block), truth=write_truth(), run=run.path, out=out, pictures=None)
    assert json.loads(out.read_text()) == score
    assert score["heldout"]["all"]["psnr_db"] == 44.0
    assert score["extract"]["scene"] == "cloud"


def test_a_run_of_another_scene_is_refused(write_extract, run, tmp_path):
    info = run.scene_folder("cloud") / "scene.json"
    info.write_text(json.dumps({"scene_id": "another"}))
    with pytest.raises(SceneError, match=r"extract\.nc: is of scene 'cloud'"):
        evaluate(write_extract(block), truth=None, run=run.path, out=tmp_path / "score.json", pictures=None)


def test_a_run_without_heldout_scores_is_refused(write_extract, run, tmp_path):
    (run.scene_folder("cloud") / "heldout.json").unlink()
    with pytest.raises(SceneError, match=r"heldout\.json: missing"):
        evaluate(write_extract(block), truth=None, run=run.path, out=tmp_path / "score.json", pictures=None)
    with pytest.raises(ResumeError, match="not a run folder"):
        evaluate(write_extract(block), truth=None, run=tmp_path, out=tmp_path / "score.json", pictures=None)
    assert not (tmp_path / "score.json").exists()


def test_an_existing_score_and_a_request_for_nothing_are_refused(write_extract, write_truth, tmp_path):
    out = tmp_path / "score.json"
    with pytest.raises(UsageError, match="nothing to score against"):
        evaluate(write_extract(block), truth=None, run=None, out=out, pictures=None)
    out.write_text("precious")
    with pytest.raises(UsageError, match=r"score\.json: exists already"):
        evaluate(write_extract(block), truth=write_truth(), run=None, out=out, pictures=None)
    assert out.read_text() == "precious"


@pytest.mark.slow
def test_pictures_are_drawn_when_asked_for(write_extract, write_truth, run, tmp_path):
    folder = tmp_path / "pictures"
    evaluate(
        write_extract(block), truth=write_truth(), run=run.path, out=tmp_path / "s.json", pictures=folder
    )
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["loss.png", "optical_depth.png", "profile.png", "sections.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
