"""A scene comes back bit for bit, and what is not a scene is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from atmonr.errors import SceneError
from atmonr.sensors.harp2 import open_harp2
from atmonr.store.ingest import ingest
from atmonr.store.layout import REQUIRED
from atmonr.store.scene import open_scene
from tests.sensors.granules import NAME, make_fields, write_granule


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A scene of several chunks with gaps; tests that spoil it work on a copy."""
    folder = tmp_path_factory.mktemp("scene")
    fields = make_fields(image=(70, 66))
    fields["i"][3:5, 10:20, :] = np.nan
    with open_harp2(write_granule(folder / NAME, fields)) as granule:
        return ingest(granule, folder / "first.zarr")


@pytest.fixture
def copy(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy.zarr"))


def test_reopening_gives_bit_identical_data_however_it_is_read(original):
    first, again = open_scene(original), open_scene(original)
    with xr.open_zarr(original, mask_and_scale=False, decode_times=False) as plain:
        for name in (*REQUIRED, "q", "u", "time"):
            values = first.read(name)
            assert values.tobytes() == again.read(name).tobytes()
            assert values.tobytes() == plain[name].to_numpy().tobytes()
    assert (first.frame, first.scene_id, first.sun_direction) == (
        again.frame,
        again.scene_id,
        again.sun_direction,
    )


def test_a_part_is_read_as_it_is_in_the_whole(original):
    scene = open_scene(original)
    whole = scene.read("reflectance")
    part = scene.read("reflectance", lines=slice(5, 65), pixels=slice(60, 66), views=slice(2, 8))
    np.testing.assert_array_equal(part, whole[2:8, 5:65, 60:66])
    np.testing.assert_array_equal(scene.read("time", lines=slice(3, 5)), scene.read("time")[:, 3:5])
    assert scene.read("band", lines=slice(3, 5)).shape == (90,)


def test_a_scene_knows_its_name_shape_views_and_lazy_dataset(original):
    scene = open_scene(original)
    assert scene.name == "first"
    assert scene.granule == "PACE_HARP2.20250605T161356"
    assert scene.shape == (90, 70, 66)
    assert scene.holdout.dtype == bool and scene.holdout.shape == (90,)
    assert scene.view_angle_deg[10] == pytest.approx(55.72)
    assert scene.has("q") and not scene.has("dolp")
    assert scene.dataset.reflectance.sizes == {"view": 90, "line": 70, "pixel": 66}


def test_the_same_granule_gives_the_same_scene_twice(original, tmp_path):
    with open_harp2(original.parent / NAME) as granule:
        again = open_scene(ingest(granule, tmp_path / "again.zarr"))
    first = open_scene(original)
    for name in REQUIRED:
        assert first.read(name).tobytes() == again.read(name).tobytes()
    assert (first.frame, first.scene_id) == (again.frame, again.scene_id)


def test_an_unknown_variable_is_refused_with_the_known_ones(original):
    with pytest.raises(SceneError, match=r"no variable 'radiance'.*reflectance"):
        open_scene(original).read("radiance")


def test_what_is_no_scene_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "zarr.json").write_text("{ not json")
    zarr.create_group(tmp_path / "foreign", zarr_format=3, attributes={"title": "something else"})
    for name in ("missing", "file", "empty", "broken", "foreign"):
        with pytest.raises(SceneError) as refusal:
            open_scene(tmp_path / name)
        assert str(tmp_path / name) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def _edit_attributes(scene: Path, **changes: object) -> None:
    file = scene / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"] |= changes
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"atmonr_scene_format": 99}, "expected 1"),
        ({"frame": "{}"}, "frame"),
        ({"frame": "not json"}, "damaged"),
        ({"footprint_m": [1.0]}, "damaged"),
        ({"pixel_m": None}, "damaged"),
    ],
)
def test_another_version_and_damaged_attributes_are_refused(copy, changes, words):
    _edit_attributes(copy, **changes)
    with pytest.raises(SceneError, match=words):
        open_scene(copy)


@pytest.mark.parametrize(
    "lost", ["reflectance", "valid", "holdout", "reflectance/c/0/0/0", "band_wavelength_nm/c"]
)
def test_a_lost_variable_or_file_is_noticed_when_opening(copy, lost):
    target = copy / lost
    target.unlink() if target.is_file() else shutil.rmtree(target)
    with pytest.raises(SceneError, match=lost.split("/")[0]):
        open_scene(copy)


def test_a_damaged_file_is_noticed_when_reading(copy):
    shard = copy / "reflectance" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(SceneError, match="cannot read reflectance"):
        open_scene(copy).read("reflectance")
