"""Time, as workers see it; tests put another in its place."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from atmonr.json_file import store_errors


class Clock(Protocol):
    """What a worker asks for the time."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow, of this machine."""
        ...

    def stamp(self, path: Path, record: Mapping[str, Any]) -> float:
        """Write a heartbeat and return its time [s since 1970], by the clock that gives all files theirs."""
        ...


class RealClock:
    """The clocks of this machine and of its file system."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow, of this machine."""
        return time.monotonic()

    def stamp(self, path: Path, record: Mapping[str, Any]) -> float:
        """Write a heartbeat and return the time of the file.

        Heartbeats are compared with each other only, so that nodes whose clocks differ agree where a file
        server sets the times. It is written in place: what a reader may see torn is shown to people, the
        time decides.

        Raises:
            StoreError: If the file system refuses.
        """
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", encoding="utf-8") as stream:
                json.dump(record, stream)
            os.utime(path)
            return path.stat().st_mtime
