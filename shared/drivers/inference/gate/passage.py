"""One request under way behind the gate: it can be ended at any time so that the engine stops and the client gets a clean end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from shared.drivers.inference.gate.replies import ABORTED, App, Message, Receive, Scope, Send, error, last_events, reply

# Time the application has to leave by itself once it was told that its client is gone.
LEAVE_S = 2.0


class Passage:
    """Stands between server and application for one request."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._incoming: asyncio.Future[Message] | None = None
        self._stop = asyncio.Event()
        self._why = ""
        self._retry_after_s = 1.0
        self._begun = self._events = self._ended = False

    def abort(self, why: str, retry_after_s: float) -> bool:
        """End it soon. False where it is over, or where a whole answer is being written out already."""
        if self._stop.is_set() or self._ended or (self._begun and not self._events):
            return False
        self._why, self._retry_after_s = why, retry_after_s
        self._stop.set()
        return True

    async def run(self, app: App, scope: Scope) -> None:
        """Let the application answer; when it is stopped, make the end clean."""
        work: asyncio.Future[Any] = asyncio.ensure_future(app(scope, self._hear, self._say))
        try:
            await _sooner(work, self._stop)
            if not self._stop.is_set():
                await work
                return
            # It hears `http.disconnect` now, so the engine drops the request; who does not listen is cancelled below.
            await asyncio.wait({work}, timeout=LEAVE_S)
            # Its client is told even if the application hangs; the request counts as under way until that is over.
            await self._close()
        finally:
            await _end(work)
            if self._incoming:
                await _end(self._incoming)

    async def _hear(self) -> Message:
        """The next message of the client; `http.disconnect` from the moment it is stopped."""
        # Kept across calls: an application that cancels its wait must not lose the message.
        incoming = self._incoming = self._incoming or asyncio.ensure_future(_next(self._receive))
        await _sooner(incoming, self._stop)
        if self._stop.is_set():
            return {"type": "http.disconnect"}
        self._incoming = None
        return incoming.result()

    async def _say(self, message: Message) -> None:
        """Pass on what the application says; after the stop nothing more of it reaches the client."""
        if self._stop.is_set():
            return
        if message["type"] == "http.response.start":
            self._begun, self._events = True, _is_event_stream(message)
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def _close(self) -> None:
        said = error(self._why, ABORTED)
        if not self._begun:
            await reply(self._send, 503, said, self._retry_after_s)
        elif not self._ended:
            await self._send({"type": "http.response.body", "body": last_events(said), "more_body": False})
        self._ended = True


async def _next(receive: Receive) -> Message:
    return await receive()


async def _sooner(work: asyncio.Future[Any], stop: asyncio.Event) -> None:
    """Wait for the work or the stop, whichever comes first; neither is cancelled."""
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait for it; what it raised is nobody's business any more."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
