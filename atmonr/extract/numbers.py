"""Arrays that belong to an extraction beside its shards, each in a file whose name tells its checksum.

    numbers/surface.9f86d081884c7d65.npy

A file with the checksum of its name is whole, so that it needs no receipt; `np.load` reads it.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmonr.atomic import atomic_file
from atmonr.errors import SceneError, StoreError

_AGAIN = "run the same atmonr extract again"


def write(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write an array.

    Raises:
        StoreError: If it cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    content = buffer.getvalue()
    with atomic_file(folder / f"{name}.{_checksum(content)}.npy") as temporary:
        temporary.write_bytes(content)


def read(folder: Path, name: str) -> NDArray[Any]:
    """Read an array.

    Raises:
        SceneError: If it is missing or damaged.
        StoreError: If the disk refuses.
    """
    files = sorted(folder.glob(f"{name}.*.npy"))
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise StoreError(f"{file}: cannot read: {error.strerror or error}") from error
        if file.name == f"{name}.{_checksum(content)}.npy":
            try:
                return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
            except (ValueError, EOFError, MemoryError) as error:
                raise SceneError(f"{file}: is no array ({error}); {_AGAIN} to repair it") from error
    wrong = f"{files[0]}: damaged" if files else f"{folder}: has no file {name}.*.npy"
    raise SceneError(f"{wrong}; {_AGAIN} to repair it")


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
