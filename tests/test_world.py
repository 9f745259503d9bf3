from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atmonr import launchers, meeting
from atmonr.device import choose_device
from atmonr.errors import WorldError
from atmonr.world import World

Launch = Callable[..., subprocess.CompletedProcess[str]]

# Every rank checks what it sees; a wrong value ends the job with a traceback.
TALK = textwrap.dedent(
    """
    import sys
    import torch
    from atmonr.world import World

    def check(found, expected):
        if found != expected:
            sys.exit(f"found {found}, expected {expected}")

    with World.detect("cpu") as world:
        check((world.size, world.backend), (2, "gloo"))
        check(world.all_reduce_sum_(torch.tensor([world.rank + 1.0, 1.0])).tolist(), [3.0, 2.0])
        check([world.any(False), world.any(world.rank == 1)], [False, True])
        check(world.broadcast_object({"rank": world.rank}), {"rank": 0})
        check(world.gather_all(world.rank), [0, 1])
        pair = world.split([0, 1])
        check((pair.rank, pair.size), (world.rank, 2))
        check(pair.all_reduce_sum_(torch.ones(1)).item(), 2.0)
        alone = world.split([world.rank])
        check((alone.rank, alone.size, alone.gather_all(7)), (0, 1, [7]))
        world.barrier()
    """
)

# Rank r sends rank s the value 10 r + s in (r + s) % 3 rows: some parts are empty, one of them a rank's own.
TRADE = textwrap.dedent(
    """
    import sys
    import torch
    from atmonr.world import World

    def check(found, expected):
        if found != expected:
            sys.exit(f"found {found}, expected {expected}")

    with World.detect("cpu") as world:
        rows = [(world.rank + other) % 3 for other in range(3)]
        outgoing = torch.cat([torch.full((n, 2), 10.0 * world.rank + s) for s, n in enumerate(rows)])
        incoming = world.exchange_(outgoing, rows, rows)
        expected = [[10.0 * r + world.rank] * 2 for r, n in enumerate(rows) for _ in range(n)]
        check(incoming.tolist(), expected)
        tiny = torch.tensor([1.0 + 2.0**-40], dtype=torch.float64)
        check(world.all_reduce_sum_(tiny).item(), 3.0 + 3 * 2.0**-40)
        check(world.gather_all(world.rank**2), [0, 1, 4])
        group = world.split([0, 2] if world.rank != 1 else [1])
        if group.size == 2:
            again = group.split([0, 1])
            check((again.rank, again.gather_all(world.rank)), (group.rank, [0, 2]))
            parts = torch.tensor([10 * group.rank, 10 * group.rank + 1])
            check(group.exchange_(parts, [1, 1], [1, 1]).tolist(), [group.rank, 10 + group.rank])
        numbers = [(group if turn % 2 else world).next_number("scene") for turn in range(20)]
        check(sorted(sum(world.gather_all(numbers), [])), list(range(60)))
        check(world.next_number("shard") in range(3), True)
    """
)

# A thread of a group that outlives Python finds its libraries gone and aborts the process, now and then.
LEAVE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    from atmonr.world import World

    def threads():
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        return [name for name in names if "gloo" in name]

    def train(world):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([weight])
        weight.sum().backward()
        optimizer.step()
        world.barrier()

    def fail(world):
        held = world._own_group
        raise ValueError("what is held above must be let go")

    try:
        with World.detect("cpu") as world:
            group = world.split([0, 1])  # still held when the world has been closed
            train(group)
            if not threads():
                sys.exit("found no thread of gloo; this test no longer knows them")
            if sys.argv[1] == "failing":
                fail(group)
    except ValueError as error:
        kept = error  # and with it its traceback
    sys.exit(f"still there: {threads()}" if threads() else 0)
    """
)

FAIL = textwrap.dedent(
    """
    import sys
    from atmonr.errors import AtmonrError, StoreError
    from atmonr.world import World

    try:
        with World.detect("cpu") as world:
            if world.rank == int(sys.argv[1]):
                raise StoreError("disk full")
            world.barrier()
    except AtmonrError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    """
)


def test_one_process_needs_no_group() -> None:
    with World.detect("cpu") as world:
        assert (world.rank, world.size, world.backend) == (0, 1, None)
        assert world.device == torch.device("cpu")
        assert world.all_reduce_sum_(torch.ones(2)).tolist() == [1.0, 1.0]
        assert world.any(True) and not world.any(False)
        assert world.broadcast_object("x") == "x"
        assert world.gather_all("x") == ["x"]
        assert world.gather_all("x") == ["x"]
        assert world.split([0]).size == 1
        assert [world.next_number("a"), world.next_number("b"), world.split([0]).next_number("a")] == [
            0,
            0,
            1,
        ]
        assert world.exchange_(torch.arange(3.0), [3], [3]).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.slow
def test_two_mpi_ranks_talk(mpi_python: Launch) -> None:
    done = mpi_python(2, "-c", TALK)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_three_mpi_ranks_exchange_parts_and_share_counters(mpi_python: Launch) -> None:
    done = mpi_python(3, "-c", TRADE)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed by Linux only")
@pytest.mark.parametrize("end", ["finished", "failing"])
def test_no_thread_of_a_group_outlives_the_world(mpi_python: Launch, end: str) -> None:
    done = mpi_python(2, "-c", LEAVE, end)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failing_rank_ends_the_whole_job_with_its_code(mpi_python: Launch, rank: int) -> None:
    done = mpi_python(2, "-c", FAIL, str(rank))
    assert done.returncode == 74, done.stderr
    assert "disk full" in done.stderr
    assert f"stopped because rank {rank} did" in done.stderr


@pytest.mark.slow
@pytest.mark.alone
def test_two_torchrun_ranks_talk() -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, sys.executable, "-c", TALK], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.alone
def test_two_slurm_tasks_without_mpi_meet_where_another_job_holds_the_first_port() -> None:
    slurm = {
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": str(os.getpid()),
    }
    _, ports, _ = launchers.slurm_meeting_points(slurm)
    meeting.open_store(ports[:1], "another job", 1)
    environments = [{**os.environ, **slurm, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    tasks = [
        subprocess.Popen([sys.executable, "-c", TALK], stderr=subprocess.PIPE, text=True, env=environment)
        for environment in environments
    ]
    messages = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], messages


def test_silent_singletons_are_refused(python: Launch) -> None:
    pytest.importorskip("mpi4py")
    # What a process sees that another MPI's launcher started: two ranks around it, one in its own MPI.
    script = (
        "from atmonr.errors import WorldError\n"
        "from atmonr.world import World\n"
        "try:\n"
        "    World.detect('cpu')\n"
        "except WorldError as error:\n"
        "    print(error)\n"
    )
    done = python("-c", script, env={"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"})
    assert "Open MPI started 2 processes but MPI sees 1" in done.stdout, done.stderr


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 0) == torch.device("cpu")
    with pytest.raises(WorldError, match="torch sees no GPU"):
        choose_device("cuda", 0)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (2, [0, 1, 0]),
        # What tasks see under `srun --gpus-per-task=1`: one GPU each, which every task calls the first.
        (1, [0, 0, 0]),
    ],
)
def test_each_rank_takes_the_gpu_of_its_turn(
    monkeypatch: pytest.MonkeyPatch, visible: int, expected: list[int]
) -> None:
    made_current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", made_current.append)
    chosen = [choose_device("auto", local_rank) for local_rank in range(3)]
    assert [device.index for device in chosen] == expected
    assert made_current == chosen
