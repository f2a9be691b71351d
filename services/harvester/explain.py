"""Explain one record: what is stored of it, what past rituals did with it, and what a harvest would do with it now.

What a harvest would do is decided by the harvest's own steps over all karma of the persona. They write temporary tables only,
which end with the connection.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from services.harvester.harvest import LIMIT_S, SERVER_SETTINGS, judge
from services.harvester.reasons import Reason
from services.harvester.refusal import remedy
from services.harvester.request import HarvestRequest, OnProgress
from services.harvester.settings import HarvesterSettings
from services.harvester.split import describe_circle, find_circles
from shared.contracts.frozen import Frozen
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import TrainingIntent
from shared.storage.postgres import open_pool

if TYPE_CHECKING:
    from services.harvester.policy import HarvestPolicy
    from shared.config.model import Configuration
    from shared.storage.postgres import Connection

MOST = 20  # ancestors, corrections and contradictions that are named
DEEPEST = 1000  # ancestors that are read to find a circle
RITUALS = 5

#: What is shown of a record passes its scan: names with placeholders, and nothing of what could not be scanned.
_SHOWN = "CASE WHEN s.text IS NOT NULL THEN coalesce(s.redacted ->> '{0}', k.{0}) END AS {0}"
GET_RECORD = f"""
    SELECT k.status, k.created_at, k.feedback, v.revoked_at, v.revoked_by, s.consented, k.why <> '' AS has_why,
        {", ".join(map(_SHOWN.format, ("session", "source", "licence", "kind", "consecrated_by")))},
        coalesce(k.outcome ->> 'evidence', '') <> '' AS has_evidence,
        CASE WHEN jsonb_typeof(k.outcome -> 'checks') = 'array' THEN jsonb_array_length(k.outcome -> 'checks') ELSE 0 END AS checks
    FROM vectors.karma k JOIN scanned s ON s.karma = k.id LEFT JOIN harvester.revocation v ON v.karma = k.id WHERE k.id = $1
"""
GET_PROSPECT = """
    SELECT side, reason, CASE WHEN reason <> 'revoked' THEN repeats END AS repeats,
        (SELECT min(karma) FROM admission WHERE rejected = $1 AND reason IS NULL) AS rejected_by, tokens,
        coalesce(found, '{}') AS found
    FROM admission WHERE karma = $1
"""
GET_GOLDEN_PATH = """
    SELECT g.karma IS NOT NULL AS read, g.steps, g.pruned, g.problem
    FROM vectors.karma k LEFT JOIN harvester.golden_path g ON g.karma = k.id AND g.trace_id = k.trace_id
    WHERE k.id = $1 AND k.trace_id IS NOT NULL
"""
LIST_ANCESTORS = """
    WITH RECURSIVE ancestor AS (
        SELECT id, parent, status, 0 AS depth FROM vectors.karma WHERE id = $1
        UNION ALL
        SELECT k.id, k.parent, k.status, depth + 1 FROM ancestor a JOIN vectors.karma k ON k.id = a.parent
        WHERE depth < $2 AND a.id <> a.parent AND (depth = 0 OR a.id <> $1)
    )
    SELECT id, parent, status FROM ancestor ORDER BY depth
"""
LIST_CORRECTIONS = (
    "SELECT id, status FROM vectors.karma WHERE parent = $1 AND id <> $1 ORDER BY created_at, id LIMIT $2"
)
LIST_USES = """
    SELECT f.ritual, r.refines, f.stated_at AS at, m.side, e.reason, e.repeats
    FROM public.ritual_fact f JOIN public.ritual r ON r.id = f.ritual
    LEFT JOIN harvester.manifest_record m ON m.manifest = f.body ->> 'manifest' AND m.karma = $1
    LEFT JOIN harvester.exclusion e ON e.ritual = f.ritual AND e.karma = $1
    WHERE f.subject = ANY ($2::text[]) AND (m.karma IS NOT NULL OR e.karma IS NOT NULL) ORDER BY f.stated_at DESC LIMIT $3
"""
LIST_CONTRADICTIONS = """
    SELECT CASE one WHEN $1 THEN other ELSE one END AS karma FROM contradicted WHERE $1 IN (one, other) ORDER BY 1 LIMIT $2
