from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import count, zip_longest

import numpy as np
import pytest
import torch

from atmonr.config import Config
from atmonr.errors import ResumeError, SceneError, UsageError
from atmonr.extract import session
from atmonr.extract.grids.choose import GridRequest, choose_grid
from atmonr.extract.parts import Parts
from atmonr.extract.session import describe_source, extract, fill, sample
from atmonr.extract.shards import pull
from atmonr.run import Run

CPU = torch.device("cpu")


@pytest.fixture
def info(make_grid) -> dict:
    return {
        "name": "cloud",
        "scene_id": "s" * 64,
        "frame": make_grid().frame.to_json(),
        "footprint_m": [-6_500.0, -6_500.0, 6_500.0, 6_500.0],
        "pixel_m": 500.0,
        "top_height_m": 4_000.0,
        "wavelengths_nm": [441.0, 549.0, 669.0, 873.0],
        "sun": [[0.0], [0.0], [1.0]],
        "granule": "G.L1B",
        "provenance": {"source": "G.nc", "source_sha256": "g" * 64},
    }


@pytest.fixture
def run(tmp_path, info) -> Run:
    config = Config.model_validate({"field": {"method": "instant_ngp"}})
    made = Run.create(tmp_path / "run", config, {"cloud": info}, {})
    made.checkpoint("cloud", 1000).write_bytes(b"weights")
    made.latest("cloud").write_text("step-00001000.pt\n")
    return made


@pytest.fixture
def trained(run, wave_field, monkeypatch):
    """The run, with a known field in place of what its checkpoint would give."""
    monkeypatch.setattr("atmonr.fields.load.load_field", lambda *_: wave_field, raising=False)
    return run


def test_default_cells_are_a_pixel_wide_and_a_quarter_pixel_high(info):
    grid = choose_grid(info, GridRequest())
    assert grid.step_m == (125.0, 500.0, 500.0)
    assert grid.altitude_m[-1] + 62.5 == 4_000.0


def test_the_grid_can_be_lower_than_the_modelled_top_but_not_higher(info):
    assert choose_grid(info, GridRequest(vertical_step_m=100.0, max_height_m=1_000.0)).shape[0] == 10
    for height in (4_001.0, 0.0, float("nan")):
        with pytest.raises(UsageError, match="--max-height-m"):
            choose_grid(info, GridRequest(max_height_m=height))


def test_an_unknown_kind_of_grid_is_refused():
    with pytest.raises(UsageError, match="valid: voxel, l1c, curtain, global"):
        GridRequest("native")


def test_a_large_block_is_asked_for_in_bounded_pieces(make_grid, known_field, source, tmp_path, monkeypatch):
    largest = []
    field = known_field(lambda points: largest.append(len(points)) or np.ones(len(points)))
    monkeypatch.setattr(session, "_POINTS_AT_ONCE", 5_000)
    parts = Parts.create_or_resume(tmp_path / "parts.zarr", make_grid(), 1, source)
    fill(parts, field, CPU, parts.shards)
    assert max(largest) <= 5_000
    assert sum(largest) == 40 * 65 * 65


def test_bands_stay_in_order(make_grid, known_field):
    points = make_grid().points((slice(0, 2), slice(0, 3), slice(0, 4)))
    values = sample(known_field(lambda p: p[:, 0] + 10_000, bands=4), points, torch.device("cpu"))
    assert values.shape == (4, 2, 3, 4)
    np.testing.assert_allclose(values[2], 3 * (points[..., 0] + 10_000), rtol=1e-6)


@pytest.mark.parametrize("ranks", [2, 3, 20])
def test_any_number_of_ranks_writes_what_one_rank_writes(
    finished, make_grid, wave_field, source, tmp_path, ranks
):
    shared = Parts.create_or_resume(tmp_path / "shared.zarr", make_grid(), 1, source)
    turn = count().__next__
    with ThreadPoolExecutor(ranks) as pool:
        written = list(
            pool.map(lambda _: fill(shared, wave_field, CPU, pull(shared.shards, turn)), range(ranks))
        )
    assert sum(written) == 9
    for shard in finished.shards:
        assert np.array_equal(shared.read(shard), finished.read(shard))


