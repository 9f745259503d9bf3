from __future__ import annotations

import os
import socket

import pytest

from atmonr import network

ETHERNET = {"eth0": "10.0.0.7", "ib0": "10.1.0.7"}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "interfaces", lambda: ETHERNET)
    # Set and removed, so that what the tests do to it is undone.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "x")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")


def chosen() -> str | None:
    return os.environ.get("GLOO_SOCKET_IFNAME")


def test_gloo_listens_where_the_way_to_rank_0_begins() -> None:
    network.use_interface("10.1.0.7", ["10.1.0.1", None])
    assert chosen() == "ib0"


def test_on_rank_0s_machine_gloo_listens_where_the_others_reached_it() -> None:
    network.use_interface("127.0.0.1", [None, "127.0.1.1", "10.0.0.7"])
    assert chosen() == "eth0"


def test_gloo_is_left_alone_where_nothing_is_known() -> None:
    network.use_interface(None, ["127.0.0.1"])
    assert chosen() is None


def test_the_users_choice_of_interface_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    network.use_interface("10.1.0.7", [])
    assert chosen() == "mine"


def test_a_machine_is_reached_by_name_or_address() -> None:
    hosts = network.own_hosts()
    assert socket.gethostname() in hosts
    assert hosts[-2:] == list(ETHERNET.values())


def test_interfaces_are_those_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, address in network.interfaces().items():
        assert name in {name for _, name in socket.if_nameindex()}
        assert not address.startswith("127.")
        socket.inet_aton(address)


def test_the_ends_of_a_connection_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert network.addresses_towards("127.0.0.1", server.getsockname()[1]) == ("127.0.0.1", "127.0.0.1")
