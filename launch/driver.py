"""Starting workers: as many as there is work for, and never more than the site allows."""

from __future__ import annotations

import math
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.errors import UsageError
from launch.attempts import claim, finish, read_state
from launch.board import Board
from launch.campaign_file import Care
from launch.cost import Model, longest_s, model_of, wall_minutes
from launch.disk import publish
from launch.folder import Folder
from launch.schedulers import Order, Scheduler, scheduler_of
from launch.site import Cost, Pool
from launch.task import Task

MOST_AT_ONCE = 250  # jobs of one array
# Whoever is submitting for longer than this was killed meanwhile.
SUBMITTING_S = 180.0


@dataclass(frozen=True)
class Started:
    """What `top_up` did.

    Attributes:
        jobs: Ids of the jobs it submitted.
        alive: Number of jobs that wait or run, those included; by pool.
        open: Number of tasks that are not over, by pool.
    """

    jobs: tuple[str, ...]
    alive: Mapping[str, int]
    open: Mapping[str, int]


class Driver:
    """Submits workers for one campaign folder. Any number of drivers may be at it, one after the other."""

    def __init__(self, folder: Folder, scheduler: Scheduler | None = None) -> None:
        """Read the frozen settings.

        Args:
            folder: Of the campaign.
            scheduler: As a rule that of the settings.
        """
        self._folder = folder
        self._settings = folder.settings
        self._tasks = folder.tasks()
        self._scheduler = scheduler or scheduler_of(self._settings["scheduler"])
        self._pools = {name: Pool(**pool) for name, pool in self._settings["pools"].items()}
        self._care = Care(**self._settings["care"])
        self._cost = Cost(**self._settings["cost"])

    def top_up(self, *, limit: int | None = None) -> Started:
        """Start the workers that are missing.

        Args:
            limit: At most so many jobs in each pool.

        Raises:
            UsageError: If somebody else is submitting at this moment.
            StoreError: If the scheduler or the disk refuses.
        """
        with self._alone():
            board = Board(self._folder, self._tasks, self._care)
            records = list(self._folder.jobs())
            self._note_failed_nodes(records)
            model = model_of(self._cost, self._folder, self._tasks)
            jobs: list[str] = []
            alive: dict[str, int] = {}
            open_tasks: dict[str, int] = {}
            for name, pool in self._pools.items():
                remaining = [board.tasks[key] for key in board.remaining((name,))]
                open_tasks[name] = len(remaining)
                alive[name] = self._alive(name, records)
                # A worker with nothing but tasks that must not begin yet would only hold a node.
                workable = [
                    task for task in remaining if board.status(task.key) != "waiting" and board.admitted(task)
                ]
                if self._folder.halted() is None:
                    wanted = min(pool.max_jobs if limit is None else limit, _jobs_for(workable, pool))
                    started = self._submit(name, pool, wanted - alive[name], workable, model)
                    jobs += started
                    alive[name] += len(started)
            return Started(tuple(jobs), alive, open_tasks)

    def cancel(self) -> int:
        """Cancel all jobs that wait or run; return how many there were."""
        jobs = [job for record in self._folder.jobs() for job in record["jobs"]]
        alive = self._scheduler.alive(jobs)
        ending = jobs if alive is None else sorted(alive)
        self._scheduler.cancel(ending)
        return len(ending)

    def wait(
        self, *, every_s: float, tell: Callable[[Started, Started | None], None], limit: int | None = None
    ) -> None:
        """Start workers again and again until nothing is left to do, or the campaign is halted."""
        before: Started | None = None
        while True:
            try:
                started = self.top_up(limit=limit)
            except UsageError:  # another driver is at it
                time.sleep(every_s)
                continue
            tell(started, before)
            before = started
            if not any(started.open.values()):
                return
            if self._folder.halted() is not None and not any(started.alive.values()):
                return
            time.sleep(every_s)

    def _submit(self, name: str, pool: Pool, count: int, tasks: Sequence[Task], model: Model) -> list[str]:
        jobs: list[str] = []
        while len(jobs) < count:
            order = order_of(
                self._folder,
                self._settings["name"],
                name,
                pool,
                list(self._pools),
                tasks,
                model,
                count,
                len(jobs),
            )
            order.folder.mkdir(parents=True)
            started = self._scheduler.submit(order)
            record = {"pool": name, "jobs": started, "wall_minutes": order.wall_minutes}
            publish(order.folder / "job.json", {**record, "submitted_s": time.time()})
            jobs += started
        return jobs

    def _alive(self, pool: str, records: Sequence[Mapping[str, Any]]) -> int:
        """Number of this pool's jobs that wait or run."""
        jobs = [job for record in records if record["pool"] == pool for job in record["jobs"]]
        alive = self._scheduler.alive(jobs)
        if alive is None:
            # Without an answer, rather too few workers than a second set of them.
            return len(jobs)
        return len(alive)

    def _note_failed_nodes(self, records: Sequence[Mapping[str, Any]]) -> None:
        jobs = [job for record in records for job in record["jobs"]]
        for node, reason in self._scheduler.failed_nodes(jobs).items():
            publish(self._folder.bad_node(node), {"reason": reason})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep two drivers from submitting for the same tasks, by an attempt of its own kind."""
        place, me = self._folder.driver, f"{socket.gethostname()}-{os.getpid()}"
        state = read_state(place)
        if state.status == "running":
            age_s = time.time() - float(state.claim["time_s"])
            if age_s < SUBMITTING_S and not _over_here(str(state.claim["worker"])):
                raise UsageError(
                    f"{state.claim['worker']} is submitting for this campaign just now; try again"
                )
            finish(place, state.number, {"class": "cancelled", "time_s": time.time()})
        number = state.number + 1
        if not claim(place, number, {"worker": me, "time_s": time.time()}):
            raise UsageError("somebody else is submitting for this campaign just now; try again")
        try:
            _forget_old(place, number)
            yield
        finally:
            finish(place, number, {"class": "cancelled", "time_s": time.time()})


def order_of(
    folder: Folder,
    campaign: str,
    name: str,
    pool: Pool,
    pools: Sequence[str],
    tasks: Sequence[Task],
    model: Model,
    jobs: int,
    submitted: int = 0,
) -> Order:
    """What is to be submitted for a pool.

    Args:
        folder: Of the campaign.
        campaign: Its name.
        name: Of the pool.
        pool: What its jobs get.
        pools: All of the site; where there is one, it does every kind of task.
        tasks: Left to do in it.
        model: Expected times.
        jobs: How many are wanted.
        submitted: How many of them were submitted just now.
    """
    minutes = wall_minutes(pool, model, tasks, jobs)
    kinds = ["gpu", "cpu"] if len(pools) == 1 else [name]
    return Order(
        name=f"{campaign}-{name}",
        command=_worker_command(folder.path, pool, kinds, minutes, longest_s(model, tasks)),
        pool=pool,
        count=min(jobs - submitted, MOST_AT_ONCE),
        wall_minutes=minutes,
        folder=folder.job(secrets.token_hex(6)),
        exclude=folder.bad_nodes(),
    )


def _jobs_for(tasks: Sequence[Task], pool: Pool) -> int:
    return math.ceil(len(tasks) / pool.slots)


def _worker_command(
    folder: Path, pool: Pool, pools: Sequence[str], minutes: int, task_s: Mapping[str, float]
) -> list[str]:
    command = [sys.executable, "-m", "atmonr", "campaign", "work", str(folder)]
    command += [word for name in pools for word in ("--pool", name)]
    command += ["--slots", str(pool.slots), "--gpus", str(pool.gpus), "--cpus", str(pool.cpus)]
    command += ["--wall-s", str(minutes * 60), "--grace-s", str(pool.grace_s)]
    for kind, seconds in task_s.items():
        command += ["--expect", f"{kind}={math.ceil(seconds)}"]
    return command


def _over_here(worker: str) -> bool:
    """Whether a process of this host, by `host-pid`, is over."""
    host, _, pid = worker.rpartition("-")
    return host == socket.gethostname() and not Path(f"/proc/{pid}").exists()


def _forget_old(place: Path, number: int) -> None:
    """Keep the folder of submissions small; the newest decide alone."""
    for old in range(max(1, number - 20), number - 5):
        for kind in ("claim", "end"):
            (place / f"{kind}-{old:04d}.json").unlink(missing_ok=True)
