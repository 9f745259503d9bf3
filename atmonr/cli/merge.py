"""`atmonr merge`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PARTS...", help="Stores that `atmonr extract` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="netCDF file to make.")],
    horizontal_step_m: Annotated[
        float | None, typer.Option(help="[m], of a mosaic; as a rule that of the finest scene.")
    ] = None,
    vertical_step_m: Annotated[
        float | None, typer.Option(help="[m], of a mosaic; as a rule that of the finest scene.")
    ] = None,
) -> None:
    """Verify every shard and write one netCDF file; several scenes become a mosaic."""
    from atmonr.extract.merge import merge as merge_parts

    typer.echo(merge_parts(parts, out, horizontal_step_m=horizontal_step_m, vertical_step_m=vertical_step_m))
