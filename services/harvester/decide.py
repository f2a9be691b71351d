"""Decide over all readings of a persona at once: which record is used, on which side of the split, and why not the others.

Works on a table inside the caller's transaction, in SQL, so that memory does not grow with the karma.
The order of the steps is the order of the reasons: a record bears the first that holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.harvester.reasons import Reason
from services.harvester.split import joined, lineage_place
from services.harvester.statements import PASSING, Step, drop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.harvester.policy import HarvestPolicy
    from shared.contracts.intent import TrainingIntent
    from shared.storage.postgres import Connection

#: Who stays where records repeat one another: what is sealed, then the side that must not leak, then the oldest.
_RANK = "sealed DESC, side = 'holdout' DESC, side = 'dev' DESC, created_at, karma"


async def decide(
    conn: Connection,
    table: str,
    persona: str,
    policy: HarvestPolicy,
    intent: TrainingIntent,
    wanted: Sequence[str] | None,
) -> bool:
    """Make `table`, and beside it those of KEPT; whether a share or the budget left something out.

    `wanted` are the ids that the intent's query found; None: it has no query.
    """
    step = Step(conn, table)
    await drop(conn, table)
    await join_sessions(step, persona, policy)
    await _sealed_lineages(step, persona)
    await step.fill("wanted", "karma text PRIMARY KEY", [(karma,) for karma in wanted or ()])
    await _cuts(step, persona, intent)
    await _first(step, persona, policy, intent, wanted is not None)
    await duplicates(step)
    if await cluster(step, persona):
        await near_duplicates(step)
    held = await _what_is_held(step)
    if held.benchmarks:
        await benchmarks(step)
    await _passages(step, policy)
    if held.disliked:
        await disliked(step)
    capped = await _shares(step, policy)
    if held.longest > policy.lengths.row:
        await too_long(step, policy)
    over = await _budget(step, policy)
    await _corrections(step)
    await step.clear(*PASSING)
    return bool(capped or over)


async def join_sessions(step: Step, persona: str, policy: HarvestPolicy) -> None:
    """`joined`, the sessions that corrections join."""
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


async def _sealed_lineages(step: Step, persona: str) -> None:
    """`sealed_lineage`, what was ever held out."""
    await step.run(
        "CREATE UNLOGGED TABLE {sealed_lineage} AS "
        "SELECT DISTINCT coalesce(j.lineage, r.session) AS lineage FROM sealed s "
        "JOIN reading r ON r.karma = s.karma AND r.persona = s.persona LEFT JOIN {joined} j ON j.session = r.session WHERE s.persona = $1",
        persona,
    )
    await step.run("ANALYZE {sealed_lineage}")


#: Where a record stands in order of time: by a search in the times of the cuts, as there are many records.
_PLACE = """CASE
                WHEN r.created_at = ANY ($9::timestamptz[])
                    THEN (SELECT count(*) FROM {cut} c WHERE (c.created_at, c.karma) <= (r.created_at, r.karma))
                ELSE width_bucket(r.created_at, $9::timestamptz[])
            END"""


async def _first(step: Step, persona: str, policy: HarvestPolicy, intent: TrainingIntent, asked: bool) -> None:
    bounds = [row["created_at"] for row in await step.conn.fetch(step.said("SELECT created_at FROM {cut} ORDER BY 1"))]
    # Several workers join faster than one, though all rows pass from them to the one who writes.
    await step.run("SET LOCAL parallel_tuple_cost = 0.01")
    await step.run(first(_PLACE), *first_values(persona, policy, intent, asked), bounds)
    await step.run("SET LOCAL parallel_tuple_cost TO DEFAULT")


def first(place: str, among: str = "") -> str:
    """Every record with its segment, lineage and side, and the reasons that need no look at other records.

    `among` joins those of the readings `r` that are meant.
    """
    return f"""
        CREATE UNLOGGED TABLE {{decided}} WITH (fillfactor = 90) AS
        SELECT r.karma, r.created_at, r.session, coalesce(j.lineage, r.session) AS lineage,
            {place}::int AS place,
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
            r.touched, r.read_in, r.found, r.consented AND r.licence = ANY ($7) AND r.reason IS NULL AS shown, NULL::bytea AS rejected
        FROM reading r {among}
        LEFT JOIN {{joined}} j ON j.session = r.session
        LEFT JOIN {{sealed_lineage}} sl ON sl.lineage = coalesce(j.lineage, r.session)
        LEFT JOIN sealed s ON s.persona = $1 AND s.karma = r.karma
        LEFT JOIN revocation v ON v.karma = r.karma
        LEFT JOIN (
            SELECT text FROM reading
            WHERE persona = $1 AND reason IS DISTINCT FROM '{Reason.MALFORMED}' AND status = 'revoked'
            UNION
            SELECT text FROM reading
            WHERE persona = $1 AND reason IS DISTINCT FROM '{Reason.MALFORMED}' AND karma IN (SELECT karma FROM revocation)
        ) vt ON vt.text = r.text
        LEFT JOIN (
            SELECT DISTINCT parent FROM reading
            WHERE persona = $1 AND parent IS NOT NULL AND status = 'white_truth' AND karma NOT IN (SELECT karma FROM revocation)
        ) c ON c.parent = r.karma
        LEFT JOIN {{wanted}} w ON w.karma = r.karma
        WHERE r.persona = $1 AND ($8::timestamptz IS NULL OR r.created_at <= $8)
        """


def first_values(persona: str, policy: HarvestPolicy, intent: TrainingIntent, asked: bool) -> tuple[Any, ...]:
    """The values of `first`; `asked`: only what stands in `wanted` is."""
    return (
        persona,
        policy.split.holdout,
        policy.split.dev,
        list(intent.kinds),
        intent.since,
        asked,
        list(policy.licences),
        intent.until,
    )


async def _cuts(step: Step, persona: str, intent: TrainingIntent) -> None:
    """`cut`, the few records at which a segment begins, with the number of that segment."""
    await step.run(
        "CREATE UNLOGGED TABLE {cut} AS SELECT created_at, karma, row_number() OVER (ORDER BY created_at, karma)::int AS place "
        "FROM reading WHERE cut AND persona = $1 AND ($2::timestamptz IS NULL OR created_at <= $2)",
        persona,
        intent.until,
    )


async def duplicates(step: Step) -> None:
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


async def cluster(step: Step, persona: str) -> bool:
    """`cluster`, the texts that nearly repeat one another; whether there are any.

    A pair speaks for all records of its two texts, so clusters are of texts: which of equal ones stays is decided above.
    """
    pairs = await step.conn.fetch(
        "SELECT DISTINCT a.text::text AS one, b.text::text AS other FROM near_duplicate n "
        "JOIN reading a ON a.karma = n.karma JOIN reading b ON b.karma = n.other WHERE n.persona = $1",
        persona,
    )
    clusters = joined((one, other) for one, other in pairs)
    await step.fill("cluster", "text text PRIMARY KEY, name text NOT NULL", list(clusters.items()))
    return bool(clusters)


async def near_duplicates(step: Step) -> None:
    """Of every cluster of near duplicates one record stays; so a cluster can never stand on two sides of the split."""
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


async def _what_is_held(step: Step) -> _Held:
    row = await step.conn.fetchrow(
        step.said(
            f"SELECT bool_or(content_reason = '{Reason.CONTAMINATED}'), bool_or(feedback = 'down' AND side <> 'train'), "
            "max(tokens) FROM {decided} WHERE reason IS NULL"
        )
    )
    return _Held(*(bool(row[0]), bool(row[1]), row[2] or 0) if row else (False, False, 0))


async def benchmarks(step: Step) -> None:
    """What holds a benchmark's passage, on any side."""
    await step.run(
        f"UPDATE {{decided}} SET reason = content_reason WHERE reason IS NULL AND content_reason = '{Reason.CONTAMINATED}'"
    )


