"""The mirror with copies that work, fail, or never answer; no MLflow here."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import pytest

from atmonr.train import tracking
from atmonr.train.tracking import Mirror


class Notebook:
    """A copy that remembers when it was brought up to date."""

    def __init__(self) -> None:
        self.updates: list[bool] = []
        self.threads: set[str] = set()

    def update(self, *, over: bool) -> None:
        self.updates.append(over)
        self.threads.add(threading.current_thread().name)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_copy_is_brought_up_to_date_now_and_then_and_at_the_end_from_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "EVERY_S", 0.01)
    notebook = Notebook()
    mirror = Mirror(lambda: notebook, patience_s=10)
    wait_until(lambda: len(notebook.updates) > 2)
    mirror.close()
    assert notebook.updates[-1] is True
    assert not any(notebook.updates[:-1])
    assert notebook.threads == {"mlflow-mirror"}


def test_a_short_training_is_copied_too() -> None:
    notebook = Notebook()
    Mirror(lambda: notebook, patience_s=10).close()
    assert notebook.updates == [True]


def test_a_server_that_cannot_be_reached_is_mentioned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "EVERY_S", 0.01)
    attempts = []

    def connect() -> Notebook:
        attempts.append(1)
        raise ConnectionError("refused\nfor a reason")

    mirror = Mirror(connect, patience_s=10)
    wait_until(lambda: len(attempts) > 3)
    with caplog.at_level(logging.WARNING):
        mirror.close()
    assert len(caplog.records) == 1
    assert "ConnectionError: refused for a reason" in caplog.text
    assert "--resume sends the rest" in caplog.text


def test_a_server_that_comes_back_leaves_nothing_to_mention(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "EVERY_S", 0.01)
    notebook, failures = Notebook(), [ConnectionError("gone")]

    def connect() -> Notebook:
        if failures:
            raise failures.pop()
        return notebook

    mirror = Mirror(connect, patience_s=10)
    wait_until(lambda: bool(notebook.updates))
    mirror.close()
    assert notebook.updates[-1] is True
    assert caplog.text == ""


def test_a_server_that_never_answers_costs_no_time_but_the_patience(caplog: pytest.LogCaptureFixture) -> None:
    forever = threading.Event()

    def connect() -> Notebook:
        forever.wait()
        raise ConnectionError

    mirror = Mirror(connect, patience_s=0.3)
    begin = time.monotonic()
    mirror.close()
    assert time.monotonic() - begin < 5
    assert "no answer in time" in caplog.text
    forever.set()


def test_a_users_mlflow_settings_win_and_ours_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    mirror = Mirror(Notebook, patience_s=10)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    mirror.close()
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
