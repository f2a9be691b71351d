"""A request for tokens or embeddings: read it, find what answers, and let that answer while the client stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import structlog

from services.gateway.away import Away, Queue
from services.gateway.errors import Refusal
from services.gateway.in_flight import InFlight
from services.gateway.keys.client import client_of
from services.gateway.metrics import REQUESTS
from services.gateway.portal import Portal, PortalError
from services.gateway.request import Asked, Bodies, Gone, parse
from shared.drivers.inference.port import LOW_PRIORITY, PRIORITY_HEADER

if TYPE_CHECKING:
    from services.gateway.forward import Forwarder
    from services.gateway.keys.client import Client
    from services.gateway.names import Target
    from shared.asgi.replies import Receive, Scope, Send
    from shared.config.model import Configuration

log = structlog.get_logger()


@dataclass
class Use:
    """How often a version was asked since the gateway started, and when last."""

    requests: int = 0
    last_at: float = 0.0


class Generate:
    """The ASGI application of every route that an engine answers. `resolve` finds what a client's name stands for, or raises Refusal."""

    def __init__(
        self,
        resolve: Callable[[str, Client], Target],
        configuration: Configuration,
        forwarder: Forwarder,
        bodies: Bodies,
        queue: Queue,
        portal: Portal | None,
    ) -> None:
        self._resolve, self._configuration, self._forwarder = resolve, configuration, forwarder
        self._bodies, self.queue, self._portal = bodies, queue, portal
        self.requests: set[InFlight] = set()
        self.uses: dict[str, Use] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        yields = (PRIORITY_HEADER.encode(), LOW_PRIORITY.encode()) in scope["headers"]
        request = InFlight(client_of(scope), receive, send, yields)
        try:
            with self._bodies.hold() as body:
                await self._bodies.read(body, scope, receive)
                asked = await parse(Asked, body.take())
                self.requests.add(request)
                await request.run(partial(self._answer, asked, request, scope))
        except Gone:
            request.outcome = "left"
        except Refusal as refusal:
            request.outcome = "refused"
            await refusal.send(receive, send)
        except (aiohttp.ClientError, TimeoutError) as error:
            # Its head was sent: uvicorn ends the connection before the answer's end, which a client notices.
            log.warning("answer cut off by the engine", served=request.served, error=str(error) or type(error).__name__)
        finally:
            self.requests.discard(request)
            self._count_use(request.target)
            outcome = "ended" if request.ended else request.outcome
            yielded = request.yields and outcome in ("ended", "refused")
            REQUESTS.labels(request.served, "yielded" if yielded else outcome).inc()

    async def _answer(self, asked: Asked, request: InFlight, scope: Scope, send: Send) -> None:
        status = await self._serve(asked, request, scope, send)
        request.outcome = "answered" if status < 400 else "refused by the engine"

    async def _serve(self, asked: Asked, request: InFlight, scope: Scope, send: Send) -> int:
        """Forward the request to an engine, once there is one; returns the answer's status. Raises Refusal."""
        deadline = self.queue.deadline()
        while True:
            target = self._decide(asked, request)
            body = asked.body_for(target.model)
            try:
                return await self._forwarder.forward(scope, send, target, body, request)
            except Away as away:
                if request.yields:
                    raise away.refusal from None
                decided = self._configuration.persona(target.persona)
                # A version is asked for by its name for the sake of its weights: nothing else answers for it.
                if decided.away == "portal" and decided.leaves_home and not target.pinned and away.passes:
                    return await self._send_away(asked, request, scope, send, away)
                if decided.away != "wait" or not away.may_wait:
                    raise away.refuse() from None
                await self._wait(asked, request, deadline)

    async def _send_away(self, asked: Asked, request: InFlight, scope: Scope, send: Send, away: Away) -> int:
        """Let the portal answer. Raises Refusal where it cannot."""
        request.target = None
        try:
            if self._portal is None:
                raise PortalError("there is none")
            return await self._portal.answer(scope, send, asked)
        except PortalError:
            raise away.refuse() from None

    def _decide(self, asked: Asked, request: InFlight) -> Target:
        """Find what answers now. It is withdrawn from then on only together with the request."""
        target = request.target = self._resolve(asked.model, request.client)
        request.served = target.served
        return target

    def _count_use(self, target: Target | None) -> None:
        """Count a request that is over, for the version that it was decided for last: while it waits that may change."""
        if target and target.persona:
            use = self.uses.setdefault(target.model, Use())
            use.requests, use.last_at = use.requests + 1, time.time()

    async def _wait(self, asked: Asked, request: InFlight, deadline: float) -> None:
        """Wait until an engine can answer what the name stands for then. Raises Refusal where that takes too long."""
        assert request.target
        base = self._base(request.target)
        if not request.target.pinned:
            request.target = None
        with self.queue.place(base):
            await self.queue.wait(
                lambda: self._forwarder.find_away(self._resolve(asked.model, request.client)), deadline
            )

    def _base(self, target: Target) -> str:
        return self._configuration.base_of(target.persona) if target.persona else target.model
