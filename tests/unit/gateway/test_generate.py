"""A request to an engine that ends on it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from services.gateway.away import Queue
from services.gateway.engines import Engines
from services.gateway.forward import Forwarder, open_session
from services.gateway.generate import Generate
from services.gateway.names import Target
from services.gateway.request import Bodies
from services.gateway.settings import GatewaySettings
from shared.config.model import embedded
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.config.tables import EMBEDDED_BASE


async def test_a_request_that_an_engine_ended_on_does_not_wait_for_it_to_start_again(tmp_path: Path) -> None:
    settings, configuration, limits = Settings(home=tmp_path), embedded(), GatewaySettings()
    engines = Engines(settings, configuration)
    await engines.gates.open("rune")
    [engine] = engines.all
    engine.models, engine.answers = frozenset({EMBEDDED_BASE}), True
    socket, sent = settings.make_engine_dir("rune") / ENGINE_SOCKET, list[dict[str, Any]]()
    bodies = [json.dumps({"model": EMBEDDED_BASE}).encode()]

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        server.close()
        socket.unlink()
        writer.close()

    async def receive() -> dict[str, Any]:
        if not bodies:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bodies.pop()}

    async def send(message: Any) -> None:
        sent.append(message)

    server = await asyncio.start_unix_server(end, socket)
    async with open_session(limits, engine.url) as session, asyncio.timeout(5):  # less than a request waits
        forwarder = Forwarder(engines, {"rune": session})
        generate = Generate(Target, configuration, forwarder, Bodies(limits), Queue(limits, engines), None)
        await generate({"type": "http", "path": "/v1/chat/completions", "headers": []}, receive, send)

    assert sent[0]["status"] == 503
    assert engine.gate.admitted == 1 and not engine.gate.requests
