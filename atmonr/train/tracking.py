"""MLflow's copy of a scene's metrics. metrics.jsonl is the truth: the copy may fail, training may not notice.

Everything that touches MLflow, its import too, happens on a thread of its own behind a bounded queue.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)

QUEUE_LENGTH = 1000
RETRY_AFTER_S = 60.0

# MLflow's own patience is minutes per request. A user's settings win.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Tracker(Protocol):
    """An open run in a tracking server."""

    def log(self, records: list[tuple[int, Mapping[str, Any]]]) -> None:
        """Add (time in ms, record) pairs to the run's metrics."""
        ...

    def upload(self, folder: Path) -> None:
        """Add a folder's files to the run."""
        ...

    def end(self, status: str) -> None:
        """Mark the run as FINISHED, KILLED or FAILED."""
        ...


class Mirror:
    """Copies what it is given to a tracker, in the background, as long as that works."""

    def __init__(self, connect: Callable[[], Tracker], *, patience_s: float) -> None:
        """Start the thread.

        Args:
            connect: Opens the run; called on the thread, again after a pause when it has failed.
            patience_s: How long `close` waits for what is still queued.
        """
        self._connect = connect
        self._patience_s = patience_s
        self._queue: queue.Queue[tuple[int, Mapping[str, Any]] | Path | str] = queue.Queue(QUEUE_LENGTH)
        self._lost = 0
        self._error: Exception | None = None
        self._added = ENVIRONMENT.keys() - os.environ.keys()
        os.environ.update({name: ENVIRONMENT[name] for name in self._added})
        # A daemon, so that a server that never answers cannot keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Queue one record of metrics; returns at once."""
        self._put((int(time.time() * 1000), dict(record)))

    def pictures(self, folder: Path) -> None:
        """Queue the files of a folder; returns at once."""
        self._put(folder)

    def close(self, status: str) -> None:
        """Send what is queued, for as long as patience lasts, and say in the log if anything was lost.

        Args:
            status: FINISHED, KILLED (stopped, will be resumed) or FAILED.
        """
        deadline = time.monotonic() + self._patience_s
        try:
            self._queue.put(status, timeout=self._patience_s)
        except queue.Full:
            self._lost += 1
        self._thread.join(max(0.0, deadline - time.monotonic()))
        for name in self._added:
            os.environ.pop(name, None)
        unanswered = self._thread.is_alive()
        if unanswered or self._lost:
            reason = "no answer in time" if unanswered else f"{type(self._error).__name__}: {self._error}"
            log.warning(
                "MLflow copy is incomplete (%s); metrics.jsonl and the pictures folder have everything",
                " ".join(reason.split())[:300],
            )

    def _put(self, item: tuple[int, Mapping[str, Any]] | Path) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._lost += 1

    def _work(self) -> None:
        """Send until told to end; after a failure, drop what comes for a while instead of trying each."""
        tracker: Tracker | None = None
        retry_s = 0.0
        status = None
        while status is None:
            items = self._drain()
            status = next((item for item in items if isinstance(item, str)), None)
            if time.monotonic() < retry_s:
                self._lost += len(items)
                continue
            try:
                tracker = tracker or self._connect()
                tracker.log([item for item in items if isinstance(item, tuple)])
                for folder in [item for item in items if isinstance(item, Path)]:
                    tracker.upload(folder)
                if status is not None:
                    tracker.end(status)
            except Exception as error:  # whatever a server or its client does, training goes on
                self._error = error
                self._lost += len(items)
                retry_s = time.monotonic() + RETRY_AFTER_S

    def _drain(self) -> list[tuple[int, Mapping[str, Any]] | Path | str]:
        """Wait for something to send, then take all there is: one request is cheaper than many."""
        items = [self._queue.get()]
        while True:
            try:
                items.append(self._queue.get_nowait())
            except queue.Empty:
                return items
