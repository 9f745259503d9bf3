"""`atmonr evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    extract: Annotated[Path, typer.Argument(help="netCDF file that `atmonr merge` made.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file for the scores.")],
    truth: Annotated[Path | None, typer.Option(help="True extinction, if it is known.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder, for the scores of held-out rays.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures.")] = None,
    coarsen: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Average N x N columns first, where the truth is finer than pixels.",
        ),
    ] = 1,
) -> None:
    """Score an extract against truth, and the run against the rays it never saw."""
    from atmonr.cli.tables import show_scores
    from atmonr.evaluate.session import evaluate as score

    show_scores(score(extract, truth=truth, run=run, out=out, pictures=pictures, coarsen=coarsen))
