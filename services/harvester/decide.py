"""Decide over all readings of a persona at once: which record is used, on which side of the split, and why not the others.

Works on a table inside the caller's transaction, in SQL, so that memory does not grow with the karma.
The order of the steps is the order of the reasons: a record bears the first that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.harvester.reasons import Reason
from services.harvester.split import joined, lineage_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from services.harvester.policy import HarvestPolicy
    from shared.contracts.intent import TrainingIntent
    from shared.postgres import Connection

#: Who stays where records repeat one another: what is sealed, then the side that must not leak, then the oldest.
_RANK = "sealed DESC, side = 'holdout' DESC, side = 'dev' DESC, created_at, karma"


async def decide(
    conn: Connection,
    table: str,
    persona: str,
    policy: HarvestPolicy,
    intent: TrainingIntent,
    wanted: Sequence[str] | None,
) -> None:
    """Make `table`. `wanted` are the ids that the intent's query found; None: it has no query."""
    step = _Step(conn, table)
    await step.clear()
    await _lineages(step, persona, policy)
    await _first(step, persona, policy, intent, wanted)
    await _duplicates(step)
    await _near_duplicates(step, persona)
    held = await _what_is_held(step)
    await _contaminated(step, policy, held)
    await _disliked(step, held)
    await _shares(step, policy)
    await _lengths(step, policy, held)
    await _corrections(step)
    await step.clear(but=table)


_TABLES = ("wanted", "joined", "sealed_lineage", "cut", "repeated", "cluster", "shared_gram")


