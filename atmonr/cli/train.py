"""`atmonr train`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import QuietOption, ShareGpuOption


def train(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="TOML file, such as configs/instant_ngp.toml.")
    ],
    scenes: Annotated[list[Path], typer.Option("--scene", help="Scene to train on; repeat for several.")],
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace one setting; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its newest checkpoint.")
    ] = False,
    share_gpu: ShareGpuOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show which ranks would train which scenes.")
    ] = False,
    ranks: Annotated[int, typer.Option(min=1, help="Number of ranks that --dry-run plans for.")] = 1,
    quiet: QuietOption = False,
) -> None:
    """Learn the clouds of scenes. Start it with mpiexec, srun or torchrun to use several ranks."""
    from atmonr.config import load

    settings = load(config, overrides or ())
    # Only now, so that a mistake in the config is told at once.
    from atmonr.tasks.recipe import RECIPE

    if dry_run:
        from atmonr.cli.plan import plan_lines
        from atmonr.train.session import plan

        planned = plan(settings, scenes, run, recipe=RECIPE, resume=resume, ranks=ranks)
        typer.echo("\n".join(plan_lines(planned)))
        return
    from atmonr.train.session import train as train_scenes
    from atmonr.world import World

    with World.detect(settings.train.device, share_gpu=share_gpu) as world:
        train_scenes(settings, scenes, run, recipe=RECIPE, resume=resume, world=world, quiet=quiet)
