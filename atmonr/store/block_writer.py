"""Writing the variables of rays, a block of views at a time."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from atmonr.atomic import flush_to_disk
from atmonr.store.layout import RAY_DIMENSIONS
from atmonr.store.plain_files import holds_plain_images, write_plain_images


class BlockWriter:
    """Writes blocks, and has their files brought to the disk while the next ones are made.

    At the end, all of them would have to be waited for.

    Args:
        folder: Of the scene.
        arrays: The open arrays by name. Blocks are whole shards of those that have three dimensions.
        aside: Does the flushing.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, zarr.Array[Any]], aside: Executor) -> None:
        self._folder, self._arrays, self._aside = folder, arrays, aside
        self._flushes: list[Future[None]] = []

    def write(self, views: slice, values: Mapping[str, NDArray[Any]]) -> None:
        """Write a block.

        Args:
            views: Which views.
            values: All variables by name: (V, L, P), or (V, L) for the time of lines.

        Raises:
            OSError: The disk refuses.
        """
        for name, array in self._arrays.items():
            if holds_plain_images(array, values[name].dtype):
                write_plain_images(self._folder / name, array, views.start, values[name])
            else:
                array[views] = values[name]
        self._flushes.append(self._aside.submit(self._flush, views))

    def wait(self) -> None:
        """Return once all that was written has reached the disk.

        Raises:
            OSError: The disk refuses.
        """
        for flush in self._flushes:
            flush.result()

    def _flush(self, views: slice) -> None:
        for name, array in self._arrays.items():
            shard = array.shards or array.chunks
            if len(shard) == len(RAY_DIMENSIONS):
                first = array.metadata.encode_chunk_key((views.start // shard[0], 0, 0))
                for path in (self._folder / name / first).parents[1].rglob("*"):
                    flush_to_disk(path)
