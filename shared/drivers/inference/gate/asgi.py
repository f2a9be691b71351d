"""The gate: `--middleware shared.drivers.inference.gate.asgi.Gate` on vLLM's command line, with PYTHONPATH at the project.

It admits or refuses requests, counts those in flight, and aborts them cleanly on command. One process, one gate: with
several API servers (`--api-server-count`) each would have its own. Every route but OPEN needs a signature with
SOULFORGE_ENGINE_KEY (`key.py`): clients use the gateway. Requests of web pages of another origin are refused (`origin.py`).

    GET  /soulforge/gate         state and counters
    POST /soulforge/gate/close   {"reason": ..., "retry_after_s": ...}: refuse new requests, finish those in flight
    POST /soulforge/gate/open    admit requests again
    POST /soulforge/gate/abort   abort the requests in flight; the answer has their number
    POST /soulforge/gate/leave   last call before the process is stopped: accept no new connection, answer the open ones
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shared.drivers.inference.gate import key
from shared.drivers.inference.gate.listener import hold_off, let_in
from shared.drivers.inference.gate.origin import READ_METHODS, REFUSAL_S, Refusal, check_origin, refuse
from shared.drivers.inference.gate.replies import REFUSED, App, Receive, Scope, Send, error, reply, swallow
from shared.drivers.inference.gate.request import LEAVE_S, InFlightRequest

ROUTE = "/soulforge/gate"
# Our own services prove an engine before they open it to clients. It counts only with a signature.
INSIDE = (b"soulforge-inside", b"1")
OPEN = frozenset({"/health", "/ping"})
# What generates is counted and refused while it is closed; everything else takes none of the engine's time.
PROBES = frozenset({"/health", "/ping", "/version", "/metrics", "/v1/models"})
CLIENT = PROBES | {
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/score",
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/realtime",
    "/v2/embed",
    "/v2/rerank",
    "/cohere/v2/chat",
    "/classify",
    "/detokenize",
    "/invocations",
    "/pooling",
    "/rerank",
    "/score",
    "/tokenize",
}
RESPONSES = "/v1/responses/"  # with the id of one
FOR_SERVICES = Refusal(
    403,
    "this engine answers only Soulforge's own services, which sign with the key of <home>/secrets/engine: use the gateway's "
    "address (`soulforge status`); an engine that was made with another key is recreated by `soulforge runes create --recreate`",
)
ABORT_WITHIN_S = LEAVE_S + 1.0
RETRY_AFTER_S = 30.0
# `leave` returns once no request came for QUIET_S (every connection was answered), after LEAVE_WITHIN_S at the latest.
QUIET_S = 0.1
LEAVE_WITHIN_S = 3.0
# A process that was not stopped after `leave` accepts connections again: no command could reach it to undo that.
BACK_AFTER_S = 30.0


@dataclass(frozen=True)
class CloseCommand:
    """A command to close the gate: the reason that clients are shown, and when they may try again."""

    reason: str
    retry_after_s: float = RETRY_AFTER_S


@dataclass(frozen=True)
class Closed:
    """Why and since when no request is admitted, and how many were refused."""

    command: CloseCommand
    since: datetime
    refused: int = 0

    @property
    def message(self) -> str:
        return (
            f"inference is closed since {self.since:%Y-%m-%dT%H:%M:%SZ}: {self.command.reason}; "
            f"ask again in {self.command.retry_after_s:.0f} s"
        )

    def again(self, command: CloseCommand) -> Closed:
        """Close a closed gate: the newest reason counts, with the time of the first."""
        return replace(self, command=command)

    def one_more(self) -> Closed:
        return replace(self, refused=self.refused + 1)


UNPROVEN = CloseCommand("starting: not yet proven")


class Gate:
    """ASGI middleware around the whole application of one engine. Starts closed with SOULFORGE_GATE=closed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._in_flight: set[InFlightRequest] = set()
        self._admitted = self._aborted = self._refused = self._refusing = 0
        self._closed: Closed | None = None
        # It runs in the engine's process, which has no settings of ours.
        environment = os.environ  # noqa: TID251
        self._key = environment.get("SOULFORGE_ENGINE_KEY", "")
        self._own_name = environment.get("SOULFORGE_HOST", "localhost")
        if not self._key:
            raise RuntimeError("SOULFORGE_ENGINE_KEY is missing: without it anyone could command the gate")
        if environment.get("SOULFORGE_GATE") == "closed":
            self._close(UNPROVEN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        if refusal := check_origin(scope, self._own_name) or self._check_signature(scope):
            return await refuse(scope, receive, send, refusal)
        if scope["type"] == "websocket":
            return await self._converse(scope, receive, send)
        path = scope["path"]
        if path.startswith(ROUTE):
            return await self._command(scope, receive, send)
        if scope["method"] in READ_METHODS or path in PROBES or not _is_client_route(path):
            # It takes none of the engine's time: it passes a closed gate and is not counted.
            return await self._app(scope, receive, send)
        if self._closed and INSIDE not in scope["headers"]:
            return await self._refuse(receive, send)
        return await self._admit(scope, receive, send)

    def _check_signature(self, scope: Scope) -> Refusal | None:
        if scope["path"] in OPEN and INSIDE not in scope["headers"]:
            return None
        given = dict(scope["headers"]).get(key.HEADER.encode(), b"").decode("latin-1")
        method = scope.get("method", "GET")
        return None if key.is_signed(self._key, given, method, scope["path"], time.time()) else FOR_SERVICES

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = InFlightRequest(receive, send)
        self._in_flight.add(request)
        self._admitted += 1
        try:
            await request.run(self._app, scope)
        finally:
            self._in_flight.discard(request)

    async def _refuse(self, receive: Receive, send: Send) -> None:
        assert self._closed
        self._closed = self._closed.one_more()
        self._refused += 1
        self._refusing += 1
        why = self._closed
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(swallow(receive), REFUSAL_S)
            await reply(send, 503, error(why.message, REFUSED), why.command.retry_after_s)
        finally:
            self._refusing -= 1

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or refuse a websocket; it is not counted, and the engine's stop ends it."""
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
                await self._close_on_command(body, send)
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

    async def _close_on_command(self, body: bytes, send: Send) -> None:
        try:
            self._close(_parse_close(body))
        except ValueError as wrong:
            await reply(send, 400, error(str(wrong), "invalid_command", "invalid_request_error"))
        else:
            await reply(send, 200, self._state())

    def _close(self, command: CloseCommand) -> None:
        self._closed = self._closed.again(command) if self._closed else Closed(command, datetime.now(UTC))

    async def _abort(self) -> int:
        """Abort the requests in flight and return how many, once they are gone or ABORT_WITHIN_S is over."""
        why = self._closed.command if self._closed else CloseCommand("ended by the operator")
        aborted = {
            request
            for request in self._in_flight
            if request.abort(f"ended before it was complete: {why.reason}", why.retry_after_s)
        }
        self._aborted += len(aborted)
        await _until(lambda: not aborted & self._in_flight, ABORT_WITHIN_S)
        return len(aborted)

    async def _leave(self, scope: Scope) -> bool:
        """Hold off new connections and wait until the open ones are answered; False where that is not possible."""
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
            "reason": closed.command.reason if closed else None,
            "since": closed.since.isoformat() if closed else None,
            "retry_after_s": closed.command.retry_after_s if closed else None,
            "in_flight": len(self._in_flight),
            "refused": closed.refused if closed else 0,
            "refused_total": self._refused,
            "admitted_total": self._admitted,
            "aborted_total": self._aborted,
        }


def _parse_close(body: bytes) -> CloseCommand:
    """Parse the body of a close request. Raises ValueError with what is wrong with it."""
    try:
        given: Any = json.loads(body or b"{}")
    except ValueError as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None
    if not isinstance(given, dict) or given.keys() - {"reason", "retry_after_s"}:
        raise ValueError("the body must be a JSON object with `reason` and `retry_after_s`, and nothing else")
    reason, seconds = given.get("reason"), given.get("retry_after_s", RETRY_AFTER_S)
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("`reason` must be a text: clients are shown it")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 86_400:
        raise ValueError("`retry_after_s` must be a number of seconds from 0 to 86400")
    return CloseCommand(" ".join(reason.split())[:500], float(seconds))


def _is_client_route(path: str) -> bool:
    return path in CLIENT or path.startswith(RESPONSES)


def _port(scope: Scope) -> int:
    return int((scope.get("server") or ("", 0))[1] or 0)


async def _until(done: Callable[[], bool], within_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
