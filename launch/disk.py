"""Records on a shared disk: written once and whole, by exactly one of those who try.

A hard link either makes a name or fails because it is there, on local disks, NFS, Lustre and GPFS alike, and
the name shows nothing before all of its content. That is the only lock campaigns use: no scheduler, no
server, no file locks, which some of these file systems lack.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atmonr.atomic import flush_to_disk
from atmonr.json_file import read_json, store_errors


def publish(path: Path, record: Mapping[str, Any], *, durable: bool = True) -> bool:
    """Write a JSON record under a name that nobody has taken.

    Args:
        path: Name to take. Missing parent folders are made.
        record: JSON data.
        durable: Return only when a power cut can no longer undo it.

    Returns:
        Whether the name was free; nothing is changed if it was not.

    Raises:
        StoreError: If the file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    with store_errors(path):
        try:
            try:
                _write(temporary, record, durable)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(temporary, record, durable)
            taken = _link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if taken and durable:
            flush_to_disk(path.parent)
    return taken


def read_if_there(path: Path) -> dict[str, Any] | None:
    """Return a JSON record, or None if there is no file of this name.

    Raises:
        StoreError: If it cannot be read.
        ResumeError: If it is not a JSON object.
    """
    return read_json(path) if path.exists() else None


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder, none if it does not exist; temporary ones are left out.

    Raises:
        StoreError: If it cannot be read.
    """
    with store_errors(folder):
        try:
            return sorted([name for name in os.listdir(folder) if name[0] != "."])
        except FileNotFoundError:
            return []


def _write(path: Path, record: Mapping[str, Any], durable: bool) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(record, stream)
        stream.write("\n")
        stream.flush()
        if durable:
            os.fsync(stream.fileno())


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A file server that answers twice, because its first answer was lost, denies what it has done.
        return os.stat(temporary).st_nlink == 2
    return True
