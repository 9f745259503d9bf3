"""The report: one page that opens offline, with every task, its pictures, scores, attempts and cost."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atmonr.atomic import write_text
from atmonr.errors import ResumeError, StoreError
from atmonr.json_file import flatten, read_json
from atmonr.run import Run
from launch.attempts import all_attempts
from launch.cost import Model, model_of, stage_times
from launch.folder import Folder
from launch.site import Cost
from launch.task import Task
from launch.verbs import adjustment_of

PAGE = Path(__file__).with_name("page") / "report.html"
# Pictures up to so many bytes are in the page itself; further ones are named by their files' places.
EMBEDDED_BYTES = 12_000_000
CURVE_POINTS = 60
SCORES = {"heldout.all.psnr_db": "psnr_db", "heldout.all.ssim": "ssim"}


def write_report(folder: Folder, status: Mapping[str, Any], out: Path) -> None:
    """Write the page.

    Args:
        folder: Of the campaign.
        status: From `status_of`.
        out: HTML file; an existing one is replaced.

    Raises:
        StoreError: If it cannot be written, or the folder not be read.
    """
    tasks = folder.tasks()
    done = {row["key"] for row in status["tasks"] if row["status"] == "done"}
    model = model_of(Cost(**folder.settings["cost"]), None, tasks)
    pictures = _Pictures(out.resolve().parent)
    rows = {row["key"]: row for row in status["tasks"]}
    by_key = {task.key: task for task in tasks}
    cards = [
        _card(folder, task, rows[task.key], by_key, pictures if task.key in done else None, model)
        for task in tasks
    ]
    lock = {key: value for key, value in folder.settings["lock"].items() if key != "packages"}
    data = {
        **{key: value for key, value in status.items() if key != "tasks"},
        "lock": lock,
        "cards": cards,
    }
    page = PAGE.read_text(encoding="utf-8")
    page = page.replace("{{title}}", html.escape(f"Campaign {status['campaign']}"))
    # Inside a script element nothing may look like its end.
    page = page.replace("{{data}}", json.dumps(data, allow_nan=False, default=str).replace("</", "<\\/"))
    page = page.replace("{{pictures}}", json.dumps(pictures.embedded).replace("</", "<\\/"))
    write_text(out, page)


class _Pictures:
    """Pictures in the page, as long as there is room."""

    def __init__(self, beside: Path) -> None:
        self._beside, self._room = beside, EMBEDDED_BYTES
        self.embedded: dict[str, str] = {}

    def add(self, path: Path) -> dict[str, str]:
        """Take a picture in, or name its place relative to the page."""
        title = path.stem.replace("_", " ")
        size = path.stat().st_size
        if size > self._room:
            return {"title": title, "src": Path(os.path.relpath(path, self._beside)).as_posix()}
        self._room -= size
        name = f"p{len(self.embedded)}"
        self.embedded[name] = base64.b64encode(path.read_bytes()).decode()
        return {"title": title, "data": name}


def _card(
    folder: Folder,
    task: Task,
    row: Mapping[str, Any],
    tasks: Mapping[str, Task],
    pictures: _Pictures | None,
    model: Model,
) -> dict[str, Any]:
    """Everything about one task."""
    times = stage_times(folder, task)
    card = {
        **row,
        "attempts": [_attempt(attempt) for attempt in all_attempts(folder.of(task))],
        "seconds": times,
        "taken_s": sum(times.values()) if times else None,
        "expected_s": model.seconds(task),
        "facts": {key: value for key, value in task.facts.items() if key != "kind"},
        "command": f"atmonr campaign reproduce {folder.path} {task.key[:12]}",
        "scores": {},
        "curve": [],
        "pictures": [],
    }
    if task.needs:
        card["facts"] = {**card["facts"], "granule": tasks[task.needs].facts["path"]}
    if task.kind == "field" and pictures is not None:
        run = Run(folder.of(task) / f"run{adjustment_of(folder, task).suffix}")
        card["scores"] = scores_of(folder, task)
        card["curve"] = _curve(run, task.granule)
        card["pictures"] = [pictures.add(path) for path in pictures_of(folder, task)]
    return card


def scores_of(folder: Folder, task: Task) -> dict[str, float]:
    """Scores of a field task on the views it never saw; {} if it was not scored."""
    path = folder.of(task) / "score.json"
    if not path.exists():
        return {}
    try:
        values = dict(flatten(read_json(path)))
    except (ResumeError, StoreError):
        return {}
    return {
        short: values[name] for name, short in SCORES.items() if isinstance(values.get(name), int | float)
    }


def pictures_of(folder: Folder, task: Task) -> list[Path]:
    """Pictures of a field task: rendered beside seen, sections, loss."""
    run = Run(folder.of(task) / f"run{adjustment_of(folder, task).suffix}")
    place = folder.of(task)
    found = [*place.glob("*.png"), *place.glob("pictures/*.png"), *run.pictures(task.granule).glob("*.png")]
    return sorted({path.name: path for path in found}.values(), key=lambda path: path.name)


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    claim, end = attempt["claim"], attempt["end"]
    return {
        "number": attempt["number"],
        "host": claim.get("host", ""),
        "job": claim.get("job", ""),
        "class": end.get("class", "running"),
        "seconds": end.get("seconds"),
        "reason": end.get("reason", ""),
    }


def _curve(run: Run, scene: str) -> list[list[float]]:
    """A few points of the loss curve."""
    try:
        records = run.read_metrics(scene)
    except StoreError:
        return []
    points = [[r["step"], r["loss"]] for r in records if isinstance(r.get("loss"), int | float)]
    return points[:: max(1, len(points) // CURVE_POINTS)]
