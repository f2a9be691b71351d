"""A request for tokens or embeddings: read it, find what answers, and forward it while its client stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
import structlog

from services.gateway.errors import Refusal
from services.gateway.metrics import REQUESTS
from services.gateway.names import resolve
from services.gateway.request import Asked, Bodies, Gone

if TYPE_CHECKING:
    from services.gateway.engines import Engines
    from services.gateway.forward import Forwarder
    from services.gateway.names import Target
    from services.gateway.table import Table
    from shared.drivers.inference.gate.replies import Receive, Scope, Send

log = structlog.get_logger()


class Generate:
    """The ASGI application of every route that an engine answers."""

    def __init__(self, get_table: Callable[[], Table], engines: Engines, forwarder: Forwarder, bodies: Bodies) -> None:
        self._get_table, self._engines, self._forwarder, self._bodies = get_table, engines, forwarder, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served, outcome = "", "failed"
        try:
            target, body = await self._read(scope, receive)
            served = target.served
            status = await self._answer(scope, receive, send, target, body)
            outcome = "answered" if status < 400 else "refused by the engine"
        except Gone:
            outcome = "left"
        except Refusal as refusal:
            outcome = "refused"
            await refusal.send(receive, send)
        except (aiohttp.ClientError, TimeoutError) as error:
            # Its head was sent: uvicorn ends the connection before the answer's end, which a client notices.
            log.warning("answer cut off by the engine", served=served, error=str(error) or type(error).__name__)
        finally:
            REQUESTS.labels(served, outcome).inc()

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Target, bytes]:
        """What answers the request, and the body to send."""
        with self._bodies.hold() as body:
            await self._bodies.read(body, scope, receive)
            asked = Asked(body.take())
        target = resolve(self._get_table(), self._engines.bases, asked.model)
        return target, asked.body_for(target.model)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, target: Target, body: bytes) -> int:
        """Forward the request; raises Gone as soon as the client leaves, and the engine drops its work."""
        answer = asyncio.ensure_future(self._forwarder.forward(scope, send, target, body))
        leaving = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Gone
            return await answer
        finally:
            answer.cancel()
            leaving.cancel()
            await asyncio.wait({answer, leaving})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
