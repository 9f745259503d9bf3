from __future__ import annotations

from typing import Any

import pytest
import torch

from atmonr.errors import GpuMemoryError, StoreError, WorldError
from atmonr.train.agree import on_every_rank, on_leader
from atmonr.world import World


class Seat:
    """One rank's view of a world of two whose other rank's messages the test decides."""

    size = 2

    def __init__(self, rank: int, *, received: Any = None, gathered: list[Any] | None = None) -> None:
        self.rank = rank
        self.received = received
        self.gathered = gathered
        self.sent: Any = None

    def broadcast_object(self, value: Any) -> Any:
        self.sent = value
        return value if self.rank == 0 else self.received

    def gather_all(self, value: Any) -> list[Any]:
        self.sent = value
        return [value, *self.gathered] if self.gathered is not None else None


def fail(error: Exception) -> Any:
    def work() -> None:
        raise error

    return work


def test_alone_the_result_or_the_error_itself_comes_back() -> None:
    world = World.single("cpu")
    assert on_leader(world, lambda: 3) == on_every_rank(world, lambda: 3) == 3
    for do in (on_leader, on_every_rank):
        with pytest.raises(KeyError):
            do(world, fail(KeyError("key")))


def test_only_the_leader_works_and_others_receive_its_result() -> None:
    other = Seat(1, received=(5, None))
    assert on_leader(other, fail(AssertionError("worked"))) == 5  # type: ignore[arg-type]


def test_others_raise_the_leaders_error() -> None:
    leader = Seat(0)
    with pytest.raises(StoreError):
        on_leader(leader, fail(StoreError("full")))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="full"):
        on_leader(Seat(1, received=leader.sent), lambda: None)  # type: ignore[arg-type]


def test_a_foreign_error_keeps_its_type_where_it_happened_and_is_reported_elsewhere() -> None:
    leader = Seat(0)
    with pytest.raises(ZeroDivisionError):
        on_leader(leader, lambda: 1 / 0)  # type: ignore[arg-type]
    with pytest.raises(WorldError, match="rank 0 failed with ZeroDivisionError"):
        on_leader(Seat(1, received=leader.sent), lambda: None)  # type: ignore[arg-type]


def test_a_rank_that_succeeded_raises_the_error_of_the_one_that_did_not() -> None:
    with pytest.raises(WorldError, match="rank 1 failed"):
        on_every_rank(Seat(0, gathered=[WorldError("rank 1 failed")]), lambda: 3)  # type: ignore[arg-type]
    assert on_every_rank(Seat(0, gathered=[None]), lambda: 3) == 3  # type: ignore[arg-type]


def test_a_full_gpu_is_reported_as_such_on_every_rank() -> None:
    seat = Seat(0)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nDetails")
    with pytest.raises(GpuMemoryError):
        on_leader(seat, fail(full))  # type: ignore[arg-type]
    error = seat.sent[1]
    assert isinstance(error, GpuMemoryError)
    assert "\n" not in str(error)
