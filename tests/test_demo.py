"""The demo, whole, on two MPI ranks."""

from __future__ import annotations

import json
import subprocess
import sys
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
def test_the_demo_recovers_its_cloud_on_two_ranks(tmp_path: Path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "atmonr", "demo", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(name in done.stdout for name, *_ in LIMITS), done.stdout[-3000:]
    assert json.loads((out / "score.json").read_text())["volume"]["iou_best"] > 0.5
    with xr.open_dataset(out / "extract.nc") as extract:
        assert extract.extinction.attrs["units"] == "m-1"
        assert float(extract.extinction.min()) >= 0.0
    assert len(list(out.rglob("*.png"))) >= 4
