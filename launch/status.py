"""Where a campaign stands, from its folder alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from launch.board import Board, counts_of
from launch.campaign_file import Care
from launch.cost import Model, model_of
from launch.folder import Folder
from launch.site import Cost
from launch.task import Task


def status_of(folder: Folder, *, now_s: float | None = None) -> dict[str, Any]:
    """Return JSON data: counts, what runs, what failed and why, what is left.

    Args:
        folder: Of the campaign.
        now_s: As a rule the time of day [s since 1970].

    Raises:
        StoreError: If the folder cannot be read.
    """
    now_s = time.time() if now_s is None else now_s
    settings, tasks = folder.settings, folder.tasks()
    board = Board(folder, tasks, Care(**settings["care"]))
    statuses = {task.key: board.status(task.key) for task in tasks}
    beats = _Beats(folder, now_s, settings["lease_s"])
    rows = [_row(board, task, statuses[task.key], beats) for task in tasks]
    model = model_of(
        Cost(**settings["cost"]), folder, [task for task in tasks if statuses[task.key] == "done"]
    )
    return {
        "campaign": settings["name"],
        "site": settings["site"],
        "halted": folder.halted(),
        "bad_nodes": folder.bad_nodes(),
        "counts": counts_of(statuses),
        "counts_by_kind": {
            kind: counts_of({task.key: statuses[task.key] for task in tasks if task.kind == kind})
            for kind in ("scene", "field")
        },
        "failures": _failures(rows),
        "left_s": left_s(
            model, [task for task in tasks if statuses[task.key] in ("ready", "waiting", "running")]
        ),
        "tasks": rows,
    }


def left_s(model: Model, tasks: list[Task]) -> float | None:
    """Expected time of tasks one after the other; None if it is unknown."""
    times = [model.seconds(task) for task in tasks]
    return None if None in times else sum(time for time in times if time is not None)


def summary(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield a few lines for people."""
    counts = ", ".join(f"{number} {name}" for name, number in status["counts"].items())
    yield f"{status['campaign']} on {status['site']}: {counts or 'no tasks'}"
    if status["halted"]:
        yield f"halted: {status['halted']['reason']}; `resume` goes on"
    if status["bad_nodes"]:
        yield f"nodes used no more: {', '.join(status['bad_nodes'])}"
    for row in status["tasks"]:
        if row["status"] == "running":
            at = " ".join(str(row[key]) for key in ("stage", "step") if row.get(key) not in (None, ""))
            silent = ", silent: will be taken over" if row["silent"] else ""
            where = f"on {row['host']}, attempt {row['attempts']}{silent}"
            yield f"  running  {row['key'][:8]} {row['name']}: {at} {where}"
    for failure in status["failures"]:
        yield f"  {failure['count']} {failure['status']}, {failure['class']}: {failure['reason']}"
        yield f"      {', '.join(failure['examples'])}"
    if status["left_s"]:
        yield f"expected to be left: {status['left_s'] / 3600:.1f} hours of one slot"


class _Beats:
    """Heartbeats of workers, each read once."""

    def __init__(self, folder: Folder, now_s: float, lease_s: float) -> None:
        self._folder, self._now_s, self._lease_s = folder, now_s, lease_s
        self._known: dict[str, tuple[dict[str, Any], bool]] = {}

    def of(self, worker: str, key: str) -> dict[str, Any]:
        """What a worker says of a task, and whether it is silent for too long."""
        if worker not in self._known:
            path = self._folder.worker(worker)
            try:
                silent = self._now_s - path.stat().st_mtime > self._lease_s
                record = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                record, silent = {}, True
            except ValueError:  # read while it was written
                record, silent = {}, False
            self._known[worker] = record, silent
        record, silent = self._known[worker]
        return {**record.get("tasks", {}).get(key, {}), "silent": silent}


def _row(board: Board, task: Task, status: str, beats: _Beats) -> dict[str, Any]:
    state = board.state(task.key)
    row = {
        "key": task.key,
        "kind": task.kind,
        "name": task.name,
        "status": status,
        "attempts": state.number,
        "host": (state.claim or state.end).get("host", ""),
        "job": (state.claim or state.end).get("job", ""),
        "failure": state.verdict.failure if status not in ("done", "ready") or state.end else "",
        "reason": state.verdict.reason,
        "stage": state.end.get("stage", ""),
        "step": state.end.get("step"),
        "silent": False,
    }
    if status == "blocked":
        needed = board.state(task.needs)
        row |= {"failure": needed.verdict.failure, "reason": f"its scene: {needed.verdict.reason}"}
    if status == "running":
        row |= beats.of(str(state.claim["worker"]), task.key)
    return row


def _failures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group tasks that failed for one cause, the most frequent first."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] in ("failed", "quarantined", "blocked"):
            groups.setdefault((row["status"], row["failure"]), []).append(row)
    found = []
    for (status, cause), members in sorted(groups.items(), key=lambda group: -len(group[1])):
        reason, _ = Counter(member["reason"] for member in members).most_common(1)[0]
        found.append(
            {
                "status": status,
                "class": cause,
                "count": len(members),
                "reason": reason,
                "examples": [f"{member['key'][:8]} {member['name']}" for member in members[:3]],
            }
        )
    return found
