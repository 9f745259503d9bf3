"""`atmonr doctor`"""

from __future__ import annotations

from typing import Annotated

import typer

from atmonr.cli.options import ShareGpuOption
from atmonr.device import DeviceKind


def doctor(
    mpi: Annotated[
        bool, typer.Option("--mpi", help="Examine the ranks instead; start with mpiexec, srun or torchrun.")
    ] = False,
    device: Annotated[DeviceKind, typer.Option(help="With --mpi: where ranks are to compute.")] = "auto",
    share_gpu: ShareGpuOption = False,
) -> None:
    """Show what this machine has: devices, backends, MPI, versions, credentials."""
    if mpi:
        _examine_ranks(device, share_gpu)
        return
    from atmonr.doctor import examine

    for subject, finding in examine():
        typer.echo(f"{subject:<12} {finding}")


def _examine_ranks(device: DeviceKind, share_gpu: bool) -> None:
    from atmonr.cli.tables import show_rows
    from atmonr.rank_report import advice, examine_ranks, refuse_what_would_fail, try_all_reduce
    from atmonr.world import World

    with World.join(device) as world:
        ranks = examine_ranks(world)
        if world.rank == 0:
            always = ("rank", "host", "local rank", "device", "GPU UUID", "cores", "threads")
            show_rows(ranks, always, title="Ranks")
        refuse_what_would_fail(world, ranks, share_gpu=share_gpu)
        finding = try_all_reduce(world)
        if world.rank == 0:
            for line in (finding, *advice(ranks)):
                typer.echo(line)
