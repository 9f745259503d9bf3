"""Files that are images one after the other and a checksum: written as they lie in memory, and read straight
to where they are wanted.

Such a file is an uncompressed chunk of a Zarr array that holds whole images. Zarr itself would read it to
memory of its own, sum it up, and copy it from there, at times twice: most of loading rays was that. It
writes in the same way.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec

_SUM_BYTES = 4
_PIECE_BYTES = 1 << 19  # are still in the processor's cache when they are summed up


@dataclass(frozen=True)
class Place:
    """Where values of a view are wanted."""

    values: NDArray[Any]  # (N,) contiguous, to be filled
    valid_LP: NDArray[np.bool_] | None = None  # the N pixels that are wanted, in order; by default all

    def fill(self, image_LP: NDArray[Any]) -> None:
        """Takes the values from an image."""
        self.values[...] = image_LP.ravel() if self.valid_LP is None else image_LP[self.valid_LP]


def holds_plain_images(array: zarr.Array[Any], dtype: np.dtype[Any]) -> bool:
    """Whether an array (view, line, pixel) can be read and written here as values of a type.

    Anything else is left to Zarr.
    """
    return (
        sys.byteorder == "little"
        and array.ndim == 3
        and array.dtype == dtype
        and array.shards is None
        and array.chunks[1:] == array.shape[1:]
        and array.filters == ()
        and array.serializer in (BytesCodec(endian="little"), BytesCodec(endian=None))
        and array.compressors == (Crc32cCodec(),)
    )


def read_plain_images(folder: Path, array: zarr.Array[Any], wanted: Mapping[int, Place]) -> None:
    """Read values of chosen views to where they are wanted.

    Args:
        folder: Of the array.
        array: One that `holds_plain_images` of the type of the values.
        wanted: By view.

    Raises:
        OSError: A file is not there, is of another size than it should be, or does not match its checksum.
    """
    together = array.chunks[0]
    files: dict[int, dict[int, Place]] = {}
    for view, place in wanted.items():
        files.setdefault(view // together, {})[view % together] = place
    for number, inside in files.items():
        _read_file(folder / array.metadata.encode_chunk_key((number, 0, 0)), array, inside)


def write_plain_images(folder: Path, array: zarr.Array[Any], first: int, images: NDArray[Any]) -> None:
    """Write one file.

    Args:
        folder: Of the array.
        array: One that `holds_plain_images` of the type of the values.
        first: View of the first image, which is the first of its file.
        images: (V, L, P) all the images of that file.

    Raises:
        ValueError: These are not the images of one file.
        OSError: The disk refuses.
    """
    views, *shape = array.chunks
    if first % views or images.shape != (min(views, array.shape[0] - first), *shape):
        raise ValueError(f"{images.shape} images from view {first} on; expected those of one file")
    unused = np.full(shape, array.fill_value, array.dtype)  # the last file has room for more than there are
    path = folder / array.metadata.encode_chunk_key((first // views, 0, 0))
    path.parent.mkdir(parents=True)
    total = 0
    with path.open("wb") as file:
        for image in (*images, *(views - len(images)) * [unused]):
            content = np.ascontiguousarray(image).ravel().view(np.uint8)
            for start in range(0, len(content), _PIECE_BYTES):
                piece = content[start : start + _PIECE_BYTES]
                total = google_crc32c.extend(total, piece)
                file.write(piece.data)
        file.write(total.to_bytes(_SUM_BYTES, "little"))


def _read_file(path: Path, array: zarr.Array[Any], wanted: Mapping[int, Place]) -> None:
    """Read a file of some views; those that are not wanted are summed up too."""
    views, *shape = array.chunks
    spare = np.empty(math.prod(shape), array.dtype)
    name = "/".join(path.parts[-4:])  # in the folder of the array
    with path.open("rb", buffering=0) as file:
        size, expected = os.fstat(file.fileno()).st_size, views * spare.nbytes + _SUM_BYTES
        if size != expected:
            raise OSError(f"{name} has {size} bytes; expected {expected}")
        total = 0
        for view in range(views):
            place = wanted.get(view)
            if place is not None and place.valid_LP is None:
                total = _fill(file, place.values, total)
                continue
            total = _fill(file, spare, total)
            if place is not None:
                place.fill(spare.reshape(shape))
        if file.read(_SUM_BYTES) != total.to_bytes(_SUM_BYTES, "little"):
            raise OSError(f"{name} does not match its checksum")


def _fill(file: FileIO, values: NDArray[Any], total: int) -> int:
    """Read on, and return the checksum of all that was read."""
    content = values.view(np.uint8)
    start = 0
    while start < len(content):
        # A read may bring less than was asked for.
        count = file.readinto(content[start : start + _PIECE_BYTES].data)
        if not count:
            raise OSError(f"{file.name} ended while it was read")
        total = google_crc32c.extend(total, content[start : start + count])
        start += count
    return total
