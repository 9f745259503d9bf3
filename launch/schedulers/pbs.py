"""PBS (OpenPBS and PBS Pro), by qsub, qstat and qdel.

A PBS job cannot requeue itself; `campaign resume`, or a waiting `submit`, starts the next one. PBS has no
such thing as a signal before the end of the wall time: the worker counts the time itself, and a job that is
deleted or preempted gets SIGTERM first.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from atmonr.errors import StoreError
from launch.schedulers.base import SETUP, WAIT, Order, ask, background, tell

ARRAY = 250
JOB = '"$PBS_JOBID"'
_OVER = {"F", "X", "E"}  # finished, an array element that is over, ending


class Pbs:
    """A PBS cluster."""

    def script(self, order: Order) -> str:
        """Return exactly what `submit` would give to qsub."""
        pool = order.pool
        select = f"select=1:ncpus={pool.cpus}"
        select += f":ngpus={pool.gpus}" * (pool.gpus > 0)
        select += f":mem={int(pool.memory_gb * 1024)}mb" * (pool.memory_gb > 0)
        hours, minutes = divmod(order.wall_minutes, 60)
        directives = [
            # qsub takes no longer names, and none with other characters.
            f"-N {re.sub(r'[^A-Za-z0-9_-]', '_', order.name)[:15]}",
            f"-l {select}",
            f"-l walltime={hours:02d}:{minutes:02d}:00",
            "-r y",
            "-j oe",
            f"-o {order.folder}/",
            *([f"-J 0-{order.count - 1}"] if order.count > 1 else []),
            *pool.options,
        ]
        # PBS cannot leave out nodes: the job gives a bad one back at once.
        bad = "|".join(map(shlex.quote, order.exclude))
        leave = [f'case "$(hostname)" in {bad}) exit 0;; esac'] if bad else []
        lines = [
            "#!/bin/bash",
            *(f"#PBS {directive}" for directive in directives),
            "",
            *leave,
            *pool.setup,
            SETUP,
            background(order, JOB),
            WAIT,
            'exit "$code"',
        ]
        return "\n".join(lines) + "\n"

    def submit(self, order: Order) -> list[str]:
        """Send one array of workers, or one job; return the ids.

        Raises:
            StoreError: If qsub refuses.
        """
        path = order.folder / "submit.sh"
        path.write_text(self.script(order), encoding="utf-8")
        job = tell(["qsub", str(path)]).strip()
        if not job:
            raise StoreError("qsub: printed no job id")
        if order.count == 1:
            return [job]
        number, _, server = job.partition("[].")
        return [f"{number}[{element}].{server}" for element in range(order.count)]

    def alive(self, jobs: Sequence[str]) -> set[str] | None:
        """Return which of the jobs wait or run."""
        if not jobs:
            return set()
        # All of the user's, array elements one by one; a list of ids fails as soon as one is forgotten.
        shown = ask(["qstat", "-t", "-f", "-F", "json"])
        if shown is None:
            return None
        try:
            known = json.loads(shown).get("Jobs", {}) if shown.strip() else {}
            running = {job for job, about in known.items() if about.get("job_state") not in _OVER}
        except (ValueError, AttributeError):
            return None
        return {job for job in jobs if job in running or _parent(job) in running - _with_elements(running)}

    def failed_nodes(self, jobs: Sequence[str]) -> Mapping[str, str]:
        """Return nothing: PBS does not tell users. Nodes on which workers vanish are found all the same."""
        return {}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Delete jobs; a running one gets SIGTERM first, so that its worker saves.

        Raises:
            StoreError: If qdel fails.
        """
        if jobs:
            tell(["qdel", *jobs])


def _parent(job: str) -> str:
    return re.sub(r"\[\d+\]", "[]", job)


def _with_elements(jobs: set[str]) -> set[str]:
    """Arrays of which elements are listed: those tell for themselves."""
    return {_parent(job) for job in jobs if _parent(job) != job}
