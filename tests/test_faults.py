from __future__ import annotations

from pathlib import Path

import pytest

TESTS = """
def test_kills(faults):
    for _ in range(3):
        faults.record(True)

def test_dies_of_it(faults):
    faults.record(True)
    faults.record(False)
    raise AssertionError

def test_nothing():
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_the_session_ends_with_the_number_of_faults(python, checkout: Path, tmp_path: Path, options) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    arguments = ["-m", "pytest", "-q", "-p", "faults", "-p", "no:cacheprovider", *options, str(tmp_path)]
    done = python(*arguments, env={"PYTHONPATH": str(checkout / "tests")})
    assert "faults: 5 tried, 4 survived" in done.stdout.splitlines(), done.stdout + done.stderr


@pytest.mark.slow
def test_a_session_without_faults_says_nothing(python, checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_nothing(): pass")
    done = python("-m", "pytest", "-p", "faults", str(tmp_path), env={"PYTHONPATH": str(checkout / "tests")})
    assert done.returncode == 0 and "faults" not in done.stdout.rpartition("passed")[0].splitlines()[-1]
