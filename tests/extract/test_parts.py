from __future__ import annotations

import json
import os
import resource
import shutil
import signal

import numpy as np
import pytest
import zarr

from atmonr.errors import SceneError, StoreError, UsageError
from atmonr.extract.parts import Parts


def shard_file(parts: Parts, number: int = 4):
    shard = parts.shards[number]
    return shard, parts.path / "extinction" / "c" / "0" / "/".join(str(i) for i in shard.index)


def receipt_of(parts: Parts, name: str):
    (receipt,) = (parts.path / "receipts").glob(f"{name}.*.json")
    return receipt


def block(parts: Parts, number: int, value: float = 1.0) -> np.ndarray:
    shard = parts.shards[number]
    size = [b - a for a, b in zip(shard.start, shard.stop, strict=True)]
    return np.full((parts.bands, *size), value, np.float32)


def test_a_finished_extraction_holds_the_field_and_receipts_that_fit(finished, wave_field):
    assert finished.missing() == []
    everything = finished.grid.points((slice(None),) * 3)
    expected = wave_field.function(everything.astype(np.float32).astype(float))
    for shard in finished.shards:
        finished.verify(shard)
        np.testing.assert_allclose(finished.read(shard)[0], expected[shard.slices], rtol=1e-6)


def test_the_array_is_plain_sharded_zarr_v3(finished):
    array = zarr.open_array(finished.path / "extinction", mode="r")
    assert array.metadata.zarr_format == 3
    assert array.metadata.dimension_names == ("band", "z", "y", "x")
    assert (array.shape, array.shards, array.chunks) == ((1, 40, 65, 65), (1, 64, 32, 32), (1, 32, 32, 32))
    assert array.dtype == np.float32 and np.isfinite(array[:]).all()


def test_an_extraction_does_not_look_complete_before_it_is(tmp_path, make_grid, source):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    assert len(parts.missing()) == 9
    parts.write(parts.shards[4], block(parts, 4))
    assert parts.shards[4] not in parts.missing() and len(parts.missing()) == 8
    # What was never written does not read as clear air.
    array = zarr.open_array(parts.path / "extinction", mode="r")
    assert np.isnan(array[(0, *parts.shards[3].slices)]).all()
    assert (array[(0, *parts.shards[4].slices)] == 1).all()


def test_opening_again_for_the_same_extraction_keeps_what_is_there(finished, source):
    again = Parts.create_or_resume(finished.path, finished.grid, 1, source)
    assert again.missing() == [] and all(again.verified(shard) for shard in again.shards)


@pytest.mark.parametrize("change", ["grid", "bands", "checkpoint"])
def test_the_output_of_another_extraction_is_refused(finished, make_grid, source, change):
    other = {**source, "identity": {**source["identity"], "checkpoint_sha256": "other"}}
    grid = make_grid(step_m=250.0) if change == "grid" else finished.grid
    with pytest.raises(UsageError, match=r"parts\.zarr: holds an extraction of another"):
        Parts.create_or_resume(
            finished.path, grid, 4 if change == "bands" else 1, other if change == "checkpoint" else source
        )


def test_a_folder_that_is_something_else_is_refused_and_left_alone(tmp_path, make_grid, source):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="photos: exists and is not an extraction"):
        Parts.create_or_resume(tmp_path / "photos", make_grid(), 1, source)
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_byte_is_found(finished, where):
    shard, file = shard_file(finished)
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 0x10
    file.write_bytes(data)
    assert not finished.verified(shard)
    with pytest.raises(SceneError, match="1/1: shard 0-1-1 is damaged"):
        finished.verify(shard)


def test_a_shard_cut_short_is_found(finished):
    shard, file = shard_file(finished)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(SceneError, match="damaged"):
        finished.verify(shard)


def test_a_shard_that_vanished_is_found(finished):
    shard, file = shard_file(finished)
    file.unlink()
    with pytest.raises(SceneError, match="missing though it has a receipt"):
        finished.verify(shard)


def test_a_lost_receipt_makes_the_shard_missing(finished):
    receipt_of(finished, "0-1-1").unlink()
    assert [shard.name for shard in finished.missing()] == ["0-1-1"]


def test_a_shard_of_another_run_is_found_even_with_its_own_receipt(finished, tmp_path, make_grid, source):
    identity = {**source["identity"], "checkpoint": "step-00002000.pt", "checkpoint_sha256": "other"}
    other = Parts.create_or_resume(tmp_path / "other.zarr", make_grid(), 1, {**source, "identity": identity})
    other.write(other.shards[4], block(other, 4))
    shard, file = shard_file(finished)
    shutil.copy(shard_file(other)[1], file)
    shutil.copy(receipt_of(other, "0-1-1"), finished.path / "receipts")
    with pytest.raises(SceneError, match=r"0-1-1\.\w+\.json: .*of another extraction"):
        finished.verify(shard)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "{}"])
def test_a_broken_receipt_is_found(finished, text):
    receipt_of(finished, "0-1-1").write_text(text)
    assert not finished.verified(finished.shards[4])


def test_a_damaged_shard_at_the_edge_can_be_written_again(finished):
    shard, file = shard_file(finished, 8)
    os.truncate(file, 10)
    finished.write(shard, block(finished, 8, 2.0))
    finished.verify(shard)
    assert (finished.read(shard) == 2.0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e-6])
def test_impossible_extinction_is_refused_and_leaves_no_receipt(tmp_path, make_grid, source, bad):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    values = block(parts, 4)
    values[0, 3, 2, 1] = bad
    with pytest.raises(SceneError, match="shard 0-1-1"):
        parts.write(parts.shards[4], values)
    assert len(parts.missing()) == 9


def test_a_full_disk_is_a_store_error_and_leaves_no_receipt(tmp_path, make_grid, source):
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    noise = np.random.default_rng(0).random(block(parts, 4).shape, np.float32)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(StoreError, match="extinction/c/0/0/1/1: cannot write"):
            parts.write(parts.shards[4], noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(parts.missing()) == 9


def test_what_is_no_extraction_is_not_opened(tmp_path, finished):
    with pytest.raises(SceneError, match=r"plan\.json: No such file"):
        Parts.open(tmp_path / "nothing.zarr")
    plan = finished.path / "plan.json"
    plan.write_text(json.dumps({"format": 99}))
    with pytest.raises(SceneError, match="format 99"):
        Parts.open(finished.path)
