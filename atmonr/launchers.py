"""What started this process, and which of its ranks it is. The only reader of rank variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from atmonr.errors import WorldError


@dataclass(frozen=True)
class _Variables:
    """The variables by which one kind of launcher tells each process its place."""

    name: str
    rank: str
    size: str | None
    local_rank: str | None = None
    also: str | None = None  # must be set too
    mpi: bool = False


# The first row that fits wins. torchrun is first because mpiexec or srun may have started it; Slurm is last
# because every process of an mpiexec inside a job sees its variables too.
_TABLE = (
    _Variables("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", also="MASTER_ADDR"),
    _Variables("MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", mpi=True),
    _Variables(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", mpi=True
    ),
    _Variables("PALS", "PALS_RANKID", "PALS_SIZE", "PALS_LOCAL_RANKID", mpi=True),
    _Variables("PMIx", "PMIX_RANK", None, mpi=True),
    # Only srun sets the step's variables. A batch script sees SLURM_PROCID=0 and SLURM_NTASKS as well, though
    # it is one process that no other will join.
    _Variables("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", also="SLURM_STEP_ID"),
)


@dataclass(frozen=True)
class Launch:
    """One process of a parallel job.

    Attributes:
        name: The launcher.
        rank: Position of this process, from 0.
        size: Number of processes; None where the launcher does not tell.
        local_rank: Position on this machine; 0 where the launcher does not tell.
        mpi: Whether the processes form an MPI job.
    """

    name: str
    rank: int
    size: int | None
    local_rank: int
    mpi: bool


def detect(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """Return this process's place in the job of a launcher; None if it runs on its own.

    Raises:
        WorldError: If a variable is not a number.
    """
    for row in _TABLE:
        if row.rank in environ and (row.also is None or row.also in environ):
            rank, size = _number(environ, row.rank), _number(environ, row.size)
            if size is None and row.name == "PMIx":
                size = _number(environ, "SLURM_STEP_NUM_TASKS")
            if row.name == "Slurm" and size == 1:
                return None
            return Launch(row.name, rank or 0, size, _number(environ, row.local_rank) or 0, row.mpi)
    return None


def meeting_point(launch: Launch, environ: Mapping[str, str] = os.environ) -> str:
    """Return the `host:port` where the ranks of a job without MPI meet.

    Slurm names none. There the host is the step's first, where rank 0 runs, and the port comes from the job's
    number so that two jobs on one machine differ.

    Raises:
        WorldError: If the environment does not tell.
    """
    host, port = environ.get("MASTER_ADDR"), environ.get("MASTER_PORT")
    if launch.name == "Slurm":
        first = re.match(r"([^\[,]+)(?:\[(\d+))?", environ.get("SLURM_STEP_NODELIST", ""))
        host = host or (first and "".join(filter(None, first.groups())))
        port = port or str(20000 + (_number(environ, "SLURM_JOB_ID") or 0) % 20000)
    if not host or not port:
        raise WorldError(f"{launch.name}: expected MASTER_ADDR and MASTER_PORT to be set; export them")
    return f"{host}:{port}"


def _number(environ: Mapping[str, str], variable: str | None) -> int | None:
    if variable is None or variable not in environ:
        return None
    try:
        return int(environ[variable])
    except ValueError:
        raise WorldError(f"{variable}={environ[variable]}: expected a whole number") from None
