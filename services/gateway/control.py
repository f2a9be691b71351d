"""The gateway's control socket: what the orchestrator and the owner command. Only the owner's account can open it.

GET  /engines, /engines/{rune}   state and counters of gates
POST /engines/{rune}/close       {"reason": ..., "retry_after_s": ...}: refuse new requests, finish those in flight
POST /engines/{rune}/open        admit requests again
POST /engines/{rune}/abort       end the requests in flight; the answer has their number
POST /withdrawals                {"version": ..., "why": ...}: refuse a version from now on, end what it answers
GET  /withdrawals, /table
POST /decisions                  {"action": ..., "persona": ..., "version": ..., "champion": ..., "by": ..., "why": ...}: 200 with the
                                 decision, 409 where it is refused, 202 where the registry is away and makes it later
GET  /decisions/{persona}        the newest first
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.commands import VersionCommands, not_kept
from services.gateway.errors import Refusal, Refused, answer_refusal
from services.gateway.keys.authenticate import Authenticate
from services.gateway.keys.client import OWNER
from shared.asgi.replies import error, kind_of
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from services.gateway.door import Door
    from services.gateway.engines import Engine
    from services.gateway.request import Bodies

RETRY_AFTER_S = 30.0


class CloseCommand(Frozen):
    """Close an engine's gate: the reason that clients are shown, and when they may try again."""

    reason: str = Field(min_length=1, max_length=500)
    retry_after_s: float = Field(RETRY_AFTER_S, ge=0, le=86_400)


class Control:
    """The ASGI application of the socket."""

    def __init__(self, door: Door, bodies: Bodies) -> None:
        """`bodies` are its own: those of clients may be full."""
        self._door, self._engines = door, {engine.rune: engine for engine in door.engines.all}
        self._bodies = bodies
        self.app = Starlette(
            routes=[
                Route("/engines", self._list_engines),
                Route("/engines/{rune}", self._get_engine),
                Route("/engines/{rune}/close", self._close, methods=["POST"]),
                Route("/engines/{rune}/open", self._open, methods=["POST"]),
                Route("/engines/{rune}/abort", self._abort, methods=["POST"]),
                Route("/withdrawals", self._list_withdrawals),
                Route("/table", self._get_table),
                *VersionCommands(door.decisions, door.withdraw, bodies).routes(""),
            ],
            middleware=[Middleware(Authenticate, identify=lambda _: OWNER)],
            exception_handlers={HTTPException: _no_route, Refusal: answer_refusal, OSError: _not_kept},
        )

    async def _list_engines(self, request: Request) -> Response:
        return JSONResponse({rune: self._state(engine) for rune, engine in self._engines.items()})

    async def _get_engine(self, request: Request) -> Response:
        return JSONResponse(self._state(self._engine(request)))

    async def _close(self, request: Request) -> Response:
        engine, command = self._engine(request), await self._bodies.parse(request, CloseCommand)
        await self._door.engines.gates.close(engine.rune, " ".join(command.reason.split()), command.retry_after_s)
        return JSONResponse(self._state(engine))

    async def _open(self, request: Request) -> Response:
        engine = self._engine(request)
        if engine.closed:  # what it has loaded meanwhile is known before the first request
            await engine.poll()
        await self._door.engines.gates.open(engine.rune)
        return JSONResponse(self._state(engine))

    async def _abort(self, request: Request) -> Response:
        engine = self._engine(request)
        ended = await engine.gate.end_requests()
        return JSONResponse({**self._state(engine), "aborted": ended})

    async def _list_withdrawals(self, request: Request) -> Response:
        given = sorted(self._door.withdrawals.given.values(), key=lambda one: one.at)
        return JSONResponse({"withdrawals": [one.model_dump(mode="json") for one in given]})

    async def _get_table(self, request: Request) -> Response:
        return JSONResponse(describe_table(self._door))

    def _engine(self, request: Request) -> Engine:
        if engine := self._engines.get(request.path_params["rune"]):
            return engine
        raise HTTPException(404, f"there is no rune {request.path_params['rune']!r} that takes adapters")

    def _state(self, engine: Engine) -> dict[str, Any]:
        return {**engine.gate.state(), "waiting": self._door.queue.waiting[engine.base]}


def describe_table(door: Door) -> dict[str, Any]:
    """Per version where it is loaded, when it was asked last and how often; and how many requests wait, by base."""
    versions = {}
    for name, version in door.table.versions.items():
        use = door.uses.get(name)
        versions[name] = {
            "persona": version.persona,
            "adapter": version.adapter,
            "loaded": [engine.rune for engine in door.engines.all if name in engine.models],
            "last_used": datetime.fromtimestamp(use.last_at, UTC).isoformat() if use else None,
            "requests": use.requests if use else 0,
            "withdrawn": door.withdrawals.find(version),
        }
    personas = {name: persona.version for name, persona in door.table.personas.items()}
    return {
        "table": door.describe_sight(),
        "personas": personas,
        "versions": versions,
        "waiting": dict(door.queue.waiting),
    }


def listen(find: Callable[[], Path], home: Path) -> socket.socket:
    """Open a socket in a folder that only its account can enter. `find` raises SettingsError where it is another's."""
    path = find()
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.is_relative_to(home.resolve()):
        path.parent.chmod(0o700)
    find()  # again: in /tmp anyone may have made the folder meanwhile
    with suppress(FileNotFoundError):
        path.unlink()  # of a process that was killed: the port of clients has been taken by this one
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    path.chmod(0o600)
    listener.listen()
    return listener


async def _no_route(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    return JSONResponse(error(wrong.detail, "not_found", kind_of(wrong.status_code)), wrong.status_code)


async def _not_kept(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, OSError)
    return Refused(not_kept(wrong))
