"""`atmonr evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    extract: Annotated[Path, typer.Argument(help="netCDF file that `atmonr merge` made.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file for the scores.")],
    truth: Annotated[Path | None, typer.Option(help="True extinction, if it is known.")] = None,
    earthcare: Annotated[
        Path | None, typer.Option(help="EarthCARE ATL_EBD_2A file whose track crosses the extract.")
    ] = None,
    max_time_offset_s: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="How much earlier or later the lidar may have passed."),
    ] = 300.0,
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
    """Score an extract against truth or a lidar, and the run against the rays it never saw."""
    from atmonr.cli.tables import show_scores
    from atmonr.evaluate.session import evaluate as score

    show_scores(
        score(
            extract,
            truth=truth,
            run=run,
            out=out,
            pictures=pictures,
            coarsen=coarsen,
            earthcare=earthcare,
            max_time_offset_s=max_time_offset_s,
        )
    )
