"""The scales in SQL: what lies on them, when each tipped last, and the intent that leaves with a tipping."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid5

from services.harvester.tipping.policy import MEASURED_AT_MOST, Decision, Measured, Scale
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import RITUAL_NAMESPACE
from shared.messaging.outbox import enqueue

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

ASKER = "tipping policy"
PRIORITY = 3  # behind what a person asks for


async def measure(source: Connection | Pool) -> list[Measured]:
    """What lies on the scale of every persona that has a white truth."""
    rows = await source.fetch(
        """
        WITH looked AS (
            SELECT r.persona, max(least(f.started_at, (r.intent ->> 'until')::timestamptz)) AS at
            FROM public.ritual r JOIN public.ritual_fact f ON f.ritual = r.id
            WHERE f.subject IN ('karma.harvested', 'karma.refused') AND r.intent ->> 'since' IS NULL
              AND coalesce(r.intent ->> 'query', '') = '' AND coalesce(r.intent -> 'kinds', '[]') = '[]'
            GROUP BY r.persona
        )
        SELECT p.persona, new.*, looked.at AS looked_at,
            EXISTS (SELECT FROM public.ritual r WHERE r.persona = p.persona AND r.ended_at IS NULL) AS open_ritual
        FROM (SELECT DISTINCT persona FROM vectors.karma WHERE status = 'white_truth') p
        LEFT JOIN looked USING (persona)
        CROSS JOIN LATERAL (
            SELECT count(*) AS truths, count(parent) AS corrections,
                coalesce(sum(octet_length(messages::text)) / 4, 0)::bigint AS tokens, min(at) AS oldest
            FROM (
                SELECT parent, messages, greatest(created_at, consecrated_at) AS at FROM vectors.karma k
                WHERE k.persona = p.persona AND status = 'white_truth'
                  AND greatest(created_at, consecrated_at) > coalesce(looked.at, '-infinity')
                  AND NOT EXISTS (SELECT FROM harvester.revocation v WHERE v.karma = k.id)
                LIMIT $1
            ) k
        ) new
        ORDER BY p.persona
        """,
        MEASURED_AT_MOST,
    )
    return [Measured.model_validate(dict(row)) for row in rows]


async def read_scales(source: Connection | Pool) -> dict[str, Scale]:
    rows = await source.fetch("SELECT persona, armed, tipped_at FROM harvester.tipping")
    return {row["persona"]: Scale(armed=row["armed"], tipped_at=row["tipped_at"]) for row in rows}


async def tip(conn: Connection, persona: str, scale: Scale, decision: Decision, now: datetime) -> bool:
    """Disarm the scale and ask for a ritual. False when another ritual or another look was faster."""
    id = await conn.fetchval(
        """
        INSERT INTO harvester.tipping (persona, armed, tipped_at, intent_id)
        SELECT $1, false, $2, 'tipping/' || $1 || '/1'
        WHERE NOT EXISTS (SELECT FROM public.ritual WHERE persona = $1 AND ended_at IS NULL)
        ON CONFLICT (persona) DO UPDATE SET armed = false, tipped_at = $2,
            intent_id = 'tipping/' || $1 || '/' || (coalesce(nullif(split_part(tipping.intent_id, '/', 3), '')::int, 0) + 1)
            WHERE tipping.tipped_at IS NOT DISTINCT FROM $3
        RETURNING intent_id
        """,
        persona,
        now,
        scale.tipped_at,
    )
    if id is None:
        return False
    intent = TrainingIntent(persona=persona, id=id, priority=PRIORITY, requested_by=ASKER, why=decision.why)
    await enqueue(conn, intent, uuid5(RITUAL_NAMESPACE, f"{intent.subject} {id}"), {})
    return True


async def rearm(conn: Connection, persona: str, scale: Scale) -> None:
    await conn.execute(
        "UPDATE harvester.tipping SET armed = true WHERE persona = $1 AND tipped_at = $2", persona, scale.tipped_at
    )
