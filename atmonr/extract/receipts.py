"""Receipts: what was written, for which extraction, with which checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.atomic import atomic_file
from atmonr.errors import SceneError, StoreError
from atmonr.extract.shards import Shard

AGAIN = "run the same atmonr extract again"


@dataclass(frozen=True)
class Receipts:
    """The receipts of an extraction's shards, each a file named by shard and checksum.

    A receipt can be computed from a shard's file and the plan, so that one wrong byte in it shows.

    Attributes:
        folder: Where they are.
        extraction: JSON data that every receipt repeats: which plan, grid, run and checkpoint.
    """

    folder: Path
    extraction: dict[str, Any]

    def write(self, shard: Shard, content: bytes) -> None:
        """Acknowledge a shard that is on disk.

        Raises:
            StoreError: If it cannot be written.
        """
        # The checksum is that of what was meant, not of what the disk gives back: a bad disk shows later.
        checksum = _checksum(content)
        with atomic_file(self._path(shard, checksum)) as temporary:
            temporary.write_text(self._text(shard, checksum, len(content)), encoding="utf-8")

    def names(self) -> list[str]:
        """Return the names of all receipts."""
        # No temporary files: their names begin with a dot.
        return sorted(path.name for path in self.folder.glob("[0-9]*.json"))

    def refuse_unacknowledged(self, shard: Shard, file: Path, content: bytes | None) -> None:
        """Check that a shard's content, None if its file is missing, has a receipt of this extraction.

        Raises:
            SceneError: Otherwise; names the file and what is wrong with it.
            StoreError: If the receipt cannot be read.
        """
        checksum = None if content is None else _checksum(content)
        if content is None or checksum is None or not self._path(shard, checksum).is_file():
            if not any(self.folder.glob(f"{shard.name}.*.json")):
                raise SceneError(f"{file}: shard {shard.name} has no receipt; {AGAIN}")
            wrong = "damaged: its checksum is not that of its receipt"
            if content is None:
                wrong = "missing though it has a receipt"
            raise SceneError(f"{file}: shard {shard.name} is {wrong}; {AGAIN}")
        path = self._path(shard, checksum)
        if read_text(path) != self._text(shard, checksum, len(content)):
            raise SceneError(f"{path}: {self._what_is_wrong(path, shard)}; {AGAIN}")

    def of_extraction(self, plan_sha256: str) -> bool:
        """Whether there is a receipt that follows a certain plan."""
        expected = f'"plan_sha256": "{plan_sha256}"'
        return any(expected in read_text(self.folder / name) for name in self.names())

    def _what_is_wrong(self, path: Path, shard: Shard) -> str:
        """What a receipt says that it should not."""
        try:
            found = dict(json.loads(read_text(path)))
        except (ValueError, TypeError, RecursionError):
            return f"not a JSON object; expected the receipt of shard {shard.name}"
        for key, expected in self._expected(shard).items():
            if found.get(key) != expected:
                return f"{key} is {found.get(key)}, expected {expected}: the shard is of another extraction"
        return f"damaged receipt of shard {shard.name}"

    def _expected(self, shard: Shard) -> dict[str, Any]:
        place = {"shard": shard.name, "start": list(shard.start), "stop": list(shard.stop)}
        return {**place, **self.extraction}

    def _text(self, shard: Shard, checksum: str, size_bytes: int) -> str:
        checks = {"sha256": checksum, "size_bytes": size_bytes}
        return json.dumps({**self._expected(shard), **checks}, indent=2) + "\n"

    def _path(self, shard: Shard, checksum: str) -> Path:
        return self.folder / f"{shard.name}.{checksum[:16]}.json"


def read_text(path: Path) -> str:
    """Return the text of a file, however damaged.

    Raises:
        StoreError: If it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{path}: cannot read: {error.strerror or error}") from error


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
