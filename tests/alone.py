"""Tests marked `alone` run while no worker of pytest-xdist runs another: they keep every core busy by
themselves, or measure time. Without xdist nothing happens."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Share a lock with the other workers, or have it alone."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    stem = str(Path(tempfile.gettempdir()) / f"atmonr-tests-{os.getuid()}")
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with open(f"{stem}.gate", "a") as gate, open(f"{stem}.lock", "a") as lock:
        # Whoever waits to be alone keeps the gate, so that nobody overtakes.
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, kind)
        fcntl.flock(gate, fcntl.LOCK_UN)
        return (yield)
