"""Decisions about a persona's versions: who, why and when, and the aliases after each; one short transaction of the caller's.

The row of the aliases is locked first, and each decision names the champion as its maker knows it: of two at once, one wins. The
command line, the bus and the registry call the same functions, on any connection, whatever its search path.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING
from uuid import UUID

from services.registry.policy import (
    Aliases,
    Fate,
    Standing,
    find_refusal,
    pinned,
    promoted,
    rolled_back,
    withdrawn,
)
from shared.contracts.registry import Action, AdapterDecide
from shared.contracts.verify import AdapterBanished

if TYPE_CHECKING:
    from datetime import datetime

    from shared.storage.postgres import Connection

POLICY = "policy"  #: who decides where no person does
APPROVE = "approve"  #: a promotion that waits until the version is loaded
KEEP = "keep"
FATES: dict[Fate, str] = {
    Fate.PROMOTE: Action.PROMOTE,
    Fate.PROPOSE: "propose",
    Fate.KEEP_AS_CANDIDATE: KEEP,
    Fate.KEEP: KEEP,
}


class RefusedError(Exception):
    """The decision cannot be made; the message has the reason, and what to do."""


@dataclass(frozen=True)
class Entry:
    """A row of the decisions: `ritual` is the one that it ends, `source` the message that asked for it."""

    action: str
    version: str | None
    by: str
    why: str
    ritual: UUID | None = None
    source: str | None = None
    override: bool = False


async def decide(conn: Connection, asked: AdapterDecide, source: str | None = None) -> Aliases:
    """Make a person's decision and return the aliases after it. Raises RefusedError.

    A promotion of a version that no rune has loaded is made as soon as one has: the candidate is `approved` until then.
    The same `source` decides once.
    """
    if (now := await lock(conn, asked.persona)) is None:
        raise RefusedError(f"persona {asked.persona!r} has no version: `soulforge adapters` lists them")
    if source and await conn.fetchval("SELECT EXISTS (SELECT FROM registry.decision WHERE source = $1)", source):
        return now
    version = await get_standing(conn, asked.version) if asked.version else None
    if asked.version and version is None:
        raise RefusedError(f"there is no version {asked.version}: `soulforge adapters` lists them")
    before = await get_standing(conn, now.previous) if now.previous else None
    if reason := find_refusal(asked, now, version, before):
        raise RefusedError(reason)
    entry = Entry(asked.action, asked.version or now.champion, asked.by, asked.why, None, source, asked.override)
    match asked.action:
        case Action.PROMOTE if version:
            return await _promote(conn, now, version, entry)
        case Action.RETIRE if asked.version:
            return await withdraw(conn, now, asked.version, entry)
        case Action.REJECT if asked.version:
            return await _reject(conn, now, asked.version, entry)
        case Action.ROLL_BACK:
            return await _write(conn, now, rolled_back(now), entry)
        case Action.PIN:
            return await _write(conn, now, pinned(now), entry)
    return await _write(conn, now, replace(now, held=None), entry)


async def _promote(conn: Connection, now: Aliases, version: Standing, entry: Entry) -> Aliases:
    if version.loaded:
        return await _move(conn, now, version.name, entry)
    waiting = now if now.candidate == version.name else now.with_candidate(version.name)
    await _supersede(conn, now, version.name)
    number = await _record(conn, now, now, replace(entry, action=APPROVE))
    return await _update(conn, now, replace(waiting, approved=number))


async def _reject(conn: Connection, now: Aliases, version: str, entry: Entry) -> Aliases:
    return await _write(conn, now, now.without_candidate(), replace(entry, ritual=now.ritual))


async def withdraw(conn: Connection, now: Aliases, version: str, entry: Entry) -> Aliases:
    """Withdraw a version for good; a champion's place goes to the previous version, or to none. The aliases were locked."""
    is_new = await conn.fetchval(
        "UPDATE registry.version SET withdrawn_at = clock_timestamp(), overridden_at = NULL "
        "WHERE name = $1 AND withdrawn_at IS NULL RETURNING true",
        version,
    )
    if not is_new and now.candidate != version:  # one that waits to be promoted by an override is withdrawn still
        return now
    # Not a tainted one either: what its owner is only warned of takes no place by itself.
    clean = now.previous is not None and await conn.fetchval(
        "SELECT EXISTS (SELECT FROM registry.version v WHERE name = $1 "
        "AND NOT EXISTS (SELECT FROM registry.withdrawal w WHERE w.adapter = v.adapter) "
        "AND NOT EXISTS (SELECT FROM registry.taint t WHERE t.ritual = v.ritual))",
        now.previous,
    )
    ended = now.ritual if now.candidate == version else None
    return await _write(conn, now, withdrawn(now, version, clean), replace(entry, ritual=ended))


