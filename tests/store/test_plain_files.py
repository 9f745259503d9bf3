"""Values that are read straight to their place are those that plain xarray reads, and damage is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

from atmonr.errors import SceneError
from atmonr.store import layout, plain_files
from atmonr.store.plain_files import Place, holds_plain_images, write_plain_images
from atmonr.store.scene import Scene, open_scene
from atmonr.store.views import ROWS, read_rays, valid_pixels, view_rays
from tests.feed.scenes import make_fields, make_scene

IMAGE = (14, 9)
VIEWS = [
    np.arange(90),
    np.array([0]),
    np.array([89]),
    np.array([3, 14, 15, 44, 45, 60]),
    np.arange(5, 90, 10),
]


def make_gaps(folder: Path, **options: object) -> Scene:
    """A scene with views that are whole, in part and not at all valid, in files of 15 views."""
    fields = make_fields(image=IMAGE)
    fields["i"][10:40, 3:5, 2:] = np.nan
    fields["i"][44, 1, 1] = np.nan
    fields["latitude"][60] = np.nan
    return make_scene(folder, fields, **options)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_RAYS_AT_ONCE", 15 * IMAGE[0] * IMAGE[1])
        return make_gaps(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def copy(scene: Scene, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene.path, tmp_path / "copy.zarr"))


def is_plain(scene: Scene, name: str = "reflectance") -> bool:
    array = scene.group[name]
    assert isinstance(array, zarr.Array)
    return holds_plain_images(array, array.dtype)


def check(scene: Scene, views: NDArray[np.int64]) -> None:
    """Chosen views are what plain xarray reads, all at once and one by one."""
    with xr.open_zarr(scene.path, mask_and_scale=False, decode_times=False) as plain:
        valid = plain.valid.to_numpy()[views].astype(bool)
        expected = [plain[name].to_numpy()[views][valid] for name in ROWS]
    np.testing.assert_array_equal(valid_pixels(scene, views), valid)
    rows = np.full((6, valid.sum()), np.nan, np.float32)
    found = read_rays(scene, views, valid, rows)
    np.testing.assert_array_equal(rows, expected)
    one_by_one = list(view_rays(scene, views, valid))
    assert [rays.view for rays in found] == [rays.view for rays in one_by_one] == views.tolist()
    for several in (found, one_by_one):
        np.testing.assert_array_equal(np.concatenate([rays.rows for rays in several], 1), expected)
        np.testing.assert_array_equal([rays.valid for rays in several], valid)


@pytest.mark.parametrize("views", VIEWS, ids=["all", "first", "last", "some", "held out"])
def test_values_are_those_that_xarray_reads(scene: Scene, views: NDArray[np.int64]) -> None:
    assert is_plain(scene) and is_plain(scene, "valid") and not is_plain(scene, "solar_zenith_angle")
    assert len(list((scene.path / "reflectance" / "c").iterdir())) == 6
    check(scene, views)


def test_files_are_read_in_pieces(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_files, "_PIECE_BYTES", 100)
    check(scene, VIEWS[3])


def test_the_last_file_may_have_room_for_more_views_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_RAYS_AT_ONCE", 15 * IMAGE[0] * IMAGE[1])
    scene = make_gaps(tmp_path, max_view_angle_deg=50.0)
    assert is_plain(scene) and scene.shape[0] % 15
    check(scene, np.arange(scene.shape[0]))


def test_any_number_of_lines_is_read_straight(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, make_fields(image=(259, 2)))  # no multiple of the chunks that others have
    assert is_plain(scene)
    check(scene, VIEWS[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("_SHARD_LINES", 5), ("_EVERY_TRAINING_READS", ())],
    ids=["images in several files", "sharded, as scenes once were"],
)
def test_other_layouts_are_left_to_zarr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(layout, name, value)
    scene = make_gaps(tmp_path)
    assert not is_plain(scene)
    for views in VIEWS:
        check(scene, views)


def test_another_type_or_order_is_left_to_zarr(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "other", zarr_format=3)
    codecs = [zarr.codecs.Crc32cCodec()]
    big, little, unsummed = (
        group.create_array(name, shape=(4, 2, 3), chunks=(2, 2, 3), dtype=dtype, compressors=chosen)
        for name, dtype, chosen in (
            ("big", ">f4", codecs),
            ("little", "<f4", codecs),
            ("unsummed", "<f4", None),
        )
    )
    single = np.dtype(np.float32)
    assert holds_plain_images(little, single)
    assert not holds_plain_images(little, np.dtype(np.float64))
    assert not holds_plain_images(big, single) and not holds_plain_images(unsummed, single)


def test_images_that_are_not_those_of_one_file_are_not_written(tmp_path: Path) -> None:
    _, arrays = layout.create_scene(tmp_path, (40, 2, 3), 15, {}, "ellipsoid")
    for first, count in ((1, 15), (0, 14), (30, 15), (45, 1)):
        images = np.zeros((count, 2, 3), np.float32)
        with pytest.raises(ValueError, match="those of one file"):
            write_plain_images(tmp_path / "latitude", arrays["latitude"], first, images)
    assert not (tmp_path / "latitude" / "c").exists()


def _flip(at: int) -> Callable[[bytearray], bytearray]:
    def edit(content: bytearray) -> bytearray:
        content[at] ^= 1
        return content

    return edit


@pytest.mark.parametrize("name", ["reflectance", "valid"])
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_flip(0), "does not match its checksum"),
        (_flip(5 * 14 * 9), "does not match its checksum"),  # of a view that is held out
        (_flip(-1), "does not match its checksum"),
        (lambda content: content[:-1], "bytes; expected"),
        (lambda content: content + b"\0", "bytes; expected"),
        (lambda content: content[:0], "0 bytes; expected"),
    ],
    ids=["first byte", "held out", "checksum", "short", "long", "empty"],
)
def test_damage_is_told_with_variable_and_file(
    copy: Path, name: str, edit: Callable[[bytearray], bytearray], words: str
) -> None:
    file = copy / name / "c" / "2" / "0" / "0"
    file.write_bytes(edit(bytearray(file.read_bytes())))
    scene = open_scene(copy)
    views = np.flatnonzero(~scene.holdout)
    with pytest.raises(SceneError, match=rf"copy.zarr: cannot read {name} \(c/2/0/0 .*{words}"):
        read_rays(scene, views, valid := valid_pixels(scene, views), np.empty((6, valid.sum()), np.float32))
    with pytest.raises(SceneError, match=f"cannot read {name}"):
        scene.read(name)


def test_a_file_that_is_lost_after_opening_is_told(copy: Path) -> None:
    scene = open_scene(copy)
    (copy / "latitude" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(SceneError, match=r"cannot read latitude .*c/1/0/0"):
        scene.read_views("latitude", {16: Place(np.empty(IMAGE[0] * IMAGE[1], np.float32))})


def test_an_unknown_variable_is_refused(scene: Scene) -> None:
    with pytest.raises(SceneError, match="no variable 'radiance'"):
        scene.read_views("radiance", {0: Place(np.empty(IMAGE[0] * IMAGE[1], np.float32))})