async def _passages(step: Step, policy: HarvestPolicy) -> None:
    """What shares a passage with the holdout, on the other sides. `shared_gram` are the passages that stand on both."""
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
        f"UPDATE {{decided}} SET reason = '{Reason.CONTAMINATED}' WHERE karma IN ({contaminated('{shared_gram}')})",
        policy.common_passage,
    )


def contaminated(shared: str) -> str:
    """The records that hold a passage of the holdout which too few lineages hold to be boilerplate."""
    return f"""
        SELECT karma FROM {shared} WHERE gram IN (
            SELECT gram FROM {shared} GROUP BY gram HAVING count(DISTINCT lineage) < $1)
    """


async def disliked(step: Step) -> None:
    await step.run(
        f"UPDATE {{decided}} SET reason = '{Reason.DISLIKED}' "
        "WHERE reason IS NULL AND feedback = 'down' AND side <> 'train'"
    )


async def _shares(step: Step, policy: HarvestPolicy) -> int:
    """How many records this left out."""
    row = await step.conn.fetchrow(
        step.said(
            "SELECT coalesce(sum(rows), 0)::bigint AS rows, coalesce(max(rows), 0) AS largest FROM ("
            "SELECT count(*) AS rows FROM {decided} WHERE reason IS NULL AND side = 'train' GROUP BY session) AS sessions"
        )
    )
    rows, largest = (row["rows"], row["largest"]) if row else (0, 0)
    shares, most = policy.shares, most_of_session(policy, rows)
    capped = await _cap(step, "session", Reason.SESSION_SHARE, most, ()) if largest > most else 0
    for source, share in shares.sources.items():
        capped += await _cap(step, "source", Reason.SOURCE_SHARE, int(share * rows), (source,))
    if shares.source < 1:
        capped += await _cap(step, "source", Reason.SOURCE_SHARE, int(shares.source * rows), (), tuple(shares.sources))
    return capped


