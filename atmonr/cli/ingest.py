"""`atmonr ingest`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import BoxOption, QuietOption
from atmonr.errors import UsageError


def ingest(
    granules: Annotated[list[Path], typer.Argument(metavar="GRANULE...", help="HARP2 L1B files.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Scene to make; for several granules, the folder of their scenes."),
    ],
    bbox: BoxOption = None,
    max_view_zenith_deg: Annotated[
        float, typer.Option("--max-view-zenith", min=0, max=85, help="Leave out more oblique rays [degrees].")
    ] = 75.0,
    top_height_m: Annotated[
        float,
        typer.Option(min=100, max=50_000, help="Top of the modelled atmosphere above the ellipsoid [m]."),
    ] = 20_000.0,
    quiet: QuietOption = False,
) -> None:
    """Turn satellite granules into scenes."""
    from atmonr.cli.progress import progress_bar
    from atmonr.sensors.harp2 import open_harp2
    from atmonr.store.ingest import ingest as make_scene

    if len(granules) > 1 and (out / "zarr.json").exists():
        raise UsageError(f"{out}: is a scene; for several granules choose a folder to hold their scenes")
    for path in granules:
        scene = out if len(granules) == 1 else out / f"{path.stem}.zarr"
        with open_harp2(path) as granule, progress_bar(path.name, quiet) as progress:
            make_scene(
                granule,
                scene,
                bbox=bbox,
                max_view_zenith_deg=max_view_zenith_deg,
                top_height_m=top_height_m,
                progress=progress,
            )
        typer.echo(scene)
