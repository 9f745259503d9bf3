"""What tests of several packages share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

# Tests are no package that could be imported.
sys.path.insert(0, str(CHECKOUT / "tests"))

from alone import pytest_runtest_protocol  # noqa: E402, F401
from faults import faults, pytest_terminal_summary  # noqa: E402, F401

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree."""
    return CHECKOUT


@pytest.fixture
def python() -> Launch:
    """Run this interpreter in a process of its own: `python("-c", script)`."""

    def launch(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return _run([sys.executable, *arguments], env)

    return launch


@pytest.fixture
def mpi_python() -> Launch:
    """Run this interpreter on several MPI ranks: `mpi_python(2, "-c", script)`."""
    # The launcher of the MPI that mpi4py was installed with; another one on PATH would start ranks of size 1.
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip(f"no mpiexec beside {sys.executable}; pip install 'atmonr[mpi]'")

    def launch(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([str(mpiexec), "-n", str(ranks), sys.executable, *arguments], None)

    return launch


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `atmonr demo` makes, with its output in `log.txt`. Tests that use it are marked `alone`.

    That takes a minute, so all workers of pytest-xdist share it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo"
    log = shared / "log.txt"
    if not log.exists():
        command = [sys.executable, "-m", "atmonr", "demo", "-o", str(shared)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        log.write_text(done.stdout)
    return shared


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """Find a program of the packages in debian-packages.txt: `need("ffprobe")`, or skip the test."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            # There, `make test` has installed it.
            if os.geteuid() == 0 and _is_debian():
                pytest.fail(f"{program} is absent; make system")
            pytest.skip(f"{program} is absent; on Debian: apt-get install one of tests/debian-packages.txt")
        return found

    return find


def _is_debian() -> bool:
    release = Path("/etc/os-release")
    return release.is_file() and "ID=debian" in release.read_text().splitlines()


def _run(command: Sequence[str], env: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end.

    And end with what must run alone: it waits for what the other worker is at, which should not be long then.
    """
    longest = ("test_science.py", "test_tutorial.py")
    items.sort(key=lambda item: (item.path.name not in longest, item.get_closest_marker("alone") is not None))