@dataclass(frozen=True)
class _Step:
    """Runs statements in which `{decided}` and the names of _TABLES stand for the tables of this harvest.

    They are no temporary tables: PostgreSQL's parallel workers do not see those.
    """

    conn: Connection
    table: str

    @property
    def names(self) -> dict[str, str]:
        return {"decided": self.table} | {name: f"{self.table}_{name}" for name in _TABLES}

    def said(self, sql: str) -> str:
        for name, full in self.names.items():
            sql = sql.replace(f"{{{name}}}", full)
        return sql

    async def run(self, sql: str, *values: Any) -> None:
        await self.conn.execute(self.said(sql), *values)

    async def fill(self, name: str, columns: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Make a table of its own of rows that come from here."""
        await self.run(f"CREATE UNLOGGED TABLE {{{name}}} ({columns})")
        schema, full = self.names[name].split(".")
        await self.conn.copy_records_to_table(full, schema_name=schema, records=rows)
        await self.run(f"ANALYZE {{{name}}}")

    async def clear(self, but: str = "") -> None:
        await self.conn.execute(f"DROP TABLE IF EXISTS {', '.join(n for n in self.names.values() if n != but)}")


async def _lineages(step: _Step, persona: str, policy: HarvestPolicy) -> None:
    """`joined`, sessions that corrections join, and `sealed_lineage`, what was ever held out."""
    links = await step.conn.fetch(
        "SELECT DISTINCT c.session, p.session FROM reading c JOIN reading p ON p.karma = c.parent AND p.persona = c.persona "
        "WHERE c.persona = $1 AND c.parent IS NOT NULL AND c.session <> p.session",
        persona,
    )
    rows = [
        (session, lineage, lineage_place(policy.split.key, persona, lineage))
        for session, lineage in joined((one, other) for one, other in links).items()
    ]
    await step.fill("joined", "session text PRIMARY KEY, lineage text NOT NULL, place float8 NOT NULL", rows)
    await step.run(
        "CREATE UNLOGGED TABLE {sealed_lineage} AS "
        "SELECT DISTINCT coalesce(j.lineage, r.session) AS lineage FROM sealed s JOIN reading r ON r.karma = s.karma "
        "LEFT JOIN {joined} j ON j.session = r.session WHERE s.persona = $1",
        persona,
    )
    await step.run("ANALYZE {sealed_lineage}")


async def _first(
    step: _Step, persona: str, policy: HarvestPolicy, intent: TrainingIntent, wanted: Sequence[str] | None
) -> None:
    """Every record with its segment, lineage and side, and the reasons that need no look at other records."""
    await step.fill("wanted", "karma text PRIMARY KEY", [(karma,) for karma in wanted or ()])
    bounds = await _cuts(step, persona, intent)
    # Several workers join faster than one, though all rows pass from them to the one who writes.
    await step.run("SET LOCAL parallel_tuple_cost = 0.01")
    await step.run(
        f"""
        CREATE UNLOGGED TABLE {{decided}} WITH (fillfactor = 90) AS
        SELECT r.karma, r.created_at, r.session, coalesce(j.lineage, r.session) AS lineage,
            CASE
                WHEN r.created_at = ANY ($9::timestamptz[])
                    THEN (SELECT count(*) FROM {{cut}} c WHERE (c.created_at, c.karma) <= (r.created_at, r.karma))
                ELSE width_bucket(r.created_at, $9::timestamptz[])
            END::int AS place,
            CASE
                WHEN sl.lineage IS NOT NULL OR coalesce(j.place, r.place) < $2 THEN 'holdout'
                WHEN coalesce(j.place, r.place) < $2 + $3 THEN 'dev'
                ELSE 'train'
            END AS side,
            s.karma IS NOT NULL AS sealed,
            CASE
                WHEN r.status = 'revoked' OR v.karma IS NOT NULL THEN '{Reason.REVOKED}'
                WHEN vt.text IS NOT NULL THEN '{Reason.REPEATS_REVOKED}'
                WHEN c.parent IS NOT NULL THEN '{Reason.SUPERSEDED}'
                WHEN r.status <> 'white_truth' THEN '{Reason.UNCONSECRATED}'
                WHEN cardinality($4::text[]) > 0 AND r.kind <> ALL ($4) THEN '{Reason.FILTERED}'
                WHEN $5::timestamptz IS NOT NULL AND r.created_at < $5 THEN '{Reason.FILTERED}'
                WHEN $6 AND w.karma IS NULL THEN '{Reason.FILTERED}'
                WHEN NOT r.consented THEN '{Reason.NO_CONSENT}'
                WHEN r.licence <> ALL ($7::text[]) THEN '{Reason.LICENCE}'
                WHEN r.reason IN ('{Reason.MALFORMED}', '{Reason.SECRET}', '{Reason.PERSONAL}') THEN r.reason
            END AS reason,
            r.reason AS content_reason, r.content, r.text, r.source, r.kind, r.feedback, r.parent, r.tokens, r.redacted, r.grams,
            r.touched, r.found, r.consented AND r.licence = ANY ($7) AND r.reason IS NULL AS shown, NULL::bytea AS rejected
        FROM reading r
        LEFT JOIN {{joined}} j ON j.session = r.session
        LEFT JOIN {{sealed_lineage}} sl ON sl.lineage = coalesce(j.lineage, r.session)
        LEFT JOIN sealed s ON s.persona = $1 AND s.karma = r.karma
        LEFT JOIN revocation v ON v.karma = r.karma
        LEFT JOIN (
            SELECT DISTINCT text FROM reading
            WHERE persona = $1 AND reason IS DISTINCT FROM '{Reason.MALFORMED}'
                AND (status = 'revoked' OR karma IN (SELECT karma FROM revocation))
        ) vt ON vt.text = r.text
        LEFT JOIN (
            SELECT DISTINCT parent FROM reading
            WHERE persona = $1 AND parent IS NOT NULL AND status = 'white_truth' AND karma NOT IN (SELECT karma FROM revocation)
        ) c ON c.parent = r.karma
        LEFT JOIN {{wanted}} w ON w.karma = r.karma
        WHERE r.persona = $1 AND ($8::timestamptz IS NULL OR r.created_at <= $8)
        """,
        persona,
        policy.split.holdout,
        policy.split.dev,
        list(intent.kinds),
        intent.since,
        wanted is not None,
        list(policy.licences),
        intent.until,
        bounds,
    )
    await step.run("SET LOCAL parallel_tuple_cost TO DEFAULT")


async def _cuts(step: _Step, persona: str, intent: TrainingIntent) -> list[datetime]:
    """`cut`, the few records at which a segment begins, and their times in order."""
    await step.run(
        "CREATE UNLOGGED TABLE {cut} AS SELECT created_at, karma FROM reading "
        "WHERE cut AND persona = $1 AND ($2::timestamptz IS NULL OR created_at <= $2)",
        persona,
        intent.until,
    )
    rows = await step.conn.fetch(step.said("SELECT created_at FROM {cut} ORDER BY created_at"))
    return [row["created_at"] for row in rows]


async def _duplicates(step: _Step) -> None:
    await step.run("SET LOCAL max_parallel_workers_per_gather = 0")  # nearly every text is a group of its own
    await step.run(
        "CREATE UNLOGGED TABLE {repeated} AS "
        "SELECT text FROM {decided} WHERE reason IS NULL GROUP BY text HAVING count(*) > 1"
    )
    await step.run("SET LOCAL max_parallel_workers_per_gather TO DEFAULT")
    await step.run("ANALYZE {repeated}")
    await step.run(
        f"""
        UPDATE {{decided}} d SET reason = '{Reason.DUPLICATE}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY text ORDER BY {_RANK}) AS place FROM {{decided}}
            WHERE reason IS NULL AND text IN (SELECT text FROM {{repeated}})
        ) again WHERE again.karma = d.karma AND again.place > 1
        """
    )


async def _near_duplicates(step: _Step, persona: str) -> None:
    """Of every cluster of near duplicates one record stays; so a cluster can never stand on two sides of the split.

    A pair speaks for all records of its two texts, so clusters are of texts: which of equal ones stays is decided above.
    """
    pairs = await step.conn.fetch(
        "SELECT DISTINCT a.text::text AS one, b.text::text AS other FROM near_duplicate n "
        "JOIN reading a ON a.karma = n.karma JOIN reading b ON b.karma = n.other WHERE n.persona = $1",
        persona,
    )
    clusters = joined((one, other) for one, other in pairs)
    if not clusters:
        return
    await step.fill("cluster", "text text PRIMARY KEY, name text NOT NULL", list(clusters.items()))
    await step.run(
        f"""
        UPDATE {{decided}} d SET reason = '{Reason.NEAR_DUPLICATE}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY name ORDER BY {_RANK}) AS place
            FROM {{decided}} d JOIN {{cluster}} c ON c.text = d.text::text WHERE reason IS NULL
        ) near WHERE near.karma = d.karma AND near.place > 1
        """
    )


@dataclass(frozen=True)
class _Held:
    """What the readings hold at all: a step that looks for something else has nothing to do."""

    benchmarks: bool
    disliked: bool
    longest: int


async def _what_is_held(step: _Step) -> _Held:
    row = await step.conn.fetchrow(
        step.said(
            f"SELECT bool_or(content_reason = '{Reason.CONTAMINATED}'), bool_or(feedback = 'down' AND side <> 'train'), "
            "max(tokens) FROM {decided} WHERE reason IS NULL"
        )
    )
    return _Held(*(bool(row[0]), bool(row[1]), row[2] or 0) if row else (False, False, 0))


async def _contaminated(step: _Step, policy: HarvestPolicy, held: _Held) -> None:
    """What holds a benchmark's passage, on any side; and what shares a passage with the holdout, on the others."""
    if held.benchmarks:
        await step.run(
            f"UPDATE {{decided}} SET reason = content_reason WHERE reason IS NULL AND content_reason = '{Reason.CONTAMINATED}'"
        )
    await step.run(
        """
        CREATE UNLOGGED TABLE {shared_gram} AS
            SELECT * FROM (
                SELECT karma, lineage, unnest(grams) AS gram FROM {decided} WHERE side <> 'holdout' AND reason IS NULL
            ) passage WHERE gram IN (
                SELECT unnest(grams) FROM {decided} WHERE side = 'holdout' AND reason IS NULL)
        """
    )
    await step.run(
        f"""
        UPDATE {{decided}} SET reason = '{Reason.CONTAMINATED}' WHERE karma IN (
            SELECT karma FROM {{shared_gram}} WHERE gram IN (
                SELECT gram FROM {{shared_gram}} GROUP BY gram HAVING count(DISTINCT lineage) < $1))
        """,
        policy.common_passage,
    )


