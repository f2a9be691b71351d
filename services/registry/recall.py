"""Recall: adapters that were trained on revoked karma are announced on the bus, and withdrawn where the policy is to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4, uuid5

import structlog

from services.registry import decisions, store
from services.registry.decisions import Entry
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import RITUAL_NAMESPACE
from shared.contracts.registry import Action, AdapterTainted
from shared.messaging.outbox import enqueue
from shared.ritual import ledger
from shared.runtime.advance import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from services.registry.store import TaintedVersion
    from shared.contracts.message import Message
    from shared.contracts.registry import RecallAction
    from shared.storage.postgres import Connection, Pool

log = structlog.get_logger()

IDS_PER_MESSAGE = 1000  # ids per announcement, which keeps it far below the bus's limit
REQUESTER = "recall policy"
WHY = "consent to karma it was trained on is withdrawn"


async def act_on_recalls(pool: Pool, action: RecallAction) -> None:
    """Apply the policy to every tainted version and ritual; repeatable. One that fails is logged and delays no other.

    It works from rows, so that versions registered after the recall and a stricter policy take effect too.
    """
    if action != "warn":
        for ritual in await store.list_tainted_rituals(pool):
            await _logged(ritual, ledger.request_cancel(pool, ritual, f"recall: {WHY}"))
    for version in await store.list_tainted(pool, withdrawing=action != "warn"):
        await _logged(version.name, _act(pool, version, action))


async def _logged(item: object, work: Awaitable[object]) -> None:
    try:
        await work
    except Exception as error:
        log.error("recall not acted on yet", item=str(item), error=describe(error))


async def _act(pool: Pool, version: TaintedVersion, action: RecallAction) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await _withdraw_and_announce(conn, version, action)


async def _withdraw_and_announce(conn: Connection, version: TaintedVersion, action: RecallAction) -> None:
    withdrawn = action != "warn" and await _withdraw(conn, version)
    for start in range(0, len(version.karma), IDS_PER_MESSAGE):
        tainted = AdapterTainted(
            persona=version.persona,
            version=version.name,
            karma=version.karma[start : start + IDS_PER_MESSAGE],
            action=action,
            alias_withdrawn=withdrawn,
        )
        await _publish(conn, tainted, tainted.model_dump_json())
    await store.mark_taint_announced(conn, version.ritual, version.karma)
    if withdrawn and action == "withdraw_and_retrain":
        await _publish(conn, clean_intent(version), f"recall/{version.name}")  # once per version
    log.warning(
        "adapter tainted",
        version=version.name,
        records=len(version.karma),
        action=action,
        served=version.serves,
        alias_withdrawn=withdrawn,
    )


async def _withdraw(conn: Connection, version: TaintedVersion) -> bool:
    """Withdraw a version; True when it was the champion."""
    aliases = await decisions.lock(conn, version.persona)
    if aliases is None:
        return False
    await decisions.withdraw(conn, aliases, version.name, Entry(Action.RETIRE, version.name, REQUESTER, WHY))
    return aliases.champion == version.name


def clean_intent(version: TaintedVersion) -> TrainingIntent:
    """The intent for a ritual without the revoked records. Its id cannot be guessed: a ritual of the same id would take its place."""
    return TrainingIntent(
        persona=version.persona,
        id=f"recall/{version.name}/{uuid4().hex}",
        requested_by=REQUESTER,
        why=f"{version.name} was withdrawn: {WHY} ({len(version.karma)} records)",
    )


async def _publish(conn: Connection, message: Message, identity: str) -> None:
    await enqueue(conn, message, uuid5(RITUAL_NAMESPACE, f"{message.subject} {identity}"), {})
