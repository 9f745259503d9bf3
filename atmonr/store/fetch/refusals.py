"""Few refused passwords, whatever number of jobs a user starts: Earthdata locks accounts after some."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from atmonr.errors import CredentialsMissing

_AT_MOST = 2  # one typing error may be corrected at once
_WITHIN_S = 600.0


@contextmanager
def few_refusals(clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Let one process of a user log in at a time, and none after two refusals within ten minutes.

    The times of refusals, and nothing else, are kept in the user's cache folder, which the nodes of a
    cluster as a rule share. Where it cannot be written, nothing is kept.

    Args:
        clock: Seconds since 1970.

    Raises:
        CredentialsMissing: There were two refusals within ten minutes; or whatever the login raised.
    """
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atmonr" / "earthdata-refusals"
    with suppress(OSError):  # opening fails then, too
        path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as stream:
        if stream is None:
            yield
            return
        stream.seek(0)
        times = (_seconds(text) for text in stream.read(10_000).split())
        recent = [when for when in times if abs(clock() - when) < _WITHIN_S]
        if len(recent) >= _AT_MOST:
            raise CredentialsMissing(
                f"Earthdata Login refused credentials {len(recent)} times within ten minutes: nothing was"
                f" sent, since more would lock the account; correct them and wait, or remove {path}"
            )
        try:
            yield
        except CredentialsMissing:
            stream.truncate(0)
            stream.write("".join(f"{when:.0f}\n" for when in (*recent, clock())))
            raise


@contextmanager
def _opened(path: Path) -> Iterator[TextIO | None]:
    """Open a file for this process alone, as far as the file system can; None if it cannot be opened."""
    try:
        stream = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError:
        yield None
        return
    with stream:
        with suppress(OSError):  # some parallel file systems have no locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")
