"""The addresses by which machines reach each other, where names do not always resolve."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Sequence

_SIOCGIFADDR = 0x8915  # from <linux/sockios.h>
ANSWER_S = 5.0  # for one attempt to reach another machine


def own_hosts() -> list[str]:
    """Return the names and addresses by which other machines may reach this one, most likely first.

    On clusters the name does not always resolve, or resolves to the machine itself (127.0.1.1).
    """
    return list(dict.fromkeys([socket.getfqdn(), socket.gethostname(), *interfaces().values()]))


def interfaces() -> dict[str, str]:
    """Return {name: IPv4 address} of this machine's network interfaces, loopback left out."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
            except OSError:  # it has no address
                continue
            address = socket.inet_ntoa(answer[20:24])
            if not _is_loopback(address):
                found[name] = address
    return found


def use_interface(own: str | None, seen: Sequence[str | None]) -> None:
    """Let gloo listen where the other machines can reach this one.

    By itself it takes whatever the host name resolves to, which on many clusters is the machine itself.

    Args:
        own: This machine's address on the way to rank 0, if known.
        seen: Rank 0's addresses as the ranks see them; for the ranks on its own machine.
    """
    addresses = [address for address in (own, *seen) if address and not _is_loopback(address)]
    names = [name for address in addresses for name, known in interfaces().items() if known == address]
    if names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])


def addresses_towards(host: str, port: int) -> tuple[str, str]:
    """Return this machine's address and the other's on the way to a port that answers."""
    with socket.create_connection((host, port), timeout=ANSWER_S) as probe:
        return probe.getsockname()[0], probe.getpeername()[0]


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
