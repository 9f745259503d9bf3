"""Ranks: who they are, which device each has, and how they talk.

A `World` is made once by the command line and passed down; the same program runs alone, under torchrun,
srun or mpiexec. MPI, where there is any, only starts the ranks and tells them where to meet: tensors and
small objects travel through torch.distributed (NCCL between GPUs, gloo otherwise).
"""

from __future__ import annotations

import importlib.util
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from atmonr import launchers
from atmonr.device import DeviceKind, choose_device, device_id
from atmonr.errors import AtmonrError, WorldError

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup, Store

# Groups that work on different scenes meet only at the end, so one may wait for another's whole training.
# A rank that has died is noticed at once all the same: its connections close.
_PATIENCE = timedelta(hours=12)
_FAILED = "failed"  # where a failing rank leaves its number and exit code for the others


@dataclass(frozen=True)
class World:
    """The ranks that work together, seen from one of them.

    Attributes:
        rank: Position of this process, 0 to size - 1; its position in the group after `split`.
        size: Number of processes.
        local_rank: Position among the processes on this machine.
        device: Where this rank computes.
        backend: What the tensors of a group travel through, "nccl" or "gloo"; None for a single process.
    """

    rank: int
    size: int
    local_rank: int
    device: torch.device
    backend: str | None = None
    _group: ProcessGroup | None = None
    _store: Store | None = None
    _numbers: Counter[str] = field(default_factory=Counter)  # given out so far where there is no store

    @classmethod
    def detect(cls, device: DeviceKind = "auto") -> World:
        """Join the ranks started by whatever launcher started this process.

        Raises:
            WorldError: If the ranks do not find each other, or a device is absent.
        """
        launch = launchers.detect()
        if launch is None:
            return cls.single(device)
        # Slurm does not say whether its tasks also form an MPI job; MPI is better where it is installed,
        # because ranks that meet through it need no port agreed beforehand.
        uses_mpi = launch.mpi or (launch.name == "Slurm" and importlib.util.find_spec("mpi4py") is not None)
        return cls.mpi(device) if uses_mpi else cls.env(device)

    @classmethod
    def single(cls, device: DeviceKind = "auto") -> World:
        """One process on its own."""
        return cls(rank=0, size=1, local_rank=0, device=choose_device(device, 0))

    @classmethod
    def env(cls, device: DeviceKind = "auto") -> World:
        """Join by the variables that torchrun or Slurm sets.

        Raises:
            WorldError: If there are none, or the ranks do not find each other.
        """
        import torch.distributed as dist

        launch = launchers.detect()
        if launch is None or launch.size is None:
            raise WorldError("no rank variables; start with torchrun, srun or mpiexec")
        address = launchers.meeting_point(launch)
        with _meeting(launch.rank):
            store, _, _ = next(dist.rendezvous(f"tcp://{address}", launch.rank, launch.size))
        return _join(store, launch.rank, launch.size, launch.local_rank, device)

    @classmethod
    def mpi(cls, device: DeviceKind = "auto") -> World:
        """Join the ranks of an MPI job.

        Rank 0 opens its port first and then tells the others which one the system gave it: a port chosen
        beforehand may be taken by another job on the same machine.

        Raises:
            WorldError: If MPI is not installed, or sees another number of ranks than the launcher started.
        """
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise WorldError(
                f"started as an MPI job, but MPI cannot be loaded ({error}); pip install 'atmonr[mpi]'"
            ) from error
        import torch.distributed as dist

        comm = MPI.COMM_WORLD
        rank, size = comm.Get_rank(), comm.Get_size()
        _refuse_singletons(size)
        machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
        local_rank, one_machine = machine.Get_rank(), machine.Get_size() == size
        machine.Free()
        if size == 1:
            return cls.single(device)
        store: dist.TCPStore | None = None
        with _meeting(rank):
            if rank == 0:
                # It listens on every interface; the name is only the one by which rank 0 itself connects.
                store = dist.TCPStore("localhost", 0, size, is_master=True, wait_for_workers=False)
            host = "localhost" if one_machine else socket.gethostname()
            host, port = comm.bcast((host, store.port) if store else None)
            store = store or dist.TCPStore(host, port, size, is_master=False)
        return _join(store, rank, size, local_rank, device)

    def split(self, ranks: Sequence[int]) -> World:
        """Return the world of some of the ranks; every one of them must call this with the same list.

        Args:
            ranks: Ranks of this world in order, this one among them.
        """
        index = list(ranks).index(self.rank)
        if len(ranks) == 1:
            return replace(self, rank=0, size=1, backend=None, _group=None)
        import torch.distributed as dist

        with self._together():
            # Only the members take part, so that groups need not be made in the same order everywhere.
            group = dist.new_group(
                list(ranks),
                backend="cpu:gloo,cuda:nccl" if self.backend == "nccl" else "gloo",
                use_local_synchronization=True,
            )
        return replace(self, rank=index, size=len(ranks), _group=group)

    def all_reduce_sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace `tensor`, in place and on every rank, by its sum over the ranks, in its own precision."""
        if self.size > 1:
            import torch.distributed as dist

            with self._together():
                dist.all_reduce(tensor, group=self._group)
        return tensor

    def exchange_(self, outgoing: torch.Tensor, sent: Sequence[int], received: Sequence[int]) -> torch.Tensor:
        """Send every rank its part of a tensor and return the parts that the ranks sent to this one.

        Args:
            outgoing: [sum(sent), ...], contiguous; the parts for rank 0, 1, … one after another.
            sent: Rows for each rank; may be 0.
            received: Rows from each rank, as known beforehand on both sides.

        Returns:
            [sum(received), ...], the parts from rank 0, 1, … one after another. A single process gets what it
            sent, as it is.
        """
        if self.size == 1:
            return outgoing
        import torch.distributed as dist

        incoming = outgoing.new_empty((sum(received), *outgoing.shape[1:]))
        with self._together():
            dist.all_to_all_single(incoming, outgoing, list(received), list(sent), group=self._group)
        return incoming

    def any(self, flag: bool) -> bool:
        """Return True on every rank if `flag` is True on at least one."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.all_reduce_sum_(torch.tensor(int(flag))).item())

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.any(False)

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        with self._together():
            dist.broadcast_object_list(values, group=self._group, group_src=0)
        return values[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Return every rank's `value` in order of rank, on rank 0; None on the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.size if self.rank == 0 else None
        with self._together():
            dist.gather_object(value, values, group=self._group, group_dst=0)
        return values

    def gather_all(self, value: Any) -> list[Any]:
        """Return every rank's `value` in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.size
        with self._together():
            dist.all_gather_object(values, value, group=self._group)
        return values

    def next_number(self, name: str) -> int:
        """Return 0, 1, 2, …: each to one rank only, whichever of the whole world asks first.

        Nobody waits, and the groups made by `split` count together.

        Args:
            name: What is counted.
        """
        if self._store is None:
            self._numbers[name] += 1
            return self._numbers[name] - 1
        with self._together():
            return self._store.add(f"number {name}", 1) - 1

    def close(self) -> None:
        """Wait for the other ranks and leave; called on the whole world, it ends its splits too."""
        if self.size > 1:
            self.barrier()
            _leave()

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        elif self.size > 1:
            self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        """Leave while others may be waiting: closed connections wake them, and a note tells them why."""
        code = error.exit_code if isinstance(error, AtmonrError) else 1
        with suppress(RuntimeError):  # the store is gone with the rank that held it
            self._noticeboard.set(_FAILED, f"{self.rank} {code}")
        _leave()

    @property
    def _noticeboard(self) -> Store:
        if self._store is None:
            raise WorldError("this process works on its own; there is no other rank to meet")
        return self._store

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn a lost connection into an error that ends this rank with the code of the one that failed."""
        try:
            yield
        except RuntimeError as error:
            lost = WorldError(f"rank {self.rank}: lost contact with the other ranks: {error}")
            with suppress(RuntimeError):
                if self._noticeboard.check([_FAILED]):
                    rank, code = self._noticeboard.get(_FAILED).decode().split()
                    lost = WorldError(f"rank {self.rank}: stopped because rank {rank} did; see its message")
                    # Launchers combine the codes of all ranks, so they must agree to be understood.
                    lost.exit_code = int(code)
            raise lost from error


def _join(store: Store, rank: int, size: int, local_rank: int, kind: DeviceKind) -> World:
    """Form the process group once every rank has a device."""
    import torch.distributed as dist

    with _meeting(rank):
        try:
            device = choose_device(kind, local_rank)
        except WorldError:
            store.set(f"device {rank}", "none")
            raise
        store.set(f"device {rank}", device_id(device) or f"cpu {rank}")
        devices = [store.get(f"device {other}").decode() for other in range(size)]
        if "none" in devices:
            raise WorldError(f"rank {rank}: rank {devices.index('none')} has no device; see its message")
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    # NCCL refuses two ranks on one GPU; gloo carries their tensors through the host.
    distinct = len(set(devices)) == size
    backend = "nccl" if device.type == "cuda" and distinct and dist.is_nccl_available() else "gloo"
    return World(rank, size, local_rank, device, backend, _store=store)


@contextmanager
def _meeting(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise WorldError(f"rank {rank}: cannot meet the other ranks: {error}") from error


def _refuse_singletons(mpi_size: int) -> None:
    """Refuse to be one of many processes that each believe to be alone, started by another MPI's launcher."""
    launch = launchers.detect()
    if launch is not None and launch.size not in (None, mpi_size):
        raise WorldError(
            f"{launch.name} started {launch.size} processes but MPI sees {mpi_size}, as if they were alone; "
            "use the mpiexec beside this Python, or srun --mpi=pmi2 (MPICH) or --mpi=pmix (Open MPI)"
        )


def _leave() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()