async def _disliked(step: _Step, held: _Held) -> None:
    if held.disliked:
        await step.run(
            f"UPDATE {{decided}} SET reason = '{Reason.DISLIKED}' "
            "WHERE reason IS NULL AND feedback = 'down' AND side <> 'train'"
        )


async def _shares(step: _Step, policy: HarvestPolicy) -> None:
    shares = policy.shares
    rows = await step.conn.fetchval(step.said("SELECT count(*) FROM {decided} WHERE reason IS NULL AND side = 'train'"))
    most = max(shares.session_floor, int(shares.session * rows))
    await _cap(step, "session", Reason.SESSION_SHARE, most, ())
    for source, share in shares.sources.items():
        await _cap(step, "source", Reason.SOURCE_SHARE, int(share * rows), (source,))
    if shares.source < 1:
        await _cap(step, "source", Reason.SOURCE_SHARE, int(shares.source * rows), (), tuple(shares.sources))


async def _cap(
    step: _Step, column: str, reason: Reason, most: int, only: Iterable[str], but: Iterable[str] = ()
) -> None:
    """Leave out what one session or source has beyond `most` rows to train on, the newest first."""
    await step.run(
        f"""
        UPDATE {{decided}} d SET reason = '{reason}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY {column} ORDER BY created_at, karma) AS place FROM {{decided}}
            WHERE reason IS NULL AND side = 'train' AND {column} IN (
                SELECT {column} FROM {{decided}}
                WHERE reason IS NULL AND side = 'train'
                    AND (cardinality($2::text[]) = 0 OR {column} = ANY ($2)) AND {column} <> ALL ($3::text[])
                GROUP BY {column} HAVING count(*) > $1)
        ) crowd WHERE crowd.karma = d.karma AND crowd.place > $1
        """,
        most,
        list(only),
        list(but),
    )


