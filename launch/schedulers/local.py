"""No scheduler: workers are processes of this machine that outlive the command that starts them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from atmonr.json_file import store_errors
from launch.schedulers.base import Order

_WAIT = "while grep -qs '^State:.[^Z]' /proc/{}/status; do sleep 1; done"


class Local:
    """Processes in sessions of their own, at most `max_jobs` at a time."""

    def script(self, order: Order) -> str:
        """Return exactly what `submit` would run."""
        setup = [*order.pool.setup, ""] if order.pool.setup else []
        wait = [_WAIT.format(job.partition("-")[0]) for job in order.after]
        return "\n".join([*wait, *setup, f"exec {shlex.join(order.command)} --job local"]) + "\n"

    def submit(self, order: Order) -> list[str]:
        """Start workers; return their ids, which tell a process from a later one of the same number."""
        return [self._start(order, number) for number in range(order.count)]

    def alive(self, jobs: Sequence[str]) -> set[str] | None:
        """Return which of the processes run."""
        return {job for job in jobs if _runs(job)}

    def failed_nodes(self, jobs: Sequence[str]) -> Mapping[str, str]:
        """Return nothing: there is one node, and it runs this."""
        return {}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ask the processes to save and end."""
        for job in jobs:
            if _runs(job):
                with suppress(ProcessLookupError):
                    os.kill(int(job.partition("-")[0]), signal.SIGTERM)

    def _start(self, order: Order, number: int) -> str:
        log = order.folder / f"log-{number}.txt"
        with store_errors(log), open(log, "a", encoding="utf-8") as stream:
            process = subprocess.Popen(
                ["bash", "-c", self.script(order)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Whoever started it need not wait for it; that it ends is seen in /proc.
        process.returncode = 0
        return f"{process.pid}-{_born(process.pid)}"


def _runs(job: str) -> bool:
    pid, _, born = job.partition("-")
    return born != "" and _born(int(pid)) == born


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" if it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
