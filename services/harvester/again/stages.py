"""The steps of a decision once more, each about the records that it can judge otherwise than before.

`decided` holds these records. Each step first adds what shares a text, a cluster or a passage with those that are there,
as it was decided up to that step, so that a group is always judged as a whole; the steps themselves are those of `decide`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester import decide
from services.harvester.again import closure
from services.harvester.again.limits import mind
from services.harvester.reasons import Reason
from services.harvester.statements import quoted

if TYPE_CHECKING:
    from services.harvester.policy import HarvestPolicy
    from services.harvester.statements import Step
    from shared.contracts.intent import TrainingIntent

COLUMNS = (
    "karma", "created_at", "session", "lineage", "place", "side", "sealed", "reason", "content_reason", "content", "text",
    "source", "kind", "feedback", "parent", "tokens", "redacted", "grams", "touched", "read_in", "found", "shown", "rejected",
)  # fmt: skip
#: The reasons that a record has by itself, and those of the steps after each.
OWN = (
    Reason.REVOKED, Reason.REPEATS_REVOKED, Reason.SUPERSEDED, Reason.UNCONSECRATED, Reason.FILTERED, Reason.NO_CONSENT,
    Reason.LICENCE, Reason.MALFORMED, Reason.SECRET, Reason.PERSONAL,
)  # fmt: skip
BEFORE_CLUSTERS = (*OWN, Reason.DUPLICATE)
BEFORE_PASSAGES = (*BEFORE_CLUSTERS, Reason.NEAR_DUPLICATE)


async def begin(step: Step, persona: str, policy: HarvestPolicy, intent: TrainingIntent) -> None:
    await step.fill("wanted", "karma text PRIMARY KEY", [])
    values = decide.first_values(persona, policy, intent, asked=False)
    among = "JOIN {affected} a ON a.karma = r.karma"
    await step.run(decide.first(closure.place("r"), among), *values)
    await step.run("CREATE UNIQUE INDEX ON {decided} (karma)")
    await step.run("ANALYZE {decided} (karma, text, session, parent, side, reason)")


async def repeated(step: Step, persona: str, records: int) -> None:
    await _add(step, persona, "SELECT karma FROM {kept} WHERE text IN (SELECT text FROM {decided})", OWN)
    await mind(step, "decided", records)
    await decide.duplicates(step)


async def nearly_repeated(step: Step, persona: str, records: int) -> None:
    """Clusters that changed, or that hold the text of a record that is here."""
    await decide.cluster(step, persona)
    await step.run(
        """
        CREATE UNLOGGED TABLE {near_text} AS
        WITH every AS (SELECT text, name FROM {kept_cluster} UNION ALL SELECT text, name FROM {cluster}),
        other AS (
            SELECT name FROM (
                (SELECT text, name FROM {kept_cluster} EXCEPT SELECT text, name FROM {cluster})
                UNION ALL (SELECT text, name FROM {cluster} EXCEPT SELECT text, name FROM {kept_cluster})) differing
            UNION SELECT e.name FROM every e WHERE e.text IN (SELECT text::text FROM {decided})
        ) SELECT DISTINCT text FROM every WHERE name IN (SELECT name FROM other)
        """
    )
    if not await step.value("SELECT EXISTS (SELECT FROM {near_text})"):
        return
    await _add(
        step, persona, "SELECT karma FROM {kept} WHERE text::text IN (SELECT text FROM {near_text})", BEFORE_CLUSTERS
    )
    await mind(step, "decided", records)
    await decide.near_duplicates(step)


#: Whether a record had come as far as the comparison of passages.
_STOOD = (
    f"(k.reason IS NULL OR k.reason NOT IN ({quoted(BEFORE_PASSAGES)}) "
    f"AND (k.reason <> '{Reason.CONTAMINATED}' OR k.content_reason IS DISTINCT FROM '{Reason.CONTAMINATED}'))"
)


async def passages(step: Step, persona: str, policy: HarvestPolicy, records: int) -> None:
    """Passages that a record which is here holds, or held, are looked for in all records; of the others all is known."""
    await decide.benchmarks(step)
    await step.run(
        f"""
        CREATE UNLOGGED TABLE {{gram}} AS
        WITH pair AS (
            SELECT w.reason IS NULL AS stands, w.side = 'holdout' AS held, w.lineage, w.grams,
                k.karma IS NOT NULL AND {_STOOD} AS stood, k.side = 'holdout' AS was_held, k.lineage AS old, k.grams AS had
            FROM {{decided}} w LEFT JOIN {{kept}} k ON k.karma = w.karma
        ), other AS (
            SELECT * FROM pair WHERE (stands OR stood) AND (stands, held, lineage, grams) IS DISTINCT FROM (stood, was_held, old, had)
        )
        SELECT unnest(grams) AS gram FROM other WHERE stands UNION SELECT unnest(had) FROM other WHERE stood
        """
    )
    await step.run("ANALYZE {gram}")
    await _standing(step)
    await step.run("DELETE FROM {kept_shared_gram} WHERE gram IN (SELECT gram FROM {gram})")
    await step.run(
        "INSERT INTO {kept_shared_gram} (karma, lineage, gram) SELECT karma, lineage, gram FROM {standing} "
        "WHERE NOT held AND gram IN (SELECT gram FROM {standing} WHERE held)"
    )
    await step.run(
        f"CREATE UNLOGGED TABLE {{contaminated}} AS SELECT DISTINCT karma FROM ({decide.contaminated('{kept_shared_gram}')}) c",
        policy.common_passage,
    )
    await step.run("ANALYZE {contaminated}")
    await _add(
        step,
        persona,
        "SELECT DISTINCT s.karma FROM {standing} s LEFT JOIN {contaminated} c ON c.karma = s.karma "
        "WHERE NOT s.held AND s.was_contaminated <> (c.karma IS NOT NULL)",
        BEFORE_PASSAGES,
    )
    await mind(step, "decided", records)
    await step.run(
        f"UPDATE {{decided}} SET reason = '{Reason.CONTAMINATED}' "
        "WHERE reason IS NULL AND side <> 'holdout' AND karma IN (SELECT karma FROM {contaminated})"
    )


async def _standing(step: Step) -> None:
    """`standing`, who holds these passages."""
    columns = "karma, lineage, held, was_contaminated, gram"
    if not await step.value("SELECT EXISTS (SELECT FROM {gram})"):
        await step.run(
            "CREATE UNLOGGED TABLE {standing} (karma text, lineage text, held boolean, was_contaminated boolean, gram bigint)"
        )
        return
    # What is found is put together by passage, though that comes to the same: else, or where rows that pass between them
    # are held to be cheap, one process does most of the work.
    await step.run("SET LOCAL parallel_tuple_cost TO DEFAULT")
    await step.run(
        f"""
        CREATE UNLOGGED TABLE {{standing}} AS
        SELECT unnest(karma) AS karma, unnest(lineage) AS lineage, unnest(held) AS held, unnest(was) AS was_contaminated, gram
        FROM (
            SELECT gram, array_agg(karma) AS karma, array_agg(lineage) AS lineage, array_agg(side = 'holdout') AS held,
                array_agg(coalesce(reason, '') = '{Reason.CONTAMINATED}') AS was
            FROM (SELECT karma, lineage, side, reason, unnest(grams) AS gram FROM {{kept}} k WHERE {_STOOD}) passage
            WHERE gram IN (SELECT gram FROM {{gram}}) GROUP BY gram
        ) holders
        """
    )
    await step.run("DELETE FROM {standing} WHERE karma IN (SELECT karma FROM {decided})")
    await step.run(
        f"INSERT INTO {{standing}} ({columns}) SELECT {columns} FROM ("
        "SELECT karma, lineage, side = 'holdout' AS held, false AS was_contaminated, unnest(grams) AS gram FROM {decided} "
        "WHERE reason IS NULL) passage WHERE gram IN (SELECT gram FROM {gram})"
    )
    await step.run("ANALYZE {standing}")


async def alone(step: Step, policy: HarvestPolicy) -> None:
    """The steps that look at one record each; that no share bites is seen to in `tallies`."""
    await decide.disliked(step)
    await decide.too_long(step, policy)


async def corrections(step: Step, persona: str) -> None:
    """The answers that these records reject, and those of these that others reject."""
    await _add(step, persona, "SELECT karma FROM {kept} WHERE parent IN (SELECT karma FROM {decided})", tuple(Reason))
    await step.run("UPDATE {decided} SET rejected = NULL WHERE rejected IS NOT NULL")
    await step.run(decide.corrections("{decided}"))
    await step.run(
        decide.corrections(
            "(SELECT * FROM {kept} k WHERE NOT EXISTS (SELECT FROM {decided} w WHERE w.karma = k.karma))"
        )
    )


async def _add(step: Step, persona: str, which: str, reasons: tuple[Reason, ...]) -> None:
    """More of the kept records, those that the query names, with the reasons that they had before this step."""
    # Two statements: only one that makes a table is worked on by several processes.
    await step.run(
        f"CREATE UNLOGGED TABLE {{more}} AS SELECT karma FROM ({which}) AS found "
        "WHERE NOT EXISTS (SELECT FROM {decided} w WHERE w.karma = found.karma)"
    )
    await step.run("ANALYZE {more}")
    own = {"sealed": "s.karma IS NOT NULL", "reason": f"CASE WHEN k.reason IN ({quoted(reasons)}) THEN k.reason END"}
    values = ", ".join(own.get(name, f"k.{name}") for name in COLUMNS)
    await step.run(
        f"INSERT INTO {{decided}} ({', '.join(COLUMNS)}) SELECT {values} FROM {{more}} m JOIN {{kept}} k ON k.karma = m.karma "
        "LEFT JOIN sealed s ON s.persona = $1 AND s.karma = k.karma",
        persona,
    )
    await step.clear("more")
