"""Write files and folders so that a final name never holds something half written.

Everything is written under a temporary name in the same folder (so that the rename cannot cross a file
system), flushed to disk, then renamed. Whoever sees the final name sees the whole content, after a power
cut too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from atmonr.errors import StoreError, UsageError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends without an exception.

    Args:
        path: Final file name; an existing file is replaced. Missing parent folders are made.

    Raises:
        StoreError: If the file system refuses (disk full, no permission); names the final path.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush_to_disk(temporary)
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # never hide the error that led here
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all.

    Raises:
        StoreError: If the file system refuses.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object as a text file, whole or not at all.

    Raises:
        StoreError: If the file system refuses.
    """
    write_text(path, json.dumps(data, indent=2) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an exception.

    Args:
        path: Final folder name, which must not exist. Missing parent folders are made.

    Raises:
        UsageError: If `path` exists already, now or when the block ends.
        StoreError: If the file system refuses (disk full, no permission); names the final path.
    """
    path = Path(path)
    _refuse_existing(path)
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for child in temporary.rglob("*"):
            flush_to_disk(child)
        flush_to_disk(temporary)
        # os.replace would silently take the place of an empty folder made meanwhile.
        _refuse_existing(path)
        os.replace(temporary, path)
        flush_to_disk(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def netcdf_errors(path: Path) -> Iterator[None]:
    """Name the file when the netCDF library fails to write it: a full disk is a RuntimeError to it.

    Raises:
        StoreError: Instead of a RuntimeError; names `path`.
    """
    try:
        yield
    except RuntimeError as error:
        raise StoreError(f"{path}: cannot write: {error}; is the disk full?") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in pieces.

    Raises:
        StoreError: If the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"{path}: cannot read: {error.strerror or error}") from error


def _temporary(path: Path) -> Path:
    # The suffix stays last because several writers (netCDF, PNG) choose the format by it.
    return path.parent / f".{path.stem}.{uuid.uuid4().hex[:12]}.tmp{path.suffix}"


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: exists already; choose another name or remove it first")


def flush_to_disk(path: Path) -> None:
    """Return once a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
