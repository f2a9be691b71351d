"""What the harvester does with what it hears: an intent opens a ritual, a consecration becomes karma."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from services.harvester.remember import Consecration, consecrate
from services.harvester.replies import ReplyDesk
from shared.config.recipe import RecipeError, load_recipe
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import KarmaConsecrated
from shared.messaging.bus import PermanentError
from shared.messaging.streams import INTENTS
from shared.ritual import ledger

if TYPE_CHECKING:
    from faststream.nats import NatsMessage

    from shared.runtime.service import ServiceContext

BAD_REQUEST = 400
NOT_TAKEN = {
    Consecration.REVOKED: "this record was revoked: a revoked record stays out for good",
    Consecration.OTHER: "its id is known with other messages or another persona: a changed record needs an id of its own",
}
PATIENCE_S = 0.5  # how long a malformed intent waits for the request it may have come with


class Intents:
    """Hears intents from the stream, and the requests among them on the side."""

    def __init__(self) -> None:
        self._desk: ReplyDesk | None = None

    async def listen(self, context: ServiceContext) -> None:
        """Note requests from now on; runs as long as the service."""
        desk = self._desk_of(context)
        subscription = await context.nats.subscribe(TrainingIntent.subject)
        async for message in subscription.messages:
            await desk.note(message)

    async def training_intent(self, context: ServiceContext, intent: TrainingIntent, message: NatsMessage) -> None:
        try:
            load_recipe(intent.recipe, context.configuration.max_lora_rank(context.settings))
        except RecipeError as error:
            raise PermanentError(f"recipe: {error}") from error
        async with context.pool.acquire() as conn, conn.transaction():
            ritual = await ledger.open_ritual(
                conn, intent, intent_id(intent, message), message.headers.get("traceparent")
            )
        context.wake()
        sequence = message.raw_message.metadata.sequence.stream
        answer: dict[str, Any] = {"stream": INTENTS, "seq": sequence, "ritual": str(ritual), "persona": intent.persona}
        await self._desk_of(context).answer(message.body, answer)

    async def answer_invalid(self, context: ServiceContext, message: NatsMessage, error: str) -> bool:
        answer: dict[str, Any] = {"error": {"code": BAD_REQUEST, "description": error}}
        return await self._desk_of(context).answer(message.body, answer, PATIENCE_S)

    def _desk_of(self, context: ServiceContext) -> ReplyDesk:
        if self._desk is None or self._desk.client is not context.nats:
            self._desk = ReplyDesk(context.nats)
        return self._desk


def intent_id(intent: TrainingIntent, message: NatsMessage) -> str:
    """The publisher's own id, else the message's id, else its place in the stream: the same at every delivery."""
    if given := intent.id or message.headers.get("Nats-Msg-Id"):
        return given
    metadata = message.raw_message.metadata
    return f"{metadata.stream}/{metadata.sequence.stream}@{metadata.timestamp.isoformat()}"


async def karma_consecrated(context: ServiceContext, record: KarmaConsecrated, message: NatsMessage) -> None:
    """Remember the record as a white truth; what contradicts karma that is known becomes a dead letter."""
    del message
    try:
        async with context.pool.acquire() as conn, conn.transaction():
            became = await consecrate(conn, record)
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
        # A NUL character or half of a surrogate pair in a text, or a name that is too long for an index.
        raise PermanentError(f"PostgreSQL cannot hold it: {type(error).__name__}") from None
    if became in NOT_TAKEN:
        raise PermanentError(NOT_TAKEN[became])
    if became is Consecration.DONE:
        context.wake()
