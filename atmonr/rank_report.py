"""What the ranks of a job have and lack: what `atmonr doctor --mpi` shows before a job has cost its hours."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

import torch

from atmonr import __version__, launchers
from atmonr.errors import WorldError
from atmonr.seats import refuse_conflicts
from atmonr.world import World

# Must be the same on every rank.
VERSIONS = ("atmonr", "torch", "Python")
ALL_REDUCE_MIB = 16

Facts = Mapping[str, str]


def examine_ranks(world: World) -> list[Facts]:
    """Return what every rank has, in order of rank, on every rank; names are column headings."""
    return world.gather_all(_own_facts(world))


def _own_facts(world: World) -> dict[str, str]:
    gpu = world.device.type == "cuda"
    seat = world.seats[world.rank] if world.seats else None
    cores = os.sched_getaffinity(0)
    return {
        "rank": str(world.rank),
        "host": socket.gethostname(),
        "local rank": str(world.local_rank),
        "device": f"{world.device} {torch.cuda.get_device_name(world.device)}" if gpu else "CPU",
        "GPU UUID": (seat and seat.device_id) or "-",
        "cores": ranges(cores),
        "threads": str(torch.get_num_threads()),
        "ranks met by": _met_by(),
        "tensors travel by": world.backend or "-",
        "atmonr": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }


def _met_by() -> str:
    """Return the launcher, and the MPI library with its version if one took part."""
    launch = launchers.detect()
    if launch is None:
        return "alone"
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None:
        return launch.name
    # Such as "MPICH Version:      5.0.2\nMPICH Release date: …" or "Open MPI v5.0.11, package: …".
    library = " ".join(mpi.Get_library_version().splitlines()[0].split(",")[0].replace(":", " ").split())
    return f"{library} (mpi4py {metadata.version('mpi4py')})"


def try_all_reduce(world: World) -> str:
    """Sum a large tensor over the ranks, where and how training does; return what was found.

    Raises:
        WorldError: If the sum is wrong, or a rank is lost.
    """
    group = world.split(range(world.size))
    tensor = torch.full((ALL_REDUCE_MIB * 2**18,), float(world.rank + 1), device=world.device)
    group.barrier()
    begin = time.perf_counter()
    total = float(group.all_reduce_sum_(tensor).amax())
    expected = world.size * (world.size + 1) / 2
    seconds = time.perf_counter() - begin
    if total != expected or float(tensor.amin()) != expected:
        raise WorldError(
            f"rank {world.rank}: all-reduce through {world.backend} gave {total}, expected {expected}"
        )
    return f"all-reduce of {ALL_REDUCE_MIB} MiB over {world.size} ranks: right, {1e3 * seconds:.0f} ms"


def refuse_what_would_fail(world: World, ranks: Sequence[Facts], *, share_gpu: bool) -> None:
    """Refuse ranks that a training would refuse or trip over, on all of them.

    Raises:
        WorldError: Names the ranks and what to do.
    """
    for name in VERSIONS:
        found = {facts[name]: facts["host"] for facts in ranks}
        if len(found) > 1:
            each = ", ".join(f"{version} on {host}" for version, host in found.items())
            raise WorldError(f"the ranks run different versions of {name}: {each}; install one everywhere")
    refuse_conflicts(world.seats, share_gpu=share_gpu)


def advice(ranks: Sequence[Facts]) -> list[str]:
    """Return what would work, but slowly: more threads on a machine than cores."""
    threads: defaultdict[str, int] = defaultdict(int)
    cores: defaultdict[str, set[int]] = defaultdict(set)
    for facts in ranks:
        threads[facts["host"]] += int(facts["threads"])
        cores[facts["host"]] |= set(_numbers(facts["cores"]))
    return [
        f"{host}: {threads[host]} threads on {len(cores[host])} cores; lower OMP_NUM_THREADS or start fewer"
        for host in threads
        if threads[host] > len(cores[host])
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges: 0-3,8."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _numbers(text: str) -> Iterable[int]:
    for run in text.split(","):
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