async def promote_approved(conn: Connection, persona: str) -> bool:
    """Promote the candidate of a persona that was approved before it was loaded. False where it is not loaded yet.

    One that was banished meanwhile stays a candidate, unless the approval was an override.
    """
    now = await lock(conn, persona)
    if now is None or now.approved is None or now.candidate is None:
        return False
    version = await get_standing(conn, now.candidate)
    if version is None or version.recalled:
        return False
    [row] = await conn.fetch('SELECT "by", why, override FROM registry.decision WHERE id = $1', now.approved)
    if version.barred and not row["override"]:
        why = f"{version.barred}: it is promoted by an override only"
        entry = Entry(KEEP, version.name, POLICY, why, now.ritual)
        await _write(conn, now, now.with_candidate(version.name), entry)
        return False
    if not version.loaded:
        return False
    await _move(conn, now, version.name, Entry(Action.PROMOTE, version.name, **row))
    return True


async def apply_fate(
    conn: Connection, now: Aliases, version: Standing, fate: Fate, why: str, ritual: UUID, until: datetime
) -> None:
    """Do what the policy chose for a version that passed the gate; the aliases were locked before it was chosen."""
    entry = Entry(FATES[fate], version.name, POLICY, why, None if fate is Fate.PROPOSE else ritual)
    if fate is Fate.PROMOTE:
        await _move(conn, now, version.name, entry)
    elif fate is Fate.KEEP:
        await _write(conn, now, now, entry)
    else:
        await _supersede(conn, now, version.name)
        waits = (ritual, until) if fate is Fate.PROPOSE else ()
        await _write(conn, now, now.with_candidate(version.name, *waits), entry)


@dataclass(frozen=True)
class Outcome:
    """The decision that ended a ritual."""

    action: str
    by: str
    why: str
    champion_before: str | None


async def get_outcome(conn: Connection, ritual: UUID) -> Outcome | None:
    """The decision that ends a ritual; None where none was made yet."""
    row = await conn.fetchrow(
        'SELECT action, "by", why, champion_before FROM registry.decision WHERE ritual = $1 ORDER BY id LIMIT 1', ritual
    )
    return Outcome(**row) if row else None


async def is_over(conn: Connection, now: Aliases, ritual: UUID) -> bool:
    """Whether a ritual waits for a decision no longer: its time is over, and its version is not approved, or has a fault."""
    if now.ritual != ritual:
        return True
    over: bool = await conn.fetchval(
        "SELECT until <= clock_timestamp() AND (approved IS NULL OR EXISTS (SELECT FROM registry.fault WHERE version = candidate)) "
        "FROM registry.alias WHERE persona = $1",
        now.persona,
    )
    return over


async def end_waiting(conn: Connection, now: Aliases, ritual: UUID, by: str, why: str, keep: bool) -> None:
    """End a ritual's waiting for approval of the candidate, which stays a candidate where it is to be kept."""
    if now.ritual == ritual and now.candidate:
        after = now.with_candidate(now.candidate) if keep else now.without_candidate()
        await _write(conn, now, after, Entry(KEEP if keep else Action.REJECT, now.candidate, by, why, ritual))