def most_of_session(policy: HarvestPolicy, rows: int) -> int:
    return max(policy.shares.session_floor, int(policy.shares.session * rows))


async def _cap(step: Step, column: str, reason: Reason, most: int, only: Iterable[str], but: Iterable[str] = ()) -> int:
    """Leave out what one session or source has beyond `most` rows to train on, the newest first."""
    return await step.run(
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


async def too_long(step: Step, policy: HarvestPolicy) -> None:
    await step.run(
        f"UPDATE {{decided}} SET reason = '{Reason.TOO_LONG}' WHERE reason IS NULL AND tokens > $1",
        policy.lengths.row,
    )


async def _budget(step: Step, policy: HarvestPolicy) -> int:
    """How many records this left out."""
    if not policy.lengths.budget:
        return 0
    return await step.run(
        f"""
        UPDATE {{decided}} d SET reason = '{Reason.OVER_BUDGET}' FROM (
            SELECT karma, sum(tokens) OVER (ORDER BY created_at DESC, karma DESC) AS so_far FROM {{decided}}
            WHERE reason IS NULL AND side = 'train'
        ) long WHERE long.karma = d.karma AND long.so_far > $1
        """,
        policy.lengths.budget,
    )


async def _corrections(step: Step) -> None:
    await step.run(corrections("{decided}"))


def corrections(parents: str) -> str:
    """Name the answer that a used correction rejects, where that may be shown: its owner vouched by correcting it."""
    return f"""
        UPDATE {{decided}} d SET rejected = p.content FROM {parents} p
        WHERE d.parent IS NOT NULL AND p.karma = d.parent
            AND d.reason IS NULL AND d.side = 'train' AND d.feedback IS DISTINCT FROM 'down' AND p.shown
            AND p.reason IS DISTINCT FROM '{Reason.REVOKED}' AND p.reason IS DISTINCT FROM '{Reason.REPEATS_REVOKED}'
    """
