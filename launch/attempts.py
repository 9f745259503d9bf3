"""The attempts at one task, as its folder tells them.

    claim-0001.json  end-0001.json  claim-0002.json …  pardon-0001.json  cancelled.json  log-0001.txt
    stage-train.json …

The number is a fencing token. Attempt n + 1 can be claimed only after attempt n has an end record, which its
owner writes, or whoever finds the owner's heartbeat stale. Only one of them can: an owner that was taken for
dead finds the record there and knows that what it did no longer counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atmonr.json_file import read_json
from launch.disk import names_in, publish
from launch.policy import Adjustment, Verdict, verdict

CANCELLED_FILE = "cancelled.json"


@dataclass(frozen=True)
class State:
    """Where a task stands.

    Attributes:
        status: "ready", "running", "done", "failed", "quarantined", "cancelled".
        number: Of the newest attempt; 0 if there was none.
        claim: Record of the beginning of the attempt that goes on; {} if none does.
        end: Record of the newest ended attempt; {} if there was none.
        verdict: What follows from the ended attempts.
    """

    status: str
    number: int
    claim: Mapping[str, Any]
    end: Mapping[str, Any]
    verdict: Verdict

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the task unless somebody asks for it."""
        return self.status in ("done", "failed", "quarantined", "cancelled")

    @property
    def adjustment(self) -> Adjustment:
        """How the next attempt differs from the first."""
        return self.verdict.adjustment


NEW = State("ready", 0, {}, {}, Verdict("ready"))


def read_state(folder: Path) -> State:
    """Return where a task stands; a folder that does not exist is a task that nobody has begun.

    Raises:
        StoreError: If the folder cannot be read.
        ResumeError: If a record in it is damaged.
    """
    return state_of(folder, names_in(folder))


def state_of(folder: Path, names: list[str]) -> State:
    """As `read_state`, of a folder that has just been listed: equal names mean an equal state."""
    if not names:
        return NEW
    claims, ends, pardons = (_numbers(names, kind) for kind in ("claim", "end", "pardon"))
    records = [read_json(folder / f"end-{number:04d}.json") for number in ends]
    judged = verdict(records, max(pardons, default=0))
    number = max(claims, default=0)
    running = number > max(ends, default=0)
    claim = read_json(folder / f"claim-{number:04d}.json") if running else {}
    status = "running" if running else judged.status
    if CANCELLED_FILE in names and status == "ready":
        status = "cancelled"
    return State(status, number, claim, records[-1] if records else {}, judged)


def all_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return {number, claim, end} of every attempt, the oldest first; `end` is {} while it goes on."""
    names = names_in(folder)
    ended = set(_numbers(names, "end"))
    return [
        {
            "number": number,
            "claim": read_json(folder / f"claim-{number:04d}.json"),
            "end": read_json(folder / f"end-{number:04d}.json") if number in ended else {},
        }
        for number in _numbers(names, "claim")
    ]


def claim(folder: Path, number: int, record: Mapping[str, Any], *, durable: bool = True) -> bool:
    """Begin attempt `number`; return whether nobody else has."""
    return publish(folder / f"claim-{number:04d}.json", record, durable=durable)


def finish(folder: Path, number: int, record: Mapping[str, Any], *, durable: bool = True) -> bool:
    """End attempt `number`; return False if somebody else has, and this record then does not count."""
    return publish(folder / f"end-{number:04d}.json", record, durable=durable)


def ended(folder: Path, number: int) -> bool:
    """Return whether attempt `number` has ended, perhaps by somebody who took its worker for dead."""
    return (folder / f"end-{number:04d}.json").exists()


def pardon(folder: Path, number: int) -> bool:
    """Let the attempts up to `number` no longer use up retries; return False if that was so already."""
    return publish(folder / f"pardon-{number:04d}.json", {"attempts": number})


def log_file(folder: Path, number: int) -> Path:
    """What the commands of an attempt printed."""
    return folder / f"log-{number:04d}.txt"


def stage_file(folder: Path, stage: str) -> Path:
    """Record that a stage is complete."""
    return folder / f"stage-{stage}.json"


def _numbers(names: list[str], kind: str) -> list[int]:
    """The numbers in names such as claim-0001.json, sorted as the names are."""
    prefix = f"{kind}-"
    return [int(name[len(prefix) : -5]) for name in names if name.startswith(prefix)]
