"""`atmonr extract`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import BoxOption, QuietOption, ShareGpuOption
from atmonr.device import DeviceKind


def extract(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Zarr store for the shards; finished ones are kept.")
    ],
    grid: Annotated[str, typer.Option(help="Kind of grid: voxel.")] = "voxel",
    horizontal_step_m: Annotated[float | None, typer.Option(help="[m]; as a rule the scene's pixel.")] = None,
    vertical_step_m: Annotated[
        float | None, typer.Option(help="[m]; as a rule a quarter of the pixel.")
    ] = None,
    max_height_m: Annotated[
        float | None, typer.Option(help="Highest voxel [m]; as a rule the scene's top.")
    ] = None,
    bbox: BoxOption = None,
    scene: Annotated[str | None, typer.Option(help="Which scene, if the run has several.")] = None,
    device: Annotated[DeviceKind, typer.Option(help="Where to compute.")] = "auto",
    share_gpu: ShareGpuOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sample a trained field on a grid, each rank its share of the shards."""
    from atmonr.extract.session import extract as extract_field
    from atmonr.world import World

    with World.detect(device, share_gpu=share_gpu) as world:
        extract_field(
            run,
            out,
            grid=grid,
            horizontal_step_m=horizontal_step_m,
            vertical_step_m=vertical_step_m,
            max_height_m=max_height_m,
            bbox=bbox,
            scene=scene,
            world=world,
            quiet=quiet,
        )
