"""Ranks that are forked, killed and signalled, as data for the tests; run in a process of its own.

Forked ranks cost no new start of Python and torch, and no launcher ends the others when one of them dies.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from job import Job, run_rank
from toy import write_scene

from atmonr import liveness

# Five minutes of silence, as a user's ranks are granted, are too long for a test.
liveness.BEAT_S, liveness.MISSED_BEATS = 1.0, 8

HANG_S = 60.0


class Fleet:
    """The ranks of one session."""

    def __init__(self, job: Job, ranks: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(ranks))
        job = replace(job, resume=Path(job.run).exists())
        self.pids = [self._fork(job, rank) for rank in range(ranks)]
        self.codes: dict[int, int] = {}

    def _fork(self, job: Job, rank: int) -> int:
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
            os._exit(run_rank(job))
        return child

    def send(self, number: signal.Signals, *ranks: int) -> bool:
        """Send a signal; return whether all these ranks were still at work."""
        self._reap()
        alive = [rank for rank in ranks if rank not in self.codes]
        for rank in alive:
            os.kill(self.pids[rank], number)
        return len(alive) == len(ranks)

    def wait(self) -> list[int]:
        """Return all exit codes, -9 for a killed rank; a rank that hangs is killed and has code -1000."""
        self.wait_until(lambda: len(self.codes) == len(self.pids))
        hanging = [rank for rank in range(len(self.pids)) if rank not in self.codes]
        for rank in hanging:
            os.kill(self.pids[rank], signal.SIGKILL)
            os.waitpid(self.pids[rank], 0)
            self.codes[rank] = -1000
        return [self.codes[rank] for rank in range(len(self.pids))]

    def wait_until(self, condition: Callable[[], bool], every_s: float = 0.01) -> bool:
        deadline = time.monotonic() + HANG_S
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._reap()
            time.sleep(every_s)
        return True

    def _reap(self) -> None:
        for rank, pid in enumerate(self.pids):
            if rank not in self.codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.codes[rank] = os.waitstatus_to_exitcode(status)


def kill_one_at_random(job: Job, ranks: int, kills: int, seed: int) -> list[list[int]]:
    """Kill one rank at a random moment again and again; return the exit codes after each kill that hit."""
    moments, results = random.Random(seed), []
    while len(results) < kills and not job.folder.done("a"):
        fleet = Fleet(job, ranks)
        time.sleep(moments.uniform(0.2, 1.0))
        hit = fleet.send(signal.SIGKILL, moments.randrange(ranks))
        codes = fleet.wait()
        results += [codes] if hit else []
    return results


def kill_all_at_checkpoint(job: Job, ranks: int, kills: int, seed: int) -> list[int]:
    """Kill all ranks while one writes a checkpoint; return how many half-written files each kill left."""
    moments, results = random.Random(seed), []
    while len(results) < kills and not all(job.folder.done(Path(scene).stem) for scene in job.scenes):
        fleet = Fleet(job, ranks)
        time.sleep(moments.uniform(0.2, 0.6))
        fleet.wait_until(lambda: bool(half_written(job)), every_s=0.0005)
        hit = fleet.send(signal.SIGKILL, *range(ranks))
        fleet.wait()
        results += [len(half_written(job))] if hit else []
    return results


def half_written(job: Job) -> list[str]:
    folders = [job.folder.checkpoints(Path(scene).stem) for scene in job.scenes]
    return [name for folder in folders if folder.exists() for name in os.listdir(folder) if ".tmp" in name]


def signal_once(job: Job, ranks: int, rank: int, number: str, when_at: list[Any]) -> list[int]:
    """Signal one rank as soon as a scene has logged a step; return exit codes, none if it was too late."""
    fleet = Fleet(job, ranks)
    fleet.wait_until(lambda: logged_step(job, when_at[0]) >= when_at[1])
    return fleet.wait() if fleet.send(signal.Signals[number], rank) else []


def signal_waiting(job: Job, ranks: int, scene: str, busy: str, number: str) -> list[int]:
    """Signal the rank that has finished a scene while another is still being trained; return exit codes."""
    fleet = Fleet(job, ranks)
    fleet.wait_until(lambda: job.folder.done(scene) is not None and logged_step(job, busy) > 0)
    (waiting,) = [rank for rank in range(ranks) if f"{scene}: finished" in job.folder.log(rank).read_text()]
    return fleet.wait() if fleet.send(signal.Signals[number], waiting) else []


def logged_step(job: Job, scene: str) -> int:
    return max((record["step"] for record in job.folder.read_metrics(scene)), default=0)


def undisturbed(job: Job, ranks: int) -> list[int]:
    """Run to the end; return exit codes."""
    return Fleet(job, ranks).wait()


def calm(job: Job) -> list[str]:
    """Take out of the scenes whatever goes wrong or slow there; return the names of those finished before."""
    paths = [Path(scene) for scene in job.scenes]
    for path in paths:
        write_scene(path.parent, path.stem)
    return [path.stem for path in paths if job.folder.done(path.stem)]


SCENARIOS: dict[str, Callable[..., Any]] = {
    scenario.__name__: scenario
    for scenario in (
        kill_one_at_random,
        kill_all_at_checkpoint,
        signal_once,
        signal_waiting,
        undisturbed,
        calm,
    )
}


def warm_up() -> None:
    """Import what the first steps of a training import, so that forked ranks need not."""
    import torch.distributed  # noqa: F401

    with TemporaryDirectory() as folder:
        scene = write_scene(Path(folder), "warm")
        Job(f"{folder}/run", [str(scene)], {"steps": 1}).here()


if __name__ == "__main__":
    warm_up()
    acts = json.loads(sys.argv[1])
    print(json.dumps([SCENARIOS[name](Job(**job), **arguments) for name, job, arguments in acts]))