def test_a_killed_extraction_resumes_and_skips_finished_shards(
    finished, make_grid, known_field, wave_field, source, tmp_path
):
    def dies(points):
        if dying.asked > 3 * 40 * 32 * 32:
            raise KeyboardInterrupt
        return wave_field.function(points)

    dying = known_field(dies)
    parts = Parts.create_or_resume(tmp_path / "killed.zarr", make_grid(), 1, source)
    with pytest.raises(KeyboardInterrupt):
        fill(parts, dying, CPU, parts.shards)
    done = 9 - len(parts.missing())
    assert 0 < done < 9

    resumed = Parts.create_or_resume(tmp_path / "killed.zarr", make_grid(), 1, source)
    # On another number of ranks, which pull in turn.
    turn = count().__next__
    ranks = [pull(resumed.shards, turn), pull(resumed.shards, turn)]
    in_turn = (shard for pair in zip_longest(*ranks) for shard in pair if shard)
    written = fill(resumed, wave_field, CPU, in_turn)
    assert written == 9 - done
    for shard in finished.shards:
        assert np.array_equal(resumed.read(shard), finished.read(shard))


def test_a_damaged_shard_is_computed_again(finished, wave_field):
    next(finished.path.glob("extinction/c/0/0/1/1")).write_bytes(b"junk")
    assert fill(finished, wave_field, CPU, finished.shards) == 1
    assert all(finished.verified(shard) for shard in finished.shards)
    assert fill(finished, wave_field, CPU, finished.shards) == 0


def test_a_run_is_extracted_with_its_identity(trained, tmp_path):
    out = extract(trained.path, tmp_path / "parts.zarr", quiet=True)
    parts = Parts.open(out)
    assert parts.missing() == []
    assert parts.grid.step_m == (125.0, 500.0, 500.0)
    identity = json.loads((out / "plan.json").read_text())["source"]["identity"]
    assert identity["checkpoint"] == "step-00001000.pt"
    assert identity["scene_id"] == "s" * 64
    assert identity["config_sha256"] == trained.config.digest


def test_extracting_another_checkpoint_into_the_same_folder_is_refused(trained, tmp_path):
    extract(trained.path, tmp_path / "parts.zarr", quiet=True)
    trained.checkpoint("cloud", 2000).write_bytes(b"better")
    trained.latest("cloud").write_text("step-00002000.pt")
    with pytest.raises(UsageError, match="another run, checkpoint or grid"):
        extract(trained.path, tmp_path / "parts.zarr", quiet=True)


def test_a_diverged_model_gives_no_extract(trained, known_field, monkeypatch, tmp_path):
    field = known_field(lambda points: np.full(len(points), np.nan))
    monkeypatch.setattr("atmonr.fields.load.load_field", lambda *_: field, raising=False)
    with pytest.raises(SceneError, match="checkpoint is not usable"):
        extract(trained.path, tmp_path / "parts.zarr", quiet=True)


def test_a_run_without_checkpoint_or_scene_is_refused(run, info):
    with pytest.raises(ResumeError, match="has no scene 'fog'"):
        run.scene_info("fog")
    run.latest("cloud").unlink()
    with pytest.raises(ResumeError, match="no checkpoint of scene 'cloud' yet"):
        describe_source(run, "cloud", info)


def test_one_of_several_scenes_must_be_named(tmp_path, info, run, monkeypatch):
    two = Run.create(tmp_path / "two", run.config, {"a": info, "b": info}, {})
    with pytest.raises(UsageError, match="choose one with --scene: a, b"):
        session._scene_name(two, None)
    assert session._scene_name(two, "b") == "b"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "curtain"}, "--grid curtain: expected --earthcare"),
        ({"kind": "l1c"}, "--grid l1c: expected --l1c"),
        ({"kind": "global", "bbox": (0, 1, 2, 3)}, "--bbox: is not for --grid global, which has --growth"),
        ({"kind": "voxel", "step_deg": 0.1}, "--step-deg: is not for --grid voxel"),
        ({"kind": "global", "step_deg": 0.07}, "divides 180 degrees"),
        ({"kind": "global", "growth": -1.0}, "a growth from 0 to 1"),
        ({"kind": "global", "step_deg": float("nan")}, "divides 180 degrees"),
    ],
)
def test_impossible_requests_are_refused(info, options, message):
    with pytest.raises(UsageError, match=message):
        choose_grid(info, GridRequest(**options))
