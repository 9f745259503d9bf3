"""Which jobs to submit, and which of them must wait for which.

Schedulers hold jobs back until others have ended. So one `submit` is enough: what may begin, begins; jobs for
what must not begin yet, such as training of scenes that are still to be ingested, are queued behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launch.board import Board
from launch.site import Pool
from launch.task import Task


@dataclass(frozen=True)
class Wave:
    """Jobs of one pool that start together.

    Attributes:
        pool: Name of it.
        jobs: How many.
        tasks: Left to do in them.
        canaries: Whether they do nothing but what goes first, since more jobs follow.
        after: Positions of the waves that must have ended; those that are not listed were submitted before.
        held: Whether jobs that wait or run already must have ended, too.
    """

    pool: str
    jobs: int
    tasks: Sequence[Task]
    canaries: bool = False
    after: tuple[int, ...] = ()
    held: bool = False


def waves(pools: Mapping[str, Pool], board: Board, alive: Mapping[str, int], *, ahead: bool) -> list[Wave]:
    """Return what to submit, in this order.

    Args:
        pools: Of the site.
        board: Where the tasks stand.
        alive: Number of jobs that wait or run, by pool.
        ahead: Also jobs for what must not begin yet; else somebody is there to submit them when it may.
    """
    found: list[Wave] = []
    for name in sorted(pools):  # cpu, whose scenes gpu needs, is first
        pool, left = pools[name], [board.tasks[key] for key in board.remaining((name,))]
        now = [task for task in left if board.status(task.key) != "waiting" and board.admitted(task)]
        groups = [(now, all(map(board.goes_first, now)))]
        if ahead:
            chosen = {task.key for task in now}
            later = [task for task in left if task.key not in chosen]
            first = [
                task for task in later if board.goes_first(task) and board.tasks[task.needs].pool != name
            ]
            groups += [(first, True), (_without(later, first), False)]
        found = [*found, *_of_pool(name, pool, groups, alive[name], found)]
    return found


def _of_pool(
    name: str, pool: Pool, groups: Sequence[tuple[list[Task], bool]], alive: int, before: Sequence[Wave]
) -> Iterator[Wave]:
    """Share out a pool's jobs among groups of tasks, each beside whether its tasks go first.

    Jobs of one group go on with the next, unless they do nothing but what goes first, so that each adds only
    what there is more to do.
    """
    counts, tasks, jobs = [], 0, alive
    for group, _ in groups:
        tasks += len(group)
        counts.append(max(0, min(pool.max_jobs, math.ceil(tasks / pool.slots)) - jobs))
        jobs += counts[-1]
    own: list[int] = []
    for place, (group, first) in enumerate(groups):
        if counts[place]:
            canaries = first and any(counts[place + 1 :])
            pilots = [number for number, wave in enumerate(before) if wave.canaries] if first else []
            earlier = (pilots or list(range(len(before)))) + own if place else []
            yield Wave(name, counts[place], group, canaries, tuple(earlier), held=place > 0)
            own.append(len(before) + len(own))


def _without(tasks: Sequence[Task], others: Sequence[Task]) -> list[Task]:
    keys = {task.key for task in others}
    return [task for task in tasks if task.key not in keys]
