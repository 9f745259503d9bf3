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
from launch.waves import Wave, waves

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

    def top_up(self, *, ahead: bool = False) -> Started:
        """Start the workers that are missing.

        Args:
            ahead: Also queue those for what must not begin yet, behind what it waits for.

        Raises:
            UsageError: If somebody else is submitting at this moment.
            StoreError: If the scheduler or the disk refuses.
        """
        with self._alone():
            board = Board(self._folder, self._tasks, self._care)
            records = list(self._folder.jobs())
            self._note_failed_nodes(records)
            alive = {name: self._alive(name, records) for name in self._pools}
            open_tasks = {name: sum(1 for _ in board.remaining((name,))) for name in self._pools}
            jobs: list[list[str]] = []
            if self._folder.halted() is None:
                model = model_of(self._cost, self._folder, self._tasks)
                before = [job for name in self._pools for job in alive[name]]
                numbers = {name: len(alive[name]) for name in self._pools}
                for wave in waves(self._pools, board, numbers, ahead=ahead):
                    after = [
                        *(before if wave.held else ()),
                        *(job for place in wave.after for job in jobs[place]),
                    ]
                    jobs.append(self._submit(wave, after, model))
                    alive[wave.pool] += jobs[-1]
            return Started(
                tuple(job for wave in jobs for job in wave),
                {name: len(alive[name]) for name in self._pools},
                open_tasks,
            )

    def cancel(self) -> int:
        """Cancel all jobs that wait or run; return how many there were."""
        jobs = [job for record in self._folder.jobs() for job in record["jobs"]]
        alive = self._scheduler.alive(jobs)
        ending = jobs if alive is None else sorted(alive)
        self._scheduler.cancel(ending)
        return len(ending)

    def wait(self, *, every_s: float, tell: Callable[[Started, Started | None], None]) -> None:
        """Start workers again and again until nothing is left to do, or the campaign is halted."""
        before: Started | None = None
        while True:
            try:
                started = self.top_up()
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

    def _submit(self, wave: Wave, after: Sequence[str], model: Model) -> list[str]:
        jobs: list[str] = []
        while len(jobs) < wave.jobs:
            order = order_of(
                self._folder,
                self._settings["name"],
                self._pools,
                wave,
                model,
                submitted=len(jobs),
                after=after,
            )
            order.folder.mkdir(parents=True)
            started = self._scheduler.submit(order)
            record = {"pool": wave.pool, "jobs": started, "wall_minutes": order.wall_minutes}
            publish(order.folder / "job.json", {**record, "submitted_s": time.time()})
            jobs += started
        return jobs

    def _alive(self, pool: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Those of this pool's jobs that wait or run."""
        jobs = [job for record in records if record["pool"] == pool for job in record["jobs"]]
        alive = self._scheduler.alive(jobs)
        # Without an answer, rather too few workers than a second set of them.
        return jobs if alive is None else [job for job in jobs if job in alive]

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
    pools: Mapping[str, Pool],
    wave: Wave,
    model: Model,
    *,
    submitted: int = 0,
    after: Sequence[str] = (),
) -> Order:
    """What is to be submitted for a wave, or for what is left of it.

    Args:
        folder: Of the campaign.
        campaign: Its name.
        pools: All of the site; where there is one, it does every kind of task.
        wave: Jobs that are wanted.
        model: Expected times.
        submitted: How many of them were submitted just now.
        after: Ids of jobs that must have ended.
    """
    pool = pools[wave.pool]
    minutes = wall_minutes(pool, model, wave.tasks, wave.jobs)
    kinds = ["gpu", "cpu"] if len(pools) == 1 else [wave.pool]
    command = _worker_command(folder.path, pool, kinds, minutes, longest_s(model, wave.tasks))
    return Order(
        name=f"{campaign}-{wave.pool}",
        command=command + ["--canaries"] * wave.canaries,
        pool=pool,
        count=min(wave.jobs - submitted, MOST_AT_ONCE),
        wall_minutes=minutes,
        folder=folder.job(secrets.token_hex(6)),
        exclude=folder.bad_nodes(),
        after=after,
    )


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
