"""A client's connection: uvicorn's HTTP/1.1 with what it lacks: a limit of connections, and deadlines of head and reader."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.gateway.errors import RETRY_AFTER_S
from services.gateway.metrics import CONNECTIONS
from shared.asgi.replies import error

if TYPE_CHECKING:
    from services.gateway.settings import GatewaySettings

BODY = json.dumps(error("too many connections", "busy")).encode()
FULL = b"\r\n".join(
    (
        b"HTTP/1.1 503 Service Unavailable",
        b"content-type: application/json",
        b"content-length: %d" % len(BODY),
        b"retry-after: %d" % RETRY_AFTER_S,
        b"connection: close",
        b"",
        BODY,
    )
)


class Connection(H11Protocol):
    """One connection. A client that sends no complete head, or reads nothing, in time is cut off."""

    def __init__(self, settings: GatewaySettings, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._settings = settings
        self._head: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        CONNECTIONS.inc()
        if len(self.connections) > self._settings.connections:
            transport.write(FULL)
            transport.close()
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel_head()
        elif self._head is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():  # also where it is closed already: then nothing else ends it
            self._expect_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader:
            self._reader.cancel()
            self._reader = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        CONNECTIONS.dec()
        self._cancel_head()
        if self._reader:
            self._reader.cancel()

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self._settings.read_within_s, self.transport.abort)

    def _cancel_head(self) -> None:
        if self._head:
            self._head.cancel()
            self._head = None

    def _expect_reader(self) -> None:
        if self._reader is None:
            self._reader = self.loop.call_later(self._settings.write_within_s, self._abort_unread)

    def _abort_unread(self) -> None:
        self._reader = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()
