"""How training advances: each group of ranks leaves a note now and then; rank 0 shows them (see watch.py).

Notes travel through the store by which the ranks met, so that no group waits for another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from atmonr.errors import LostRankError
from atmonr.world import World

EVERY_S = 1.0


@dataclass
class Row:
    """What one group is doing.

    Attributes:
        scene: In hand; "" when there is none.
        step: Steps done.
        steps: Of the whole training.
        loss: Last logged; None before.
        steps_per_s: Likewise.
        finished: Scenes that this group has finished in this session.
        failed: Scenes that failed.
    """

    scene: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    steps_per_s: float | None = None
    finished: int = 0
    failed: int = 0

    @classmethod
    def from_note(cls, note: str) -> Row:
        """Read what `Progress` posted."""
        return cls(**json.loads(note))

    @property
    def time_left(self) -> str:
        """Hours, minutes and seconds that the scene still takes; "" if that is not known yet."""
        if not self.steps_per_s:
            return ""
        minutes, seconds = divmod(round((self.steps - self.step) / self.steps_per_s), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"


def note_name(session: int, group: int) -> str:
    """Name under which a group posts its row."""
    return f"progress of session {session} group {group}"


def post_empty_rows(world: World, session: int, groups: int) -> None:
    """Let rank 0 read the row of every group from the start; called before any group begins."""
    for group in range(groups):
        world.post(note_name(session, group), json.dumps(asdict(Row())))


class Progress:
    """What one group tells of itself, at most once a second."""

    def __init__(
        self, world: World, session: int, group: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a scene.

        Args:
            world: All ranks.
            session: Number of the session.
            group: Position of the group; None where another rank of it tells, or nobody looks.
            clock: Seconds that only ever grow.
        """
        self._world = world
        self._name = None if group is None else note_name(session, group)
        self._clock = clock
        self._next_s = clock()
        self.row = Row()

    def take(self, scene: str) -> None:
        """Called when the group takes a scene, before it is loaded."""
        self.row = Row(scene, finished=self.row.finished, failed=self.row.failed)
        self._post()

    def begin(self, steps: int, start_step: int) -> None:
        """Called when the scene's training begins or continues."""
        self.row.step, self.row.steps = start_step, steps
        self._post()

    def advance(self, step: int) -> None:
        """Called after every step with the number of steps done."""
        self.row.step = step
        if self._clock() >= self._next_s:
            self._post()

    def report(self, record: Mapping[str, Any]) -> None:
        """Called with every record of metrics; it has `step`, `loss` and `steps_per_s`."""
        self.row.step, self.row.loss = record["step"], record["loss"]
        self.row.steps_per_s = record["steps_per_s"]
        if self.row.step >= self.row.steps:
            self._post()  # the last figures, which the time for closing pictures would leave unseen

    def end(self, *, failed: bool) -> None:
        """Called when a scene's training has ended, well or not."""
        self.row.scene = ""
        self.row.failed += failed
        self.row.finished += not failed
        self._post()

    def _post(self) -> None:
        self._next_s = self._clock() + EVERY_S
        if self._name is not None:
            with suppress(LostRankError):  # nobody is left to look; training goes on
                self._world.post(self._name, json.dumps(asdict(self.row)))
