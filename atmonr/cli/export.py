"""`atmonr export`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atmonr.cli.options import QuietOption
from atmonr.device import DeviceKind
from atmonr.errors import UsageError


def export(
    extract: Annotated[Path, typer.Argument(help="netCDF file on a voxel grid that `atmonr merge` made.")],
    vdb: Annotated[Path | None, typer.Option(help="OpenVDB file to make.")] = None,
    video: Annotated[Path | None, typer.Option(help="MP4 file to make.")] = None,
    html: Annotated[Path | None, typer.Option(help="Self-contained page to make.")] = None,
    score: Annotated[
        Path | None, typer.Option(help="Scores that `atmonr evaluate` wrote, for the page.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="OpenVDB: 16 bits a value instead of 32.")] = False,
    threshold_per_m: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=0, help="OpenVDB, video: leave out cells below this extinction [1/m]."
        ),
    ] = None,
    path: Annotated[
        Literal["turntable", "flyover"], typer.Option(help="Video: around the scene, or along the track.")
    ] = "turntable",
    size: Annotated[str, typer.Option(help="Video: width x height in pixels, both even.")] = "1280x720",
    fps: Annotated[int, typer.Option(min=1, max=240, help="Video: frames per second.")] = 24,
    seconds: Annotated[float, typer.Option(min=0, help="Video: duration.")] = 8.0,
    sun: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="ZENITH AZIMUTH", help="Video: the sun [degrees]; as a rule that of the product."
        ),
    ] = None,
    exaggerate: Annotated[
        float, typer.Option(min=1, help="Video: stretch heights, where a scene is far wider than high.")
    ] = 1.0,
    device: Annotated[DeviceKind, typer.Option(help="Video: where to render.")] = "auto",
    quiet: QuietOption = False,
) -> None:
    """Show a product in other programs: OpenVDB, video, a page for the browser."""
    from atmonr.cli.progress import progress_bar

    wanted = [out for out in (vdb, video, html) if out is not None]
    if not wanted:
        raise UsageError("nothing to export: give --vdb, --video, --html or several of them")
    for out in wanted:
        if out.exists():
            raise UsageError(f"{out}: exists already; choose another name or remove it first")
    film = None
    if video is not None:
        from atmonr.export.video import Film, parse_size

        width, height = parse_size(size)
        film = Film(path, width, height, fps, seconds, sun, exaggerate, threshold_per_m)
    if vdb is not None:
        from atmonr.export.vdb import write_vdb

        with progress_bar("OpenVDB", quiet) as progress:
            write_vdb(extract, vdb, half=half, threshold_per_m=threshold_per_m, progress=progress)
        typer.echo(vdb)
    if video is not None and film is not None:
        from atmonr.device import choose_device
        from atmonr.export.video import write_video

        with progress_bar("video", quiet) as progress:
            write_video(extract, video, film, device=choose_device(device, 0), progress=progress)
        typer.echo(video)
    if html is not None:
        from atmonr.export.html import write_html

        write_html(extract, html, score)
        typer.echo(html)
