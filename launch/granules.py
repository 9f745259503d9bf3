"""Finding granules and telling equal ones, quickly: thousands of files of hundreds of megabytes."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from atmonr.errors import UsageError
from atmonr.json_file import store_errors
from launch.campaign_file import Campaign

# Files up to this size are read whole. Of larger ones, pieces that lie evenly over the file and its size: a
# granule that was processed anew differs in its header, its size and nearly every compressed block.
WHOLE_BYTES = 1 << 20
PIECES = 8
PIECE_BYTES = 4096


@dataclass(frozen=True)
class GranuleFile:
    """One satellite file.

    Attributes:
        path: Absolute.
        size_bytes: Of the file.
        fingerprint: Equal files have equal ones, in hexadecimal. The SHA-256 of all of it is taken by the
            task.
    """

    path: Path
    size_bytes: int
    fingerprint: str

    @property
    def name(self) -> str:
        """Name without folder and suffix."""
        return self.path.stem


@dataclass(frozen=True)
class Found:
    """What a campaign file's granules come to.

    Attributes:
        granules: Sorted by name, each content once.
        duplicates: (file, the file with the same content that counts instead).
        missing: What is named but is no file.
    """

    granules: tuple[GranuleFile, ...]
    duplicates: tuple[tuple[Path, Path], ...]
    missing: tuple[str, ...]


def find_granules(campaign: Campaign) -> Found:
    """Find the files that a campaign names; nothing is fetched.

    Raises:
        UsageError: If the list file is missing, or two different files have the same name.
        StoreError: If a file cannot be read.
    """
    wanted, here = campaign.file.granules, campaign.path.parent
    names = list(wanted.files)
    if wanted.list_file is not None:
        names += _lines(here / wanted.list_file)
    if wanted.fetch is not None:
        names.append(str(Path(wanted.fetch.into) / "PACE_HARP2.*.nc"))
    paths: set[Path] = set()
    missing: list[str] = []
    for name in names:
        matches = _matches(here, name)
        if not matches and wanted.fetch is None:
            missing.append(name)
        paths.update(matches)
    return _distinct(sorted(paths, key=lambda path: (path.name, path)), missing)


def fingerprint(path: Path, size_bytes: int) -> str:
    """Return what equal files have in common, in hexadecimal, from a few small reads.

    Raises:
        StoreError: If the file cannot be read.
    """
    digest = hashlib.sha256(str(size_bytes).encode())
    with store_errors(path), open(path, "rb", buffering=0) as stream:
        if size_bytes <= WHOLE_BYTES:
            digest.update(stream.read())
        else:
            for piece in range(PIECES):
                stream.seek(piece * (size_bytes - PIECE_BYTES) // (PIECES - 1))
                digest.update(stream.read(PIECE_BYTES))
    return digest.hexdigest()


def _matches(here: Path, name: str) -> list[Path]:
    path = os.path.abspath(here / name)
    found = glob.glob(path, recursive=True) if glob.has_magic(name) else [path]
    return [Path(match) for match in found if os.path.isfile(match)]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read the list of granules: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _distinct(paths: Iterable[Path], missing: list[str]) -> Found:
    first: dict[str, GranuleFile] = {}
    names: dict[str, Path] = {}
    duplicates: list[tuple[Path, Path]] = []
    for path in paths:
        with store_errors(path):
            size_bytes = path.stat().st_size
        granule = GranuleFile(path, size_bytes, fingerprint(path, size_bytes))
        same = first.setdefault(granule.fingerprint, granule)
        if same is not granule:
            duplicates.append((path, same.path))
        elif (other := names.setdefault(granule.name, path)) != path:
            raise UsageError(f"{path} and {other} have one name but differ; rename one, or name only one")
    return Found(tuple(first.values()), tuple(duplicates), tuple(missing))
