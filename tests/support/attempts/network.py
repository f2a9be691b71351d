"""The network and sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from .attempt import Attempt, Plan, check


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)  # type: ignore[arg-type] # an address is what its family needs


def open_socket(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def beyond_loopback(plan: Plan) -> None:
    check([name for _, name in socket.if_nameindex() if name != "lo"])


def host_connections(plan: Plan) -> None:
    check(f":{plan.port:04X} " in Path("/proc/net/tcp").read_text())


def resolved(plan: Plan) -> None:
    check(socket.getaddrinfo("example.org", 443))


def connects(path: str) -> Attempt:
    return Attempt(f"connect to {path}", lambda plan: connect(socket.AF_UNIX, path))


def opens(name: str, family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> Attempt:
    return Attempt(f"open a socket of {name}", lambda plan: open_socket(family, kind, protocol))


ATTEMPTS: tuple[Attempt, ...] = (
    # The network and sockets.
    Attempt(
        "connect to a listener of the host",
        lambda plan: connect(socket.AF_INET, ("127.0.0.1", plan.port)),
        harmless=True,
    ),
    Attempt("connect to the internet", lambda plan: connect(socket.AF_INET, ("1.1.1.1", 443))),
    Attempt("connect to the internet by IPv6", lambda plan: connect(socket.AF_INET6, ("2606:4700:4700::1111", 443))),
    Attempt("connect to an abstract socket", lambda plan: connect(socket.AF_UNIX, f"\0{plan.abstract}"), harmless=True),
    Attempt("connect to a Unix socket", lambda plan: connect(socket.AF_UNIX, plan.socket), harmless=True),
    *(
        connects(path)
        for path in (
            "/run/docker.sock",
            "/var/run/postgresql/.s.PGSQL.5432",
            "/run/dbus/system_bus_socket",
            "/run/systemd/private",
        )
    ),
    Attempt("resolve a name", resolved),
    Attempt("see an interface", beyond_loopback),
    Attempt("see connections of the host", host_connections, harmless=True),
    opens("vsock", 40, socket.SOCK_STREAM),
    opens("packet", socket.AF_PACKET, socket.SOCK_RAW),
    opens("raw IP", socket.AF_INET, socket.SOCK_RAW, 1),
    opens("netfilter", socket.AF_NETLINK, socket.SOCK_RAW, 12),
    opens("uevents", socket.AF_NETLINK, socket.SOCK_RAW, 15),
    opens("the kernel's ciphers", 38, socket.SOCK_SEQPACKET),
    opens("XDP", 44, socket.SOCK_RAW),
    opens("bluetooth", 31, socket.SOCK_RAW, 1),
)
