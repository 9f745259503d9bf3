"""Which rank computes where, and what of that cannot go well."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from atmonr.device import DeviceKind, choose_device, device_id
from atmonr.errors import WorldError
from atmonr.meeting import Meeting
from atmonr.network import use_interface

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seat:
    """Where one rank is.

    Attributes:
        host: Name of its machine.
        device: Type of its device, "cuda" or "cpu"; None if it lacks the one asked for.
        device_id: What tells its GPU from every other one; None for a CPU.
        rank0_address: Rank 0's address as this rank sees it.
    """

    host: str
    device: str | None
    device_id: str | None = None
    rank0_address: str | None = None

    def to_text(self) -> str:
        """Return the seat as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Seat:
        """Read what `to_text` wrote."""
        return cls(**json.loads(text))


def take_seats(met: Meeting, kind: DeviceKind) -> tuple[torch.device, tuple[Seat, ...]]:
    """Choose this rank's device and learn where the other ranks are.

    Raises:
        WorldError: If this or another rank has no device of the kind asked for.
    """
    host = socket.gethostname()
    try:
        device = choose_device(kind, met.local_rank)
    except WorldError:
        met.store.set(f"seat {met.rank}", Seat(host, None).to_text())
        raise
    own = Seat(host, device.type, device_id(device), met.rank0_address)
    met.store.set(f"seat {met.rank}", own.to_text())
    seats = tuple(Seat.from_text(met.store.get(f"seat {rank}").decode()) for rank in range(met.size))
    lacking = [rank for rank, seat in enumerate(seats) if seat.device is None]
    if lacking:
        raise WorldError(
            f"rank {met.rank}: {_ranks(lacking)} on {_hosts(seats, lacking)} have no device; see there"
        )
    if len({seat.host for seat in seats}) > 1:
        use_interface(met.own_address, [seat.rank0_address for seat in seats])
    return device, seats


def backend(seats: Sequence[Seat]) -> str:
    """Return what carries tensors between these ranks.

    NCCL refuses two ranks on one GPU, and knows no CPU; gloo carries their tensors through the host.
    """
    ids = [seat.device_id for seat in seats]
    return "nccl" if all(ids) and len(set(ids)) == len(ids) else "gloo"


def refuse_conflicts(seats: Sequence[Seat], *, share_gpu: bool) -> None:
    """Refuse ranks that would be in each other's way.

    Args:
        seats: Of every rank, in order.
        share_gpu: Let several ranks compute on one GPU.

    Raises:
        WorldError: Names the ranks and their machine, and what to do.
    """
    cpu = [rank for rank, seat in enumerate(seats) if seat.device == "cpu"]
    if 0 < len(cpu) < len(seats):
        raise WorldError(
            f"{_ranks(cpu)} on {_hosts(seats, cpu)} sees no GPU, unlike the others; see `atmonr doctor` "
            "there, or compute on the CPU everywhere"
        )
    sharing: dict[str, list[int]] = {}
    for rank, seat in enumerate(seats):
        if seat.device_id:
            sharing.setdefault(seat.device_id, []).append(rank)
    shared = [
        f"{_ranks(ranks)} on {seats[ranks[0]].host} share GPU {device_id}"
        for device_id, ranks in sharing.items()
        if len(ranks) > 1
    ]
    if shared and not share_gpu:
        raise WorldError(
            f"{'; '.join(shared)}; start one rank per GPU (mpiexec -n <GPUs>, srun --gpus-per-task=1), or "
            "pass --share-gpu, with which they take turns"
        )


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _hosts(seats: Sequence[Seat], ranks: Sequence[int]) -> str:
    return ", ".join(dict.fromkeys(seats[rank].host for rank in ranks))
