"""A request in flight: it can be ended at any time, so that the engine stops its work and the client gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from services.gateway.request import Gone
from shared.asgi.replies import last_events

if TYPE_CHECKING:
    from services.gateway.errors import Refusal
    from services.gateway.keys.client import Client
    from services.gateway.names import Target
    from shared.asgi.replies import Message, Receive, Send


class InFlight:
    """Wraps `receive` and `send` of one request. `target` is what answers it; None while that is not decided.

    `yields`: it is of low priority, and ends as soon as another one comes.
    """

    def __init__(self, client: Client, receive: Receive, send: Send, yields: bool = False) -> None:
        self.client, self.yields = client, yields
        self.target: Target | None = None
        self.served = ""  #: the persona or the base, for metrics
        self.outcome = "failed"
        self._receive, self._send = receive, send
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

    async def run(self, answer: Callable[[Send], Awaitable[None]]) -> None:
        """Let it be answered; when it is ended, complete its response with an error. Raises Gone where its client leaves first."""
        work = asyncio.ensure_future(answer(self._forward))
        stopped = asyncio.ensure_future(self._stop.wait())
        leaving = asyncio.ensure_future(_wait_until_gone(self._receive))
        try:
            await asyncio.wait({work, stopped, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                if not work.done():
                    raise Gone
                await work
                return
        finally:
            for task in (work, stopped, leaving):
                await _cancel(task)
        await self._close()

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
            rest = last_events(self._why.body())
            await self._send({"type": "http.response.body", "body": rest, "more_body": False})
        self._ended = True


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
