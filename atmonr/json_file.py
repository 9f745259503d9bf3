"""Reading JSON files, with errors that name them, and what they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atmonr.errors import ResumeError, StoreError


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        StoreError: If it cannot be read.
        ResumeError: If it is something else.
    """
    with store_errors(path):
        content = path.read_bytes()
    try:
        return dict(json.loads(content.decode("utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ResumeError(f"{path}: expected a JSON object: {error}") from error


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested objects, each under its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def record_of(value: Any, *numbers: str) -> dict[str, Any]:
    """A JSON object in which some keys, where they are there, are finite numbers.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:40]!r} is no JSON object")
    for key in numbers:
        number = value.get(key, 0)
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{key} is {str(number)[:40]!r}; expected a number")
    return value
