"""What becomes of a version that passed the gate: the policy's or its owner's decision, recorded as the fact that ends its ritual.

Where the policy decides, the fact and the aliases change in one transaction. Where the owner did, the aliases changed when that
was decided, wherever it was, and the fact follows from the decision: a registry that was killed meanwhile records it later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from services.registry import decisions, store
from services.registry.decisions import POLICY
from services.registry.policy import Fate, choose_fate
from shared.contracts.intent import RitualCancel, RitualCancelled
from shared.contracts.registry import Action, AdapterAwakened, AdapterKept, AdapterProposed, AdapterRegistered
from shared.contracts.verify import AdapterVerified
from shared.ritual import ledger

if TYPE_CHECKING:
    from datetime import datetime

    from services.registry.policy import Aliases
    from services.registry.store import Version
    from shared.contracts.message import Fact
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Connection

log = structlog.get_logger()


async def settle(context: ServiceContext, ritual: Ritual, version: Version, probes: int, started_at: datetime) -> None:
    """Promote, propose or keep the version of a registered ritual, as the persona's policy is; `probes` of its proof."""
    persona = context.configuration.persona(ritual.persona)
    verified = await ledger.require_fact(context.pool, ritual.id, AdapterVerified)
    async with context.pool.acquire() as conn, conn.transaction():
        aliases = await decisions.lock(conn, ritual.persona)
        standing = await decisions.get_standing(conn, version.name)
        if aliases is None or standing is None or standing.recalled:
            return
        champion = await decisions.get_standing(conn, aliases.champion) if aliases.champion else None
        fate, why = choose_fate(persona.promotion, aliases, standing, verified.verdict.champion, champion)
        until = await conn.fetchval("SELECT clock_timestamp()") + timedelta(hours=persona.approve_within_h)
        of = {**ritual.key, "adapter": version.adapter, "version": version.name}
        fact: Fact = AdapterKept(**of, reason=why)
        if fate is Fate.PROMOTE:
            fact = AdapterAwakened(**of, alias=ritual.persona, previous=aliases.champion, probes=probes)
        elif fate is Fate.PROPOSE:
            fact = AdapterProposed(**of, champion=aliases.champion, until=until)
        if await ledger.record_fact(conn, fact, context.service, started_at):
            await decisions.apply_fate(conn, aliases, standing, fate, why, ritual.id, until)
            log.info("version settled", version=version.name, fate=str(fate), why=why)


async def settle_approved(context: ServiceContext) -> None:
    """Promote the candidates that were approved before they were loaded, and are by now."""
    for persona in await store.list_approved(context.pool):
        async with context.pool.acquire() as conn, conn.transaction():
            if await decisions.promote_approved(conn, persona):
                log.info("approved version promoted", persona=persona)


async def end_waiting(context: ServiceContext, ritual: Ritual) -> None:
    """Record what was decided about a version that waits for approval, or that its time is over."""
    registered = await ledger.require_fact(context.pool, ritual.id, AdapterRegistered)
    async with context.pool.acquire() as conn, conn.transaction():
        aliases = await decisions.lock(conn, ritual.persona)
        if aliases and (fact := await _find_end(conn, aliases, ritual, registered)):
            await ledger.record_fact(conn, fact, context.service, ritual.entered_at)


async def _find_end(conn: Connection, aliases: Aliases, ritual: Ritual, registered: AdapterRegistered) -> Fact | None:
    """The fact that ends a ritual which waits for approval; None while it waits."""
    of = {**ritual.key, "adapter": registered.adapter, "version": registered.version}
    if outcome := await decisions.get_outcome(conn, ritual.id):
        if outcome.action == Action.PROMOTE:
            probes = await store.count_probes(conn, registered.version)
            return AdapterAwakened(**of, alias=ritual.persona, previous=outcome.champion_before, probes=probes)
        return AdapterKept(**of, reason=outcome.why or f"{outcome.action} by {outcome.by}")
    if ritual.cancel_requested_at:
        why = ritual.cancel_why or ""
        await decisions.end_waiting(conn, aliases, ritual.id, RitualCancel.subject, why, keep=False)
        return RitualCancelled(**ritual.key, why=why)
    if not await decisions.is_over(conn, aliases, ritual.id):
        return None
    reason = "it was not approved within its time, or cannot be loaded"
    await decisions.end_waiting(conn, aliases, ritual.id, POLICY, reason, keep=True)
    return AdapterKept(**of, reason=reason)
