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


# The first row that fits wins. torchrun is first because mpiexec or srun may have started it; PALS also sets
# the variables of PMI, and Open MPI those of PMIx, so each comes before. Slurm is last because every process
# of an mpiexec inside a job sees its variables too.
_TABLE = (
    _Variables("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", also="MASTER_ADDR"),
    _Variables("PALS", "PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", mpi=True),
    _Variables("MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", mpi=True),
    _Variables(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", mpi=True
    ),
    _Variables("PMIx", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", mpi=True),
    # Only srun sets the step's variables. A batch script sees SLURM_PROCID=0 and SLURM_NTASKS as well, though
    # it is one process that no other will join.
    _Variables("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", also="SLURM_STEP_ID"),
)

# Of the ports derived from a job's number, as many as rank 0 tries before it gives up.
_PORTS = 8


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


def detect(environ: Mapping[str, str] = os.environ, *, mpi: bool = True) -> Launch | None:
    """Return this process's place in the job of a launcher; None if it runs on its own.

    Args:
        environ: Environment variables.
        mpi: Whether launchers of MPI jobs count. Under srun, Slurm's own variables serve as well.

    Raises:
        WorldError: If a variable is not a number.
    """
    for row in _TABLE:
        if (mpi or not row.mpi) and row.rank in environ and (row.also is None or row.also in environ):
            rank, size = _number(environ, row.rank), _number(environ, row.size)
            if row.name == "Slurm" and size == 1:
                return None
            return Launch(row.name, rank or 0, size, _number(environ, row.local_rank) or 0, row.mpi)
    return None


def meeting_point(launch: Launch, environ: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return the host and port where torchrun lets the ranks meet.

    Raises:
        WorldError: If the environment does not tell.
    """
    host, port = environ.get("MASTER_ADDR"), _number(environ, "MASTER_PORT")
    if not host or not port:
        raise WorldError(f"{launch.name}: expected MASTER_ADDR and MASTER_PORT to be set; export them")
    return host, port


def slurm_meeting_points(environ: Mapping[str, str] = os.environ) -> tuple[str, list[int], str]:
    """Return the host, the ports to try in turn, and the name of a Slurm step whose ranks meet without MPI.

    Slurm names no place to meet. The host is the step's first, where rank 0 runs. The ports come from the
    number of job and step, so that those on one machine differ as a rule, and the name tells them apart where
    they do not. MASTER_ADDR and MASTER_PORT have precedence.

    Raises:
        WorldError: If the environment does not tell.
    """
    first = re.match(r"([^\[,]+)(?:\[(\d+))?", environ.get("SLURM_STEP_NODELIST", ""))
    host = environ.get("MASTER_ADDR") or (first and "".join(filter(None, first.groups())))
    job, step = _number(environ, "SLURM_JOB_ID"), _number(environ, "SLURM_STEP_ID")
    if not host or job is None:
        raise WorldError("Slurm: expected SLURM_STEP_NODELIST and SLURM_JOB_ID to be set; start with srun")
    port = _number(environ, "MASTER_PORT")
    # Below those that the system gives out by itself (from 32768 on Linux).
    first_port = 20000 + (10 * job + (step or 0)) * _PORTS % 12000
    ports = [port] if port else [first_port + offset for offset in range(_PORTS)]
    return host, ports, f"Slurm job {job} step {step}"


def _number(environ: Mapping[str, str], variable: str | None) -> int | None:
    if variable is None or variable not in environ:
        return None
    try:
        return int(environ[variable])
    except ValueError:
        raise WorldError(f"{variable}={environ[variable]}: expected a whole number") from None
