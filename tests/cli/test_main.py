from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Launch = Callable[..., subprocess.CompletedProcess[str]]

# The library fails on one rank while the other waits for it.
PROGRAM = """
import sys
import atmonr.train.session as session
from atmonr.errors import SceneError

error = {"bug": ZeroDivisionError, "scene": SceneError}[sys.argv.pop(1)]

def train(*args, world, **kwargs):
    group = world.split([0, 1])
    if world.rank == 1:
        raise error("it went wrong")
    group.barrier()

session.train = train
from atmonr.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("kind", "code", "traceback"), [("bug", 1, True), ("scene", 65, False)])
def test_an_error_on_one_rank_is_told_and_ends_all_with_its_code(
    mpi_python: Launch, checkout: Path, kind: str, code: int, traceback: bool
) -> None:
    config = checkout / "configs" / "instant_ngp.toml"
    command = ["train", "-c", str(config), "--scene", "s", "--run", "r", "--set", "world.ranks_per_scene=2"]
    done = mpi_python(2, "-c", PROGRAM, kind, *command)
    assert done.returncode == code
    assert "it went wrong" in done.stderr
    assert "rank 0: stopped because rank 1 did" in done.stderr
    assert ("Traceback" in done.stderr) is traceback
    assert "terminate called" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("debug", "error", "code"),
    [
        ([], "ZeroDivisionError('x')", 1),
        (["--debug"], "__import__('atmonr.errors').errors.GranuleError('x')", 65),
    ],
)
def test_a_traceback_does_not_change_the_exit_code(
    python: Launch, debug: list[str], error: str, code: int
) -> None:
    script = f"""
import sys
import atmonr.extract.merge as module

def merge(*args, **options):
    raise {error}

module.merge = merge
from atmonr.cli import main
sys.argv[1:] = {[*debug, "merge", "a.zarr", "-o", "b.nc"]}
main()
"""
    done = python("-c", script)
    assert done.returncode == code
    assert "Traceback" in done.stderr
