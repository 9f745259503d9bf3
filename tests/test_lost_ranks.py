"""A rank that dies or vanishes ends the others within a bounded time, with a code that is documented."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Launch = Callable[..., subprocess.CompletedProcess[str]]

LOST = 75
TIMEOUT_S = 100  # against hanging; it takes a few seconds

# The ranks train until, at step 5, one ends in the way asked for.
TRAIN = textwrap.dedent(
    """
    import os, signal, sys, time
    from datetime import timedelta
    import torch
    from atmonr import liveness, world as world_module
    from atmonr.errors import AtmonrError
    from atmonr.world import World

    while_others, victim, end = sys.argv[1], int(sys.argv[2]), signal.Signals[sys.argv[3]]
    if end is signal.SIGSTOP:
        liveness.BEAT_S, liveness.MISSED_BEATS = 0.2, 5
        world_module.PATIENCE = timedelta(seconds=5)

    def train(world):
        weight = torch.nn.Parameter(torch.ones(1000))
        optimizer = torch.optim.Adam([weight])
        for step in range(10):
            optimizer.zero_grad()
            weight.square().sum().backward()
            world.all_reduce_sum_(weight.grad)
            optimizer.step()
            if step == 5:
                fault(world)
        world.meet()

    def fault(world):
        if world.rank == victim:
            time.sleep(0.3)  # the others are to be waiting, which nothing tells; without it they still may be
            os.kill(os.getpid(), end)
        if while_others == "compute":
            time.sleep(0.6)
        if while_others == "wait for the leader":
            if world.rank == 0:
                time.sleep(1)
            world.broadcast_object("done")
        if while_others == "meet":
            world.meet()

    def main():
        try:
            with World.detect("cpu") as world:
                train(world)
        except AtmonrError as error:
            print(f"rank {world.rank} {type(error).__name__}: {error}", file=sys.stderr)
            return error.exit_code
        return 0

    sys.exit(main())
    """
)


@contextmanager
def plain_ranks(number: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Ranks that no launcher watches, such as those of `srun` without --kill-on-bad-exit."""
    slurm = {"SLURM_STEP_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(os.getpid())}
    slurm |= {"SLURM_STEP_NUM_TASKS": str(number), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", *arguments]
    ranks = []
    try:
        for rank in map(str, range(number)):
            own = {**os.environ, **slurm, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
            ranks.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own))
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.communicate()


def survivors(ranks: list[subprocess.Popen[str]], victim: int) -> dict[int, tuple[int, str]]:
    """Wait for all but the victim; return their exit codes and messages."""
    found = {}
    for rank, process in enumerate(ranks):
        if rank != victim:
            message = process.communicate(timeout=TIMEOUT_S)[1]
            found[rank] = (process.returncode, message)
    return found


@pytest.mark.parametrize(
    ("while_others", "number", "victim"),
    [("wait", 2, 0), ("compute", 2, 1), ("wait for the leader", 3, 1), ("meet", 2, 0)],
)
def test_a_killed_rank_ends_those_that_nobody_watches(while_others: str, number: int, victim: int) -> None:
    with plain_ranks(number, TRAIN, while_others, str(victim), "SIGKILL") as ranks:
        ended = survivors(ranks, victim)
        messages = "\n".join(message for _, message in ended.values())
        assert {code for code, _ in ended.values()} == {LOST}, messages
        assert "LostRankError" in messages
        assert "terminate called" not in messages
        assert ranks[victim].wait(TIMEOUT_S) == -signal.SIGKILL


@pytest.mark.parametrize("while_others", ["wait", "meet"])
def test_a_rank_that_vanishes_without_closing_its_connections_is_noticed(while_others: str) -> None:
    with plain_ranks(2, TRAIN, while_others, "1", "SIGSTOP") as ranks:
        code, message = survivors(ranks, victim=1)[0]
        assert code == LOST, message
        assert ranks[1].poll() is None


def test_a_killed_rank_ends_an_mpi_job(mpi_python: Launch) -> None:
    done = mpi_python(3, "-c", TRAIN, "wait for the leader", "1", "SIGKILL")
    assert done.returncode == signal.SIGKILL, done.stderr  # what MPICH's mpiexec makes of it
    assert "terminate called" not in done.stderr


def test_a_killed_rank_ends_a_torchrun_job(python: Launch) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python")
    done = python(*torchrun, sys.executable, "-c", TRAIN, "wait", "1", "SIGKILL")
    assert done.returncode == 1, done.stderr  # torchrun ends so whatever happened
    assert "terminate called" not in done.stderr
