"""A worker: takes tasks from the campaign folder and runs their commands, as long as its job lasts.

Schedulers start workers and know nothing of tasks. A worker that dies loses nothing but the attempts it had
in hand; another finds its heartbeat stale and takes them over.
"""

from __future__ import annotations

import zlib
from typing import Any

from atmonr.errors import AtmonrError, StoreError
from launch.attempts import CANCELLED_FILE, State, claim, ended, finish, stage_file
from launch.board import Board
from launch.clock import Clock
from launch.disk import publish
from launch.folder import Folder
from launch.lost import declare_lost
from launch.policy import CANCELLED, DONE, class_of
from launch.task import Stage, Task, arguments_of, output_of
from launch.terms import Hand, Progress, Start, Terms

KILL_RESERVE_S = 5.0  # of the grace time, for what does not end by itself

LEARN_EVERY = 15  # heartbeats


class Worker:
    """One worker. `tick` does what is due and never waits."""

    def __init__(
        self, folder: Folder, board: Board, terms: Terms, *, clock: Clock, start: Start, progress: Progress
    ) -> None:
        """Begin nothing yet.

        Args:
            folder: Of the campaign.
            board: Its tasks.
            terms: What the worker is told.
            clock: The time.
            start: Starts commands.
            progress: Tells how far a task has come.
        """
        self._folder, self._board, self._terms = folder, board, terms
        self._clock, self._start, self._progress = clock, start, progress
        self._hands: list[Hand] = []
        self._born_s = self._beaten_s = self._busy_s = clock.monotonic_s()
        self._next_beat_s = self._looked_s = self._next_learn_s = float("-inf")
        self._file_time_s = 0.0
        self._stop_s: float | None = None
        self._wall_over = self._nothing_left = False
        self.durable = True

    @property
    def over(self) -> bool:
        """Whether nothing is in hand and nothing more will be taken."""
        return not self._hands and (self._stop_s is not None or self._idle_too_long())

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped while the campaign went on."""
        return self._stop_s is not None

    def stop(self) -> None:
        """Take no more; the next tick asks commands to save and end. A signal handler may call this."""
        if self._stop_s is None:
            self._stop_s = self._clock.monotonic_s()

    def abandon(self) -> None:
        """Leave no process behind."""
        for hand in self._hands:
            if hand.child is not None:
                hand.child.kill()

    def tick(self) -> None:
        """Do what is due."""
        now_s = self._clock.monotonic_s()
        if now_s - self._born_s >= self._terms.wall_s - self._terms.grace_s and self._stop_s is None:
            self._wall_over = True
            self.stop()
        if now_s >= self._next_beat_s:
            self._beat(now_s)
        self._end_commands(now_s)
        for hand in list(self._hands):
            self._attend(hand, now_s)
        if self._stop_s is None and len(self._hands) < self._terms.slots and now_s >= self._looked_s:
            self._take(now_s)

    def _end_commands(self, now_s: float) -> None:
        """Ask those to end that should, each once, and end those that do not in time."""
        for hand in self._hands:
            if hand.child is None or not (hand.cancelled or self._stop_s is not None):
                continue
            if hand.asked_s is None:
                hand.asked_s = now_s
                hand.child.stop()
            elif now_s - hand.asked_s >= max(1.0, self._terms.grace_s - KILL_RESERVE_S):
                hand.child.kill()

    # Heartbeat ---------------------------------------------------------------------------------------------

    def _beat(self, now_s: float) -> None:
        """Tell that this worker lives, and see what others have done meanwhile."""
        record = {
            "worker": self._terms.name,
            "host": self._terms.host,
            "job": self._terms.job,
            "tasks": {hand.task.key: self._at(hand) for hand in self._hands},
        }
        try:
            self._file_time_s = self._clock.stamp(self._folder.worker(self._terms.name), record)
            self._beaten_s = now_s
            for hand in list(self._hands):
                self._look_after(hand)
        except StoreError:
            # Whoever cannot be heard will be taken for dead: it must be dead by then.
            if now_s - self._beaten_s >= self._terms.lease_s / 2:
                for hand in list(self._hands):
                    self._drop(hand)
                self.stop()  # its attempts are others' to end, once it is silent
            self._next_beat_s = now_s + self._terms.heartbeat_s / 4
            return
        self._next_beat_s = now_s + self._terms.heartbeat_s

    def _at(self, hand: Hand) -> dict[str, Any]:
        name = hand.task.stages[hand.stage].name if hand.stage >= 0 else ""
        return {"attempt": hand.number, "stage": name, **self._progress(hand.task, hand.adjustment)}

    def _look_after(self, hand: Hand) -> None:
        if ended(self._folder.of(hand.task), hand.number):
            self._drop(hand)  # taken over by somebody else
        elif not hand.cancelled and (self._folder.of(hand.task) / CANCELLED_FILE).exists():
            hand.cancelled = True

    def _drop(self, hand: Hand) -> None:
        """Let go of an attempt that is this worker's no more."""
        if hand.child is not None:
            hand.child.kill()
        self._hands.remove(hand)

    # Running -----------------------------------------------------------------------------------------------

    def _attend(self, hand: Hand, now_s: float) -> None:
        """See whether a command has ended, and begin the next."""
        if hand.child is None:
            self._next_stage(hand, now_s)
            return
        code = hand.child.poll()
        if code is None:
            return
        kind = class_of(code, stopping=hand.cancelled or self._stop_s is not None)
        if kind != DONE:
            kind = CANCELLED if hand.cancelled and kind == "preempted" else kind
            self._end(hand, kind, hand.child.last_words(), now_s, code)
            return
        stage = hand.task.stages[hand.stage]
        record = {"attempt": hand.number, "seconds": now_s - hand.stage_began_s}
        publish(stage_file(self._folder.of(hand.task), stage.name), record, durable=self.durable)
        hand.child = None
        self._next_stage(hand, now_s)

    def _next_stage(self, hand: Hand, now_s: float) -> None:
        """Begin the next command that is not done; after the last, the task is."""
        for number in range(hand.stage + 1, len(hand.task.stages)):
            stage = hand.task.stages[number]
            if self._is_done(hand, stage):
                continue
            if hand.cancelled or self._stop_s is not None:
                self._end(hand, CANCELLED if hand.cancelled else "preempted", "", now_s)
                return
            hand.stage, hand.stage_began_s, hand.asked_s = number, now_s, None
            arguments = arguments_of(stage, hand.task, self._folder.path, hand.adjustment)
            try:
                hand.child = self._start(hand.task, stage, arguments, hand.number, hand.slot, hand.adjustment)
            except AtmonrError as error:
                self._end(hand, class_of(error.exit_code, stopping=False), str(error), now_s)
            return
        self._end(hand, DONE, "", now_s)

    def _is_done(self, hand: Hand, stage: Stage) -> bool:
        if stage_file(self._folder.of(hand.task), stage.name).exists():
            return True
        output = output_of(stage, hand.task, hand.adjustment)
        return bool(output) and (self._folder.path / output).exists()

    def _end(self, hand: Hand, kind: str, reason: str, now_s: float, code: int | None = None) -> None:
        """Record how an attempt ended; nothing is changed if somebody else has ended it."""
        record = {
            "class": kind,
            "reason": reason,
            "code": code,
            "stage": hand.task.stages[hand.stage].name if hand.stage >= 0 else "",
            "time_s": self._file_time_s + (now_s - self._beaten_s),
            "seconds": now_s - hand.began_s,
            "wall_over": self._wall_over,
            "worker": self._terms.name,
            "host": self._terms.host,
            "job": self._terms.job,
            **self._progress(hand.task, hand.adjustment),
        }
        # In hand until it is written: if the disk refuses now, the next tick comes here again.
        counts = finish(self._folder.of(hand.task), hand.number, record, durable=self.durable)
        if counts and kind == DONE:
            publish(self._folder.done_mark(hand.task.key), {}, durable=False)
        self._hands.remove(hand)
        self._busy_s = self._looked_s = now_s  # there may be more to take now
        self._board.state(hand.task.key)
        halt = self._board.halt()
        if halt is not None:
            record = {"cause": halt.cause, "reason": halt.reason, "time_s": record["time_s"]}
            publish(self._folder.halt_file, record, durable=self.durable)

    # Taking ------------------------------------------------------------------------------------------------

    def _take(self, now_s: float) -> None:
        """Fill free slots with tasks, if there are any."""
        if self._folder.halted() is not None or self._folder.bad_node(self._terms.host).exists():
            self._looked_s = now_s + self._terms.heartbeat_s
            return
        if self._next_learn_s == float("-inf"):  # a new worker
            self._learn(now_s)
        for task, state in self._board.candidates(self._terms.pools, self._file_time_s):
            if not self._fits(task, now_s):
                continue
            mine = any(hand.task is task for hand in self._hands)
            if state.status == "running" and (mine or not self._declare_lost(task, state)):
                continue
            if self._claim(task, now_s) and len(self._hands) >= self._terms.slots:
                return
        if not self._hands:
            self._learn(now_s)
            self._board.forget()
            self._nothing_left = next(self._board.remaining(self._terms.pools), None) is None
        # What others do meanwhile is seen soon enough with the next heartbeat.
        self._looked_s = now_s + self._terms.heartbeat_s

    def _learn(self, now_s: float) -> None:
        """See at once what is done already: when the worker is new, and from time to time when it is idle."""
        if now_s >= self._next_learn_s:
            self._board.learn()
            self._next_learn_s = now_s + LEARN_EVERY * self._terms.heartbeat_s

    def _fits(self, task: Task, now_s: float) -> bool:
        """Whether a task can be done in the time left, or, of a very long one, a good part of it."""
        whole_s = self._terms.wall_s - self._terms.grace_s
        left_s = whole_s - (now_s - self._born_s)
        return left_s >= min(self._terms.task_s.get(task.kind, 0.0), whole_s / 2)

    def _claim(self, task: Task, now_s: float) -> bool:
        folder, state = self._folder.of(task), self._board.state(task.key)
        if state.status != "ready":
            return False
        record = {
            "worker": self._terms.name,
            "host": self._terms.host,
            "job": self._terms.job,
            "time_s": self._file_time_s + (now_s - self._beaten_s),
            "seed": state.adjustment.seed,
            "doublings": state.adjustment.doublings,
        }
        if not claim(folder, state.number + 1, record, durable=self.durable):
            return False
        used = {hand.slot for hand in self._hands}
        slot = next(slot for slot in range(self._terms.slots) if slot not in used)
        hand = Hand(task, state.number + 1, state.adjustment, slot, now_s)
        self._hands.append(hand)
        self._busy_s = now_s
        self._next_stage(hand, now_s)
        return True

    def _declare_lost(self, task: Task, state: State) -> bool:
        return declare_lost(
            self._folder,
            task,
            state,
            now_s=self._file_time_s,
            lease_s=self._terms.lease_s,
            by=self._terms.name,
            durable=self.durable,
        )

    def _idle_too_long(self) -> bool:
        """Whether there has been nothing to take for so long that the node should be given back."""
        idle_s = self._clock.monotonic_s() - self._busy_s
        if idle_s >= self._terms.idle_s or self._folder.halted() is not None:
            return True
        return self._nothing_left


def place_to_begin(name: str, tasks: int) -> int:
    """Where a worker looks first: not where all others do."""
    return zlib.crc32(name.encode()) % max(1, tasks)
