"""`atmonr bench`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    scene: Annotated[Path | None, typer.Option(help="Scene; a small simulated one by default.")] = None,
) -> None:
    """Measure training steps per second and memory, beside the plain way to do the same."""
    from atmonr.bench import bench as measure
    from atmonr.cli.tables import show_scores

    show_scores(measure(scene), title="Bench")
