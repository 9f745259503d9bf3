"""Small files of a run folder: text and JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atmonr.atomic import atomic_file
from atmonr.errors import ResumeError, StoreError


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        StoreError: If it cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object.

    Raises:
        StoreError: If it cannot be written.
    """
    write_text(path, json.dumps(data, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        StoreError: If it cannot be read.
        ResumeError: If it is something else.
    """
    with store_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ResumeError(f"{path}: expected a JSON object: {error}") from error


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
