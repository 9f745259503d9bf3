from __future__ import annotations

import sys

import pytest
from rich.console import Console

from atmonr.train import progress
from atmonr.train.progress import display

RECORD = {"step": 250, "loss": 0.0123456, "steps_per_s": 0.25}


def test_without_a_terminal_each_record_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display("a[b]", 1250, 0, quiet=False)
    shown.advance(1)
    shown.report(RECORD)
    shown.close()
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == "a[b]  step 250/1250  loss 0.01235  0.25 steps/s  left 1:06:40\n"


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display("a", 1000, 0, quiet=True)
    shown.advance(1)
    shown.report(RECORD)
    shown.close()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminal(*, stderr: bool) -> Console:
        return Console(file=sys.stderr, force_terminal=True, width=120)

    monkeypatch.setattr(progress, "Console", terminal)
    shown = display("a[b]", 1250, 100, quiet=False)
    shown.report(RECORD)
    shown.advance(250)
    shown.close()
    written = capsys.readouterr().err
    assert "a[b]" in written
    assert "250/1250" in written
    assert "loss 0.01235  0.25 steps/s  left 1:06:40" in written
