from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from atmonr.errors import ResumeError, StoreError
from launch import disk
from launch.attempts import all_attempts, claim, finish, pardon, read_state
from launch.disk import names_in, publish


def test_of_many_who_publish_at_once_one_succeeds(tmp_path: Path) -> None:
    won: list[int] = []
    barrier = threading.Barrier(8)

    def take(number: int) -> None:
        barrier.wait()
        if publish(tmp_path / "claim.json", {"by": number}):
            won.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert json.loads((tmp_path / "claim.json").read_text()) == {"by": won[0]}
    assert names_in(tmp_path) == ["claim.json"] and len(list(tmp_path.iterdir())) == 1


def test_a_server_that_denies_what_it_did_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = disk.os.link

    def link_and_deny(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(disk.os, "link", link_and_deny)
    assert publish(tmp_path / "a.json", {})


def test_a_full_disk_is_told_with_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/a\.json"):
        publish(tmp_path / "file" / "a.json", {})


def test_the_life_of_a_task(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none").status == "ready"
    assert claim(tmp_path, 1, {"worker": "a", "host": "n1"})
    assert not claim(tmp_path, 1, {"worker": "b", "host": "n2"})
    state = read_state(tmp_path)
    assert (state.status, state.number, state.claim["worker"]) == ("running", 1, "a")
    # Somebody takes a for dead; what a says afterwards does not count.
    assert finish(tmp_path, 1, {"class": "lost", "time_s": 0.0})
    assert not finish(tmp_path, 1, {"class": "done", "time_s": 0.0})
    assert read_state(tmp_path).status == "ready"
    assert claim(tmp_path, 2, {"worker": "b", "host": "n2"})
    assert finish(tmp_path, 2, {"class": "bug", "reason": "one", "time_s": 0.0})
    assert claim(tmp_path, 3, {"worker": "b", "host": "n2"})
    assert finish(tmp_path, 3, {"class": "bug", "reason": "two", "time_s": 0.0})
    assert (read_state(tmp_path).status, read_state(tmp_path).verdict.reason) == ("failed", "two")
    assert pardon(tmp_path, 3) and not pardon(tmp_path, 3)
    assert read_state(tmp_path).status == "ready"
    publish(tmp_path / "cancelled.json", {})
    assert read_state(tmp_path).status == "cancelled"
    assert [attempt["end"]["class"] for attempt in all_attempts(tmp_path)] == ["lost", "bug", "bug"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "claim-0001.json").write_text("{")
    with pytest.raises(ResumeError, match="claim-0001"):
        read_state(tmp_path)
