"""Decisions that a client or the owner asks for: published for the registry, which makes or refuses them, and read back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from nats.errors import Error as NatsError

from services.gateway import store
from services.gateway.errors import RETRY_AFTER_S, Refusal
from shared.contracts.registry import AdapterDecided

if TYPE_CHECKING:
    from shared.contracts.registry import AdapterDecide, DecisionRefused
    from shared.runtime.context import ServiceContext

STORED_S, ANSWERED_S = 2.0, 3.0  # for NATS to store a message, and for the registry to answer it


class Decisions:
    """The decisions that wait for the registry's answer, by the id of the message that asked."""

    def __init__(self) -> None:
        self._context: ServiceContext | None = None
        self._waiting: dict[str, asyncio.Future[AdapterDecided | DecisionRefused]] = {}

    def connect(self, context: ServiceContext) -> None:
        """Use the connections of this context, which are there only once the database and the bus are."""
        self._context = context

    def answer(self, answer: AdapterDecided | DecisionRefused) -> None:
        """Hand an answer of the registry to who waits for it."""
        waiting = self._waiting.get(answer.source or "")
        if waiting and not waiting.done():
            waiting.set_result(answer)

    async def decide(self, asked: AdapterDecide) -> AdapterDecided | str:
        """Ask the registry; returns the decision, or the id of the message that waits for the registry. Raises Refusal."""
        source = str(uuid4())
        waiting = self._waiting[source] = asyncio.get_running_loop().create_future()
        try:
            await self._publish(asked, source)
            answer = await asyncio.wait_for(waiting, ANSWERED_S)
        except TimeoutError:
            return source
        finally:
            del self._waiting[source]
        if isinstance(answer, AdapterDecided):
            return answer
        raise Refusal(409, "decision_refused", answer.refused)

    async def _publish(self, asked: AdapterDecide, source: str) -> None:
        if self._context is None:
            text = "the gateway has not reached PostgreSQL and NATS since it started: nothing was decided, ask again"
            raise Refusal(503, "not_connected", text, RETRY_AFTER_S)
        if not self._context.nats.is_connected:
            raise Refusal(503, "bus_away", "NATS does not answer: nothing was decided, ask again", RETRY_AFTER_S)
        body, headers = asked.model_dump_json().encode(), {"Nats-Msg-Id": source}
        jetstream = self._context.nats.jetstream()
        try:
            await jetstream.publish(asked.subject, body, timeout=STORED_S, headers=headers)
        except (NatsError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            text = f"NATS did not confirm {source} ({reason}): it may be obeyed all the same, GET /decisions/{asked.persona} shows it"
            raise Refusal(503, "bus_away", text, RETRY_AFTER_S) from error

    async def list_made(self, persona: str) -> list[dict[str, Any]]:
        """The decisions about a persona's versions, the newest first. Raises Refusal."""
        async with store.database(self._context) as pool:
            return await store.list_decisions(pool, persona)
