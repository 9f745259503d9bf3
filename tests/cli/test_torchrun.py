from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.alone
def test_torchrun_passes_our_options_on_as_documented(python: Launch, checkout: Path, tmp_path: Path) -> None:
    """Without `--` it takes `--run` for one of its own."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "--", "atmonr")
    config, scene, run = checkout / "configs" / "instant_ngp.toml", tmp_path / "absent.zarr", tmp_path / "run"
    done = python(*torchrun, "train", "-c", str(config), "--scene", str(scene), "--run", str(run), "-q")
    assert done.returncode == 1  # torchrun ends so whatever happened
    assert f"{scene}" in done.stderr and "ambiguous" not in done.stderr
    assert not run.exists()
