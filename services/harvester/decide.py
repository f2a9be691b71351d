"""Decide over all readings of a persona at once: which record is used, on which side of the split, and why not the others.

Works on a temporary table `decided` inside the caller's transaction, in SQL, so that memory does not grow with the karma.
The order of the steps is the order of the reasons: a record bears the first that holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.reasons import Reason
from services.harvester.split import joined, lineage_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.harvester.policy import HarvestPolicy
    from shared.contracts.intent import TrainingIntent
    from shared.postgres import Connection

#: Who stays where records repeat one another: what is sealed, then the side that must not leak, then the oldest.
_RANK = "sealed DESC, side = 'holdout' DESC, side = 'dev' DESC, created_at, karma"


async def decide(
    conn: Connection, persona: str, policy: HarvestPolicy, intent: TrainingIntent, wanted: Sequence[str] | None
) -> None:
    """Fill the temporary table `decided`. `wanted` are the ids that the intent's query found; None: it has no query."""
    await _lineages(conn, persona, policy)
    await _first(conn, persona, policy, intent, wanted)
    await _duplicates(conn)
    await _near_duplicates(conn, persona)
    await _contaminated(conn, policy)
    await _disliked(conn)
    await _shares(conn, policy)
    await _lengths(conn, policy)
    await _corrections(conn, policy)


async def _lineages(conn: Connection, persona: str, policy: HarvestPolicy) -> None:
    """Temporary tables: `joined`, sessions that corrections join, and `sealed_lineage`, what was ever held out."""
    links = await conn.fetch(
        "SELECT DISTINCT c.session, p.session FROM reading c JOIN reading p ON p.karma = c.parent AND p.persona = c.persona "
        "WHERE c.persona = $1 AND c.parent IS NOT NULL AND c.session <> p.session",
        persona,
    )
    rows = [
        (session, lineage, lineage_place(policy.split.key, persona, lineage))
        for session, lineage in joined((one, other) for one, other in links).items()
    ]
    await conn.execute(
        "CREATE TEMP TABLE joined (session text PRIMARY KEY, lineage text NOT NULL, place float8 NOT NULL) ON COMMIT DROP"
    )
    await conn.copy_records_to_table("joined", records=rows)
    await conn.execute(
        "CREATE TEMP TABLE sealed_lineage ON COMMIT DROP AS "
        "SELECT DISTINCT coalesce(j.lineage, r.session) AS lineage FROM sealed s JOIN reading r ON r.karma = s.karma "
        "LEFT JOIN joined j ON j.session = r.session WHERE s.persona = $1",
        persona,
    )


async def _first(
    conn: Connection, persona: str, policy: HarvestPolicy, intent: TrainingIntent, wanted: Sequence[str] | None
) -> None:
    """Every record with its lineage and side, and the reasons that need no look at other records."""
    await conn.execute("CREATE TEMP TABLE wanted (karma text PRIMARY KEY) ON COMMIT DROP")
    await conn.copy_records_to_table("wanted", records=[(karma,) for karma in wanted or ()])
    await conn.execute(
        f"""
        CREATE TEMP TABLE decided ON COMMIT DROP AS
        SELECT r.karma, r.created_at, r.session, coalesce(j.lineage, r.session) AS lineage,
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
            r.reason AS content_reason, r.content, r.text, r.source, r.kind, r.feedback, r.parent, r.tokens, r.redacted, r.cut, r.grams,
            NULL::bytea AS rejected
        FROM reading r
        LEFT JOIN joined j ON j.session = r.session
        LEFT JOIN sealed_lineage sl ON sl.lineage = coalesce(j.lineage, r.session)
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
        LEFT JOIN wanted w ON w.karma = r.karma
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
    )


async def _duplicates(conn: Connection) -> None:
    await conn.execute(
        f"""
        UPDATE decided d SET reason = '{Reason.DUPLICATE}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY text ORDER BY {_RANK}) AS place FROM decided
            WHERE reason IS NULL
                AND text IN (SELECT text FROM decided WHERE reason IS NULL GROUP BY text HAVING count(*) > 1)
        ) again WHERE again.karma = d.karma AND again.place > 1
        """
    )


async def _near_duplicates(conn: Connection, persona: str) -> None:
    """Of every cluster of near duplicates one record stays; so a cluster can never stand on two sides of the split.

    A pair speaks for all records of its two texts, so clusters are of texts: which of equal ones stays is decided above.
    """
    pairs = await conn.fetch(
        "SELECT DISTINCT a.text::text AS one, b.text::text AS other FROM near_duplicate n "
        "JOIN reading a ON a.karma = n.karma JOIN reading b ON b.karma = n.other WHERE n.persona = $1",
        persona,
    )
    clusters = joined((one, other) for one, other in pairs)
    await conn.execute("CREATE TEMP TABLE cluster (text text PRIMARY KEY, name text NOT NULL) ON COMMIT DROP")
    await conn.copy_records_to_table("cluster", records=list(clusters.items()))
    await conn.execute(
        f"""
        UPDATE decided d SET reason = '{Reason.NEAR_DUPLICATE}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY name ORDER BY {_RANK}) AS place
            FROM decided d JOIN cluster c ON c.text = d.text::text WHERE reason IS NULL
        ) near WHERE near.karma = d.karma AND near.place > 1
        """
    )


async def _contaminated(conn: Connection, policy: HarvestPolicy) -> None:
    """What holds a benchmark's passage, on any side; and what shares a passage with the holdout, on the others."""
    await conn.execute(
        f"UPDATE decided SET reason = content_reason WHERE reason IS NULL AND content_reason = '{Reason.CONTAMINATED}'"
    )
    await conn.execute(
        """
        CREATE TEMP TABLE shared_gram ON COMMIT DROP AS
            SELECT * FROM (
                SELECT karma, lineage, unnest(grams) AS gram FROM decided WHERE side <> 'holdout' AND reason IS NULL
            ) passage WHERE gram IN (
                SELECT unnest(grams) FROM decided WHERE side = 'holdout' AND reason IS NULL)
        """
    )
    await conn.execute(
        f"""
        UPDATE decided SET reason = '{Reason.CONTAMINATED}' WHERE karma IN (
            SELECT karma FROM shared_gram WHERE gram IN (
                SELECT gram FROM shared_gram GROUP BY gram HAVING count(DISTINCT lineage) < $1))
        """,
        policy.common_passage,
    )


