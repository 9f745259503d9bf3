"""A command that a worker runs: a process group of its own, with its output in the attempt's log."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from atmonr.json_file import store_errors

_TAIL_BYTES = 4000
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end this process with its worker, which whoever takes over the task counts on.

    Schedulers end what is left of a job where they watch it by control groups, which not all sites have.
    """
    with suppress(OSError, AttributeError):  # other systems than Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child(Protocol):
    """A running command."""

    def poll(self) -> int | None:
        """Exit code, negative if a signal ended it; None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to save and end."""
        ...

    def kill(self) -> None:
        """End it and all it started, now."""
        ...

    def last_words(self) -> str:
        """The last line it wrote, which for a failure is its reason."""
        ...


class ProcessChild:
    """A real process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        log: Path,
        stop_file: Path | None,
        environment: Mapping[str, str],
    ) -> None:
        """Start it.

        Args:
            command: Program and arguments.
            folder: Where it starts.
            log: What its output is added to.
            stop_file: Made to ask for a stop, where a signal might not pass through a container.
            environment: Beside this process's own.

        Raises:
            StoreError: If it cannot be started, or the log not be written.
        """
        self._log, self._stop_file = log, stop_file
        with store_errors(log), open(log, "a", encoding="utf-8") as stream:
            stream.write(f"$ atmonr-worker runs: {' '.join(command)}\n")
            stream.flush()
            self._start = log.stat().st_size
            # A group of its own: a Ctrl-C or a scheduler's signal to the worker reaches it through us alone.
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # safe: workers have one thread
            )

    def poll(self) -> int | None:
        """Exit code, negative if a signal ended it; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and end."""
        if self._stop_file is not None:
            with suppress(OSError):  # the run folder may not be there yet
                self._stop_file.touch()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all it started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self) -> str:
        """The last line it wrote."""
        try:
            with open(self._log, "rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(self._start, size - _TAIL_BYTES))
                lines = stream.read().decode("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return next((" ".join(line.split())[:500] for line in reversed(lines) if line.strip()), "")
