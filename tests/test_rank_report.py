from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable

import pytest

from atmonr.errors import WorldError
from atmonr.rank_report import advice, examine_ranks, ranges, refuse_what_would_fail, try_all_reduce
from atmonr.world import World

Launch = Callable[..., subprocess.CompletedProcess[str]]

# `atmonr doctor --mpi` where every rank believes to have the same GPU.
PRETEND = textwrap.dedent(
    """
    import sys
    import torch
    from atmonr import seats
    from atmonr.cli import main

    seats.choose_device = lambda kind, local_rank: torch.device("cuda", 0)
    seats.device_id = lambda device: "GPU-a"
    torch.cuda.get_device_name = lambda device: "Pretend 100"
    sys.argv = ["atmonr", "doctor", "--mpi"]
    main()
    """
)


def facts(rank: int = 0, **other: str) -> dict[str, str]:
    same = {"host": "n1", "cores": "0-3", "threads": "2", "atmonr": "1", "torch": "2", "Python": "3"}
    return {"rank": str(rank), **same, **other}


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "0"), ([3, 1, 2], "1-3"), ([0, 1, 4, 6, 7], "0-1,4,6-7"), ([], "")]
)
def test_numbers_are_written_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_more_threads_than_cores_of_a_machine_are_worth_a_word() -> None:
    assert advice([facts(), facts(1)]) == []
    assert advice([facts(cores="0-1"), facts(1, cores="2-3"), facts(2, host="n2")]) == []
    (found,) = advice([facts(cores="0-1"), facts(1, cores="2"), facts(2, host="n2")])
    assert found.startswith("n1: 4 threads on 3 cores")


def test_ranks_of_different_versions_are_refused() -> None:
    with pytest.raises(WorldError, match=r"different versions of torch: 2 on n1, 3 on n2; install one"):
        refuse_what_would_fail(
            World.single("cpu"), [facts(), facts(1, host="n2", torch="3")], share_gpu=False
        )


def test_one_process_is_examined_too() -> None:
    world = World.single("cpu")
    ranks = examine_ranks(world)
    assert (ranks[0]["rank"], ranks[0]["device"]) == ("0", "CPU")
    refuse_what_would_fail(world, ranks, share_gpu=False)
    assert "over 1 ranks: right" in try_all_reduce(world)


@pytest.mark.slow
@pytest.mark.alone
def test_every_rank_has_its_row_and_the_sum_is_right(mpi_python: Launch) -> None:
    done = mpi_python(3, "-m", "atmonr", "doctor", "--mpi")
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("│") for line in done.stdout.splitlines()) == 3
    assert "ranks met by: MPICH" in done.stdout
    assert "tensors travel by: gloo" in done.stdout
    assert "over 3 ranks: right" in done.stdout


@pytest.mark.slow
@pytest.mark.alone
def test_the_table_is_shown_and_what_would_fail_is_refused(mpi_python: Launch) -> None:
    done = mpi_python(2, "-c", PRETEND)
    assert done.returncode == 78, done.stderr
    assert done.stdout.count("Pretend 100") == 2
    assert "ranks 0, 1 on" in done.stderr
    assert "share GPU GPU-a" in done.stderr
