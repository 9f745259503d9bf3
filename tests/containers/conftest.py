"""The image of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# For the set-up of Slurm.
sys.path.insert(0, str(Path(__file__).parents[1] / "slurm"))

InImage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def image(checkout: Path) -> Path:
    """atmonr-cpu.sif, built if it is not of these sources; the test is skipped where Apptainer cannot be."""
    debian = "ID=debian" in Path("/etc/os-release").read_text().splitlines()
    if shutil.which("apptainer") is None and not (os.geteuid() == 0 and debian):
        pytest.skip("apptainer is absent, and make image-cpu installs it as root on Debian only")
    make = ["make", "--no-print-directory", "image-cpu"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return checkout / "atmonr-cpu.sif"


@pytest.fixture(scope="session")
def in_image(image: Path) -> InImage:
    """Run a command in the image: `in_image("atmonr", "doctor", options=["--bind", …])`."""

    def run(
        *command: str, options: Sequence[str] = (), before: Sequence[str] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        whole = [*before, "apptainer", "exec", *options, str(image), *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        done = subprocess.run(
            whole, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    return run
