"""The report opens at once and offline, whatever its tasks are called."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from campaigns import frozen

from launch import report
from launch.attempts import claim, finish
from launch.folder import Folder
from launch.report import write_report
from launch.status import status_of
from tests.export.chromium import browser, find_chromium

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "</script><script>document.body.dataset.hacked = 1</script>"


def lived(folder: Folder, *, picture: bytes, failed: int = 3) -> Folder:
    """Let every task end, the first few badly."""
    for number, task in enumerate(folder.tasks()):
        place = folder.of(task)
        begun: dict[str, Any] = {"worker": "w", "host": f"n{number % 7}", "job": "5", "time_s": 0.0}
        claim(place, 1, begun, durable=False)
        ended = {"class": "done", "time_s": 1.0, "host": f"n{number % 7}", "seconds": 60.0}
        if number < failed:
            ended |= {"class": "input", "reason": HOSTILE}
        finish(place, 1, ended, durable=False)
        if task.kind == "field":
            scene = place / "run" / "scenes" / task.granule
            (scene / "pictures").mkdir(parents=True)
            (scene / "pictures" / "heldout.png").write_bytes(picture)
            (place / "pictures").mkdir()
            (place / "pictures" / "loss.png").write_bytes(picture)
            (place / "score.json").write_text(json.dumps({"heldout": {"all": {"psnr_db": 20 + number % 9}}}))
            lines = (json.dumps({"step": s, "wall_s": 1.0, "loss": 1 / (1 + s)}) for s in range(0, 2000, 50))
            (scene / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_text_from_files_cannot_leave_the_data(tmp_path: Path) -> None:
    folder = lived(frozen(tmp_path / "campaign", 4), picture=PNG)
    write_report(folder, status_of(folder), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "</script><script>" not in page and "<\\/script><script>" in page
    assert page.count("<script") - page.count("<script>document") == 3


def test_pictures_that_do_not_fit_are_named_by_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EMBEDDED_BYTES", len(PNG))
    folder = lived(frozen(tmp_path / "campaign", 4), picture=PNG)
    write_report(folder, status_of(folder), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    data = page.partition('id="data">')[2].partition("</script>")[0]
    pictures = [picture for card in json.loads(data)["cards"] for picture in card["pictures"]]
    assert sum("data" in picture for picture in pictures) == 1
    elsewhere = [picture["src"] for picture in pictures if "src" in picture]
    assert len(elsewhere) == 7 and all((tmp_path / place).is_file() for place in elsewhere)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(find_chromium() is None, reason="no chromium is installed")
def test_two_thousand_tasks_open_in_two_seconds(tmp_path: Path) -> None:
    folder = lived(frozen(tmp_path / "campaign", 1_000), picture=PNG + os.urandom(20_000))
    path = tmp_path / "report.html"
    write_report(folder, status_of(folder), path)
    with browser(tmp_path / "profile") as page:
        page.open(path, until="document.body !== null && document.body.dataset.ready !== undefined")
        assert page.run("Number(document.body.dataset.ready)") <= 2000
        page.wait("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        assert page.run("performance.getEntriesByType('navigation')[0].loadEventEnd") <= 2000
        page.wait("document.querySelectorAll('#tasks tbody tr').length === 2000", 10)
        page.run("document.querySelector('th[data-key=psnr]').click()")
        page.run("document.querySelector('th[data-key=psnr]').click()")
        assert page.run("document.querySelector('#tasks tbody tr td:nth-child(5)').textContent") == "28"
        page.run("document.querySelector('#tasks tbody tr').click()")
        page.wait("document.querySelectorAll('.card img').length === 2")
        page.wait("[...document.querySelectorAll('.card img')].every(image => image.naturalWidth === 1)")
        page.run("document.getElementById('find').value = 'quarantined'")
        page.run("document.getElementById('find').dispatchEvent(new Event('input'))")
        assert page.run("document.querySelectorAll('#tasks tbody tr').length") == 3
        assert page.run("document.body.dataset.hacked") is None
        assert page.problems == []
        assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
        page.resize(1300, 1000)
        assert page.screenshot(tmp_path / "shot.png").stat().st_size > 10_000
