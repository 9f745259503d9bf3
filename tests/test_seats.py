from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable

import pytest

from atmonr.errors import WorldError
from atmonr.seats import Seat, backend, refuse_conflicts

Launch = Callable[..., subprocess.CompletedProcess[str]]

# Ranks that believe in GPUs: the first argument names each rank's, the second says whether they may share.
PRETEND = textwrap.dedent(
    """
    import sys
    import torch
    from atmonr import seats
    from atmonr.errors import AtmonrError
    from atmonr.world import World

    names = sys.argv[1].split(",")
    local_ranks = []
    seats.choose_device = lambda kind, local_rank: local_ranks.append(local_rank) or torch.device("cuda", 0)
    seats.device_id = lambda device: names[local_ranks[0]]
    try:
        with World.detect("cuda", share_gpu=sys.argv[2] == "share") as world:
            # One write a rank: mpiexec mixes what ranks write piece by piece.
            sys.stdout.write(f"{world.backend} {[seat.device_id for seat in world.seats]}\\n")
            sys.stdout.flush()
    except AtmonrError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    """
)


def gpu(device_id: str, host: str = "n1") -> Seat:
    return Seat(host, "cuda", device_id)


def test_a_seat_survives_the_journey() -> None:
    for seat in (Seat("n1", "cuda", "GPU-1", "10.0.0.1"), Seat("n2", None)):
        assert Seat.from_text(seat.to_text()) == seat


def test_nccl_carries_between_gpus_of_their_own_and_gloo_all_else() -> None:
    assert backend([gpu("a"), gpu("b", "n2")]) == "nccl"
    assert backend([gpu("a"), gpu("a")]) == "gloo"
    assert backend([gpu("a"), Seat("n1", "cpu")]) == "gloo"
    assert backend([Seat("n1", "cpu")] * 2) == "gloo"


def test_any_number_of_ranks_may_share_a_cpu() -> None:
    refuse_conflicts([Seat("n1", "cpu")] * 8, share_gpu=False)


def test_ranks_on_one_gpu_are_named_with_machine_and_gpu_unless_they_may_share_it() -> None:
    seats = [gpu("GPU-a"), gpu("GPU-b"), gpu("GPU-a"), gpu("GPU-c", "n2")]
    refuse_conflicts(seats[1:], share_gpu=False)
    refuse_conflicts(seats, share_gpu=True)
    with pytest.raises(WorldError, match=r"ranks 0, 2 on n1 share GPU GPU-a; .*--share-gpu"):
        refuse_conflicts(seats, share_gpu=False)


def test_a_rank_without_a_gpu_among_others_is_refused() -> None:
    with pytest.raises(WorldError, match="rank 1 on n2 sees no GPU, unlike the others"):
        refuse_conflicts([gpu("a"), Seat("n2", "cpu")], share_gpu=True)


@pytest.mark.slow
def test_every_rank_refuses_to_share_a_gpu(mpi_python: Launch) -> None:
    done = mpi_python(3, "-c", PRETEND, "GPU-a,GPU-b,GPU-a", "refuse")
    assert done.returncode == 78, done.stderr
    assert done.stderr.count("ranks 0, 2 on ") == 3
    assert "share GPU GPU-a" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "wish", "carrier"), [("GPU-a,GPU-a", "share", "gloo"), ("GPU-a,GPU-b", "refuse", "nccl")]
)
def test_ranks_that_do_not_collide_join(mpi_python: Launch, names: str, wish: str, carrier: str) -> None:
    done = mpi_python(2, "-c", PRETEND, names, wish)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{carrier} {names.split(',')}") == 2
