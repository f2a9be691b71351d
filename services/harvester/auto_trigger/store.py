"""SQL of the automatic trigger: each persona's new karma, when its trigger last fired, and the intent that it asks with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4, uuid5

from services.harvester.auto_trigger.policy import COUNTED_AT_MOST, NewKarma, TriggerDecision, TriggerState
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import RITUAL_NAMESPACE
from shared.messaging.outbox import enqueue

if TYPE_CHECKING:
    from shared.storage.postgres import Connection, Pool

ASKER = "automatic trigger"
PRIORITY = 3  # behind what a person asks for


async def list_new_karma(source: Connection | Pool) -> list[NewKarma]:
    """The new karma of every persona that has a white truth."""
    rows = await source.fetch(
        """
        WITH considered AS (
            SELECT r.persona, max(least(f.started_at, (r.intent ->> 'until')::timestamptz)) AS at
            FROM public.ritual r JOIN public.ritual_fact f ON f.ritual = r.id
            WHERE f.subject = ANY ($2::text[]) AND r.intent ->> 'since' IS NULL
              AND coalesce(r.intent ->> 'query', '') = '' AND coalesce(r.intent -> 'kinds', '[]') = '[]'
              AND coalesce(r.intent -> 'sources', '[]') = '[]' AND coalesce(r.intent -> 'dev_sources', '[]') = '[]'
            GROUP BY r.persona
        )
        SELECT p.persona, new.*, considered.at AS considered_at,
            EXISTS (SELECT FROM public.ritual r WHERE r.persona = p.persona AND r.ended_at IS NULL) AS open_ritual
        FROM (SELECT DISTINCT persona FROM vectors.karma WHERE status = 'white_truth') p
        LEFT JOIN considered USING (persona)
        CROSS JOIN LATERAL (
            SELECT count(*) AS truths, count(parent) AS corrections,
                coalesce(sum(octet_length(messages::text)) / 4, 0)::bigint AS tokens, min(at) AS oldest
            FROM (
                SELECT parent, messages, greatest(created_at, consecrated_at) AS at FROM vectors.karma k
                WHERE k.persona = p.persona AND status = 'white_truth'
                  AND greatest(created_at, consecrated_at) > coalesce(considered.at, '-infinity')
                  AND NOT EXISTS (SELECT FROM harvester.revocation v WHERE v.karma = k.id)
                LIMIT $1
            ) k
        ) new
        ORDER BY p.persona
        """,
        COUNTED_AT_MOST,
        [KarmaHarvested.subject, KarmaRefused.subject],
    )
    return [NewKarma.model_validate(dict(row)) for row in rows]


async def get_trigger_states(source: Connection | Pool) -> dict[str, TriggerState]:
    rows = await source.fetch("SELECT persona, armed, fired_at FROM harvester.auto_trigger")
    return {row["persona"]: TriggerState(armed=row["armed"], fired_at=row["fired_at"]) for row in rows}


async def fire(conn: Connection, persona: str, state: TriggerState, decision: TriggerDecision, now: datetime) -> bool:
    """Disarm the trigger and ask for a ritual. False when another ritual or another check was faster.

    Its id cannot be guessed: a ritual of the same id would take its place.
    """
    id = await conn.fetchval(
        """
        INSERT INTO harvester.auto_trigger (persona, armed, fired_at, intent_id)
        SELECT $1, false, $2, 'auto-trigger/' || $1 || '/1/' || $4
        WHERE NOT EXISTS (SELECT FROM public.ritual WHERE persona = $1 AND ended_at IS NULL)
        ON CONFLICT (persona) DO UPDATE SET armed = false, fired_at = $2,
            intent_id = 'auto-trigger/' || $1 || '/'
                || (coalesce(nullif(split_part(auto_trigger.intent_id, '/', 3), '')::int, 0) + 1) || '/' || $4
            WHERE auto_trigger.fired_at IS NOT DISTINCT FROM $3
        RETURNING intent_id
        """,
        persona,
        now,
        state.fired_at,
        uuid4().hex,
    )
    if id is None:
        return False
    intent = TrainingIntent(persona=persona, id=id, priority=PRIORITY, requested_by=ASKER, why=decision.why)
    await enqueue(conn, intent, uuid5(RITUAL_NAMESPACE, f"{intent.subject} {id}"), {})
    return True


async def rearm(conn: Connection, persona: str, state: TriggerState) -> None:
    """Arm the trigger again, unless it fired meanwhile."""
    await conn.execute(
        "UPDATE harvester.auto_trigger SET armed = true WHERE persona = $1 AND fired_at = $2", persona, state.fired_at
    )