"""


class Relative(Frozen):
    """A record that this one corrects, or that corrects it. Without a status it is not remembered here."""

    karma: str
    status: str | None = None


class GoldenPath(Frozen):
    """What became of the trace that the record names; a path with a problem is not used."""

    read: bool
    steps: int | None = None
    pruned: int | None = None
    problem: str | None = None


class Use(Frozen):
    """What one ritual did with the record: used it on a side, rejected in a pair or not, or left it out."""

    ritual: UUID
    refines: UUID | None = None  #: the banished ritual that it refines
    at: datetime
    side: str | None = None
    reason: str | None = None
    repeats: str | None = None


class Prospect(Frozen):
    """What a harvest would do with the record now. Without a reason it is used, on `side`."""

    side: str
    reason: str | None = None
    remedy: str | None = None
    repeats: str | None = None  #: the record that has its words, or goes on from it
    rejected_by: str | None = None  #: the correction whose rejected answer it is
    tokens: int
    found: dict[str, int]  #: class of secret or personal data -> how often


class Explanation(Frozen):
    """All that decides about one record, without its words."""

    karma: str
    persona: str
    status: str
    created_at: datetime
    consecrated_by: str | None
    revoked_at: datetime | None
    revoked_by: str | None
    session: str | None
    source: str | None
    licence: str | None
    kind: str | None
    feedback: str | None
    consented: bool
    has_why: bool
    has_evidence: bool
    checks: int
    golden_path: GoldenPath | None
    parents: tuple[Relative, ...]
    circle: str | None
    corrections: tuple[Relative, ...]
    contradicts: tuple[str, ...]  #: used records that answer its prompt in a way that excludes its answer
    uses: tuple[Use, ...]
    now: Prospect
    unembedded: int  #: records of the persona that a harvest embeds first; more near duplicates may be found then


async def explain(
    database_url: str, configuration: Configuration, persona: str, karma: str, on_progress: OnProgress
) -> Explanation:
    """Explain a record that is remembered. Takes as long as the scan of all karma of the persona."""
    policy = configuration.section(HarvesterSettings).policy
    request = HarvestRequest(persona, TrainingIntent(persona=persona), policy, configuration.suites)
    pool = await open_pool(database_url, "harvester", 1, LIMIT_S, SERVER_SETTINGS)
    try:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
            await judge(conn, request, on_progress)
            return await _read(conn, policy, persona, karma)
    finally:
        await pool.close()


async def _read(conn: Connection, policy: HarvestPolicy, persona: str, karma: str) -> Explanation:
    record = await conn.fetchrow(GET_RECORD, karma)
    assert record is not None, "the caller has found it in this persona's karma"
    uses = await conn.fetch(LIST_USES, karma, [KarmaHarvested.subject, KarmaRefused.subject], RITUALS)
    contradicting = await conn.fetch(LIST_CONTRADICTIONS, karma, MOST)
    golden_path = await conn.fetchrow(GET_GOLDEN_PATH, karma)
    parents, circle = await _list_parents(conn, karma)
    return Explanation(
        karma=karma,
        persona=persona,
        **dict(record),
        golden_path=GoldenPath(**golden_path) if golden_path else None,
        parents=parents,
        circle=circle,
        corrections=tuple(
            Relative(karma=row["id"], status=row["status"]) for row in await conn.fetch(LIST_CORRECTIONS, karma, MOST)
        ),
        contradicts=tuple(row["karma"] for row in contradicting),
        uses=tuple(Use(**row) for row in uses),
        now=await _get_prospect(conn, policy, karma),
        unembedded=await _count_unembedded(conn, persona) if policy.likeness.by_meaning else 0,
    )


async def _get_prospect(conn: Connection, policy: HarvestPolicy, karma: str) -> Prospect:
    row = await conn.fetchrow(GET_PROSPECT, karma)
    assert row is not None, "every record is decided about"
    reason = row["reason"]
    return Prospect(**row, remedy=remedy(Reason(reason), policy) if reason else None)


async def _list_parents(conn: Connection, karma: str) -> tuple[tuple[Relative, ...], str | None]:
    """What the record corrects, what that corrects, and so on; and the circle, where it leads back."""
    rows = await conn.fetch(LIST_ANCESTORS, karma, DEEPEST)
    parents = {row["id"]: row["parent"] for row in rows if row["parent"]}
    relatives = {row["id"]: Relative(karma=row["id"], status=row["status"]) for row in rows}
    last = rows[-1]["parent"] if len(rows) <= DEEPEST else None
    if last and last not in relatives:
        relatives[last] = Relative(karma=last)
    circle = next((circle for circle in find_circles(parents) if karma in circle), None)
    parents_of = [one for id, one in relatives.items() if id != karma]
    return tuple(parents_of[:MOST]), describe_circle(circle) if circle else None


async def _count_unembedded(conn: Connection, persona: str) -> int:
    return int(
        await conn.fetchval(
            "SELECT count(*) FROM vectors.karma WHERE persona = $1 AND embedding IS NULL AND status <> 'revoked'",
            persona,
        )
    )
