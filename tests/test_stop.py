from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from atmonr.stop import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_noted_and_the_previous_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest(None) as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
        assert stop.reason == number.name
    assert signal.getsignal(number) == before


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), StopRequest(None):
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_interrupt_does_not_wait() -> None:
    with StopRequest(None) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_file_is_looked_for_only_from_time_to_time(tmp_path: Path) -> None:
    now = [100.0]
    looks = []

    class Watched(type(tmp_path)):  # type: ignore[misc]
        def exists(self) -> bool:
            looks.append(now[0])
            return super().exists()

    stop = StopRequest(Watched(tmp_path / "STOP"), poll_s=5, clock=lambda: now[0])
    for now[0] in (100.0, 101.0, 104.9):
        assert not stop.requested()
    (tmp_path / "STOP").touch()
    now[0] = 104.95
    assert not stop.requested()
    now[0] = 105.1
    assert stop.requested()
    assert looks == [100.0, 105.1]
    assert stop.reason == str(tmp_path / "STOP")


def test_outside_the_main_thread_only_the_file_counts(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with StopRequest(tmp_path / "STOP") as stop:
            seen.append(signal.getsignal(signal.SIGTERM))
            (tmp_path / "STOP").touch()
            seen.append(stop.requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, True]
