"""The servers of clients and of the owner. They open before the database and the bus are there, and stay open while those are away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from services.gateway.connection import Connection
from services.gateway.control import Control, listen
from services.gateway.door import Door
from services.gateway.engines import POLL_S, Engines
from services.gateway.forward import Forwarder, open_session
from services.gateway.portal import Portal
from services.gateway.request import Bodies
from services.gateway.settings import GatewaySettings
from services.gateway.table_reader import AGAIN_S, TableReader
from shared.config.settings import SettingsError
from shared.runtime.loops import Loop, repeat

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from shared.config.model import Configuration
    from shared.config.settings import Settings

KEEP_ALIVE_S = 75  # longer than clients keep a connection: one that they use again is not closed at that moment
LEAVE_S = 20  # for requests under way when the process is stopped
FIRST_READ_S = 2.0  # a start waits so long for what was decided meanwhile
HEAD_BYTES = 16 * 1024


@asynccontextmanager
async def open_door(settings: Settings, configuration: Configuration) -> AsyncIterator[Door]:
    """Listen on the gateway's port and sockets until the block ends; requests under way have LEAVE_S then."""
    limits = configuration.section(GatewaySettings)
    engines = Engines(settings, configuration)
    listener = _listen(settings.host, settings.port("gateway"), limits.connections)
    local = listen(lambda: settings.door_socket, settings.home)
    control = listen(lambda: settings.gateway_control_socket, settings.home)
    async with AsyncExitStack() as stack:
        sessions = {
            engine.rune: await stack.enter_async_context(open_session(limits, engine.url)) for engine in engines.all
        }
        portal = None
        if limits.portal:
            portal = Portal(settings.home, limits.portal, await stack.enter_async_context(open_session(limits)))
        door = Door(settings, configuration, engines, Forwarder(engines, sessions), portal)
        reader = TableReader(settings, door)
        loops = (Loop("engines", engines.poll, POLL_S), Loop("table", reader.run, AGAIN_S))
        running = [asyncio.create_task(repeat(loop)) for loop in loops]
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_READ_S):
                await reader.tried.wait()
        clients, owner = (
            _server(door.app, partial(Connection, limits)),
            _server(Control(door, Bodies(limits)).app, "h11"),
        )
        serving = [
            asyncio.create_task(clients.serve(sockets=[listener, local])),
            asyncio.create_task(owner.serve(sockets=[control])),
        ]
        try:
            yield door
        finally:
            door.jobs.close()
            clients.should_exit = owner.should_exit = True
            await asyncio.gather(*serving)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


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


def _server(app: Starlette, http: Any) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=http,
            ws="none",
            lifespan="off",
            log_level="error",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # what a proxy passes on is not taken for local; whom it speaks for does not matter
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LEAVE_S,
        )
    )
    # Signals are handled by the service.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    return server
