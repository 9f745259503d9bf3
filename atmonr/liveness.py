"""Knowing which ranks live: waiting for one that is busy for hours, but not for one that is gone.

A collective cannot tell the two apart: it needs a time-out, and one that fits between two steps of a training
is far too short for the end of it, when a rank with a short scene waits for a rank with a long one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from atmonr.errors import LostRankError, PeerFailedError

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT_S = 10.0
# A busy machine or a long call into a library may well delay beats, but not for five minutes.
MISSED_BEATS = 20
_POLL_S = 1.0
_FAREWELL_S = 30.0
_FAILED = "failed"  # where a failing rank leaves its number and exit code for the others
_HEARD = "heard"  # how many ranks have failed, that one or because of it


class Presence:
    """What the other ranks hear of this one through the store, and this one of them."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        """Start the heartbeat, a thread of its own.

        Args:
            store: Shared by all ranks; a client serves threads one after another.
            rank: This one.
            size: Number of ranks.
        """
        self._store, self._rank, self._size = store, rank, size
        store.set(_beat_of(rank), "0")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        beats = 0
        with suppress(
            RuntimeError
        ):  # the store is gone with the rank that served it; others notice that, too
            while not self._ended.wait(BEAT_S):
                beats += 1
                self._store.set(_beat_of(self._rank), str(beats))

    def end(self) -> None:
        """End the heartbeat; its thread may be in the middle of a call to a machine that is gone."""
        self._ended.set()
        self._thread.join(timeout=BEAT_S)

    def meet(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until every rank has called this as often as this one, however long the others take.

        Args:
            meanwhile: Called now and then until then; Python sees signals, too.

        Rank 0 watches the others; they notice its own end because the store ends with it.

        Raises:
            LostRankError: If a rank is gone.
            RuntimeError: If the store is, or another rank has failed.
        """
        turn = self._store.add(f"turn {self._rank}", 1)
        complete = f"meeting {turn} complete"
        if self._store.add(f"meeting {turn}", 1) == self._size:
            self._store.set(complete, "")
        watch = Watch(self._store, self._size) if self._rank == 0 else None
        pause_s = 0.01
        while not self._store.check([complete]):
            meanwhile()
            if self._store.check([_FAILED]):
                raise RuntimeError("another rank failed")
            if watch is not None:
                watch.refuse_silence()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S)

    def leave_note(self, exit_code: int) -> None:
        """Tell the others that this rank fails, unless another was first."""
        with suppress(RuntimeError):  # the store is gone with the rank that served it
            self._store.compare_set(_FAILED, "", f"{self._rank} {exit_code}")
            self._store.add(_HEARD, 1)

    def read_note(self) -> tuple[int, int] | None:
        """Return the rank that failed first and its exit code; None if no rank has told of a failure."""
        with suppress(RuntimeError):
            if self._store.check([_FAILED]):
                rank, code = self._store.get(_FAILED).decode().split()
                return int(rank), int(code)
        return None

    def let_others_read(self) -> None:
        """On rank 0, which serves the store, wait until all have failed too, but not long for busy ones."""
        end = time.monotonic() + _FAREWELL_S
        with suppress(RuntimeError):
            while self._rank == 0 and self._store.add(_HEARD, 0) < self._size and time.monotonic() < end:
                time.sleep(0.05)


def lost_rank(error: RuntimeError, rank: int, presence: Presence | None) -> LostRankError:
    """Return what a broken connection means to this rank: another one told why it left, or is just gone."""
    note = presence.read_note() if presence is not None else None
    if note is None:
        return LostRankError(
            f"rank {rank}: lost contact with another rank, which died or cannot be reached; see its "
            f"messages, then run again with --resume ({error})"
        )
    failed = PeerFailedError(f"rank {rank}: stopped because rank {note[0]} did; see its message")
    failed.exit_code = note[1]  # launchers combine the codes of all ranks
    return failed


class Watch:
    """Notices ranks whose heart has stopped.

    Beats missed are counted where this watch looks, never by the clock: a job that the scheduler suspended
    and woke again has lost nothing.
    """

    def __init__(self, store: Store, size: int) -> None:
        self._store, self._keys = store, [_beat_of(rank) for rank in range(size)]
        self._last: list[bytes] = [b""] * size
        self._missed = [0] * size
        self._next_look = time.monotonic()

    def refuse_silence(self) -> None:
        """Look, unless that was little more than a beat ago.

        Raises:
            LostRankError: If ranks were silent for too long.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + 1.5 * BEAT_S
        beats = self._store.multi_get(self._keys)
        for rank, (beat, last) in enumerate(zip(beats, self._last, strict=True)):
            self._missed[rank] = self._missed[rank] + 1 if beat == last else 0
        self._last = list(beats)
        silent = [str(rank) for rank, missed in enumerate(self._missed) if missed >= MISSED_BEATS]
        if silent:
            raise LostRankError(
                f"no sign of life from rank {', '.join(silent)} for {MISSED_BEATS} heartbeats; see its "
                "machine, then run again with --resume"
            )


def _beat_of(rank: int) -> str:
    return f"beat {rank}"
