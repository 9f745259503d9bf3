"""`atmonr quicklook`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import QuietOption


def quicklook(
    file: Annotated[
        Path, typer.Argument(help="HARP2 granule, scene, run, or an extract, curtain or truth file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Picture to make: .png, or .gif or .mp4 to animate; as a rule named as FILE."
        ),
    ] = None,
    animate: Annotated[
        bool, typer.Option("--animate", help="Show the angles of view of a granule or scene, as a GIF.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a picture of any product or granule."""
    from atmonr.cli.progress import progress_bar
    from atmonr.errors import UsageError
    from atmonr.quicklook.session import FILMS
    from atmonr.quicklook.session import quicklook as draw

    if animate and out is not None and out.suffix.lower() not in FILMS:
        raise UsageError(f"{out}: --animate makes a film; expected a name that ends in {' or '.join(FILMS)}")
    out = out or Path(f"{file.resolve().stem}{'.gif' if animate else '.png'}")
    with progress_bar(file.name, quiet) as progress:
        draw(file, out, progress)
    typer.echo(out)
