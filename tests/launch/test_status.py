"""Status, logs, resume, cancel, reproduce and report, on a campaign of commands that only pretend."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from campaigns import frozen, real_place
from typer.testing import CliRunner

from atmonr.errors import UsageError
from launch.attempts import claim, finish
from launch.cli import app
from launch.disk import publish
from launch.find import find_task
from launch.folder import Folder
from launch.status import status_of, summary


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.mark.slow
def test_a_campaign_from_submit_to_report_on_this_machine(tmp_path: Path) -> None:
    campaign = real_place(tmp_path)
    (tmp_path / "train.code").write_text("70")
    shown = run("submit", campaign, "--wait", "--every-s", "0.3")
    assert "try on here: 4 done" in shown
    # What is done is done.
    assert "submitted" not in run("submit", campaign)
    found = json.loads(run("status", campaign, "--json"))
    assert found["counts"] == {"done": 4} and found["failures"] == []
    (twice,) = [row for row in found["tasks"] if row["attempts"] == 2]
    log = run("logs", campaign, twice["key"][:8])
    assert "attempt 1" in log and "diverged told to fail" in log and "train.seed=1" in log
    assert "told to fail" in run("logs", campaign, twice["key"], "--attempt", "1")
    again = run("reproduce", campaign, twice["key"])
    assert again.count("&&") >= 7 and "train.seed=1" in again and "-seed1" in again
    run("report", campaign, "-o", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and twice["key"] in page


def test_what_failed_can_be_asked_for_again(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 3)
    fail(folder, 0, "bug", times=2)
    fail(folder, 1, "input", times=1)
    path = str(folder.path)
    assert "1 failed, bug: because bug" in "\n".join(summary(status_of(folder)))
    assert status_of(folder)["counts"] == {
        "ready": 1,
        "waiting": 1,
        "failed": 1,
        "quarantined": 1,
        "blocked": 2,
    }
    from launch.verbs import lift

    with pytest.raises(UsageError, match="no such class; valid: all, preempted"):
        lift(Folder.open(Path(path)), retry=["bugs"])
    assert lift(folder, retry=["bug"]) == 1
    assert lift(folder, retry=["bug"]) == 0
    assert status_of(folder)["counts"]["ready"] == 2
    assert lift(folder, retry=["all"]) == 1


def test_a_cancelled_campaign_goes_on_when_resumed(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 2)
    assert "jobs told to end" in run("cancel", str(folder.path))
    assert "halted: cancelled by its user" in run("status", str(folder.path))
    key = folder.tasks()[0].key
    assert "1 tasks cancelled" in run("cancel", str(folder.path), key[:8])
    assert "0 tasks cancelled" in run("cancel", str(folder.path), key[:8])
    assert status_of(folder)["counts"]["cancelled"] == 1
    from launch.verbs import lift

    assert lift(folder) == 1
    assert folder.halted() is None


def test_a_worker_that_is_silent_is_told(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 1)
    claim(folder.of(folder.tasks()[0]), 1, {"worker": "w", "host": "n1", "job": "7", "time_s": 0.0})
    assert "silent: will be taken over" in "\n".join(summary(status_of(folder)))


def test_tasks_are_found_by_key_and_name(tmp_path: Path) -> None:
    tasks = frozen(tmp_path / "campaign", 3).tasks()
    assert find_task(tasks, tasks[1].key[:10]) is tasks[1]
    assert find_task(tasks, "granule-00001").kind == "field"
    with pytest.raises(UsageError, match="there is none"):
        find_task(tasks, "nothing")


def test_a_damaged_record_hides_no_other_task(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 2)
    claim(folder.of(folder.tasks()[0]), 1, {"worker": "w", "host": "n1"})
    (folder.of(folder.tasks()[0]) / "end-0001.json").write_text("{")
    found = status_of(folder)
    assert found["counts"] == {"ready": 1, "waiting": 1, "failed": 1, "blocked": 1}
    assert "end-0001.json" in found["failures"][0]["reason"] + found["failures"][1]["reason"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a campaign folder"):
        Folder.open(tmp_path)


def fail(folder: Folder, number: int, kind: str, *, times: int) -> None:
    task = folder.tasks()[number]
    for attempt in range(1, times + 1):
        begun: dict[str, Any] = {"worker": "w", "host": "n1", "job": "1", "time_s": 0.0}
        claim(folder.of(task), attempt, begun, durable=False)
        ended = {"class": kind, "reason": f"because {kind}", "time_s": 0.0, "host": "n1"}
        finish(folder.of(task), attempt, ended, durable=False)


@pytest.mark.slow
@pytest.mark.alone
def test_ten_thousand_tasks_are_looked_at_in_five_seconds(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 5_000)
    for number, task in enumerate(folder.tasks()):
        begun: dict[str, Any] = {"worker": f"w{number % 50}", "host": "n1", "job": "1", "time_s": 0.0}
        claim(folder.of(task), 1, begun, durable=False)
        if number % 5:
            finish(folder.of(task), 1, {"class": "done", "time_s": 0.0}, durable=False)
    for number in range(50):
        publish(folder.worker(f"w{number}"), {"tasks": {}}, durable=False)
    start = time.perf_counter()
    found = status_of(folder)
    assert time.perf_counter() - start <= 5.0
    assert found["counts"] == {"done": 8_000, "running": 2_000}
