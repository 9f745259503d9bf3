"""One Zarr shard as bytes, made and read in memory.

Zarr's own store would read a shard's file by name, piece by piece: of a file that another process replaces
meanwhile it would see half the old and half the new one. Here a shard is always whole, and can be checked
before anything in it is believed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from atmonr.extract.grids.base import Grid
from atmonr.extract.shards import Shard

METADATA = "zarr.json"
# How Zarr and its codecs fail on metadata and shards that are damaged or strange.
DAMAGE = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def array_metadata(grid: Grid, bands: int) -> dict[str, Any]:
    """Return what zarr.json of an extraction's array says, as JSON values."""
    files: dict[str, Buffer] = {}
    zarr.create_array(
        MemoryStore(files),
        zarr_format=3,
        shape=(bands, *grid.shape),
        chunks=(1, *grid.chunk_shape),
        # All bands of a place in one shard: the field gives them together.
        shards=(bands, *grid.shard_shape),
        dtype="float32",
        # A shard that was never written must not read as clear air.
        fill_value=np.nan,
        dimension_names=("band", *grid.dims),
        attributes={"units": "m-1", "long_name": "volume extinction coefficient"},
    )
    return dict(json.loads(files[METADATA].to_bytes()))


def metadata_text(metadata: dict[str, Any]) -> str:
    """Return the text of zarr.json; the same for the same metadata, whatever the version of Zarr."""
    return json.dumps(metadata, indent=2) + "\n"


def chunk_key(shard: Shard) -> str:
    """Return the name of a shard's file below the array's folder."""
    return "/".join(["c", "0", *map(str, shard.index)])


def encode(metadata: dict[str, Any], shard: Shard, values: NDArray[np.float32]) -> bytes:
    """Return the content of a shard's file.

    Args:
        metadata: Of the array.
        shard: Which shard.
        values: All its cells, shape (band, *grid).
    """
    files = _array_files(metadata)
    # A shard in which the scene tells nothing is a file too.
    nothing = bool(np.isnan(values).all())
    array = _opened(files).with_config({"write_empty_chunks": nothing})
    array[(slice(None), *shard.slices)] = values
    return files[chunk_key(shard)].to_bytes()


def decode(metadata: dict[str, Any], shard: Shard, content: bytes) -> zarr.Array[Any]:
    """Return the whole array, of which only one shard is there; its chunks are decoded when asked for."""
    return _opened({**_array_files(metadata), chunk_key(shard): cpu.Buffer.from_bytes(content)})


def fits(metadata: dict[str, Any], grid: Grid, bands: int) -> bool:
    """Whether an array is the one that a grid asks for, perhaps as another version of Zarr describes it."""
    try:
        array, expected = (_opened(_array_files(each)) for each in (metadata, array_metadata(grid, bands)))
        return (array.shape, array.shards, array.chunks, array.dtype) == (
            expected.shape,
            expected.shards,
            expected.chunks,
            expected.dtype,
        )
    except DAMAGE:
        return False


def _array_files(metadata: dict[str, Any]) -> dict[str, Buffer]:
    return {METADATA: cpu.Buffer.from_bytes(metadata_text(metadata).encode())}


def _opened(files: dict[str, Buffer]) -> zarr.Array[Any]:
    return zarr.open_array(MemoryStore(files), mode="r+", zarr_format=3)
