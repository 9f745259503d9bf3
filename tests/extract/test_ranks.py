"""Extraction by several processes, and what they survive."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import netCDF4
import pytest

from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from tests.extract.randomised import STEPS, make_run

MPIEXEC = Path(sys.executable).with_name("mpiexec")
BOUND_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.alone]
needs_mpi = pytest.mark.skipif(not MPIEXEC.exists(), reason="needs the mpiexec of `pip install atmonr[mpi]`")


def start(run: Path, out: Path, ranks: int = 1) -> subprocess.Popen[str]:
    launch = [str(MPIEXEC), "-n", str(ranks)] if ranks > 1 else []
    command = [*launch, sys.executable, "-m", "atmonr", "extract", "--run", str(run), *STEPS, "-o", str(out)]
    return subprocess.Popen(
        [*command, "--device", "cpu", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def extract(run: Path, out: Path, ranks: int = 1) -> tuple[int, str]:
    process = start(run, out, ranks)
    try:
        _, errors = process.communicate(timeout=BOUND_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def data(file: Path) -> dict[str, bytes]:
    """The bytes of every variable, as stored."""
    with netCDF4.Dataset(file) as dataset:
        dataset.set_auto_maskandscale(False)
        return {name: variable[...].tobytes() for name, variable in dataset.variables.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run").path


@pytest.fixture(scope="module")
def undisturbed(run: Path) -> Path:
    """The extraction by one rank."""
    out = run.parent / "undisturbed.zarr"
    code, errors = extract(run, out)
    assert code == 0, errors
    return out


@pytest.fixture(scope="module")
def expected(undisturbed: Path) -> dict[str, bytes]:
    return data(merge([undisturbed], undisturbed.with_suffix(".nc")))


@needs_mpi
def test_three_ranks_give_the_bytes_of_one(run, expected, tmp_path):
    code, errors = extract(run, tmp_path / "parts.zarr", ranks=3)
    assert code == 0, errors
    assert data(merge([tmp_path / "parts.zarr"], tmp_path / "volume.nc")) == expected


def test_ranks_killed_at_twenty_random_moments_cost_nothing_that_is_finished(
    run, undisturbed, expected, tmp_path, faults
):
    program = Path(__file__).with_name("kill_ranks.py")
    command = [sys.executable, str(program), str(run), str(undisturbed), str(tmp_path), "20", "7"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BOUND_S, check=False)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    right = all(
        data(merge([Path(parts)], tmp_path / f"{i}.nc")) == expected
        for i, parts in enumerate(found["finished"])
    )
    for outcome in found["outcomes"]:
        faults.record(outcome and right)
    assert right and found["outcomes"] == [True] * 20


@needs_mpi
def test_an_mpi_job_that_loses_a_rank_ends_soon_and_is_resumed_on_another_number(
    run, expected, tmp_path, faults
):
    chance = random.Random(11)
    out = tmp_path / "parts.zarr"
    for ranks in (2, 3):
        process = start(run, out, ranks)
        signal_one_amid_the_work(process, out, chance, signal.SIGKILL)
        _, errors = process.communicate(timeout=BOUND_S)
        parts = Parts.open(out)
        acknowledged = set(parts.shards) - set(parts.missing())
        survived = all(
            [process.returncode != 0, parts.missing(), *(parts.verified(shard) for shard in acknowledged)]
        )
        faults.record(survived)
        assert survived, (process.returncode, errors)
    code, errors = extract(run, out)
    assert code == 0, errors
    assert data(merge([out], tmp_path / "volume.nc")) == expected


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_one_rank_stops_all_with_75_and_the_same_command_completes(
    run, expected, tmp_path, number
):
    out = tmp_path / "parts.zarr"
    process = start(run, out, 2)
    signal_one_amid_the_work(process, out, random.Random(int(number)), number)
    _, errors = process.communicate(timeout=BOUND_S)
    assert process.returncode == 75, errors
    assert f"{out}: stopped; the same command completes it" in errors
    parts = Parts.open(out)
    assert parts.missing() and len(parts.missing()) < len(parts.shards)
    code, errors = extract(run, out)
    assert code == 0, errors
    assert data(merge([out], tmp_path / "volume.nc")) == expected


def signal_one_amid_the_work(
    process: subprocess.Popen[str], out: Path, chance: random.Random, number: signal.Signals
) -> None:
    """Signal a rank once the job has written something new; all stand still meanwhile, lest they finish."""
    before = receipts(out)
    limit = time.monotonic() + BOUND_S
    while receipts(out) <= before:
        assert process.poll() is None and time.monotonic() < limit, process.stderr.read()
        time.sleep(0.001)
    ranks = [pid for pid in descendants(process.pid) if "extract" in Path(f"/proc/{pid}/cmdline").read_text()]
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    os.kill(chance.choice(ranks), number)
    for rank in ranks:
        with suppress(ProcessLookupError):  # the one that was killed
            os.kill(rank, signal.SIGCONT)


def receipts(out: Path) -> int:
    return len(list(out.glob("receipts/[0-9]*.json")))


def descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from (int(child), *descendants(int(child)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


def test_a_full_disk_ends_with_74_names_the_file_and_completes_once_there_is_room(
    run, expected, undisturbed, small_disk, faults
):
    out = small_disk / "parts.zarr"
    code, errors = extract(run, out)
    written = receipts(out)
    parts, right = Parts.open(out), Parts.open(undisturbed)
    finished = [shard for shard in parts.shards if parts.verified(shard)]
    checks = [
        code == 74,
        errors.count("\n") == 1 and f"{out}/extinction/c/0/" in errors and "No space left" in errors,
        0 < len(finished) == written < 25,
        all(parts._file(shard).read_bytes() == right._file(shard).read_bytes() for shard in finished),
        not [path for path in out.rglob(".*")],
    ]
    assert mount("-o", "remount,size=64m", str(small_disk)).returncode == 0
    kept = {shard.name: parts._file(shard).stat().st_ino for shard in finished}
    code, errors = extract(run, out)
    checks += [
        code == 0,
        all(parts._file(shard).stat().st_ino == kept[shard.name] for shard in finished),
        data(merge([out], small_disk / "volume.nc")) == expected,
    ]
    faults.record(all(checks))
    assert all(checks), (checks, errors)


def test_a_disk_that_is_full_while_merging_leaves_no_file(undisturbed, expected, small_disk, faults):
    out = small_disk / "volume.nc"
    command = [sys.executable, "-m", "atmonr", "merge", str(undisturbed), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)
    checks = [done.returncode == 74, done.stderr.count("\n") == 1, str(out) in done.stderr]
    checks += [not os.listdir(small_disk)]
    assert mount("-o", "remount,size=64m", str(small_disk)).returncode == 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)
    checks += [again.returncode == 0, data(out) == expected]
    faults.record(all(checks))
    assert all(checks), (checks, done.stderr, again.stderr)
