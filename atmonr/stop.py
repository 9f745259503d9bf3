"""Requests to stop: signals, and a file for batch systems whose signals do not reach every rank."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class StopRequest:
    """Remembers that somebody asked for an orderly stop; used as a context around long work.

    Handlers only note the signal: the state may be saved between two steps but not within one.

    Attributes:
        reason: The signal or the file that asked; None while nobody did.
        signalled: Whether a signal came to this very process.
    """

    def __init__(
        self, stop_file: Path | None, *, poll_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch nothing yet.

        Args:
            stop_file: Whoever creates it asks to stop; None where another rank watches it.
            poll_s: Least time between two looks at it, since each is a request to a parallel file system.
            clock: Seconds that only ever grow.
        """
        self._stop_file = stop_file
        self._poll_s = poll_s
        self._clock = clock
        self._next_look = clock()
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self.reason: str | None = None
        self.signalled = False

    def requested(self) -> bool:
        """Return whether a stop has been asked for; looks at the file only from time to time."""
        if self.reason is None and self._clock() >= self._next_look:
            self._next_look = self._clock() + self._poll_s
            if self._stop_file is not None and self._stop_file.exists():
                self.reason = str(self._stop_file)
        return self.reason is not None

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread set handlers; elsewhere the file still works.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            # None is a handler that was not set from Python and cannot be set from it either.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason is not None:
            raise KeyboardInterrupt  # a second Ctrl-C means: now
        self.reason = signal.Signals(number).name
        self.signalled = True
