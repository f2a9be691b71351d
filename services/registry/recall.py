"""Recall: what was trained on revoked karma is known as tainted, said on the bus, and withdrawn where the policy says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid5

import structlog

from services.registry import store
from services.registry.settings import RegistrySettings
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import RITUAL_NAMESPACE
from shared.contracts.registry import AdapterTainted
from shared.messaging.outbox import enqueue
from shared.ritual import ledger

if TYPE_CHECKING:
    from faststream.nats import NatsMessage

    from shared.contracts.karma import KarmaRecalled
    from shared.contracts.message import Message
    from shared.contracts.registry import RecallAction
    from shared.runtime.service import ServiceContext
    from shared.storage.postgres import Connection

log = structlog.get_logger()

IDS_SAID = 1000  # ids of one announcement, so that it stays far below what the bus takes
WHY = "consent to karma it was trained on is withdrawn"


async def karma_recalled(context: ServiceContext, said: KarmaRecalled, _: NatsMessage) -> None:
    async with context.pool.acquire() as conn, conn.transaction():
        await store.taint(conn, said.rituals, said.karma)
    context.wake()


async def settle(context: ServiceContext) -> None:
    """Act upon every tainted version and ritual as the policy says now; repeatable.

    By looking at rows: a version that is registered after the recall, and a policy that became stricter, are seen too.
    """
    action = RegistrySettings().on_recall
    async with context.pool.acquire() as conn, conn.transaction():
        if action != "warn":
            for ritual in await store.tainted_and_open(conn):
                await ledger.request_cancel(conn, ritual, f"recall: {WHY}")
        for version in await store.undecided(conn, withdrawing=action != "warn"):
            await _act(conn, version, action)


async def _act(conn: Connection, version: dict[str, Any], action: RecallAction) -> None:
    withdrawn = action != "warn" and await store.withdraw(conn, version["name"], WHY)
    for start in range(0, len(version["karma"]), IDS_SAID):
        said = AdapterTainted(
            persona=version["persona"],
            version=version["name"],
            karma=version["karma"][start : start + IDS_SAID],
            action=action,
            alias_withdrawn=withdrawn,
        )
        await _say(conn, said, said.model_dump_json())
    await store.taint_said(conn, version["ritual"], version["karma"])
    if withdrawn and action == "withdraw_and_retrain":
        intent = clean_intent(version)
        await _say(conn, intent, str(intent.id))
    log.warning(
        "adapter tainted",
        version=version["name"],
        records=len(version["karma"]),
        action=action,
        served=version["serves"],
        alias_withdrawn=withdrawn,
    )


def clean_intent(version: dict[str, Any]) -> TrainingIntent:
    """Asks for a ritual without the revoked records: once for a version, whatever else of it is revoked later."""
    return TrainingIntent(
        persona=version["persona"],
        id=f"recall/{version['name']}",
        requested_by="recall policy",
        why=f"{version['name']} was withdrawn: {WHY} ({len(version['karma'])} records)",
    )


async def _say(conn: Connection, message: Message, identity: str) -> None:
    await enqueue(conn, message, uuid5(RITUAL_NAMESPACE, f"{message.subject} {identity}"), {})
