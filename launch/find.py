"""Finding a task by what a user types."""

from __future__ import annotations

from collections.abc import Sequence

from atmonr.errors import UsageError
from launch.task import Task


def find_task(tasks: Sequence[Task], wanted: str) -> Task:
    """Return the task whose key begins so, or whose name is this; of two of one name, the field task.

    Raises:
        UsageError: If there is none, or more than one.
    """
    by_key = [task for task in tasks if wanted and task.key.startswith(wanted)]
    named = [task for task in tasks if task.name == wanted]
    by_name = [task for task in named if task.kind == "field"] or named
    by_granule = [task for task in tasks if task.granule == wanted and task.kind == "field"]
    for found in (by_key, by_name, by_granule):
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{task.key[:8]} ({task.kind} {task.name})" for task in found[:5])
            raise UsageError(f"task '{wanted}': is not the only one: {some}; give more of its key")
    raise UsageError(f"task '{wanted}': there is none; give the beginning of a key or a granule's name")
