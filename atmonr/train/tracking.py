"""MLflow's copy of a run folder. The folder is the truth: the copy may fail, training does not notice.

One process copies for all ranks, from what they write, so that a store has one writer; what could not be sent
is sent by the next session. Everything that touches MLflow, its import too, happens on a thread of its own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from atmonr.config import Config
from atmonr.run import Run
from atmonr.train.mlflow_run import MlflowCopy

log = logging.getLogger(__name__)

EVERY_S = 30.0

# MLflow's own patience is minutes per request. A user's settings win.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Copy(Protocol):
    """Something that can be brought up to date."""

    def update(self, *, over: bool) -> None:
        """Send what is new since the last call; `over` says that nobody is at work any more."""
        ...


@contextmanager
def mirror(run: Run, config: Config, *, on: bool) -> Iterator[None]:
    """Copy the run folder to MLflow while the block runs and once more at its end.

    Args:
        run: The run folder.
        config: Its `track` section names the place, if there is to be one.
        on: Whether this is the process that copies.
    """
    uri = config.track.uri
    if uri is None or not on:
        yield
        return
    # A server may be gone; a file is only slow, most of all when MLflow has to make its tables first.
    copying = Mirror(
        lambda: MlflowCopy(run, config, uri), patience_s=60.0 if uri.startswith("sqlite:") else 20.0
    )
    try:
        yield
    finally:
        copying.close()


class Mirror:
    """Brings a copy up to date from time to time, in the background, as long as that works."""

    def __init__(self, connect: Callable[[], Copy], *, patience_s: float) -> None:
        """Start the thread.

        Args:
            connect: Opens the copy; called on the thread, and again the next time when it has failed.
            patience_s: How long `close` waits.
        """
        self._connect = connect
        self._patience_s = patience_s
        self._over = threading.Event()
        self._error: Exception | None = None
        self._added = ENVIRONMENT.keys() - os.environ.keys()
        os.environ.update({name: ENVIRONMENT[name] for name in self._added})
        # A daemon, so that a server that never answers cannot keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is new, for as long as patience lasts, and say in the log if anything is missing."""
        self._over.set()
        self._thread.join(self._patience_s)
        for name in self._added:
            os.environ.pop(name, None)
        unanswered = self._thread.is_alive()
        if unanswered or self._error is not None:
            reason = "no answer in time" if unanswered else f"{type(self._error).__name__}: {self._error}"
            log.warning(
                "MLflow copy is incomplete (%s); the run folder has everything, and --resume sends the rest",
                " ".join(reason.split())[:300],
            )

    def _work(self) -> None:
        """Copy now and then; the last time decides whether the copy is complete."""
        copy: Copy | None = None
        over = False
        while not over:
            over = self._over.wait(EVERY_S)
            try:
                copy = copy or self._connect()
                copy.update(over=over)
                self._error = None
            except Exception as error:  # whatever a server or its client does, training goes on
                self._error = error
