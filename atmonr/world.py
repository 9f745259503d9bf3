"""Ranks: who they are, which device each has, and how they talk.

A `World` is made once by the command line and passed down; the same program runs alone, under torchrun,
srun or mpiexec. MPI, where there is any, only starts the ranks and tells them where to meet: tensors and
small objects travel through torch.distributed (NCCL between GPUs, gloo otherwise).
"""

from __future__ import annotations

import importlib.util
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from atmonr import launchers, meeting
from atmonr.device import DeviceKind, choose_device
from atmonr.errors import AtmonrError, LostRankError, PeerFailedError, WorldError, forget_locals
from atmonr.liveness import Presence, lost_rank
from atmonr.seats import Seat, backend, refuse_conflicts, take_seats

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup, Store

# How long a rank may be at work alone, evaluating or saving, while its group waits in a collective. That one
# died is noticed at once as a rule, because its connections close; that a machine vanished, after this.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """The ranks that work together, seen from one of them.

    Attributes:
        rank: Position of this process, 0 to size - 1; its position in the group after `split`.
        size: Number of processes.
        local_rank: Position among the processes on this machine.
        device: Where this rank computes.
        backend: What the tensors of a group travel through, "nccl" or "gloo"; None for a single process.
        seats: Where each rank of the whole world is, in order; empty for a single process.
    """

    rank: int
    size: int
    local_rank: int
    device: torch.device
    backend: str | None = None
    seats: tuple[Seat, ...] = ()
    # torch keeps a group alive until it is destroyed. A hold of our own could outlast that, and the group's
    # threads with it: at the end of the process they would find its libraries gone, and abort.
    _group: weakref.ref[ProcessGroup] | None = None
    _store: Store | None = None
    _presence: Presence | None = None
    _numbers: Counter[str] = field(default_factory=Counter)  # given out so far where there is no store
    _notes: dict[str, str] = field(default_factory=dict)  # posted where there is no store

    @classmethod
    def detect(cls, device: DeviceKind = "auto", *, share_gpu: bool = False) -> World:
        """Join the ranks started by whatever launcher started this process.

        Args:
            device: Where to compute.
            share_gpu: Let several ranks compute on one GPU.

        Raises:
            WorldError: If the ranks do not find each other, a device is absent, or ranks would share a GPU.
        """
        world = cls.join(device)
        try:
            refuse_conflicts(world.seats, share_gpu=share_gpu)
        except WorldError as error:
            world._fail(error)
            raise
        return world

    @classmethod
    def join(cls, device: DeviceKind = "auto") -> World:
        """Like `detect`, but without judging what the ranks have.

        Raises:
            WorldError: If the ranks do not find each other, or a device is absent.
        """
        # MPI that is not installed is not needed where Slurm's own variables are.
        launch = launchers.detect(mpi=importlib.util.find_spec("mpi4py") is not None) or launchers.detect()
        if launch is None:
            return cls.single(device)
        try:
            met = meeting.through_mpi() if launch.mpi else meeting.through_variables(launch)
            return cls.single(device) if met is None else cls._among(met, device)
        except RuntimeError as error:
            raise WorldError(f"rank {launch.rank}: cannot meet the other ranks: {error}") from error

    @classmethod
    def single(cls, device: DeviceKind = "auto") -> World:
        """One process on its own."""
        return cls(rank=0, size=1, local_rank=0, device=choose_device(device, 0))

    @classmethod
    def _among(cls, met: meeting.Meeting, kind: DeviceKind) -> World:
        """Form the process group once every rank has a device."""
        import torch.distributed as dist

        # It takes the default group of the moment as the default of its functions, and torch imports it in an
        # optimizer's first step. Imported now, it finds none, and cannot keep one alive.
        import torch.distributed.nn.functional  # noqa: F401

        device, seats = take_seats(met, kind)
        presence = Presence(met.store, met.rank, met.size)
        dist.init_process_group("gloo", store=met.store, rank=met.rank, world_size=met.size, timeout=PATIENCE)
        return cls(
            rank=met.rank,
            size=met.size,
            local_rank=met.local_rank,
            device=device,
            backend=backend(seats),
            seats=seats,
            _store=met.store,
            _presence=presence,
        )

    def split(self, ranks: Sequence[int]) -> World:
        """Return the world of some of the ranks; every one of them must call this with the same list.

        Args:
            ranks: Ranks of this world in order, this one among them.
        """
        index = list(ranks).index(self.rank)
        if len(ranks) == 1:
            return replace(self, rank=0, size=1, backend=None, _group=None)
        import torch.distributed as dist

        own = self._own_group
        members = [dist.get_global_rank(own, rank) if own else rank for rank in ranks]
        with self._together():
            # Only the members take part, so that groups need not be made in the same order everywhere.
            group = dist.new_group(
                members,
                backend="cpu:gloo,cuda:nccl" if self.backend == "nccl" else "gloo",
                use_local_synchronization=True,
                timeout=PATIENCE,
            )
        return replace(self, rank=index, size=len(ranks), _group=weakref.ref(group))

    def all_reduce_sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace `tensor`, in place and on every rank, by its sum over the ranks, in its own precision."""
        if self.size > 1:
            import torch.distributed as dist

            with self._together():
                dist.all_reduce(tensor, group=self._own_group)
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
            dist.all_to_all_single(incoming, outgoing, list(received), list(sent), group=self._own_group)
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
            dist.broadcast_object_list(values, group=self._own_group, group_src=0)
        return values[0]

    def gather_all(self, value: Any) -> list[Any]:
        """Return every rank's `value` in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.size
        with self._together():
            dist.all_gather_object(values, value, group=self._own_group)
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

    def meet(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until every rank of the whole world has come here, however long the others are at work.

        Collectives give up after `PATIENCE`: before one of the whole world, ranks that worked apart meet.

        Args:
            meanwhile: Called now and then until all are here.

        Raises:
            LostRankError: If another rank has failed or is gone.
        """
        if self._presence is not None:
            with self._together():
                self._presence.meet(meanwhile)

    def post(self, name: str, text: str) -> None:
        """Leave a note for every rank of the whole world, in place of an earlier one of that name."""
        if self._store is None:
            self._notes[name] = text
            return
        with self._together():
            self._store.set(name, text)

    def posted(self, names: Sequence[str]) -> list[str]:
        """Return notes, every one of which must have been posted before; waits for nobody."""
        if self._store is None:
            return [self._notes[name] for name in names]
        with self._together():
            return [note.decode() for note in self._store.multi_get(list(names))]

    def close(self) -> None:
        """Wait for the other ranks and leave; called on the whole world, it ends its splits too."""
        if self._presence is not None:
            self.meet()
            self._presence.end()  # while rank 0 still serves the store
            self.barrier()
            _leave()

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        self._fail(error)
        forget_locals(error)

    def _fail(self, error: BaseException) -> None:
        """Leave while others may be waiting: closed connections wake them, and a note tells them why."""
        if self._presence is not None:
            self._presence.leave_note(error.exit_code if isinstance(error, AtmonrError) else 1)
            self._presence.end()
            _leave()
            if isinstance(error, PeerFailedError) or not isinstance(error, LostRankError):
                self._presence.let_others_read()

    @property
    def _own_group(self) -> ProcessGroup | None:
        """The group of a split; None for the whole world's."""
        return None if self._group is None else self._group()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn a lost connection into an error that ends this rank with the code of the one that failed."""
        try:
            yield
        except RuntimeError as error:
            raise lost_rank(error, self.rank, self._presence) from error


def _leave() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()
