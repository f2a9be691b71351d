"""The gateway's control socket: what the orchestrator and the owner command. Whoever can open it is the owner's account.

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
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.errors import Refusal
from shared.asgi.replies import error
from shared.contracts.frozen import Frozen
from shared.contracts.registry import AdapterDecide
from shared.contracts.text import is_storable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from services.gateway.door import Door
    from services.gateway.engines import Engine

    C = TypeVar("C", bound=Frozen)

RETRY_AFTER_S = 30.0


class CloseCommand(Frozen):
    """Close an engine's gate: the reason that clients are shown, and when they may try again."""

    reason: str = Field(min_length=1, max_length=500)
    retry_after_s: float = Field(RETRY_AFTER_S, ge=0, le=86_400)


class WithdrawCommand(Frozen):
    """Withdraw a version, also one that the gateway does not know yet."""

    version: str = Field(pattern=r"^[^@\s]{1,60}@[0-9a-z]{1,64}$")
    why: str = Field("", max_length=2000)


class DecideCommand(AdapterDecide):
    """Decide about a version, by default as the account whose socket this is."""

    by: str = Field("owner", min_length=1, max_length=200)


class Control:
    """The ASGI application of the socket."""

    def __init__(self, door: Door) -> None:
        self._door, self._engines = door, {engine.rune: engine for engine in door.engines.all}
        self.app = Starlette(
            routes=[
                Route("/engines", self._list_engines),
                Route("/engines/{rune}", self._get_engine),
                Route("/engines/{rune}/close", self._close, methods=["POST"]),
                Route("/engines/{rune}/open", self._open, methods=["POST"]),
                Route("/engines/{rune}/abort", self._abort, methods=["POST"]),
                Route("/withdrawals", self._list_withdrawals),
                Route("/withdrawals", self._withdraw, methods=["POST"]),
                Route("/table", self._get_table),
                Route("/decisions", self._decide, methods=["POST"]),
                Route("/decisions/{persona}", self._list_decisions),
            ],
            exception_handlers={HTTPException: _refuse, Refusal: _refuse_decision, OSError: _not_kept},
        )

    async def _list_engines(self, request: Request) -> Response:
        return JSONResponse({rune: self._state(engine) for rune, engine in self._engines.items()})

    async def _get_engine(self, request: Request) -> Response:
        return JSONResponse(self._state(self._engine(request)))

    async def _close(self, request: Request) -> Response:
        engine, command = self._engine(request), await _parse(request, CloseCommand)
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

    async def _withdraw(self, request: Request) -> Response:
        command = await _parse(request, WithdrawCommand)
        ended = await self._door.withdraw(command.version, command.why)
        return JSONResponse({"version": command.version, "ended": ended})

    async def _list_withdrawals(self, request: Request) -> Response:
        given = sorted(self._door.withdrawals.given.values(), key=lambda one: one.at)
        return JSONResponse({"withdrawals": [one.model_dump(mode="json") for one in given]})

    async def _get_table(self, request: Request) -> Response:
        return JSONResponse(describe_table(self._door))

    async def _decide(self, request: Request) -> Response:
        made = await self._door.decisions.decide(await _parse(request, DecideCommand))
        if isinstance(made, str):
            return JSONResponse({"source": made, "status": "accepted"}, 202)
        return JSONResponse(made.model_dump(mode="json"))

    async def _list_decisions(self, request: Request) -> Response:
        persona = request.path_params["persona"]
        if not is_storable(persona):
            raise HTTPException(404, f"there is no persona {persona!r}")
        return JSONResponse({"decisions": await self._door.decisions.list_made(persona)})

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


async def _parse(request: Request, kind: type[C]) -> C:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as wrong:
        first = wrong.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise HTTPException(400, f"{where}: {first['msg']}") from None


async def _refuse(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    code = "invalid_command" if wrong.status_code == 400 else "not_found"
    return JSONResponse(error(wrong.detail, code, "invalid_request_error"), wrong.status_code)


async def _refuse_decision(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, Refusal)
    return JSONResponse(error(str(wrong), wrong.code, wrong.kind), wrong.status)


async def _not_kept(request: Request, wrong: Exception) -> Response:
    message = f"it is in force, but only until a restart of the gateway: it could not be written to the disk ({wrong})"
    return JSONResponse(error(message, "not_kept", "server_error"), 500)
