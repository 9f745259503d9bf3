"""`atmonr campaign work`: what a job runs."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.errors import StoreError
from atmonr.run import Run
from launch.attempts import log_file
from launch.board import Board, canaries_of
from launch.campaign_file import Care
from launch.child import ProcessChild
from launch.clock import RealClock
from launch.folder import Folder
from launch.policy import Adjustment
from launch.task import Stage, Task
from launch.terms import Terms
from launch.worker import Worker, place_to_begin

log = logging.getLogger(__name__)

TICK_S = 0.2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGUSR1, signal.SIGXCPU)
STOPPED = 75
_TAIL_BYTES = 2000


@dataclass(frozen=True)
class Work:
    """What the command line of a worker says.

    Attributes:
        folder: Of the campaign.
        job: What the scheduler calls the job; "" without one.
        pools: Kinds of tasks to do.
        slots: Tasks at a time.
        gpus: GPUs of the job, shared out among the slots.
        cpus: Likewise.
        wall_s: Length of the job.
        grace_s: What saving may take.
        task_s: {kind: time that a task takes}.
        canaries: Whether to do nothing but what goes first, since more jobs follow.
    """

    folder: Path
    job: str
    pools: Sequence[str]
    slots: int
    gpus: int
    cpus: int
    wall_s: float
    grace_s: float
    task_s: Mapping[str, float]
    canaries: bool = False


def work(work: Work) -> int:
    """Do tasks until none is left, the time is over or a signal comes; return the process's exit code.

    Raises:
        UsageError: If the folder is no campaign's.
        StoreError: If it cannot be read.
    """
    folder = Folder.open(work.folder)
    settings, tasks = folder.settings, folder.tasks()
    host = os.environ.get("ATMONR_NODE") or socket.gethostname()
    name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
    terms = Terms(
        name=name,
        host=host,
        job=work.job,
        pools=work.pools,
        slots=work.slots,
        wall_s=work.wall_s,
        grace_s=work.grace_s,
        heartbeat_s=settings["heartbeat_s"],
        lease_s=settings["lease_s"],
        idle_s=settings["idle_s"],
        task_s=work.task_s,
    )
    care = Care(**settings["care"])
    if work.canaries:
        first = {key for kind in ("scene", "field") for key in canaries_of(tasks, kind, care)}
        scenes = {task.needs for task in tasks if task.key in first}
        tasks = [task for task in tasks if task.key in first | scenes]
    board = Board(folder, tasks, care, begin=place_to_begin(name, len(tasks)))
    commands = Commands(folder, settings, work)
    worker = Worker(folder, board, terms, clock=RealClock(), start=commands.start, progress=commands.progress)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: worker.stop())
    _run(worker)
    left = next(board.remaining(work.pools), None) is not None
    return STOPPED if worker.interrupted and left and folder.halted() is None else 0


def _run(worker: Worker) -> None:
    try:
        while not worker.over:
            try:
                worker.tick()
            except StoreError as error:
                # A disk that is full or away for a moment. If it stays away, the heartbeat gives up.
                log.warning("%s", error)
            time.sleep(TICK_S)
    finally:
        worker.abandon()


class Commands:
    """Turns stages into processes."""

    def __init__(self, folder: Folder, settings: Mapping[str, Any], work: Work) -> None:
        """Args:

        folder: Of the campaign.
        settings: Frozen ones; `program` starts atmonr.
        work: For the shares of the slots.
        """
        self._folder, self._work = folder, work
        self._program = list(settings["program"]) or [sys.executable, "-m", "atmonr"]
        self._image_digest = settings["lock"].get("image_digest")

    def start(
        self, task: Task, stage: Stage, arguments: list[str], number: int, slot: int, adjustment: Adjustment
    ) -> ProcessChild:
        """Start the command of a stage."""
        run = self._run(task, adjustment)
        return ProcessChild(
            [*self._program, *arguments],
            folder=self._folder.path,
            log=log_file(self._folder.of(task), number),
            stop_file=run.stop_file if stage.name == "train" else None,
            environment=self._environment(slot),
        )

    def progress(self, task: Task, adjustment: Adjustment) -> dict[str, Any]:
        """Step, loss and rate of a training; {} before it has begun, and for other tasks."""
        if task.kind != "field":
            return {}
        metrics = self._run(task, adjustment).metrics(task.granule)
        try:
            with open(metrics, "rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = stream.read().split(b"\n")[:-1]
            record = json.loads(lines[-1])
            return {"step": int(record["step"]), "loss": record.get("loss")}
        except (OSError, ValueError, LookupError, TypeError):
            return {}  # shown to people only, and there is a next time

    def _run(self, task: Task, adjustment: Adjustment) -> Run:
        return Run(self._folder.of(task) / f"run{adjustment.suffix}")

    def _environment(self, slot: int) -> dict[str, str]:
        """Give every slot GPUs and cores of its own."""
        slots = self._work.slots
        environment = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, self._work.cpus // slots)))
        }
        if self._work.gpus:
            given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = given.split(",") if given else [str(gpu) for gpu in range(self._work.gpus)]
            share = max(1, len(devices) // slots)
            mine = [devices[(slot * share + gpu) % len(devices)] for gpu in range(share)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        if self._image_digest:
            # Apptainer takes the prefix off inside; so does its predecessor with a prefix of its own.
            environment |= {
                name: self._image_digest
                for name in ("APPTAINERENV_ATMONR_IMAGE_DIGEST", "SINGULARITYENV_ATMONR_IMAGE_DIGEST")
            }
        return environment
