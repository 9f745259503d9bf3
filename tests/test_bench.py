from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from atmonr import bench, bench_ingest
from tests.sensors.granules import NAME, write_granule

Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
@pytest.mark.alone
def test_every_habit_is_timed_and_the_ratio_is_of_the_last_to_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    monkeypatch.setattr(bench, "STEPS", 1)
    found = bench.bench(device="cpu")
    times = list(found["milliseconds_per_step"].values())
    assert len(times) == 6 and min(times) > 0
    assert found["speedup_over_plain"] == pytest.approx(times[-1] / times[0])
    assert found["bytes_per_ray"] == 25
    assert found["peak_memory_mib"] > 100


@pytest.mark.slow
def test_the_way_of_a_granule_to_the_device_is_timed_beside_plain_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_ingest, "ROUNDS", 1)
    granule = write_granule(tmp_path / NAME)
    found = bench_ingest.bench_ingest(granule, tmp_path, device="cpu")
    seconds = found["seconds"]
    assert min(seconds.values()) > 0 and max(seconds.values()) < 1e3
    assert found["ingest_over_read_netcdf"] == seconds["read_netcdf"] / seconds["ingest"]
    assert found["load_rays_over_load_bytes"] == seconds["load_bytes"] / seconds["load_rays"]
    assert found["ray_bytes"] == 25 * 81 * 12 * 9  # nine views are held out
    assert list(tmp_path.iterdir()) == [granule]  # what was made for a while is gone


@pytest.mark.slow
@pytest.mark.alone
def test_ranks_are_timed_in_every_way_and_give_what_each_way_needs(mpi_python: Launch) -> None:
    done = mpi_python(2, "-m", "atmonr", "bench")
    assert done.returncode == 0, done.stderr
    rows = {
        cells[0]: [float(cell) for cell in cells[1:]]
        for line in done.stdout.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 8
    }
    summed = {way: row[5] for way, row in rows.items()}
    sent = {way: row[6] for way, row in rows.items()}
    held = {way: row[3] for way, row in rows.items()}
    assert rows["one rank alone"][2] == 1.0
    assert summed["one rank alone"] == sent["one rank alone"] == 0
    assert summed["a scene each"] == sent["a scene each"] == 0
    # Every parameter once and two scalars; fp32, because there are more than a million.
    assert summed["rays of one scene"] == 4 * (rows["rays of one scene"][4] + 2)
    assert 0 < summed["a scene each, one decoder"] < 1e5 and sent["a scene each, one decoder"] == 0
    assert 0 < summed["tiles of one scene"] < 1e5 and 0 < sent["tiles of one scene"] < 8 * 1024
    assert held["tiles of one scene"] < held["one rank alone"] == held["rays of one scene"]
