"""The gate: `--middleware shared.drivers.inference.gate.asgi.Gate` on vLLM's command line, with PYTHONPATH at the project.

It admits or refuses requests, counts those under way, and ends them cleanly when told to. One process, one gate: with
several API servers (`--api-server-count`) each would have its own. Its routes are as unauthenticated as the engine's
own admin routes, so the engine must listen on loopback or a private address only.

    GET  /soulforge/gate         how it stands
    POST /soulforge/gate/close   {"reason": ..., "retry_after_s": ...}: refuse from now on, let what is under way go on
    POST /soulforge/gate/open    admit again
    POST /soulforge/gate/abort   end what is under way; the answer says how many
    POST /soulforge/gate/leave   last call before the process is ended: hold new connections off, answer those there are
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from shared.drivers.inference.gate.admission import Closed, Order, read_order
from shared.drivers.inference.gate.listener import hold_off, let_in
from shared.drivers.inference.gate.passage import LEAVE_S, Passage
from shared.drivers.inference.gate.replies import REFUSED, App, Receive, Scope, Send, error, reply, swallow

ROUTE = "/soulforge/gate"
# Our own services prove an engine before they open it to everybody.
INSIDE = (b"soulforge-inside", b"1")
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What asks nothing of the engine's time; it passes a closed gate and is not counted. Everything else is a request.
ADMIN = frozenset(
    {
        "/ping",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/pause",
        "/resume",
        "/abort_requests",
        "/sleep",
        "/wake_up",
        "/reset_prefix_cache",
        "/reset_mm_cache",
        "/reset_encoder_cache",
        "/collective_rpc",
        "/start_profile",
        "/stop_profile",
    }
)
ABORT_WITHIN_S = LEAVE_S + 1.0
REFUSAL_S = 10.0
# `leave`: quiet for so long means that every connection was answered; it waits for that at most so long.
QUIET_S = 0.1
LEAVE_WITHIN_S = 3.0
# Who left and was not ended comes back: nothing could reach it any more to tell it so.
BACK_AFTER_S = 30.0
UNPROVEN = Order("starting: not yet proven")


class Gate:
    """Stands before the whole application of one engine. Starts closed with SOULFORGE_GATE=closed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._under_way: set[Passage] = set()
        self._admitted = self._aborted = self._refused = self._refusing = 0
        self._closed: Closed | None = None
        # It runs in the engine's process, which has no settings of ours.
        if os.environ.get("SOULFORGE_GATE") == "closed":  # noqa: TID251
            self._close(UNPROVEN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._converse(scope, receive, send)
        if scope["type"] == "http" and scope["path"].startswith(ROUTE):
            return await self._command(scope, receive, send)
        if scope["type"] != "http" or scope["method"] in READ_METHODS or scope["path"] in ADMIN:
            return await self._app(scope, receive, send)
        if self._closed and INSIDE not in scope["headers"]:
            return await self._refuse(receive, send)
        return await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage = Passage(receive, send)
        self._under_way.add(passage)
        self._admitted += 1
        try:
            await passage.run(self._app, scope)
        finally:
            self._under_way.discard(passage)

    async def _refuse(self, receive: Receive, send: Send) -> None:
        assert self._closed
        self._closed = self._closed.one_more()
        self._refused += 1
        self._refusing += 1
        why = self._closed
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(swallow(receive), REFUSAL_S)
            await reply(send, 503, error(why.message, REFUSED), why.order.retry_after_s)
        finally:
            self._refusing -= 1

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket is admitted or refused; it is not counted, and the engine's stop ends it."""
        if self._closed and INSIDE not in scope["headers"]:
            await receive()
            return await send({"type": "websocket.close", "code": 1013, "reason": self._closed.message[:120]})
        return await self._app(scope, receive, send)

    async def _command(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await swallow(receive)
        match scope["method"], scope["path"].removeprefix(ROUTE):
            case "GET", "":
                await reply(send, 200, self._state())
            case "POST", "/close":
                await self._close_as_told(body, send)
            case "POST", "/open":
                self._closed = None
                let_in(_port(scope))
                await reply(send, 200, self._state())
            case "POST", "/abort":
                aborted = await self._abort()
                await reply(send, 200, {**self._state(), "aborted": aborted})
            case "POST", "/leave":
                await reply(send, 200, {**self._state(), "left": await self._leave(scope)})
            case method, path:
                await reply(
                    send, 404, error(f"the gate knows no {method} {ROUTE}{path}", "not_found", "not_found_error")
                )

    async def _close_as_told(self, body: bytes, send: Send) -> None:
        try:
            self._close(read_order(body))
        except ValueError as wrong:
            await reply(send, 400, error(str(wrong), "invalid_order", "invalid_request_error"))
        else:
            await reply(send, 200, self._state())

    def _close(self, order: Order) -> None:
        self._closed = self._closed.again(order) if self._closed else Closed(order, datetime.now(UTC))

    async def _abort(self) -> int:
        """End what is under way; returns how many ended so, when they are gone or the time for it is over."""
        why = self._closed.order if self._closed else Order("ended by the operator")
        ended = {
            one
            for one in self._under_way
            if one.abort(f"ended before it was complete: {why.reason}", why.retry_after_s)
        }
        self._aborted += len(ended)
        await _until(lambda: not ended & self._under_way, ABORT_WITHIN_S)
        return len(ended)

    async def _leave(self, scope: Scope) -> bool:
        """Hold new connections off and wait until those there are were answered; false where that is not possible."""
        port = _port(scope)
        if self._closed is None or not hold_off(port):
            return False
        asyncio.get_running_loop().call_later(BACK_AFTER_S, let_in, port)
        deadline = asyncio.get_running_loop().time() + LEAVE_WITHIN_S
        answered = -1
        while (self._refusing or answered != self._refused) and asyncio.get_running_loop().time() < deadline:
            answered = self._refused
            await asyncio.sleep(QUIET_S)
        return True

    def _state(self) -> dict[str, Any]:
        closed = self._closed
        return {
            "state": "closed" if closed else "open",
            "reason": closed.order.reason if closed else None,
            "since": closed.since.isoformat() if closed else None,
            "retry_after_s": closed.order.retry_after_s if closed else None,
            "in_flight": len(self._under_way),
            "refused": closed.refused if closed else 0,
            "refused_total": self._refused,
            "admitted_total": self._admitted,
            "aborted_total": self._aborted,
        }


def _port(scope: Scope) -> int:
    return int((scope.get("server") or ("", 0))[1] or 0)


async def _until(done: Callable[[], bool], within_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
