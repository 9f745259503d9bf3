"""Whatever happens to a file of an extraction is found, named, and mended by asking for the same again."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from atmonr.errors import SceneError, UsageError
from atmonr.extract.merge import merge
from atmonr.extract.parts import Parts
from atmonr.extract.session import fill

CPU = torch.device("cpu")
SHARD = "0-1-1"
KINDS = {
    "shard": "extinction/c/0/0/1/1",
    "receipt": f"receipts/{SHARD}.*.json",
    "plan": "plan.json",
    "metadata": "extinction/zarr.json",
}


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def lose(path: Path, chance: random.Random) -> None:
    path.unlink()


def state(parts: Parts) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every file: a file that was written again has another inode."""
    files = (path for path in sorted(parts.path.rglob("*")) if path.is_file())
    return {str(path.relative_to(parts.path)): (path.stat().st_ino, path.read_bytes()) for path in files}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm, times", [(flip, 20), (cut, 5), (lose, 1)])
def test_damage_is_found_named_and_mended_and_nothing_else_is_touched(
    finished, wave_field, source, faults, kind, harm, times
):
    chance = random.Random(f"{kind} {harm.__name__}")
    a_shards = kind in ("shard", "receipt")
    for _ in range(times):
        before = state(finished)
        (path,) = finished.path.glob(KINDS[kind])
        harm(path, chance)
        with pytest.raises(SceneError) as caught:
            merge([finished.path], finished.path.parent / "extract.nc")
        again = Parts.create_or_resume(finished.path, finished.grid, 1, source)
        written = fill(again, wave_field, CPU, again.shards)
        after = state(again)
        touched = {name for name in after if after[name][0] != before[name][0]}
        checks = [
            (SHARD if a_shards else path.name) in str(caught.value),
            "\n" not in str(caught.value),
            written == a_shards,
            touched <= {KINDS[kind]}
            or (a_shards and all(SHARD in t or t == KINDS["shard"] for t in touched)),
            {name: content for name, (_, content) in after.items()}
            == {name: content for name, (_, content) in before.items()},
        ]
        faults.record(all(checks))
        assert all(checks), (checks, str(caught.value), touched)


def test_a_damaged_plan_of_something_else_is_not_taken_for_ones_own(finished, make_grid, source):
    os.truncate(finished.path / "plan.json", 100)
    with pytest.raises(UsageError, match=r"plan\.json: .*not of what is asked for now"):
        Parts.create_or_resume(finished.path, make_grid(step_m=250.0), 1, source)
    assert Parts.create_or_resume(finished.path, finished.grid, 1, source).missing() == []


def test_two_writers_of_one_shard_leave_a_file_with_a_receipt_whoever_comes_last(finished, tmp_path):
    """As an old job that lives on does to the one that resumes it: here on hardware that rounds otherwise."""
    shard = finished.shards[4]
    ours = finished.read(shard)
    old_job = Parts.open(finished.path)
    for first, second in ((ours, ours * np.float32(1.000001)), (ours * np.float32(1.000001), ours)):
        finished.write(shard, first)
        old_job.write(shard, second)
        assert np.array_equal(finished.read(shard), second)
    # The worst order: one writes its file, the other its file and receipt, then the first its receipt.
    file = finished.path / KINDS["shard"]
    finished.write(shard, ours)
    kept = file.read_bytes()
    old_job.write(shard, ours * np.float32(1.000001))
    file.write_bytes(kept)
    finished.verify(shard)
    merge([finished.path], tmp_path / "extract.nc")


def test_leftovers_of_killed_writers_are_removed_and_never_read(finished, source):
    leftovers = [
        finished.path / "extinction/c/0/0/1/.1.0123456789ab.tmp",
        finished.path / "receipts/.0-1-1.0123456789abcdef.0123456789ab.tmp.json",
    ]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    assert Parts.open(finished.path).missing() == []
    assert Parts.open(finished.path).strangers() == []
    Parts.create_or_resume(finished.path, finished.grid, 1, source)
    assert not any(leftover.exists() for leftover in leftovers)


def test_shards_of_a_larger_grid_are_refused(finished, tmp_path, make_grid, wave_field, source):
    larger = Parts.create_or_resume(tmp_path / "larger.zarr", make_grid(half_m=10_000.0), 1, source)
    fill(larger, wave_field, CPU, larger.shards)
    (receipt,) = (larger.path / "receipts").glob("0-3-3.*.json")
    shutil.copy(receipt, finished.path / "receipts")
    with pytest.raises(SceneError, match=r"receipts: 0-3-3\..*of no shard of this grid"):
        merge([finished.path], tmp_path / "extract.nc")


def test_shards_that_overlap_because_they_are_of_another_grid_are_refused(
    finished, tmp_path, make_grid, wave_field, source
):
    other = Parts.create_or_resume(tmp_path / "other.zarr", make_grid(step_m=199.0), 1, source)
    fill(other, wave_field, CPU, other.shards)
    for pattern in ("extinction/c/0/0/1/1", "receipts/0-1-1.*.json"):
        (path,) = other.path.glob(pattern)
        shutil.copy(path, finished.path / path.relative_to(other.path))
    with pytest.raises(SceneError, match=r"0-1-1\.\w+\.json: stop is .*of another extraction"):
        merge([finished.path], tmp_path / "extract.nc")
