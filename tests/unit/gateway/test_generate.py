"""A request to an engine: what is held for it, and what becomes of it where the engine ends on it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from services.gateway.away import Away, Queue
from services.gateway.engines import Engines
from services.gateway.errors import Refusal
from services.gateway.forward import Forwarder, open_session
from services.gateway.generate import Generate
from services.gateway.keys.client import IN_SCOPE, LOCAL, Client
from services.gateway.names import Target
from services.gateway.request import Bodies
from services.gateway.settings import GatewaySettings
from shared.asgi.replies import Message, Receive, Scope, Send
from shared.config.model import embedded
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.config.tables import EMBEDDED_BASE

SCOPE = {"type": "http", "path": "/v1/chat/completions", "headers": [], IN_SCOPE: LOCAL}
BODY = json.dumps({"model": EMBEDDED_BASE}).encode()


def resolve(asked: str, _: Client) -> Target:
    return Target(asked)


def receiving(*parts: bytes) -> Receive:
    """A client that sends a body in these parts, and then waits."""
    left = list(parts)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def test_a_request_counts_against_the_limit_of_bodies_until_it_is_answered(tmp_path: Path) -> None:
    settings, configuration, limits = Settings(home=tmp_path), embedded(), GatewaySettings()
    bodies = Bodies(limits)
    held: list[int] = []

    class Forwarding(Forwarder):
        async def forward(self, scope: Scope, send: Send, *_: object) -> int:
            held.append(bodies.held)
            await Refusal(409, "version_unserved", "").send(receiving(), send)
            return 409

    async def send(message: Message) -> None:
        pass

    engines = Engines(settings, configuration)
    generate = Generate(resolve, configuration, Forwarding(engines, {}), bodies, Queue(limits, engines), None)
    await generate(SCOPE, receiving(BODY[:9], BODY[9:]), send)

    assert held == [len(BODY)] and bodies.held == 0


async def test_a_request_that_waited_is_counted_once_for_the_version_that_answered(tmp_path: Path) -> None:
    settings, configuration, limits = Settings(home=tmp_path), embedded(), GatewaySettings()
    engines = Engines(settings, configuration)
    await engines.gates.open("rune")
    [engine] = engines.all
    engine.models = frozenset({"scribe@a", "scribe@b"})
    targets = [Target(name, "scribe") for name in ("scribe@a", "scribe@b", "scribe@b", "scribe@b")]
    forwarded: list[str] = []

    class Forwarding(Forwarder):
        async def forward(self, scope: Scope, send: Send, target: Target, *_: object) -> int:
            forwarded.append(target.model)
            if len(forwarded) == 1:
                raise Away(Refusal(503, "engine_away", "", retry_after_s=1.0), None)
            await Refusal(409, "version_unserved", "").send(receiving(), send)
            return 409

    async def send(message: Message) -> None:
        pass

    def resolve(asked: str, client: Client) -> Target:
        return targets.pop(0)

    generate = Generate(resolve, configuration, Forwarding(engines, {}), Bodies(limits), Queue(limits, engines), None)
    await generate(SCOPE, receiving(BODY), send)

    assert forwarded == ["scribe@a", "scribe@b"]
    assert {name: use.requests for name, use in generate.uses.items()} == {"scribe@b": 1}


async def test_a_request_that_an_engine_ended_on_does_not_wait_for_it_to_start_again(tmp_path: Path) -> None:
    settings, configuration, limits = Settings(home=tmp_path), embedded(), GatewaySettings()
    engines = Engines(settings, configuration)
    await engines.gates.open("rune")
    [engine] = engines.all
    engine.models, engine.answers = frozenset({EMBEDDED_BASE}), True
    socket, sent = settings.make_engine_dir("rune") / ENGINE_SOCKET, list[Message]()

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        server.close()
        socket.unlink()
        writer.close()

    async def send(message: Message) -> None:
        sent.append(message)

    server = await asyncio.start_unix_server(end, socket)
    async with open_session(limits, engine.url) as session, asyncio.timeout(5):  # less than a request waits
        forwarder = Forwarder(engines, {"rune": session})
        generate = Generate(resolve, configuration, forwarder, Bodies(limits), Queue(limits, engines), None)
        await generate(SCOPE, receiving(BODY), send)

    assert sent[0]["status"] == 503
    assert engine.gate.admitted == 1 and not engine.gate.requests
