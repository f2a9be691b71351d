"""Commands about versions: decide, withdraw. The owner gives them at the control socket, the client of a key at the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import Field
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.errors import Refusal
from services.gateway.keys.client import client_of
from shared.contracts.frozen import Frozen
from shared.contracts.registry import AdapterDecide
from shared.contracts.scopes import SCOPES, Scope
from shared.contracts.text import is_storable

if TYPE_CHECKING:
    from starlette.requests import Request

    from services.gateway.decisions import Decisions
    from services.gateway.keys.client import Client
    from services.gateway.request import Bodies

    Withdraw = Callable[[str, str], Awaitable[int]]


class WithdrawCommand(Frozen):
    """Withdraw a version, also one that the gateway does not know yet."""

    version: str = Field(pattern=r"^[^@\s]{1,60}@[0-9a-z]{1,64}$")
    why: str = Field("", max_length=2000)


class DecideCommand(AdapterDecide):
    """Decide about a version, by default as the client that asks."""

    by: str = Field("", min_length=1, max_length=200)


class VersionCommands:
    """The routes of both. `withdraw` refuses a version from now on, for a reason, and returns how many requests that ended."""

    def __init__(self, decisions: Decisions, withdraw: Withdraw, bodies: Bodies) -> None:
        self._decisions, self._do_withdraw, self._bodies = decisions, withdraw, bodies

    def routes(self, prefix: str) -> list[Route]:
        return [
            Route(f"{prefix}/decisions", self._decide, methods=["POST"]),
            Route(f"{prefix}/decisions/{{persona}}", self._list_decisions),
            Route(f"{prefix}/withdrawals", self._withdraw, methods=["POST"]),
        ]

    async def _decide(self, request: Request) -> Response:
        client = client_of(request.scope)
        client.require(SCOPES[AdapterDecide])
        command = await self._bodies.parse(request, DecideCommand)
        client.require(SCOPES[AdapterDecide], command.persona)
        made = await self._decisions.decide(command.model_copy(update={"by": _decider(command, client)}))
        if isinstance(made, str):
            return JSONResponse({"source": made, "status": "accepted"}, 202)
        return JSONResponse(made.model_dump(mode="json"))

    async def _list_decisions(self, request: Request) -> Response:
        persona = request.path_params["persona"]
        client_of(request.scope).require(SCOPES[AdapterDecide], persona)
        if not is_storable(persona):
            raise Refusal(404, "not_found", f"there is no persona {persona!r}")
        return JSONResponse({"decisions": await self._decisions.list_made(persona)})

    async def _withdraw(self, request: Request) -> Response:
        client_of(request.scope).require(Scope.ADMIN)
        command = await self._bodies.parse(request, WithdrawCommand)
        try:
            ended = await self._do_withdraw(command.version, command.why)
        except OSError as error:
            raise not_kept(error) from error
        return JSONResponse({"version": command.version, "ended": ended})


def _decider(command: DecideCommand, client: Client) -> str:
    """Whom a decision is recorded for. Raises Refusal where a client names somebody else, unless it may do everything."""
    if command.by in ("", client.name) or client.has(Scope.ADMIN):
        return command.by or client.name
    raise Refusal(400, "invalid_command", f"by: what {client} decides is recorded for {client.name}", param="by")


def not_kept(error: OSError) -> Refusal:
    """What a command is answered with that is obeyed, but that a restart would not know."""
    text = f"it is in force, but only until a restart of the gateway: it could not be written to the disk ({error})"
    return Refusal(500, "not_kept", text)
