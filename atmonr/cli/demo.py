"""`atmonr demo`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atmonr.cli.options import QuietOption


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")] = Path(
        "demo"
    ),
    ranks: Annotated[int, typer.Option(min=1, help="MPI ranks.")] = 2,
    quiet: QuietOption = False,
) -> None:
    """Simulate a cloud, recover it from its images, and compare the two."""
    from atmonr.demo import demo as run_demo

    run_demo(out, ranks=ranks, quiet=quiet)
