"""`atmonr ingest`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import Box, QuietOption
from atmonr.errors import AtmonrError, UsageError


def ingest(
    granules: Annotated[
        list[Path], typer.Argument(metavar="GRANULE...", help="HARP2 files of Level 1B or 1C.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Scene to make if it ends in .zarr, else a folder of scenes."),
    ],
    crop_bbox: Annotated[
        Box | None,
        typer.Option(metavar="W S E N", help="Keep this box [degrees]; W > E crosses the dateline."),
    ] = None,
    max_view_angle_deg: Annotated[
        float | None,
        typer.Option(
            "--max-view-angle",
            min=0,
            max=90,
            help="Leave out views farther from nadir, at the sensor [degrees].",
        ),
    ] = None,
    top_height_m: Annotated[
        float,
        typer.Option(min=100, max=50_000, help="Top of the modelled atmosphere above the ellipsoid [m]."),
    ] = 20_000.0,
    quiet: QuietOption = False,
) -> None:
    """Turn satellite granules into scenes; one that fails does not keep the others from being made."""
    from atmonr.cli.progress import progress_bar
    from atmonr.sensors.harp2 import open_harp2
    from atmonr.store.ingest import ingest as make_scene

    def make(path: Path) -> None:
        scene = out if out.suffix == ".zarr" else out / f"{path.stem}.zarr"
        with open_harp2(path) as granule, progress_bar(path.name, quiet) as progress:
            make_scene(
                granule,
                scene,
                bbox=crop_bbox,
                max_view_angle_deg=max_view_angle_deg,
                top_height_m=top_height_m,
                progress=progress,
            )
        typer.echo(scene)

    _check_place(granules, out)
    failures: list[AtmonrError] = []
    for path in granules:
        try:
            make(path)
        except AtmonrError as error:
            if len(granules) == 1:
                raise
            failures.append(error)
    if failures:
        typer.secho(f"{len(failures)} of {len(granules)} granules failed:", fg=typer.colors.RED, err=True)
        for failure in failures:
            typer.secho(str(failure), fg=typer.colors.RED, err=True)
        raise typer.Exit(failures[0].exit_code)


def _check_place(granules: list[Path], out: Path) -> None:
    """Refuse what would put scenes into a scene, or several into one."""
    if out.suffix == ".zarr" and len(granules) > 1:
        raise UsageError(
            f"{out}: is the name of one scene; for {len(granules)} granules choose a folder, without .zarr"
        )
    if out.suffix != ".zarr" and (out / "zarr.json").exists():
        raise UsageError(f"{out}: is a scene; choose a folder to hold scenes, or a name that ends in .zarr")
