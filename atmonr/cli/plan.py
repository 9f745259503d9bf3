"""What `atmonr train --dry-run` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atmonr.train.plan import RAY_BYTES, Plan, SceneWork


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines that tell what each group and each scene can expect."""
    groups, tiles = plan.ranks.groups, len(plan.ranks.tile_owners)
    todo = sum(len(mine) for mine in plan.taken)
    split = f", {tiles} tiles a scene" if tiles > 1 else ""
    yield (
        f"{len(groups) * len(groups[0])} ranks in {len(groups)} groups of {len(groups[0])}{split}; "
        f"{todo} scenes to train in {plan.waves} waves, {len(plan.scenes) - todo} finished"
    )
    yield ""
    head = ("group", "ranks", "busy", "scenes (a group that is free takes the next)")
    yield from _columns([head, *_group_rows(plan)])
    yield ""
    head_of_scenes = ("scene", "rays", "rays/rank", "MB/rank", "steps left")
    yield from _columns([head_of_scenes, *(_scene_row(plan, scene) for scene in plan.scenes)])
    if tiles > 1:
        yield "rays/rank are even shares; ranks hold more, as a tile holds all rays that pass through it"


def _group_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """Yield number, ranks, share of the time at work and expected scenes of every group."""
    groups = zip(plan.ranks.groups, plan.taken, plan.busy, strict=True)
    for number, (group, mine, busy) in enumerate(groups):
        ranks = f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0])
        names = " ".join(plan.scenes[scene].name for scene in mine)
        yield str(number), ranks, f"{busy:.0%}", names or "none"


def _scene_row(plan: Plan, scene: SceneWork) -> tuple[str, ...]:
    held = plan.rays_per_rank(scene)
    if held is None:
        return scene.name, "?", "?", "?", str(scene.steps_left)
    most = max(held)
    return scene.name, str(scene.rays), str(most), f"{most * RAY_BYTES / 1e6:.1f}", str(scene.steps_left)


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield lines with the cells of a column under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
