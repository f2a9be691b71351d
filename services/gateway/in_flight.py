"""A request in flight: it can be ended at any time, so that the engine stops its work and the client gets an error."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.drivers.inference.gate.replies import error, last_events

if TYPE_CHECKING:
    from services.gateway.errors import Refusal
    from services.gateway.names import Target
    from shared.drivers.inference.gate.replies import App, Message, Receive, Scope, Send

LEAVE_S = 2.0  # for the application to return by itself after `http.disconnect`


class InFlight:
    """Wraps `receive` and `send` of one request. `target` is what answers it; None while that is not decided."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.target: Target | None = None
        self.served = ""  #: the persona or the base, for metrics
        self.outcome = "failed"
        self._receive, self._send = receive, send
        self._incoming: asyncio.Future[Message] | None = None
        self._stop = asyncio.Event()
        self._why: Refusal | None = None
        self._begun = self._events = self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it was ended before its answer was complete."""
        return self._why is not None

    def end(self, why: Refusal) -> bool:
        """End it soon. False where it is over, or where a complete answer is being sent already."""
        if self._stop.is_set() or self._ended or (self._begun and not self._events):
            return False
        self._why = why
        self._stop.set()
        return True

    async def run(self, app: App, scope: Scope) -> None:
        """Run the application; when the request is ended, complete its response with an error."""
        work: asyncio.Future[Any] = asyncio.ensure_future(app(scope, self._receive_next, self._forward))
        try:
            await _sooner(work, self._stop)
            if not self._stop.is_set():
                await work
                return
            # The application receives `http.disconnect` now and drops the request; else it is cancelled below.
            await asyncio.wait({work}, timeout=LEAVE_S)
            # The client gets the error even if the application hangs; until that is over the request is in flight.
            await self._close()
        finally:
            await _cancel(work)
            if self._incoming:
                await _cancel(self._incoming)

    async def _receive_next(self) -> Message:
        """The next message of the client; `http.disconnect` once the request is ended."""
        # Kept across calls: an application that cancels its wait must not lose the message.
        incoming = self._incoming = self._incoming or asyncio.ensure_future(_next(self._receive))
        await _sooner(incoming, self._stop)
        if self._stop.is_set():
            return {"type": "http.disconnect"}
        self._incoming = None
        return incoming.result()

    async def _forward(self, message: Message) -> None:
        """Send a message of the application to the client, or drop it once the request is ended."""
        if self._stop.is_set():
            return
        if message["type"] == "http.response.start":
            self._begun, self._events = True, _is_event_stream(message)
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def _close(self) -> None:
        assert self._why
        if not self._begun:
            await self._why.send(self._receive, self._send)
        elif not self._ended:
            rest = last_events(error(str(self._why), self._why.code, self._why.kind))
            await self._send({"type": "http.response.body", "body": rest, "more_body": False})
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


async def _cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task that still runs and wait for it; its errors are ignored, since its request is over."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )
