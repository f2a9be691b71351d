"""Hold off new connections to the engine's listening socket before its process ends, so that none is reset.

A socket that is closed resets connections that were not accepted yet. A filter that drops the first packet of
every new connection leaves time to serve those; the kernel of a client that connects meanwhile tries again a second
later, and is refused then. Linux, no privilege needed. See socket(7), SO_ATTACH_FILTER, and bpf(4) for the five
instructions.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

INTERNET = (socket.AF_INET, socket.AF_INET6)
ATTACH_FILTER, DETACH_FILTER = 26, 27
# Load the flags of the TCP header; keep SYN and ACK; drop where only SYN is set; else let pass.
DROP_NEW = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def hold_off(port: int) -> bool:
    """Drop new connections to `port` of this process; False where that is not possible."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_NEW))
    option = struct.pack("HP", len(DROP_NEW), ctypes.addressof(program))
    found = False
    for listener in _listeners(port):
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, option)
            found = True
    return found


def let_in(port: int) -> None:
    """Undo `hold_off`; does nothing where nothing was held off."""
    for listener in _listeners(port):
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)


def _listeners(port: int) -> Iterator[socket.socket]:
    """This process's sockets that listen on `port`. Copies, closed after use: they would keep the port open."""
    for number in _sockets():
        # A descriptor that was closed meanwhile, or is no internet socket, is passed over.
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as found:
            is_listener = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if is_listener and found.family in INTERNET and found.getsockname()[1] == port:
                yield found


def _sockets() -> list[int]:
    directory = Path("/proc/self/fd")
    return [int(entry.name) for entry in directory.iterdir() if entry.is_socket()] if directory.is_dir() else []
