"""The image for processors: what is in it, and that it does what the checkout does."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

pytestmark = [pytest.mark.slow, pytest.mark.image, pytest.mark.alone]

InImage = Callable[..., subprocess.CompletedProcess[str]]
SHARE = "/usr/local/share/atmonr"


def test_it_passes_its_own_test(image: Path) -> None:
    done = subprocess.run(["apptainer", "test", str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("modules import", "known numbers come out", "OpenVDB works", "MPICH Version", "Open MPI v"):
        assert words in done.stdout
    assert "no GPU answers" in done.stdout or "GPU calculates" in done.stdout


def test_it_is_small_and_starts_fast(image: Path, in_image: InImage) -> None:
    assert image.stat().st_size <= 1.5e9
    inside, outside = math.inf, 0.0
    checkout = [sys.executable, "-m", "atmonr", "doctor"]
    for _ in range(8):  # what else runs here may hold some up, the checkout's own as well
        begin = time.perf_counter()
        in_image("atmonr", "doctor")
        inside = min(inside, time.perf_counter() - begin)
        if inside <= max(3.0, 1.5 * outside):
            return
        begin = time.perf_counter()
        subprocess.run(checkout, check=True, capture_output=True)
        outside = min(outside or math.inf, time.perf_counter() - begin)
    raise AssertionError(f"{inside:.1f} s, and {outside:.1f} s outside of the image")


def test_the_demo_inside_equals_the_demo_outside(
    in_image: InImage, demo_folder: Path, tmp_path: Path
) -> None:
    """Nothing of the host is seen but one folder; nothing can be written elsewhere; there is no network."""
    alone = (
        "--containall",
        "--no-home",
        "--net",
        "--network",
        "none",
        "--bind",
        f"{tmp_path}:/mnt",
        "--pwd",
        "/mnt",
    )
    in_image("atmonr", "demo", "-o", "demo", "--quiet", options=(*alone, "--env", "OMP_NUM_THREADS=1"))
    inside, outside = (
        xr.open_dataset(folder / "extract.nc", decode_cf=False) for folder in (tmp_path / "demo", demo_folder)
    )
    with inside, outside:
        assert list(inside.variables) == list(outside.variables)
        assert "extinction" in inside.variables
        for name in outside.variables:
            assert inside[name].values.tobytes() == outside[name].values.tobytes(), name


def test_nobody_can_write_to_it_and_caches_are_on_scratch(in_image: InImage, tmp_path: Path) -> None:
    script = f"""
import os
try:
    open("{SHARE}/x", "w")
except OSError as error:
    print(error.strerror)
for name in ("NUMBA_CACHE_DIR TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR CUDA_CACHE_PATH MPLCONFIGDIR").split():
    print(os.environ[name])
print([name for name in os.environ if name.startswith(("NCCL", "UCX"))])
"""
    place = ("--bind", f"{tmp_path}:/tmp")
    lines = in_image("python", "-c", script, options=place).stdout.splitlines()
    assert lines[0] == "Read-only file system"
    cache = f"atmonr-cache-{os.getuid()}"
    assert [line.rpartition("/")[0] for line in lines[1:6]] == [f"/tmp/{cache}"] * 5
    assert lines[6] == "[]"
    # Compiled loops are kept there: a second process finds them.
    calculate = ("python", f"{SHARE}/selftest.py", f"{SHARE}/golden.json")
    in_image(*calculate, options=place)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / cache).rglob("*.nb[ci]")}
    assert kept
    in_image(*calculate, options=place)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / cache).rglob("*.nb[ci]")} == kept


def test_a_folder_that_somebody_else_made_is_no_cache(in_image: InImage, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    cache = tmp_path / f"atmonr-cache-{os.getuid()}"
    cache.mkdir()
    os.chown(cache, 12345, 12345)
    found = in_image("sh", "-c", "echo $NUMBA_CACHE_DIR", options=("--bind", f"{tmp_path}:/tmp")).stdout
    assert found.startswith("/var/tmp/")


def test_labels_and_list_of_contents_are_right(image: Path, in_image: InImage, checkout: Path) -> None:
    shown = subprocess.run(
        ["apptainer", "inspect", "--json", str(image)], capture_output=True, check=True
    ).stdout
    labels = json.loads(shown)["data"]["attributes"]["labels"]
    lock = (checkout / "containers/locks/cpu.txt").read_bytes()
    assert labels["atmonr.lock.sha256"] == hashlib.sha256(lock).hexdigest()
    assert labels["atmonr.torch"].startswith("2.") and labels["atmonr.cuda"] == "none"
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.base.digest"].startswith("dpkg-sha256:")
    assert "IMAGE doctor" in subprocess.check_output(["apptainer", "run-help", str(image)], text=True)

    listing = json.loads(in_image("cat", f"{SHARE}/sbom.cdx.json").stdout)
    assert (listing["bomFormat"], listing["specVersion"]) == ("CycloneDX", "1.6")
    names = {part["purl"].partition("@")[0] for part in listing["components"]}
    locked = set(re.findall(r"(?m)^([\w.-]+)==", lock.decode()))
    assert {f"pkg:pypi/{name}" for name in locked} <= names
    assert {"pkg:deb/debian/openmpi-bin", "pkg:deb/debian/libc6"} <= names
    # No compiler, and nothing that building left.
    in_image(
        "sh", "-c", '! command -v gcc g++ cc nvcc && test ! -e /src && test -z "$(ls /var/lib/apt/lists)"'
    )


def test_ranks_that_an_mpich_of_the_host_starts_meet(in_image: InImage) -> None:
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    done = in_image("atmonr", "doctor", "--mpi", "--device", "cpu", before=(mpiexec, "-n", "2"))
    assert "over 2 ranks: right" in done.stdout
    assert "MPICH Version" in done.stdout


def test_the_library_of_a_host_mpich_can_take_the_place_of_the_own(in_image: InImage) -> None:
    """As with Cray MPICH: what counts is that it has MPICH's ABI."""
    mpiexec, libraries = Path(sys.executable).with_name("mpiexec"), Path(sys.prefix) / "lib"
    options = ("--bind", f"{libraries}:/host-mpi", "--env", "MPI4PY_LIBMPI=/host-mpi/libmpi.so.12")
    script = (
        "import os; from mpi4py import MPI;"
        "used = {line.split()[-1] for line in open('/proc/self/maps') if 'libmpi' in line};"
        # Whole lines, which two ranks cannot mix.
        "os.write(1, f'{MPI.COMM_WORLD.allreduce(1)} {used}\\n'.encode())"
    )
    done = in_image("python", "-c", script, options=options, before=(str(mpiexec), "-n", "2"))
    assert done.stdout.splitlines() == ["2 {'/host-mpi/libmpi.so.12'}"] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_signals_to_apptainer_end_what_runs_inside(image: Path, number: int, code: int) -> None:
    """Workers of campaigns count on both: to have a command save, and that none outlives them."""
    script = (
        "import os, signal, time; signal.signal(15, lambda *_: os._exit(75));"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    command = ["apptainer", "exec", str(image), "python", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        inside = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(20) == code
    for _ in range(50):
        if not Path(f"/proc/{inside}").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"process {inside} goes on")


def test_it_is_not_built_twice(image: Path, checkout: Path) -> None:
    begin = image.stat().st_mtime_ns
    done = subprocess.run(["containers/build.sh"], cwd=checkout, capture_output=True, text=True, check=True)
    assert "nothing to build" in done.stdout
    assert image.stat().st_mtime_ns == begin
