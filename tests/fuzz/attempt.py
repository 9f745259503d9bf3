"""One case: read an input, and say whether that went as a user may expect."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atmonr
from atmonr.errors import (
    AtmonrError,
    ConfigError,
    GpuMemoryError,
    GranuleError,
    ResumeError,
    SceneError,
    StoreError,
)
from tests.fuzz.readers import Reader

# What an input can be to blame for.
_BLAME = (GranuleError, SceneError, ResumeError, ConfigError, StoreError, GpuMemoryError)
_LONGEST_MESSAGE = 2500
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Where, among what an event tells, are paths that it changes and the open folders that these are relative to.
_CHANGES = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),),
}
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"}

_CODE = f"{Path(atmonr.__file__).resolve().parent}{os.sep}"


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        refused: The reader raised one of our errors; it read the input otherwise.
        message: Of that error.
        faults: What must not be, `kind: detail` each, alike for alike kinds; empty when all is well.
    """

    refused: bool
    message: str
    faults: list[str]


class Watch:
    """Sees every change that Python makes to the file system, and every program or connection it starts."""

    def __init__(self) -> None:
        self._allowed = ""
        self._seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def only(self, folder: Path) -> Iterator[list[str]]:
        """Yield a list of what is done outside of a folder while the block runs."""
        self._seen = []
        self._allowed = os.path.realpath(folder)
        try:
            yield self._seen
        finally:
            self._allowed = ""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look away while the block runs."""
        allowed, self._allowed = self._allowed, ""
        try:
            yield
        finally:
            self._allowed = allowed

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._allowed:
            return
        if event in _STARTS:
            self._seen.append(f"{event}: {arguments[0]}")
        for path in _changed(event, arguments):
            # Compiled code is kept beside its source; no input has a say in what is written there.
            if f"{os.path.realpath(path)}{os.sep}".startswith(_CODE) and "__pycache__" in path:
                continue
            if not f"{os.path.realpath(path)}{os.sep}".startswith(f"{self._allowed}{os.sep}"):
                self._seen.append(f"{event} outside of the output folder: {path!r}")


def _changed(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Which paths an audited event changes."""
    if event == "open":
        path, _, flags = arguments
        changes = isinstance(flags, int) and flags & _WRITING and not isinstance(path, int)
        return [os.fsdecode(path)] if changes and path != os.devnull else []
    return [
        os.path.join(
            os.readlink(f"/proc/self/fd/{arguments[folder]}") if arguments[folder] >= 0 else "",
            os.fsdecode(name),
        )
        for place, folder in _CHANGES.get(event, ())
        if not isinstance(name := arguments[place], int)
    ]


def attempt(reader: Reader, work: Path, watch: Watch) -> Outcome:
    """Read `work/case`, writing to `work/out`; nothing else in `work` may change.

    Args:
        reader: The reader.
        work: Folder with the input in `case`.
        watch: Made once per process.
    """
    case, out = work / "case", work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = _state(work, out)
    noise = _Noise()
    refused, message, faults = False, "", []
    with warnings.catch_warnings(record=True) as warned, watch.only(out) as outside:
        warnings.simplefilter("always")
        try:
            reader.read(case, out)
        except AtmonrError as error:
            refused, message = True, str(error)
            faults += _bad_error(error, case)
        except Exception as error:
            faults.append(_place(error))
    faults += [f"warning {each.category.__name__}: {_line(each.message)}" for each in warned]
    faults += outside
    faults += noise.heard()
    if _state(work, out) != before:
        faults.append(
            f"a file outside of the output folder has changed: {_first_difference(before, _state(work, out))}"
        )
    left = sorted(path.name for path in out.iterdir()) if refused else []
    if left:
        faults.append(f"refused, but left behind: {', '.join(left)}")
    return Outcome(refused, message, faults)


def _bad_error(error: AtmonrError, case: Path) -> list[str]:
    message = str(error)
    faults = []
    if not isinstance(error, _BLAME):
        faults.append(f"does not blame the input, {_place(error)}")
    if str(case) not in message and not message.startswith("--set "):
        faults.append(f"names no file, {_place(error)}")
    if not message.isprintable():
        faults.append(f"is not one printable line, {_place(error)}")
    if len(message) > _LONGEST_MESSAGE:
        faults.append(f"is {len(message)} characters long, {_place(error)}")
    return faults


def _place(error: BaseException) -> str:
    """An error and the line of our code that it passed last."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/atmonr/" in frame.filename]
    where = f"{ours[-1].filename.rpartition('/atmonr/')[2]}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {where}: {_line(error)}"


def _line(text: object) -> str:
    return " ".join(ascii(str(text)).split())[:300]


def _state(work: Path, out: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below a folder, `out` left out."""
    found = []
    for folder, names, files in os.walk(work):
        if folder == str(work):
            names.remove(out.name)
        for name in (*names, *files):
            status = os.lstat(os.path.join(folder, name))
            found.append((os.path.join(folder, name), status.st_size, status.st_mtime_ns))
    return sorted(found)


def _first_difference(before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]) -> str:
    return repr(sorted(set(before) ^ set(after))[:2])


class _Noise:
    """What is written to standard output and error, when these are files, past Python's own streams too."""

    def __init__(self) -> None:
        self._sizes = self._now()

    def heard(self) -> list[str]:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        grown = [
            name
            for name, was, now in zip(("stdout", "stderr"), self._sizes, self._now(), strict=True)
            if now > was
        ]
        return [f"something was written to {name}" for name in grown]

    def _now(self) -> tuple[int, int]:
        return os.fstat(1).st_size, os.fstat(2).st_size
