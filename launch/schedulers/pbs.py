"""PBS, with scripts and submission by our submitit plug-in, of which the part for pickles is not used.

A PBS job cannot requeue itself; `campaign resume`, or a waiting `submit`, starts the next one. PBS has no
such thing as a signal before the end of the wall time: the worker counts the time itself, and a job that is
deleted or preempted gets SIGTERM first.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from launch.schedulers.base import SETUP, WAIT, Order, ask, background, send, tell

JOB = '"$PBS_JOBID"'


class Pbs:
    """A PBS cluster."""

    def script(self, order: Order) -> str:
        """Return exactly what `submit` would give to qsub."""
        from launch.schedulers.pbs_plugin import script

        return script(_command(order), order.folder, **_parameters(order))

    def submit(self, order: Order) -> list[str]:
        """Send one array of workers, or one job; return the ids.

        Raises:
            StoreError: If qsub refuses.
        """
        from launch.schedulers.pbs_plugin import PbsExecutor

        executor = PbsExecutor(order.folder)
        executor.update_parameters(**_parameters(order))
        job = send("qsub", executor, _command(order))
        if order.count == 1:
            return [job]
        number, _, server = job.partition("[].")
        return [f"{number}[{element}].{server}" for element in range(order.count)]

    def alive(self, jobs: Sequence[str]) -> set[str] | None:
        """Return which of the jobs wait or run."""
        from launch.schedulers.pbs_plugin import states

        if not jobs:
            return set()
        # All of the user's, array elements one by one; a list of ids fails as soon as one is forgotten.
        shown = ask(["qstat", "-t", "-f", "-F", "json"])
        if shown is None:
            return None
        try:
            running = {job for job, state in states(shown).items() if state != "DONE"}
        except (ValueError, AttributeError, LookupError, TypeError):
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


def _command(order: Order) -> str:
    return f"{background(order, JOB)}\n{WAIT}"


def _parameters(order: Order) -> dict[str, Any]:
    """Parameters of the plug-in."""
    pool = order.pool
    # PBS cannot leave out nodes: the job gives a bad one back at once.
    bad = "|".join(map(shlex.quote, order.exclude))
    leave = [f'case "$(hostname)" in {bad}) exit 0;; esac'] if bad else []
    return {
        "job_name": order.name,
        "minutes": order.wall_minutes,
        "cpus": pool.cpus,
        "gpus": pool.gpus,
        "memory_gb": pool.memory_gb,
        "count": order.count,
        "after": sorted({_parent(job) for job in order.after}),
        "options": pool.options,
        "setup": [*leave, *pool.setup, SETUP],
        "teardown": ['exit "$code"'],
    }


def _parent(job: str) -> str:
    return re.sub(r"\[\d+\]", "[]", job)


def _with_elements(jobs: set[str]) -> set[str]:
    """Arrays of which elements are listed: those tell for themselves."""
    return {_parent(job) for job in jobs if _parent(job) != job}
