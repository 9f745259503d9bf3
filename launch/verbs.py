"""What is asked of a campaign while it runs and after: resume, cancel, collect, reproduce."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from atmonr.atomic import write_json
from atmonr.errors import StoreError, UsageError
from atmonr.json_file import store_errors
from launch.attempts import CANCELLED_FILE, pardon, read_state
from launch.disk import publish
from launch.folder import Folder
from launch.policy import DONE, POLICIES, Adjustment
from launch.task import Task, arguments_of


def lift(folder: Folder, *, retry: Sequence[str] = (), keys: Sequence[str] = ()) -> int:
    """Make ready what was stopped.

    A halt is lifted, cancelled tasks are taken back, and failed ones get all their retries again if their
    class of failure is named.

    Args:
        folder: Of the campaign.
        retry: Classes of failure; "all" for every one.
        keys: Only these tasks; all if empty.

    Returns:
        Number of tasks that are ready again.

    Raises:
        UsageError: If a class is unknown.
        StoreError: If the disk refuses.
    """
    unknown = sorted(set(retry) - {*POLICIES, "all"})
    if unknown:
        raise UsageError(f"--retry-class {unknown[0]}: no such class; valid: all, {', '.join(POLICIES)}")
    write_json(folder.lifted_file, {"time_s": time.time()})
    with store_errors(folder.halt_file):
        folder.halt_file.unlink(missing_ok=True)
    lifted = 0
    for task in folder.tasks():
        if keys and task.key not in keys:
            continue
        state = read_state(folder.of(task))
        if state.status != DONE:  # whoever removes a task's folder wants it done again
            folder.done_mark(task.key).unlink(missing_ok=True)
        if state.status == "cancelled" or (folder.of(task) / CANCELLED_FILE).exists():
            (folder.of(task) / CANCELLED_FILE).unlink(missing_ok=True)
            lifted += 1
        elif state.status in ("failed", "quarantined") and ("all" in retry or state.verdict.failure in retry):
            lifted += pardon(folder.of(task), state.number)
    return lifted


def cancel_tasks(folder: Folder, tasks: Sequence[Task]) -> int:
    """Keep tasks from being begun, and have running ones saved and ended; return how many are new."""
    return sum(publish(folder.of(task) / CANCELLED_FILE, {}) for task in tasks)


def halt(folder: Folder, reason: str) -> None:
    """Keep workers from beginning tasks."""
    write_json(folder.halt_file, {"cause": "cancelled", "reason": reason})


def collect(folder: Folder, out: Path) -> int:
    """Merge the shards of every finished scene; return how many there are.

    Raises:
        UsageError: If none is finished, or tasks of a sweep are among them: their extracts overlap.
        StoreError: If `atmonr merge` fails; it tells why.
    """
    done = [
        task
        for task in folder.tasks()
        if task.kind == "field" and read_state(folder.of(task)).status == "done"
    ]
    if not done:
        raise UsageError(f"{folder.path}: no task is finished; see `atmonr campaign status`")
    variants = {task.variant for task in done}
    if len(variants) > 1:
        raise UsageError(
            f"{folder.path}: holds a sweep ({', '.join(sorted(variants))}); a mosaic is of one config, "
            "so merge the parts.zarr of its tasks with `atmonr merge`"
        )
    parts = [str(folder.path / task.facts["parts"]) for task in done]
    command = [sys.executable, "-m", "atmonr", "merge", *parts, "-o", str(out)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise StoreError(f"atmonr merge ended with exit code {code}; see above")
    return len(done)


def adjustment_of(folder: Folder, task: Task) -> Adjustment:
    """How the attempt that counted, or the next one, differs from the first."""
    return read_state(folder.of(task)).adjustment


def reproduce(folder: Folder, task: Task, into: Path) -> str:
    """Return the one command that repeats a task from the granule on, in a new folder.

    It has the settings of the attempt that counted, a changed seed too.
    """
    by_key = {other.key: other for other in folder.tasks()}
    chain = [task] if not task.needs else [by_key[task.needs], task]
    # Where the original's paths lead to, the copy's do.
    program = folder.settings["program"] or ["atmonr"]
    lines = [f"mkdir -p {shlex.quote(str(into))}", f"cd {shlex.quote(str(into))}"]
    if task.kind == "field":
        source = folder.path / task.facts["config_file"]
        lines.append(f"mkdir -p configs && cp {shlex.quote(str(source))} configs/")
    for link in chain:
        adjustment = adjustment_of(folder, link)
        lines.append(f"mkdir -p {link.folder}")
        lines += [
            shlex.join([*program, *arguments_of(stage, link, into, adjustment)]) for stage in link.stages
        ]
    return " && \\\n  ".join(lines)