async def _move(conn: Connection, now: Aliases, version: str, entry: Entry) -> Aliases:
    """Make a version the champion, where it may not serve by an override; that ends the ritual which waits for the decision."""
    if entry.override:
        await conn.execute(
            "UPDATE registry.version SET withdrawn_at = NULL, overridden_at = clock_timestamp() WHERE name = $1",
            version,
        )
    fault = await conn.fetchval("SELECT fault FROM registry.served WHERE persona = $1", now.persona)
    waited = now.ritual if now.candidate == version else None
    return await _write(conn, now, promoted(now, version, fault is None), replace(entry, ritual=entry.ritual or waited))


async def _supersede(conn: Connection, now: Aliases, version: str) -> None:
    """End the waiting of a candidate whose place `version` takes."""
    if now.candidate != version and now.ritual:
        await _record(conn, now, now, Entry(KEEP, now.candidate, POLICY, f"superseded by {version}", now.ritual))


async def _write(conn: Connection, now: Aliases, after: Aliases, entry: Entry) -> Aliases:
    await _record(conn, now, after, entry)
    return await _update(conn, now, after)


async def _update(conn: Connection, now: Aliases, after: Aliases) -> Aliases:
    await conn.execute(
        "UPDATE registry.alias SET champion = $3, previous = $4, candidate = $5, ritual = $6, until = $7, approved = $8, held = $9, "
        "moved_at = CASE WHEN champion IS DISTINCT FROM $3 THEN clock_timestamp() ELSE moved_at END "
        "WHERE persona = $1 AND champion IS NOT DISTINCT FROM $2",
        now.persona,
        now.champion,
        *(getattr(after, name) for name in COLUMNS[1:]),
    )
    return after


async def _record(conn: Connection, now: Aliases, after: Aliases, entry: Entry) -> int:
    number: int = await conn.fetchval(
        "INSERT INTO registry.decision "
        '(persona, champion_before, champion, action, version, "by", why, ritual, source, override) '
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
        now.persona,
        now.champion,
        after.champion,
        *vars(entry).values(),
    )
    return number


COLUMNS = tuple(field.name for field in fields(Aliases))


async def lock(conn: Connection, persona: str) -> Aliases | None:
    """Lock and read the aliases of a persona; None where it has no version at all."""
    await conn.execute(
        "INSERT INTO registry.alias (persona) SELECT $1 WHERE EXISTS (SELECT FROM registry.version WHERE persona = $1) "
        "ON CONFLICT DO NOTHING",
        persona,
    )
    row = await conn.fetchrow(f"SELECT {', '.join(COLUMNS)} FROM registry.alias WHERE persona = $1 FOR UPDATE", persona)
    return Aliases(**row) if row else None


async def get_standing(conn: Connection, name: str) -> Standing | None:
    """What speaks for and against a version; None where there is none of that name."""
    row = await conn.fetchrow(
        """
        SELECT v.name, v.persona, f.reason AS fault,
            (SELECT reason FROM registry.withdrawal w WHERE w.adapter = v.adapter) AS withdrawn,
            EXISTS (SELECT FROM registry.version w WHERE w.adapter = v.adapter AND w.withdrawn_at IS NOT NULL)
                OR EXISTS (SELECT FROM public.ritual_fact WHERE subject = $2 AND body ->> 'adapter' = v.adapter) AS overridden,
            coalesce((SELECT action FROM registry.decision WHERE version = v.name
                AND action IN ('promote', 'approve', 'reject', 'roll_back', 'retire') ORDER BY id DESC LIMIT 1)
                IN ('reject', 'roll_back', 'retire'), false) AS set_aside,
            EXISTS (SELECT FROM registry.taint t JOIN registry.version r ON r.ritual = t.ritual
                WHERE r.adapter = v.adapter AND t.announced_at IS NULL) AS recalled,
            EXISTS (SELECT FROM registry.loaded l WHERE l.version = v.name AND l.proven) AS loaded
        FROM registry.version v LEFT JOIN registry.fault f ON f.version = v.name WHERE v.name = $1
        """,
        name,
        AdapterBanished.subject,
    )
    return Standing(**row) if row else None
