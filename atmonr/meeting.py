"""How the ranks of a job find each other: all reach one store, which rank 0 serves.

MPI, where there is any, only tells the others where that store is. It has ended before the work begins: a
rank that dies later can then not make the others wait for it in MPI's own farewell.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from atmonr import launchers
from atmonr.errors import WorldError
from atmonr.network import ANSWER_S, addresses_towards, own_hosts

if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore

PATIENCE = timedelta(minutes=5)  # until all ranks have started and met
_THANKS = "thanks\n"


@dataclass(frozen=True)
class Meeting:
    """Where this rank stands and what it shares with the others.

    Attributes:
        store: What all ranks read and write.
        rank: Position of this process, 0 to size - 1.
        size: Number of processes.
        local_rank: Position among the processes on this machine.
        own_address: This machine's address on the way to rank 0; None for rank 0.
        rank0_address: Rank 0's address as seen from here; None for rank 0.
    """

    store: Store
    rank: int
    size: int
    local_rank: int
    own_address: str | None = None
    rank0_address: str | None = None


def through_mpi() -> Meeting | None:
    """Meet by the MPI that this process was started with; None if it is the only process.

    Rank 0 opens its port first and then tells the others which one the system gave it: a port chosen
    beforehand may be taken by another job on the same machine.

    Raises:
        WorldError: If MPI is not installed, or sees another number of ranks than the launcher started.
    """
    mpi = _load_mpi()
    comm = mpi.COMM_WORLD
    rank, size = comm.Get_rank(), comm.Get_size()
    _refuse_singletons(size, mpi.Get_library_version())
    machine = comm.Split_type(mpi.COMM_TYPE_SHARED)
    local_rank, one_machine = machine.Get_rank(), machine.Get_size() == size
    machine.Free()
    if size == 1:
        mpi.Finalize()
        return None
    job = comm.bcast(uuid.uuid4().hex)
    store, port = open_store([0], job, size - 1) if rank == 0 else (None, None)
    hosts, port = comm.bcast((["localhost"] if one_machine else own_hosts(), port))
    mpi.Finalize()
    if store is not None:
        return Meeting(store, rank, size, local_rank)
    found = find_store([(host, port) for host in hosts], job)
    return replace(found, rank=rank, size=size, local_rank=local_rank)


def through_variables(launch: launchers.Launch) -> Meeting:
    """Meet by what torchrun or Slurm say in environment variables.

    Raises:
        WorldError: If they say too little, or the ranks do not find each other.
    """
    if launch.size is None:
        raise WorldError(f"{launch.name} does not tell the number of ranks; pip install 'atmonr[mpi]'")
    if launch.name != "Slurm":
        import torch.distributed as dist

        # torchrun serves the store itself, at a port that it holds already.
        place = launchers.meeting_point(launch)
        store, _, _ = next(dist.rendezvous(f"tcp://{place[0]}:{place[1]}", launch.rank, launch.size))
        addresses = addresses_towards(*place) if launch.rank else (None, None)
        return Meeting(store, launch.rank, launch.size, launch.local_rank, *addresses)
    host, ports, job = launchers.slurm_meeting_points()
    if launch.rank == 0:
        store, _ = open_store(ports, job, launch.size - 1)
        return Meeting(store, 0, launch.size, launch.local_rank)
    found = find_store([(host, port) for port in ports], job)
    return replace(found, rank=launch.rank, size=launch.size, local_rank=launch.local_rank)


def open_store(ports: Sequence[int], job: str, visitors: int) -> tuple[TCPStore, int]:
    """Serve a store, and at the first free port tell this job's ranks where it is.

    They do not go to the store at once, because its client waits for ever where something else listens.

    Args:
        ports: To try in turn; 0 is any.
        job: What visitors must know; at one of several ports others may knock.
        visitors: How many will come.

    Returns:
        The store, and the port taken.

    Raises:
        WorldError: If all ports are taken.
    """
    from torch.distributed import TCPStore

    # It listens on every interface; the name is only the one by which rank 0 itself connects.
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    for port in ports:
        try:
            door = socket.create_server(("", port), backlog=visitors + 8)
        except OSError as error:
            reason = error
            continue
        taken = door.getsockname()[1]  # before the last visitor is served, which closes the door
        threading.Thread(target=_answer, args=(door, job, store.port, visitors), daemon=True).start()
        return store, taken
    raise WorldError(
        f"rank 0 cannot open any of the ports {list(ports)}: {reason}; export MASTER_PORT=<free port>"
    )


def _answer(door: socket.socket, job: str, store_port: int, visitors: int) -> None:
    """Tell the port of the store to everybody who knows the job, until all have been here."""
    door.settimeout(PATIENCE.total_seconds())
    with door:
        while visitors:
            try:
                visitor, _ = door.accept()
            except OSError:  # nobody came any more; those who miss it say so
                return
            with visitor, suppress(OSError):
                visitor.settimeout(ANSWER_S)
                heard = visitor.makefile()
                if heard.readline() == f"{job}\n":
                    visitor.sendall(f"{store_port}\n".encode())
                    # One that gave up waiting behind a silent stranger comes again and counts only then.
                    visitors -= heard.readline() == _THANKS


def find_store(places: Sequence[tuple[str, int]], job: str, patience: timedelta = PATIENCE) -> Meeting:
    """Connect to this job's store by the first place that knows it; rank 0 may start later than this one.

    Args:
        places: Hosts and ports to try in turn.
        job: As in `open_store`.
        patience: How long to try.

    Returns:
        A meeting whose rank and size are still to be filled in.

    Raises:
        WorldError: If none knows it.
    """
    from torch.distributed import TCPStore

    end = time.monotonic() + patience.total_seconds()
    while True:
        for host, port in places:
            try:
                store_port, own, other = _ask(host, port, job)
            except OSError as error:
                reason = f"{host}:{port}: {error}"
                continue
            store = TCPStore(host, store_port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
            return Meeting(store, -1, 0, 0, own, other)
        if time.monotonic() > end:
            raise WorldError(
                f"rank 0 was not found at {', '.join(f'{host}:{port}' for host, port in places)} within "
                f"{patience.total_seconds():.0f} s (last: {reason}); see whether it started, and whether "
                "machines may open connections to each other"
            )
        time.sleep(0.1)


def _ask(host: str, port: int, job: str) -> tuple[int, str, str]:
    """Return the port of the store, and this machine's address and the other's on the way to it."""
    with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
        connection.sendall(f"{job}\n".encode())
        answer = connection.makefile().readline().strip()
        if not answer.isdecimal():
            raise OSError("something else listens there")
        connection.sendall(_THANKS.encode())
        return int(answer), connection.getsockname()[0], connection.getpeername()[0]


def _load_mpi() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise WorldError(
            f"started as an MPI job, but MPI cannot be loaded ({error}); pip install 'atmonr[mpi]'"
        ) from error
    if MPI.Is_finalized():
        raise WorldError("the ranks have met before and MPI has ended; pass the World on instead")
    return MPI


def _refuse_singletons(mpi_size: int, library: str) -> None:
    """Refuse to be one of many processes that each believe to be alone, started by another MPI's launcher."""
    launch = launchers.detect()
    if launch is not None and launch.size not in (None, mpi_size):
        raise WorldError(
            f"{launch.name} started {launch.size} processes but MPI sees {mpi_size}, as if they were alone. "
            f"Python loads {library.splitlines()[0][:60].strip()}; use the mpiexec of that MPI, or srun "
            "--mpi=pmi2 (MPICH, Intel MPI), --mpi=pmix (Open MPI) or --mpi=none (Slurm's variables suffice)"
        )
