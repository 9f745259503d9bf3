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
    grid: Annotated[str, typer.Option(help="Kind of grid: voxel, l1c, curtain or global.")] = "voxel",
    horizontal_step_m: Annotated[
        float | None, typer.Option(help="Of voxels [m]; as a rule the scene's pixel.")
    ] = None,
    vertical_step_m: Annotated[
        float | None,
        typer.Option(help="[m]; as a rule a quarter of a cell's width, of a global grid's lowest level 100."),
    ] = None,
    max_height_m: Annotated[
        float | None, typer.Option(help="Highest cell [m]; as a rule the scene's top.")
    ] = None,
    bbox: BoxOption = None,
    l1c: Annotated[Path | None, typer.Option(help="HARP2 L1C file with the bins of --grid l1c.")] = None,
    earthcare: Annotated[
        Path | None, typer.Option(help="EarthCARE ATL_EBD_2A file with the profiles of --grid curtain.")
    ] = None,
    step_deg: Annotated[
        float | None, typer.Option(help="Cells of --grid global [degrees]; as a rule 0.05.")
    ] = None,
    growth: Annotated[
        float | None, typer.Option(help="How much thicker each global level is; as a rule 0.03.")
    ] = None,
    dem: Annotated[
        Path | None, typer.Option(help="Elevation model of the ground; as a rule the scene's pixels tell.")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="Which scene, if the run has several.")] = None,
    scene_store: Annotated[
        Path | None, typer.Option(help="Where the scene lies, if not where it was trained from.")
    ] = None,
    device: Annotated[DeviceKind, typer.Option(help="Where to compute.")] = "auto",
    share_gpu: ShareGpuOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sample a trained field on a grid, each rank its share of the shards."""
    from atmonr.extract.grids.choose import GridRequest
    from atmonr.extract.session import extract as extract_field
    from atmonr.world import World

    request = GridRequest(
        grid, horizontal_step_m, vertical_step_m, max_height_m, bbox, l1c, earthcare, step_deg, growth
    )
    with World.detect(device, share_gpu=share_gpu) as world:
        extract_field(
            run,
            out,
            grid=request,
            scene=scene,
            scene_store=scene_store,
            dem=dem,
            world=world,
            quiet=quiet,
        )
