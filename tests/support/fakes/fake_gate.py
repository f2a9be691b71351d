"""The control socket of a gateway by hand: it keeps what it is commanded, and counts what a test puts into it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.fakes.engines import until


@dataclass
class GateState:
    """The gate before one engine."""

    closed: dict[str, Any] | None = None
    in_flight: int = 0
    admitted_total: int = 0
    commands: list[str] = field(default_factory=list)

    def answer(self, **more: int) -> dict[str, Any]:
        return {
            "state": "closed" if self.closed else "open",
            "reason": self.closed["reason"] if self.closed else None,
            "since": "2026-11-27T01:00:00+00:00" if self.closed else None,
            "retry_after_s": self.closed["retry_after_s"] if self.closed else None,
            "in_flight": self.in_flight,
            "waiting": 0,
            "refused": 0,
            "refused_total": 0,
            "admitted_total": self.admitted_total,
            "aborted_total": 0,
            **more,
        }


class FakeGates:
    """The gates of every rune that is asked for."""

    def __init__(self) -> None:
        self.of: defaultdict[str, GateState] = defaultdict(GateState)
        self.app = Starlette(
            routes=[
                Route("/engines/{rune}", self._state),
                Route("/engines/{rune}/{command}", self._command, methods=["POST"]),
            ]
        )

    async def _state(self, request: Request) -> Response:
        return JSONResponse(self.of[request.path_params["rune"]].answer())

    async def _command(self, request: Request) -> Response:
        gate, command = self.of[request.path_params["rune"]], request.path_params["command"]
        gate.commands.append(command)
        more = {}
        match command:
            case "close":
                gate.closed = await request.json()
            case "open":
                gate.closed = None
            case "abort":
                more["aborted"], gate.in_flight = gate.in_flight, 0
        return JSONResponse(gate.answer(**more))


@asynccontextmanager
async def fake_gates(socket: Path) -> AsyncIterator[FakeGates]:
    """Gates that are commanded on this socket until the block ends."""
    gates = FakeGates()
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = uvicorn.Server(uvicorn.Config(gates.app, uds=str(socket), log_level="error", log_config=None))
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield gates
    finally:
        server.should_exit = True
        await serving
