"""What a worker is told, and what it has in hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launch.child import Child
from launch.policy import Adjustment
from launch.task import Stage, Task


@dataclass(frozen=True)
class Terms:
    """What a worker is told when it starts.

    Attributes:
        name: Of the worker, unlike any other's.
        host: Its node.
        job: What the scheduler calls its job; "" without one.
        pools: Kinds of tasks it does.
        slots: Tasks at a time.
        wall_s: Time until its job is ended; it stops by itself in good time.
        grace_s: What saving may take.
        heartbeat_s: Time between heartbeats.
        lease_s: Without a heartbeat for so long, others count it as gone.
        idle_s: How long it waits when there is nothing to take.
        task_s: {kind: time that a task takes}, as far as known; one that does not fit any more is not begun.
    """

    name: str
    host: str
    job: str
    pools: Sequence[str]
    slots: int
    wall_s: float
    grace_s: float
    heartbeat_s: float
    lease_s: float
    idle_s: float
    task_s: Mapping[str, float] = field(default_factory=dict)


# Starts the command of a stage: task, stage, its arguments, number of the attempt, its slot, the adjustment.
Start = Callable[[Task, Stage, list[str], int, int, Adjustment], Child]
# Tells how far a task has come, for people and to see whether it gets on: {"step": …}.
Progress = Callable[[Task, Adjustment], Mapping[str, Any]]


@dataclass
class Hand:
    """An attempt in hand.

    Attributes:
        task: Being done.
        number: Of the attempt.
        adjustment: How it differs from the first.
        slot: Of the worker.
        began_s: By the worker's clock.
        stage: Index of the stage at work; -1 before the first.
        stage_began_s: By the worker's clock.
        child: Its command, between whose end and the next stage's beginning there is none.
        asked_s: When the command was asked to end; None if it was not.
        cancelled: Whether its user has had enough of it.
    """

    task: Task
    number: int
    adjustment: Adjustment
    slot: int
    began_s: float
    stage: int = -1
    stage_began_s: float = 0.0
    child: Child | None = None
    asked_s: float | None = None
    cancelled: bool = False
