"""Queries about rituals, and which ritual a user means. Big timing data (`spans`) stays in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from shared.postgres import Connection, Pool

    Source = Connection | Pool

_RITUAL = "id, persona, intent, priority, state, attempt, trace_id, cancel_requested_at, cancel_why, created_at, entered_at, ended_at"
# What interrupted the attempt before, while the ritual waits for the next one.
_INTERRUPTION = (
    "(SELECT f.body FROM ritual_fact f WHERE f.ritual = r.id AND f.subject = 'gpu.interrupted' "
    "AND f.attempt = r.attempt - 1 AND r.state = 'harvested') AS interruption"
)
DIGITS = frozenset("0123456789abcdef")
WHOLE = 32


def hex_prefix(given: str) -> str:
    """The start of an id as lower-case hex without dashes. Raises UserError when it can be no id."""
    prefix = given.strip().lower().replace("-", "")
    if not prefix or len(prefix) > WHOLE or not DIGITS.issuperset(prefix):
        raise UserError(f"{given!r} is no ritual id: give the first digits of one that `soulforge rituals` lists")
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
    """The ritual a person means; without a word of theirs the newest one."""
    if given is not None:
        return one_of(given, await list_matching(pool, hex_prefix(given)))
    if newest := await get_newest(pool):
        return newest
    raise UserError("there is no ritual yet: `soulforge intend PERSONA` asks for one")


async def list_matching(source: Source, hex_prefix: str) -> list[UUID]:
    """Rituals whose id begins so (lower-case hex without dashes), the newest first, two at most."""
    rows = await source.fetch(
        "SELECT id FROM ritual WHERE replace(id::text, '-', '') LIKE $1 || '%' ORDER BY created_at DESC LIMIT 2",
        hex_prefix,
    )
    return [row["id"] for row in rows]


async def get_newest(source: Source) -> UUID | None:
    ritual: UUID | None = await source.fetchval("SELECT id FROM ritual ORDER BY created_at DESC LIMIT 1")
    return ritual


async def get_ritual(source: Source, ritual: UUID) -> dict[str, Any] | None:
    row = await source.fetchrow(f"SELECT {_RITUAL}, clock_timestamp() AS now FROM ritual WHERE id = $1", ritual)
    return dict(row) if row else None


async def list_facts(source: Source, ritual: UUID) -> list[dict[str, Any]]:
    """Every fact about a ritual in the order it was stated."""
    rows = await source.fetch(
        "SELECT subject, owner, attempt, state_before, state_after, body - 'spans' AS body, started_at, stated_at "
        "FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at, subject",
        ritual,
    )
    return [dict(row) for row in rows]


async def count_excluded(source: Source, ritual: UUID) -> dict[str, int]:
    """Karma that was left out of a ritual, counted by reason."""
    rows = await source.fetch(
        "SELECT reason, count(*) AS records FROM harvester.exclusion WHERE ritual = $1 GROUP BY reason ORDER BY records DESC, reason",
        ritual,
    )
    return {row["reason"]: row["records"] for row in rows}


async def list_rituals(source: Source, limit: int) -> list[dict[str, Any]]:
    """The newest rituals first, each with the time that inference was away for it."""
    rows = await source.fetch(
        f"SELECT {_RITUAL}, {_INTERRUPTION}, clock_timestamp() AS now, "
        "(SELECT sum(seconds_without_inference) FROM orchestrator.hand_over WHERE ritual = r.id) AS seconds_without_inference "
        "FROM ritual r ORDER BY created_at DESC LIMIT $1",
        limit,
    )
    return [dict(row) for row in rows]


async def list_open_rituals(source: Source) -> list[dict[str, Any]]:
    rows = await source.fetch(
        f"SELECT {_RITUAL}, {_INTERRUPTION} FROM ritual r WHERE ended_at IS NULL ORDER BY priority DESC, created_at"
    )
    return [dict(row) for row in rows]
