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
) -> None:
    """Verify every shard and write one netCDF file."""
    from atmonr.extract.merge import merge as merge_parts

    typer.echo(merge_parts(parts, out))
