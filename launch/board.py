"""Where all tasks stand, and which one a worker may take next.

What is final is remembered; the rest is read again from the tasks' folders when it is looked at, so that a
worker among thousands of tasks reads little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atmonr.errors import ResumeError
from launch.attempts import NEW, State, ended, state_of
from launch.campaign_file import Care
from launch.disk import names_in
from launch.folder import Folder
from launch.policy import DONE, POLICIES, Verdict
from launch.task import Task

OPEN = ("ready", "running", "waiting")
# How many tasks that are not over a worker looks at again at a time. Hundreds of idle workers would otherwise
# keep a file system busy with asking.
RELOOKS = 200
DAMAGED = "a record of the task is damaged"


@dataclass(frozen=True)
class Halt:
    """A reason to begin no more tasks.

    Attributes:
        cause: Class of failure.
        reason: In one line.
    """

    cause: str
    reason: str


class Board:
    """The tasks of a campaign as one process sees them."""

    def __init__(self, folder: Folder, tasks: Sequence[Task], care: Care, *, begin: int = 0) -> None:
        """Read nothing yet.

        Args:
            folder: Of the campaign.
            tasks: All its tasks.
            care: When to hold back and when to stop.
            begin: Where among the tasks to look first: other workers look elsewhere.
        """
        self.tasks = {task.key: task for task in tasks}
        self._folder = folder
        self._care = care
        self._final: dict[str, State] = {}
        self._ended: set[str] = set()  # those of the final ones that are not done
        self._running: dict[str, State] = {}
        self._listed: dict[str, tuple[list[str], State]] = {}  # names in the folders of those that are ready
        self._lifted_s = folder.lifted_s
        self._places: dict[str, Path] = {}
        self._counts: dict[str, Counter[str]] = {"scene": Counter(), "field": Counter()}
        self._canaries = {kind: canaries_of(tasks, kind, care) for kind in self._counts}
        self._totals = Counter(task.kind for task in tasks)
        # A field after its scene: wherever a worker begins to look, something to do is near.
        fields: dict[str, list[str]] = {}
        for task in tasks:
            fields.setdefault(task.needs, []).append(task.key)
        keys = [key for scene in fields.get("", ()) for key in (scene, *fields.get(scene, ()))]
        self._order = keys
        self._cursor = begin % max(1, len(keys))
        self._looked: set[str] = set()
        self._open_gates: set[str] = {kind for kind, keys in self._canaries.items() if not keys}

    def state(self, key: str) -> State:
        """Where a task stands by itself."""
        if (known := self._final.get(key)) is not None:
            return known
        folder = self._places.get(key) or self._places.setdefault(key, self._folder.of(self.tasks[key]))
        if (running := self._running.pop(key, None)) is not None and not ended(folder, running.number):
            self._running[key] = running
            return running
        names = names_in(folder)
        listed, state = self._listed.get(key, ([], NEW))
        try:
            # Records never change, so those of a task that waits for its next attempt are not read again.
            state = state if names == listed else state_of(folder, names)
        except ResumeError as error:
            # One damaged file must not hide all other tasks.
            state = State("failed", 0, {}, {}, Verdict("failed", "bug", f"{DAMAGED}: {error}"))
        if state.status == "running":
            self._running[key] = state
        elif not state.final:
            self._listed[key] = (names, state)
        if state.final:
            self._final[key] = state
            if state.status != DONE:
                self._ended.add(key)
            kind = self.tasks[key].kind
            if state.status == DONE or state.end.get("time_s", 0.0) >= self._lifted_s:
                self._counts[kind][DONE if state.status == DONE else state.verdict.failure] += 1
        return state

    def status(self, key: str) -> str:
        """Where a task stands, seen together with the one that it needs: also "waiting" and "blocked"."""
        needs = self.tasks[key].needs
        own = self.state(key).status
        if own != "ready" or not needs:
            return own
        before = self.state(needs)
        if before.status == "done":
            return own
        return "blocked" if before.final else "waiting"

    def candidates(self, pools: Sequence[str], now_s: float) -> Iterator[tuple[Task, State]]:
        """Yield tasks that may be begun, or taken over from a worker that is gone.

        Args:
            pools: Kinds of tasks that may be yielded.
            now_s: [s since 1970].
        """
        gates = {kind: self._gate_is_open(kind) for kind in self._canaries}
        for kind, keys in self._canaries.items():
            if not gates[kind]:
                yield from self._among(keys, pools, now_s)
        left = RELOOKS
        for _ in range(len(self._order)):
            key = self._order[self._cursor]
            self._cursor = (self._cursor + 1) % len(self._order)
            if key not in self._final and gates[self.tasks[key].kind]:
                left -= key in self._looked
                self._looked.add(key)
                yield from self._among((key,), pools, now_s)
                if left <= 0:
                    return

    def _among(self, keys: Sequence[str], pools: Sequence[str], now_s: float) -> Iterator[tuple[Task, State]]:
        for key in keys:
            task = self.tasks[key]
            if key in self._final or task.pool not in pools:
                continue
            if task.needs and self.state(task.needs).status != DONE:
                continue
            state = self.state(key)
            if state.status in ("ready", "running") and state.verdict.not_before_s <= now_s:
                yield task, state

    def remaining(self, pools: Sequence[str]) -> Iterator[str]:
        """Yield the keys of tasks of these pools that are not over."""
        for key in self._order:
            if key not in self._final and self.tasks[key].pool in pools and self.status(key) in OPEN:
                yield key

    def halt(self) -> Halt | None:
        """Return why the campaign should stop, as far as the tasks tell that this process has looked at."""
        for kind, counts in self._counts.items():
            for cause, policy in POLICIES.items():
                if policy.after == "halt" and counts[cause]:
                    return Halt(cause, f"{kind} task: {policy.meaning}: {self._example(kind, cause)}")
            total = counts.total()
            failures = {cause: number for cause, number in counts.items() if cause in POLICIES}
            # Few canaries are too few for the breaker, yet must not all die unheard.
            least = min(self._care.breaker_least, len(self._canaries[kind]) or self._care.breaker_least)
            if total < least or not failures:
                continue
            cause = max(failures, key=lambda name: failures[name])
            if failures[cause] > self._care.breaker_share * total:
                reason = f"{failures[cause]} of {total} {kind} tasks ended the same way, {cause}, such as: "
                return Halt(cause, reason + self._example(kind, cause))
        return None

    def learn(self) -> None:
        """Take over which tasks are done, without reading their records, and pass over them from now on."""
        for key in self._folder.marked_done() - self._final.keys():
            if key in self.tasks:
                self._final[key] = State(DONE, 0, {}, {}, Verdict(DONE))
                self._counts[self.tasks[key].kind][DONE] += 1
        place, before = self._cursor, len(self._order)
        self._order = [key for key in self._order if key not in self._final or key in self._ended]
        self._cursor = place * len(self._order) // max(1, before)

    def forget(self) -> None:
        """Look anew at tasks that ended without success, since somebody may have asked for them again."""
        for key in self._ended:
            del self._final[key]
        self._ended.clear()
        for counts in self._counts.values():
            done = counts[DONE]
            counts.clear()
            counts[DONE] = done

    def admitted(self, task: Task) -> bool:
        """Whether enough of the tasks that go first have succeeded, or this is one of them."""
        return task.key in self._canaries[task.kind] or self._gate_is_open(task.kind)

    def goes_first(self, task: Task) -> bool:
        """Whether others of its kind wait for how this one ends."""
        return task.key in self._canaries[task.kind] and not self._gate_is_open(task.kind)

    def _gate_is_open(self, kind: str) -> bool:
        canaries = self._canaries[kind]
        if kind not in self._open_gates:
            states = [self.status(key) for key in canaries]
            over = all(state not in OPEN for state in states)
            if over or 2 * states.count(DONE) >= len(canaries) or len(canaries) == self._totals[kind]:
                self._open_gates.add(kind)
        return kind in self._open_gates

    def _example(self, kind: str, cause: str) -> str:
        for key, state in self._final.items():
            if self.tasks[key].kind == kind and state.verdict.failure == cause and state.status != "done":
                return f"{self.tasks[key].name}: {state.verdict.reason}"
        return "no example is known"


def canaries_of(tasks: Sequence[Task], kind: str, care: Care) -> list[str]:
    """Keys of the tasks of a kind that go first."""
    return [task.key for task in tasks if task.kind == kind][: care.canaries]


def counts_of(statuses: Mapping[str, str]) -> dict[str, int]:
    """How many tasks are in each status, the most interesting first."""
    order = ("done", "running", "ready", "waiting", "failed", "quarantined", "blocked", "cancelled")
    counts = Counter(statuses.values())
    return {status: counts[status] for status in order if counts[status]}
