"""What the harvester consumes: an intent opens a ritual, records and consecrations become karma, a revocation withdraws it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid5

import structlog
from faststream import Context
from faststream.nats.annotations import NatsMessage
from nats.aio.msg import Msg

from services.harvester.ingest.consent import list_recalls, mark_announced, revoke
from services.harvester.ingest.karma import Consecration, consecrate, reject, store_records
from services.harvester.replies import RequestReplies
from shared.config.engines import list_engines
from shared.config.errors import ConfigurationError
from shared.contracts.intent import MOST_REFINEMENTS, TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRejected, KarmaRemembered, KarmaRevoked
from shared.contracts.message import RITUAL_NAMESPACE
from shared.contracts.ritual import State
from shared.messaging.outbox import enqueue
from shared.messaging.router import PermanentError, Router
from shared.messaging.streams import INTENTS
from shared.ritual import ledger
from shared.runtime.context import InContext
from shared.storage.base_model import BaseError, Bases
from shared.storage.base_shape import expect_fit
from shared.storage.suites import load_suites

if TYPE_CHECKING:
    from shared.storage.postgres import Connection

log = structlog.get_logger()

BAD_REQUEST = 400
NOT_TAKEN = {
    Consecration.REVOKED: "this record was revoked: a revoked record stays out for good",
    Consecration.OTHER: "its id is known with other messages or another persona: a changed record needs an id of its own",
}
PATIENCE_S = (
    0.5  # age to which a malformed intent waits for the request it may have come with; in a flood all are older
)


router = Router("harvester")
InReplies = Annotated[RequestReplies, Context("replies")]


@router.consume(TrainingIntent)
async def training_intent(intent: TrainingIntent, message: NatsMessage, service: InContext, replies: InReplies) -> None:
    """Open the ritual of an intent, and answer the request it came with."""
    try:
        recipe = service.configuration.recipe(intent.recipe, intent.persona, intent.overrides)
        list_engines(recipe, service.configuration.jobs)
        bases = Bases(service.settings, service.configuration)
        await expect_fit(recipe, bases, service.configuration.base_of(intent.persona))
    except (ConfigurationError, BaseError) as error:
        raise PermanentError(f"recipe: {error}") from error
    try:
        await asyncio.to_thread(load_suites, service.configuration.suites)
    except ConfigurationError as error:
        raise PermanentError(f"suites: {error}") from error
    async with service.pool.acquire() as conn, conn.transaction():
        if intent.refines:
            await _expect_banished(conn, intent.refines, intent.persona)
        ritual = await ledger.open_ritual(conn, intent, intent_id(intent, message), message.headers.get("traceparent"))
        # Intents are handled one by one, and this one is counted: at its redelivery it is no further one.
        if await ledger.count_refinements(conn, ritual) > MOST_REFINEMENTS:
            raise PermanentError(f"refines: {MOST_REFINEMENTS} rituals refine that one already, which is the most")
    service.wake()
    sequence = message.raw_message.metadata.sequence.stream
    answer: dict[str, object] = {"stream": INTENTS, "seq": sequence, "ritual": str(ritual), "persona": intent.persona}
    await replies.answer(message.body, answer)


async def _expect_banished(conn: Connection, refined: UUID, persona: str) -> None:
    """Raise PermanentError unless that is a banished ritual of the persona."""
    ritual = await ledger.get_ritual(conn, refined)
    if ritual is None or ritual.state is not State.BANISHED or ritual.persona != persona:
        raise PermanentError(f"refines: {refined} is no banished ritual of {persona}")


async def answer_invalid(replies: RequestReplies, message: Msg, error: str) -> bool:
    """Answer the request that an invalid intent came with; False for other messages and where no one waits."""
    if message.subject != TrainingIntent.subject:
        return False
    answer: dict[str, object] = {"error": {"code": BAD_REQUEST, "description": error}}
    age_s = (datetime.now(UTC) - message.metadata.timestamp).total_seconds()
    return await replies.answer(message.data, answer, min(PATIENCE_S - age_s, PATIENCE_S))


def intent_id(intent: TrainingIntent, message: NatsMessage) -> str:
    """The publisher's own id, else the message's id, else its place in the stream: the same at every delivery."""
    if given := intent.id or message.headers.get("Nats-Msg-Id"):
        return given
    metadata = message.raw_message.metadata
    return f"{metadata.stream}/{metadata.sequence.stream}@{metadata.timestamp.isoformat()}"


@router.consume(KarmaRemembered)
async def karma_remembered(record: KarmaRemembered, service: InContext) -> None:
    """Store a speculative record; only its owner makes a white truth of it."""
    async with service.pool.acquire() as conn, conn.transaction():
        await store_records(conn, [record])


@router.consume(KarmaConsecrated)
async def karma_consecrated(record: KarmaConsecrated, service: InContext) -> None:
    """Store the record as a white truth; what contradicts karma that is known becomes a dead letter."""
    async with service.pool.acquire() as conn, conn.transaction():
        became = await consecrate(conn, record)
    if became in NOT_TAKEN:
        raise PermanentError(NOT_TAKEN[became])
    if became is Consecration.DONE:
        service.wake()


@router.consume(KarmaRejected)
async def karma_rejected(command: KarmaRejected, service: InContext) -> None:
    """Mark the records as not to be trained."""
    async with service.pool.acquire() as conn, conn.transaction():
        await reject(conn, command)
    log.info("rejected", records=len(command.karma), by=command.by)


@router.consume(KarmaRevoked)
async def karma_revoked(command: KarmaRevoked, message: NatsMessage, service: InContext) -> None:
    """Revoke the records, and announce what was built from them."""
    async with service.pool.acquire() as conn, conn.transaction():
        await revoke(conn, command)
        for recall in await list_recalls(conn, command.karma):
            event = uuid5(RITUAL_NAMESPACE, f"{_delivery(message)} {recall.model_dump_json()}")
            await enqueue(conn, recall, event, {})
        await mark_announced(conn, command.karma)
    log.info("revoked", records=len(command.karma), by=command.by)
    service.wake()


def _delivery(message: NatsMessage) -> str:
    """The same at every delivery of a message, another one when the same command is published again."""
    metadata = message.raw_message.metadata
    return f"{metadata.stream}/{metadata.sequence.stream}@{metadata.timestamp.isoformat()}"
