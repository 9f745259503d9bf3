"""The mirror with trackers that work, fail, or never answer; no MLflow here."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from atmonr.train import tracking
from atmonr.train.tracking import Mirror


class Notebook:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.folders: list[Path] = []
        self.status: str | None = None
        self.threads: set[str] = set()
        self.requests = 0

    def log(self, records: list[tuple[int, Mapping[str, Any]]]) -> None:
        self.requests += 1
        self.threads.add(threading.current_thread().name)
        self.steps += [record["step"] for _, record in records]

    def upload(self, folder: Path) -> None:
        self.folders.append(folder)

    def end(self, status: str) -> None:
        self.status = status


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_everything_arrives_in_order_from_another_thread(tmp_path: Path) -> None:
    notebook = Notebook()
    mirror = Mirror(lambda: notebook, patience_s=10)
    for step in range(500):
        mirror.metrics({"step": step})
    mirror.pictures(tmp_path)
    mirror.close("FINISHED")
    assert notebook.steps == list(range(500))
    assert notebook.folders == [tmp_path]
    assert notebook.status == "FINISHED"
    assert notebook.threads == {"mlflow-mirror"}


def test_what_has_gathered_is_sent_in_one_request() -> None:
    notebook, gate = Notebook(), threading.Event()

    def connect() -> Notebook:
        gate.wait(10)
        return notebook

    mirror = Mirror(connect, patience_s=10)
    mirror.metrics({"step": 0})
    time.sleep(0.05)
    for step in range(1, 101):
        mirror.metrics({"step": step})
    gate.set()
    mirror.close("FINISHED")
    assert notebook.steps == list(range(101))
    assert notebook.requests <= 3


def test_a_tracker_that_cannot_be_reached_is_mentioned_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def connect() -> Notebook:
        attempts.append(1)
        raise ConnectionError("refused\nfor a reason")

    mirror = Mirror(connect, patience_s=10)
    for step in range(50):
        mirror.metrics({"step": step})
        time.sleep(0.001)
    with caplog.at_level(logging.WARNING):
        mirror.close("FINISHED")
    assert len(attempts) == 1  # one patience, not fifty
    assert len(caplog.records) == 1
    assert "ConnectionError: refused for a reason" in caplog.text
    assert "metrics.jsonl" in caplog.text


def test_a_tracker_that_comes_back_gets_what_follows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "RETRY_AFTER_S", 0.0)
    notebook, failures = Notebook(), [ConnectionError("gone")]

    def connect() -> Notebook:
        if failures:
            raise failures.pop()
        return notebook

    mirror = Mirror(connect, patience_s=10)
    mirror.metrics({"step": 1})
    wait_until(lambda: not failures)
    mirror.metrics({"step": 2})
    mirror.close("FINISHED")
    assert notebook.steps == [2]
    assert notebook.status == "FINISHED"
    assert "gone" in caplog.text


def test_a_tracker_that_never_answers_costs_no_time_but_the_patience(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "QUEUE_LENGTH", 10)
    forever = threading.Event()

    def connect() -> Notebook:
        forever.wait()
        raise ConnectionError

    mirror = Mirror(connect, patience_s=0.3)
    begin = time.monotonic()
    for step in range(10_000):
        mirror.metrics({"step": step})
    assert time.monotonic() - begin < 2
    begin = time.monotonic()
    mirror.close("FINISHED")
    assert time.monotonic() - begin < 2
    assert "no answer in time" in caplog.text
    forever.set()


def test_a_users_mlflow_settings_win_and_ours_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    mirror = Mirror(Notebook, patience_s=10)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    mirror.close("FINISHED")
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
