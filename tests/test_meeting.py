from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from atmonr import meeting
from atmonr.errors import WorldError


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "ANSWER_S", 0.5)


def test_rank_0_passes_over_ports_that_are_taken() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        assert meeting.open_store([port, 0], "a", 0)[1] not in (port, 0)
        with pytest.raises(WorldError, match=rf"rank 0 cannot open any of the ports \[{port}\].*MASTER_PORT"):
            meeting.open_store([port], "a", 0)


def test_another_job_and_a_stranger_that_says_nothing_are_passed_over() -> None:
    other, other_port = meeting.open_store([0], "job 1", 1)
    own, own_port = meeting.open_store([0], "job 2", 1)
    own.set("greeting", "hello")
    with socket.create_server(("", 0)) as mute:
        ports = [mute.getsockname()[1], other_port, own_port]
        met = meeting.find_store([("localhost", port) for port in ports], "job 2")
    assert met.store.get("greeting") == b"hello"
    assert (met.own_address, met.rank0_address) == ("127.0.0.1", "127.0.0.1")
    assert meeting.find_store([("localhost", other_port)], "job 1").store.num_keys() == other.num_keys()


def test_a_visitor_that_says_nothing_does_not_keep_the_others_out() -> None:
    _, port = meeting.open_store([0], "a", 1)
    with socket.create_connection(("localhost", port)):
        met = meeting.find_store([("localhost", port)], "a", patience=timedelta(seconds=20))
    assert met.store.num_keys() == 0


def test_where_the_name_does_not_resolve_the_address_does() -> None:
    _, port = meeting.open_store([0], "a", 1)
    assert meeting.find_store([("no-such-host.invalid", port), ("127.0.0.1", port)], "a").rank0_address


def test_a_rank_0_that_never_comes_is_reported_with_the_places_tried() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WorldError, match=f"rank 0 was not found at localhost:{port} within 0 s.*refused"):
        meeting.find_store([("localhost", port)], "a", patience=timedelta(0))
