"""The interface of schedulers, and what those that take shell scripts share."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from atmonr.errors import StoreError
from launch.site import Pool

if TYPE_CHECKING:
    from submitit.core.core import PicklingExecutor

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Order:
    """Workers to start.

    Attributes:
        name: Of the jobs, for people.
        command: Argument list of the worker; the scheduler adds `--job` and the job's id.
        pool: What each job gets.
        count: How many jobs.
        wall_minutes: How long each may take.
        folder: For script and logs; exists.
        exclude: Nodes not to use.
        after: Ids of jobs that must end first, however they do.
    """

    name: str
    command: Sequence[str]
    pool: Pool
    count: int
    wall_minutes: int
    folder: Path
    exclude: Sequence[str] = ()
    after: Sequence[str] = ()


class Scheduler(Protocol):
    """Something that runs commands on nodes."""

    def script(self, order: Order) -> str:
        """Return exactly what `submit` would submit."""
        ...

    def submit(self, order: Order) -> list[str]:
        """Start workers, or have them started later; return their job ids.

        Raises:
            StoreError: If the scheduler refuses; nothing is lost by trying again.
        """
        ...

    def alive(self, jobs: Sequence[str]) -> set[str] | None:
        """Return which of the jobs wait or run; None if the scheduler does not answer."""
        ...

    def failed_nodes(self, jobs: Sequence[str]) -> Mapping[str, str]:
        """Return {node: reason} of nodes that failed under these jobs, as far as the scheduler can tell."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs that wait or run; their workers save."""
        ...


# The shell stays, so that the scheduler's signal reaches the worker and no process of a container, and so
# that the job can be requeued from outside of one. A signal interrupts `wait`, which is then called again.
SETUP = """\
stopping=0
stop() { stopping=1; kill -USR2 "$worker" 2>/dev/null; }
trap stop USR1 USR2 TERM"""
WAIT = """\
worker=$!
wait "$worker"; code=$?
while [ "$stopping" = 1 ] && [ "$code" -gt 128 ]; do stopping=0; wait "$worker"; code=$?; done"""


def background(order: Order, job: str) -> str:
    """The shell command that starts the worker beside the shell.

    Args:
        order: What to start.
        job: Shell text that expands to the job's id.
    """
    return f"{shlex.join(order.command)} --job {job} &"


def send(program: str, executor: PicklingExecutor, command: str) -> str:
    """Submit a shell command through submitit; return the job's id.

    Raises:
        StoreError: If the scheduler's program refuses; says what it wrote.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return str(executor._submit_command(command).job_id)
    except OSError as error:
        raise StoreError(f"{program}: {error}; is this a login node of the cluster?") from error
    except (FailedJobError, FailedSubmissionError) as error:
        raise StoreError(f"{program}: {' '.join(str(error).split())}") from error


def ask(command: Sequence[str]) -> str | None:
    """Return what a scheduler's program prints; None if it fails, is absent or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def tell(command: Sequence[str]) -> str:
    """Return what a scheduler's program prints.

    Raises:
        StoreError: If it fails; says what it wrote.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"{command[0]}: {error}; is this a login node of the cluster?") from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())
        raise StoreError(f"{command[0]} ended with exit code {done.returncode}: {words}")
    return done.stdout
