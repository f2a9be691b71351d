"""One request to an engine: its answer goes to the client as it comes, unparsed but for the tokens that it reports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import orjson
import structlog

from services.gateway.away import Away
from services.gateway.metrics import TOKENS
from services.gateway.names import unloaded
from shared.asgi.replies import ABORTED, error, last_events
from shared.drivers.inference.http import UNIX

if TYPE_CHECKING:
    from services.gateway.engines import Engine, Engines
    from services.gateway.in_flight import InFlight
    from services.gateway.names import Target
    from services.gateway.settings import GatewaySettings
    from shared.asgi.replies import Scope, Send

CONNECT_S = 2.0
KEPT_S = 3.0  # an idle connection; vLLM closes it after 5 s
PASSED_TO_ENGINE = (b"traceparent", b"tracestate")
PASSED_TO_CLIENT = ("content-type", "content-length", "content-encoding", "retry-after")
TAIL = 2048  # bytes at the end of an answer in which its usage is found
USAGE = re.compile(rb'"usage":\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
COUNTED = {"prompt": ("prompt_tokens", "input_tokens"), "completion": ("completion_tokens", "output_tokens")}
NOT_FOUND = 404
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
log = structlog.get_logger()


class Forwarder:
    """Sends requests to engines and passes their answers on."""

    def __init__(self, engines: Engines, sessions: dict[str, aiohttp.ClientSession]) -> None:
        """`sessions` are the pools of connections, by rune."""
        self._engines, self._sessions = engines, sessions

    async def forward(self, scope: Scope, send: Send, target: Target, body: bytes, request: InFlight) -> int:
        """Let an engine answer; returns the status. Raises Away where none can. Cancelled, it ends the engine's work."""
        tried: list[Engine] = []
        sent = False
        while engine := await self._engines.choose(target.model, tried):
            with engine.working(request):
                try:
                    answer = await self._post(engine, scope, body)
                except (aiohttp.ClientError, TimeoutError) as fault:
                    log.warning("engine not reached", rune=engine.rune, error=str(fault) or type(fault).__name__)
                    engine.mark_gone()
                    tried.append(engine)
                    if isinstance(fault, NOT_SENT):
                        engine.gate.admitted -= not request.yields
                    else:
                        sent = True
                    continue
                if answer.status == NOT_FOUND and await self._lost(engine, target.model):
                    answer.close()
                    engine.gate.admitted -= not request.yields
                    tried.append(engine)
                    continue
                return await pass_on(answer, send, _headers_of(target, engine), target.served)
        raise self._away(target, sent)

    def find_away(self, target: Target) -> Away | None:
        """Why no engine can answer now; None where one can."""
        return None if self._engines.find(target.model, ()) else self._away(target)

    def _away(self, target: Target, sent: bool = False) -> Away:
        closed = self._engines.closed(target.persona, target.model)
        answering = self._engines.answering(target.persona, target.model)
        return Away(unloaded(target, answering, closed.closed if closed else None), closed, sent)

    async def _lost(self, engine: Engine, model: str) -> bool:
        """Whether an engine that does not find something has the model no more, since the last poll."""
        if await engine.poll():
            self._engines.report_change()
        return model not in engine.models

    async def _post(self, engine: Engine, scope: Scope, body: bytes) -> aiohttp.ClientResponse:
        """Send the request and return the answer's head."""
        session, path, headers = self._sessions[engine.rune], scope["path"], _headers(scope)
        try:
            return await session.post(path, data=body, headers=headers)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # Of a kept connection that the engine closed at that moment. A fresh one shows whether it is gone.
            try:
                return await session.post(path, data=body, headers=headers)
            except NOT_SENT as gone:
                raise aiohttp.ServerDisconnectedError("it ended after it was sent a request") from gone


async def pass_on(answer: aiohttp.ClientResponse, send: Send, ours: list[tuple[str, str]], served: str) -> int:
    """Send the answer to the client, with headers of ours. A stream that breaks off before its end is ended with an error."""
    passed = [(name, answer.headers[name]) for name in PASSED_TO_CLIENT if name in answer.headers]
    headers = [(name.encode(), value.encode("latin-1")) for name, value in (*passed, *ours)]
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        tail = b""
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            tail = (tail + chunk)[-TAIL:]
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        count_tokens(served, tail)
    except aiohttp.ClientError as fault:
        if answer.content_type != "text/event-stream":
            raise
        log.warning("stream cut off by the engine", served=served, error=str(fault) or type(fault).__name__)
        rest = last_events(error("the engine ended before the answer was complete", ABORTED))
        await send({"type": "http.response.body", "body": rest, "more_body": False})
    finally:
        answer.close()  # gives nothing back to the pool where it was not read to its end
    return answer.status


def _headers(scope: Scope) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    for name, value in scope["headers"]:
        if name in PASSED_TO_ENGINE:
            headers.setdefault(name.decode(), value.decode("latin-1"))
    return headers


def _headers_of(target: Target, engine: Engine) -> list[tuple[str, str]]:
    headers = [("x-soulforge-engine", engine.rune)]
    if target.ritual:
        headers += [("x-soulforge-adapter", target.model), ("x-soulforge-ritual", str(target.ritual))]
    return headers


def open_session(settings: GatewaySettings, url: str | None = None) -> aiohttp.ClientSession:
    """A pool of connections, to the engine at `url`. What it sends waits in the kernel while a client does not read."""
    connector: aiohttp.BaseConnector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
    if url and url.startswith(UNIX):
        connector = aiohttp.UnixConnector(url.removeprefix(UNIX), limit=0, keepalive_timeout=KEPT_S)
        url = "http://localhost"
    return aiohttp.ClientSession(
        url,
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=settings.answer_within_s),
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def count_tokens(served: str, tail: bytes) -> None:
    """Count the usage that the end of an answer reports, if it does. Never raises."""
    for kind, tokens in (find_usage(tail) or {}).items():
        TOKENS.labels(served, kind).inc(tokens)


def find_usage(tail: bytes) -> dict[str, int] | None:
    """The tokens of prompt and completion that the end of an answer reports; None where it does not."""
    try:
        usage = orjson.loads(USAGE.findall(tail)[-1])
    except (IndexError, orjson.JSONDecodeError):
        return None
    return {
        kind: max(0, next((usage[name] for name in names if isinstance(usage.get(name), int)), 0))
        for kind, names in COUNTED.items()
    }