async def _lengths(step: _Step, policy: HarvestPolicy, held: _Held) -> None:
    if held.longest > policy.lengths.row:
        await step.run(
            f"UPDATE {{decided}} SET reason = '{Reason.TOO_LONG}' WHERE reason IS NULL AND tokens > $1",
            policy.lengths.row,
        )
    if policy.lengths.budget:
        await step.run(
            f"""
            UPDATE {{decided}} d SET reason = '{Reason.OVER_BUDGET}' FROM (
                SELECT karma, sum(tokens) OVER (ORDER BY created_at DESC, karma DESC) AS so_far FROM {{decided}}
                WHERE reason IS NULL AND side = 'train'
            ) long WHERE long.karma = d.karma AND long.so_far > $1
            """,
            policy.lengths.budget,
        )


async def _corrections(step: _Step) -> None:
    """Name the answer that a used correction rejects, where that may be shown: its owner vouched by correcting it."""
    await step.run(
        f"""
        UPDATE {{decided}} d SET rejected = p.content FROM {{decided}} p
        WHERE d.parent IS NOT NULL AND p.karma = d.parent
            AND d.reason IS NULL AND d.side = 'train' AND d.feedback IS DISTINCT FROM 'down' AND p.shown
            AND p.reason IS DISTINCT FROM '{Reason.REVOKED}' AND p.reason IS DISTINCT FROM '{Reason.REPEATS_REVOKED}'
        """
    )
