"""`atmonr bench`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atmonr.world import World


def bench(
    scene: Annotated[Path | None, typer.Option(help="Scene; a small simulated one by default.")] = None,
    granule: Annotated[
        Path | None,
        typer.Option("--ingest", metavar="GRANULE", help="Measure its way to the device instead."),
    ] = None,
) -> None:
    """Measure training steps beside plain ones or, on several ranks, ways to share them beside one rank."""
    from atmonr.world import World

    if granule is not None:
        _beside_reading(granule)
        return
    with World.detect() as world:
        if world.size == 1:
            _beside_plain(scene)
        else:
            _beside_one_rank(world, scene)


def _beside_reading(granule: Path) -> None:
    from atmonr.bench_ingest import bench_ingest
    from atmonr.cli.tables import show_scores

    show_scores(bench_ingest(granule), title="Bench of ingest")


def _beside_plain(scene: Path | None) -> None:
    from atmonr.bench import bench as measure
    from atmonr.cli.tables import show_scores

    show_scores(measure(scene), title="Bench")


def _beside_one_rank(world: World, scene: Path | None) -> None:
    from atmonr.bench_ranks import bench_ranks
    from atmonr.cli.tables import show_rows

    rows = bench_ranks(world, scene)
    if world.rank == 0:
        shown = [
            {name: f"{v:.3g}" if isinstance(v, float) else str(v) for name, v in row.items()} for row in rows
        ]
        show_rows(shown, always=list(rows[0]), title=f"Bench on {world.size} ranks")
