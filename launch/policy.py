"""What becomes of a task after each way in which an attempt can end.

An attempt ends in one of the classes below. Being preempted, running out of wall time or losing a node says
nothing about the task and never uses up a retry.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

After = Literal["failed", "quarantined", "halt"]


@dataclass(frozen=True)
class Policy:
    """How often a class is tried again, and what follows.

    Attributes:
        retries: Attempts beyond the first; None for any number.
        pause_s: Before the first retry; twice as long before each further one.
        after: What becomes of the task when no retry is left; "halt" also stops the campaign, since every
            other task would meet the same.
        meaning: For people.
    """

    retries: int | None
    pause_s: float
    after: After
    meaning: str


POLICIES: dict[str, Policy] = {
    "preempted": Policy(None, 0.0, "failed", "stopped after saving: preempted, or out of wall time"),
    # The limit is for a task that takes its node down with it.
    "lost": Policy(5, 0.0, "failed", "its worker vanished: node failed, or killed"),
    "gpu-memory": Policy(2, 0.0, "failed", "too little memory on the GPU"),
    "killed": Policy(2, 10.0, "failed", "killed by a signal, perhaps for its use of memory"),
    "io": Policy(5, 30.0, "failed", "reading or writing failed"),
    "input": Policy(0, 0.0, "quarantined", "the input is bad"),
    "diverged": Policy(1, 0.0, "quarantined", "training diverged"),
    "config": Policy(0, 0.0, "halt", "the configuration is wrong"),
    "bug": Policy(1, 0.0, "failed", "an error of an unknown kind"),
}
DONE, CANCELLED = "done", "cancelled"

_BY_CODE = {
    0: DONE,
    2: "config",  # a command line that atmonr refuses is refused for every task
    65: "input",
    70: "diverged",
    74: "io",
    75: "preempted",
    76: "gpu-memory",
    77: "config",
    78: "config",
}
_NO_PROGRESS = 3


def class_of(code: int, *, stopping: bool) -> str:
    """Name the class of an ended child process.

    Args:
        code: Its exit code; that of a process that a signal ended is negative, or 128 and more if a shell
            tells.
        stopping: Whether the worker had asked it to stop; dying from that is no fault.
    """
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code < 0 or code in {128 + int(number) for number in signal.Signals}:
        return "preempted" if stopping else "killed"
    return "bug"


@dataclass(frozen=True)
class Adjustment:
    """How a retry differs from the first attempt.

    Attributes:
        seed: Added to train.seed: another beginning after training diverged.
        doublings: How often the parts that the rays of a batch are taken in are doubled, after the GPU's
            memory did not suffice. What is learned stays the same, and the run goes on where it was.
    """

    seed: int = 0
    doublings: int = 0

    @property
    def suffix(self) -> str:
        """What tells the adjusted run's folder from the first's, which holds what came of another seed."""
        return f"-seed{self.seed}" * (self.seed > 0)


@dataclass(frozen=True)
class Verdict:
    """What is to become of a task whose newest attempt is over.

    Attributes:
        status: "ready", "done", "failed", "quarantined" or "cancelled".
        failure: Class of the newest attempt that did not succeed; "" if none.
        reason: Why, in one line; "" if all is well.
        not_before_s: When a retry may begin [s since 1970].
        adjustment: Of the next attempt.
    """

    status: str
    failure: str = ""
    reason: str = ""
    not_before_s: float = 0.0
    adjustment: Adjustment = Adjustment()


def verdict(ends: Sequence[dict[str, Any]], pardoned: int = 0) -> Verdict:
    """Judge a task by how its attempts ended.

    Args:
        ends: Records of ended attempts, the oldest first; each has `class`, `reason`, `time_s`, `stage`,
            `step`.
        pardoned: So many of the first attempts no longer use up retries.
    """
    if not ends:
        return Verdict("ready")
    last = ends[-1]
    kind, reason = last["class"], last.get("reason", "")
    adjustment = _adjustment(ends)
    if kind == DONE:
        return Verdict("done", adjustment=adjustment)
    counted = ends[pardoned:]
    if kind == CANCELLED or not counted:
        return Verdict("ready", kind, reason, adjustment=adjustment)
    policy = POLICIES[kind]
    used = Counter(end["class"] for end in counted)[kind]
    if kind == "preempted" and _stuck(counted):
        reason = f"no progress in {_NO_PROGRESS} attempts, at {last.get('stage')}; it needs more wall time"
        return Verdict("failed", kind, reason, adjustment=adjustment)
    if policy.retries is not None and used > policy.retries:
        return Verdict(
            "failed" if policy.after == "halt" else policy.after, kind, reason, adjustment=adjustment
        )
    pause_s = policy.pause_s * 2.0 ** (used - 1)
    return Verdict("ready", kind, reason, last["time_s"] + pause_s if pause_s else 0.0, adjustment)


def _adjustment(ends: Sequence[dict[str, Any]]) -> Adjustment:
    """Follow from the classes alone, so that every worker comes to the same."""
    in_training = Counter(end["class"] for end in ends if end.get("stage") == "train")
    return Adjustment(in_training["diverged"], in_training["gpu-memory"])


def _stuck(ends: Sequence[dict[str, Any]]) -> bool:
    """Whether the newest attempts used up their wall time and came no further."""
    newest = ends[-_NO_PROGRESS:]
    places = {(end["class"], end.get("stage"), end.get("step")) for end in newest}
    return len(newest) == _NO_PROGRESS and len(places) == 1 and all(end.get("wall_over") for end in newest)
