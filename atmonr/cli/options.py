"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Box = tuple[float, float, float, float]

BoxOption = Annotated[
    Box | None,
    typer.Option("--bbox", metavar="W S E N", help="Keep this box [degrees]; W > E crosses the dateline."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
ShareGpuOption = Annotated[
    bool, typer.Option("--share-gpu", help="Let several ranks take turns on one GPU; as a rule a mistake.")
]
