"""Which ritual a user means, and rituals with what the orchestrator knows of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from deploy.cli.errors import UserError
from services.orchestrator.views import Handover, RecordedDecision, get_decision, list_away_s, list_handovers
from shared.contracts.evacuate import GpuInterrupted
from shared.ritual import views
from shared.ritual.views import RecordedFact, RitualError, RitualStatus, list_errors
from shared.runtime.presence import Isolation, list_isolation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.storage.postgres import Pool, Source

SNAPSHOT_TIMEOUT_S = 5.0
HEX_DIGITS = frozenset("0123456789abcdef")
ID_DIGITS = 32


@dataclass(frozen=True)
class ListedRitual(RitualStatus):
    """A ritual in a list; `interruption` is set while it waits for another attempt after one."""

    interruption: GpuInterrupted | None = None
    seconds_without_inference: float | None = None
    errors: tuple[RitualError, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All that is recorded of one ritual at one moment. `unisolated` is why jobs run unisolated now, where they do."""

    ritual: RitualStatus
    facts: tuple[RecordedFact, ...]
    hand_overs: tuple[Handover, ...]
    decision: RecordedDecision | None = None
    errors: tuple[RitualError, ...] = ()
    unisolated: str | None = None

    @property
    def now(self) -> datetime:
        return self.ritual.now


def hex_prefix(given: str) -> str:
    """The start of an id as lower-case hex without dashes. Raises UserError when it cannot be one."""
    prefix = given.strip().lower().replace("-", "")
    if not prefix or len(prefix) > ID_DIGITS or not HEX_DIGITS.issuperset(prefix):
        raise UserError(f"{given!r} is not a ritual id: give the first digits of one that `soulforge rituals` lists")
    return prefix


def one_of(given: str, found: list[UUID]) -> UUID:
    """The only ritual that `given` can mean. Raises UserError when there is none, or more than one."""
    if not found:
        raise UserError(f"no ritual begins with {given}: `soulforge rituals` lists them")
    if len(found) > 1:
        raise UserError(
            f"{given} is the start of more than one ritual, e.g. {found[0]} and {found[1]}: give more of the id"
        )
    return found[0]


async def find_ritual(pool: Pool, given: str | None) -> UUID:
    """The ritual with an id that starts so, or the newest where none is given. Raises UserError."""
    if given is not None:
        return one_of(given, await views.list_matching(pool, hex_prefix(given)))
    if newest := await views.get_newest(pool):
        return newest
    raise UserError("there is no ritual yet: `soulforge intend PERSONA` asks for one")


async def get_snapshot(pool: Pool, ritual: UUID) -> Snapshot | None:
    """A consistent snapshot; None when there is no such ritual. Raises UNREACHABLE errors within SNAPSHOT_TIMEOUT_S."""
    async with (
        asyncio.timeout(SNAPSHOT_TIMEOUT_S),
        pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await views.get_ritual(conn, ritual)
        if row is None:
            return None
        facts = await views.list_facts(conn, ritual)
        hand_overs = await list_handovers(conn, ritual)
        errors = tuple(error for error in await list_errors(conn) if error.ritual == ritual)
        decision, unisolated = await get_decision(conn, ritual), await get_unisolated(conn)
        return Snapshot(row, tuple(facts), tuple(hand_overs), decision, errors, unisolated)


async def get_unisolated(source: Source) -> str | None:
    """Why jobs run unisolated, as the owner allows; None where they are isolated, or not started."""
    found = (await list_isolation(source)).values()
    return next((jobs.why for jobs in found if jobs.isolation is Isolation.UNISOLATED), None)


async def list_rituals(source: Source, limit: int) -> list[ListedRitual]:
    """The newest rituals first."""
    return await _listed(source, await views.list_rituals(source, limit))


async def list_open_rituals(source: Source) -> list[ListedRitual]:
    """The rituals under way, the most urgent first."""
    return await _listed(source, await views.list_open_rituals(source))


async def _listed(source: Source, rituals: Sequence[RitualStatus]) -> list[ListedRitual]:
    interruptions = await views.list_interruptions(source)
    away_s = await list_away_s(source, [ritual.id for ritual in rituals])
    errors = await list_errors(source)
    return [
        ListedRitual(
            **vars(ritual),
            interruption=interruptions.get(ritual.id),
            seconds_without_inference=away_s.get(ritual.id),
            errors=tuple(error for error in errors if error.ritual == ritual.id),
        )
        for ritual in rituals
    ]
