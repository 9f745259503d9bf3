from __future__ import annotations

import threading

import pytest
from torch.distributed import HashStore

from atmonr import liveness
from atmonr.errors import LostRankError
from atmonr.liveness import Presence, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    return clock


@pytest.fixture
def store() -> HashStore:
    return HashStore()


def beat(store: HashStore, rank: int, number: int) -> None:
    store.set(f"beat {rank}", str(number))


def test_a_rank_that_stops_beating_is_lost_after_as_many_beats_as_said(
    store: HashStore, clock: Clock
) -> None:
    watch = Watch(store, 2)
    begin = clock.now
    beat(store, 1, 0)
    with pytest.raises(LostRankError, match="no sign of life from rank 1 for 20 heartbeats"):
        for number in range(1000):
            beat(store, 0, number)
            watch.refuse_silence()
            clock.sleep(liveness.BEAT_S)
    silence_s = clock.now - begin
    assert liveness.MISSED_BEATS * liveness.BEAT_S <= silence_s <= 3 * liveness.MISSED_BEATS * liveness.BEAT_S


def test_a_job_that_was_suspended_loses_nobody(store: HashStore, clock: Clock) -> None:
    watch = Watch(store, 1)
    beat(store, 0, 0)
    for _ in range(liveness.MISSED_BEATS - 1):
        watch.refuse_silence()
        clock.sleep(24 * 3600)
    beat(store, 0, 1)
    for _ in range(liveness.MISSED_BEATS - 1):
        watch.refuse_silence()
        clock.sleep(2 * liveness.BEAT_S)


def test_hearts_beat_until_they_are_stopped(store: HashStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_S", 0.01)
    presence = Presence(store, 0, 1)
    while store.get("beat 0") == b"0":  # hangs if there is no heartbeat
        pass
    presence.end()
    last = store.get("beat 0")
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
    assert store.get("beat 0") == last


def test_ranks_meet_as_often_as_they_like(store: HashStore) -> None:
    ranks = [Presence(store, rank, 3) for rank in range(3)]
    arrivals: list[tuple[int, int]] = []

    def visit(rank: int) -> None:
        for turn in range(3):
            arrivals.append((turn, rank))
            ranks[rank].meet()

    threads = [threading.Thread(target=visit, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    # Nobody begins a turn before all have begun the one before.
    assert [turn for turn, _ in arrivals] == [0] * 3 + [1] * 3 + [2] * 3
    for rank in ranks:
        rank.end()


def test_a_failure_ends_a_meeting_and_the_first_one_is_told(store: HashStore) -> None:
    waiting, failing, late = (Presence(store, rank, 3) for rank in range(3))
    assert waiting.read_note() is None
    failing.leave_note(74)
    late.leave_note(1)
    with pytest.raises(RuntimeError, match="another rank failed"):
        waiting.meet()
    assert waiting.read_note() == (1, 74)
    for rank in (waiting, failing, late):
        rank.end()
