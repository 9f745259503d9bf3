"""The demo, whole, on two MPI ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xarray as xr

from atmonr.demo import LIMITS, _judge
from atmonr.errors import UsageError


def score(iou: float) -> dict:
    volume = {
        "iou_best": iou,
        "optical_depth_spearman_cloudy": 0.9,
        "clear_to_cloudy_optical_depth": 0.01,
    }
    return {"volume": volume, "heldout": {"all": {"psnr_db": 35.0}}}


def test_a_wrong_cloud_fails_the_demo():
    assert _judge(score(0.9))
    assert not _judge(score(0.1))
    assert not _judge(score(float("nan")))


def test_an_existing_folder_is_not_touched(tmp_path: Path):
    from atmonr.demo import demo

    with pytest.raises(UsageError, match="exists already"):
        demo(tmp_path)


@pytest.mark.slow
@pytest.mark.alone
def test_the_demo_recovers_its_cloud_on_two_ranks(demo_folder: Path):
    log = (demo_folder / "log.txt").read_text()
    assert all(name in log for name, *_ in LIMITS), log[-3000:]
    assert json.loads((demo_folder / "score.json").read_text())["volume"]["iou_best"] > 0.5
    with xr.open_dataset(demo_folder / "extract.nc") as extract:
        assert extract.extinction.attrs["units"] == "m-1"
        assert float(extract.extinction.min()) >= 0.0
    assert len(list(demo_folder.rglob("*.png"))) >= 4