async def _disliked(conn: Connection) -> None:
    await conn.execute(
        f"UPDATE decided SET reason = '{Reason.DISLIKED}' WHERE reason IS NULL AND feedback = 'down' AND side <> 'train'"
    )


async def _shares(conn: Connection, policy: HarvestPolicy) -> None:
    shares = policy.shares
    rows = await conn.fetchval("SELECT count(*) FROM decided WHERE reason IS NULL AND side = 'train'")
    most = max(shares.session_floor, int(shares.session * rows))
    await _cap(conn, "session", Reason.SESSION_SHARE, most, ())
    for source, share in shares.sources.items():
        await _cap(conn, "source", Reason.SOURCE_SHARE, int(share * rows), (source,))
    if shares.source < 1:
        await _cap(conn, "source", Reason.SOURCE_SHARE, int(shares.source * rows), (), tuple(shares.sources))


async def _cap(
    conn: Connection, column: str, reason: Reason, most: int, only: Iterable[str], but: Iterable[str] = ()
) -> None:
    """Leave out what one session or source has beyond `most` rows to train on, the newest first."""
    await conn.execute(
        f"""
        UPDATE decided d SET reason = '{reason}' FROM (
            SELECT karma, row_number() OVER (PARTITION BY {column} ORDER BY created_at, karma) AS place FROM decided
            WHERE reason IS NULL AND side = 'train' AND {column} IN (
                SELECT {column} FROM decided
                WHERE reason IS NULL AND side = 'train'
                    AND (cardinality($2::text[]) = 0 OR {column} = ANY ($2)) AND {column} <> ALL ($3::text[])
                GROUP BY {column} HAVING count(*) > $1)
        ) crowd WHERE crowd.karma = d.karma AND crowd.place > $1
        """,
        most,
        list(only),
        list(but),
    )


async def _lengths(conn: Connection, policy: HarvestPolicy) -> None:
    await conn.execute(
        f"UPDATE decided SET reason = '{Reason.TOO_LONG}' WHERE reason IS NULL AND tokens > $1", policy.lengths.row
    )
    if policy.lengths.budget:
        await conn.execute(
            f"""
            UPDATE decided d SET reason = '{Reason.OVER_BUDGET}' FROM (
                SELECT karma, sum(tokens) OVER (ORDER BY created_at DESC, karma DESC) AS so_far FROM decided
                WHERE reason IS NULL AND side = 'train'
            ) long WHERE long.karma = d.karma AND long.so_far > $1
            """,
            policy.lengths.budget,
        )


async def _corrections(conn: Connection, policy: HarvestPolicy) -> None:
    """Name the answer that a used correction rejects, where that may be shown: its owner vouched by correcting it."""
    await conn.execute(
        f"""
        UPDATE decided d SET rejected = p.content FROM decided p JOIN reading r USING (karma)
        WHERE p.karma = d.parent AND d.reason IS NULL AND d.side = 'train' AND d.feedback IS DISTINCT FROM 'down'
            AND r.consented AND r.licence = ANY ($1::text[]) AND r.reason IS NULL
            AND p.reason IS DISTINCT FROM '{Reason.REVOKED}' AND p.reason IS DISTINCT FROM '{Reason.REPEATS_REVOKED}'
        """,
        list(policy.licences),
    )
