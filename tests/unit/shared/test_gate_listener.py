"""New connections can be held off without loss: nobody who was connected is cut off, nobody who comes later is reset."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.drivers.inference.gate.listener import hold_off, let_in

WAIT_S = 15.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can filter a listening socket")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


class Caller:
    """A client that connects in a thread, because its connection may take seconds."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.outcome = ""
        self._address = address
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        try:
            socket.create_connection(self._address, timeout=WAIT_S).close()
            self.outcome = "connected"
        except OSError as error:
            self.outcome = type(error).__name__

    def wait(self) -> str:
        self._thread.join(WAIT_S)
        return self.outcome


def test_a_connection_that_there_is_goes_on_and_a_new_one_is_refused_at_the_end(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        assert hold_off(listener.getsockname()[1])
        caller = Caller(listener.getsockname())
        served, _ = listener.accept()
        with served:
            client.sendall(b"still here")
            assert served.recv(64) == b"still here"
    time.sleep(0.2)
    assert caller.outcome == ""

    listener.close()

    assert caller.wait() == "ConnectionRefusedError"


def test_who_was_held_off_is_let_in_when_the_engine_stays(listener: socket.socket) -> None:
    hold_off(listener.getsockname()[1])
    caller = Caller(listener.getsockname())
    time.sleep(0.2)
    assert caller.outcome == ""

    let_in(listener.getsockname()[1])

    assert caller.wait() == "connected"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_held_off_where_nobody_listens_and_no_descriptor_is_left(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        before = descriptors()

        assert not hold_off(client.getsockname()[1])
        assert hold_off(listener.getsockname()[1])

        assert descriptors() == before
