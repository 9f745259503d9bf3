"""Blocks are written as plain Zarr reads them, and have reached the disk before a scene gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from atmonr.errors import StoreError
from atmonr.store import block_writer, layout
from atmonr.store.block_writer import BlockWriter
from atmonr.store.layout import create_scene
from tests.feed.scenes import make_fields, make_scene

SHAPE = (40, 6, 5)
BLOCKS = (slice(0, 15), slice(15, 30), slice(30, 40))


@pytest.fixture
def aside() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def reversed_in_memory(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same values, as a file whose lines and pixels must be reversed gives them."""
    return np.flip(np.ascontiguousarray(np.flip(values, (-2, -1))), (-2, -1))


@pytest.mark.parametrize("lie", [np.ascontiguousarray, reversed_in_memory])
def test_blocks_are_what_zarr_reads(tmp_path: Path, aside: Executor, lie) -> None:
    folder = tmp_path / "scene"
    _, arrays = create_scene(folder, SHAPE, 15, {"q": 3, "time": 2}, "ellipsoid")
    random = np.random.default_rng(1)
    whole = {name: random.integers(0, 99, array.shape).astype(array.dtype) for name, array in arrays.items()}
    writer = BlockWriter(folder, arrays, aside)
    for views in BLOCKS:
        writer.write(views, {name: lie(values[views]) for name, values in whole.items()})
    writer.wait()
    group = zarr.open_group(folder, mode="r")
    for name, values in whole.items():
        np.testing.assert_array_equal(np.asarray(group[name]), values)


def test_every_file_is_flushed_while_blocks_are_written(
    tmp_path: Path, aside: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(block_writer, "flush_to_disk", flushed.append)
    _, arrays = create_scene(tmp_path, SHAPE, 15, {"q": 3}, "ellipsoid")
    writer = BlockWriter(tmp_path, arrays, aside)
    for views in BLOCKS:
        writer.write(
            views,
            {
                name: np.zeros((views.stop - views.start, *SHAPE[1:]), array.dtype)
                for name, array in arrays.items()
            },
        )
    writer.wait()
    images = {path for path in tmp_path.rglob("c/*/0/0")}
    assert len(images) == 3 * len(arrays) and images <= set(flushed)


def test_a_disk_that_refuses_late_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "_RAYS_AT_ONCE", 1)
    monkeypatch.setattr(block_writer, "flush_to_disk", refuse)
    with pytest.raises(StoreError, match=r"scene.zarr: cannot write: No space left on device"):
        make_scene(tmp_path, make_fields())
    assert not list(tmp_path.glob("*scene*"))
