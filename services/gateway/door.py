"""The door: the server that clients use. It opens before the database and the bus are there, with the table kept on disk."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway import names
from services.gateway.connection import Connection
from services.gateway.engines import POLL_S, Engines
from services.gateway.forward import Forwarder, open_session
from services.gateway.generate import Generate
from services.gateway.metrics import TABLE_AGE_SECONDS
from services.gateway.request import Bodies
from services.gateway.settings import GatewaySettings
from services.gateway.table import Table, read_table, write_table
from shared.config.settings import SettingsError
from shared.drivers.inference.gate.origin import SameOrigin
from shared.drivers.inference.gate.replies import error
from shared.runtime.loops import Loop, repeat

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
KEEP_ALIVE_S = 75  # longer than clients keep a connection: one that they use again is not closed at that moment
LEAVE_S = 20  # for requests under way when the process is stopped
STALE_S = 15.0
KEEP_EVERY_S = 60.0
HEAD_BYTES = 16 * 1024


class TableError(Exception):
    """The gateway does not see what changes; the message has since when."""


class Door:
    """What clients use of the models."""

    def __init__(self, settings: Settings, limits: GatewaySettings, engines: Engines, forwarder: Forwarder) -> None:
        self.table = read_table(settings.home)
        self._home, self._engines = settings.home, engines
        self._kept = self.table
        TABLE_AGE_SECONDS.set_function(lambda: self.table.age_s)
        generate = Generate(lambda: self.table, engines, forwarder, Bodies(limits))
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name}", self._get_model),
                *(Route(path, generate, methods=["POST"]) for path in GENERATING),
            ],
            middleware=[Middleware(SameOrigin, own_name=settings.host)],
            exception_handlers={HTTPException: _no_route, Exception: _fault},
        )
        self.app.router.redirect_slashes = False

    async def set_table(self, table: Table) -> None:
        """Serve by this table from now on, and keep it on disk for a restart; a full disk delays only that."""
        self.table = table
        changed = (table.personas, table.versions) != (self._kept.personas, self._kept.versions)
        if changed or table.read_at - self._kept.read_at > KEEP_EVERY_S:
            await asyncio.to_thread(write_table, self._home, table)
            self._kept = table

    async def check_table(self) -> None:
        """Raise TableError while the gateway does not see what the registry decides."""
        if not self.table.read_at:
            raise TableError("was never read: only bases answer")
        if self.table.age_s > STALE_S:
            raise TableError(f"was read {self.table.age_s:.0f} s ago: what was decided since is not known here")

    async def _health(self, request: Request) -> Response:
        """That the door is open, and what is behind it."""
        try:
            await self.check_table()
            table = "is current"
        except TableError as error:
            table = str(error)
        engines = {
            engine.rune: {"answers": engine.answers, "admits": engine.admits, "in_flight": engine.in_flight}
            for engine in self._engines.all
        }
        return JSONResponse({"status": "open", "table": table, "engines": engines})

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._cards()})

    async def _get_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        card = next((card for card in self._cards() if card["id"] == name), None)
        return JSONResponse(card) if card else _error(404, "model_not_found", f"there is no model {name[:100]!r}")

    def _cards(self) -> list[dict[str, Any]]:
        engines = self._engines
        return list(names.list_cards(self.table, engines.bases, engines.loaded(), engines.base_of))


@asynccontextmanager
async def open_door(settings: Settings, configuration: Configuration) -> AsyncIterator[Door]:
    """Listen on the gateway's port until the block ends; requests under way have LEAVE_S then."""
    limits = configuration.section(GatewaySettings)
    engines = Engines(settings, configuration)
    listener = _listen(settings.host, settings.port("gateway"), limits.connections)
    async with open_session(limits) as session:
        door = Door(settings, limits, engines, Forwarder(engines, session, settings.engine_key))
        server = _server(door.app, limits)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        polling = asyncio.create_task(repeat(Loop("engines", engines.poll, POLL_S)))
        try:
            yield door
        finally:
            server.should_exit = True
            await serving
            polling.cancel()


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    """Raise SettingsError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise SettingsError(
            f"port {port} on {host} cannot be opened ({error.strerror}): set SOULFORGE_PORT_BASE"
        ) from error
    # Connections inherit it; asyncio sets it only where the socket names its protocol. Without it an answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _server(app: Starlette, limits: GatewaySettings) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(Connection, limits),  # type: ignore[arg-type] # called as the class would be
            ws="none",
            lifespan="off",
            log_level="error",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LEAVE_S,
        )
    )
    # Signals are handled by the service.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    return server


async def _no_route(request: Request, error: Exception) -> Response:
    """Everything else of an engine is not for clients."""
    assert isinstance(error, HTTPException)
    routes = ", ".join(("/v1/models", *GENERATING))
    return _error(error.status_code, "not_found", f"there is no {request.method} {request.url.path[:100]}: {routes}")


async def _fault(request: Request, error: Exception) -> Response:
    return _error(500, "internal_error", "a fault in the gateway itself: its log has the details")


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse(error(message, code, "invalid_request_error"), status)
