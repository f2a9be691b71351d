"""Decide about every scanned record, in the temporary table `admission`: its side of the split, and why it is left out.

The order of the steps is the order of the reasons: a record has the first that holds. All of it is SQL in the caller's
transaction, so that memory does not grow with the karma.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.reasons import Reason
from services.harvester.split import Split, find_circles, join_groups, lineage_place, split_of

if TYPE_CHECKING:
    from services.harvester.policy import Shares, SplitShares
    from services.harvester.request import HarvestRequest
    from shared.storage.postgres import Connection

BATCH = 1000  # sessions in memory at a time

#: Which of several records that repeat one another stays: what is sealed, then the side that must not leak, then the oldest.
RANK = "sealed DESC, side = 'holdout' DESC, side = 'dev' DESC, created_at, karma"

# Sessions of which one corrects the other or goes on from it. Of all that go on from a record only the longest is joined
# to it: many begin with the same greeting.
LIST_LINKS = """
    WITH part AS (
        SELECT karma, session, created_at, beginning, cardinality(beginnings) AS length
        FROM scanned CROSS JOIN LATERAL unnest(beginnings) WITH ORDINALITY AS of (beginning, at)
        WHERE at < cardinality(beginnings)
    ), continued AS (
        SELECT DISTINCT ON (s.karma) s.session AS one, part.session AS other
        FROM scanned s JOIN part ON part.beginning = s.beginnings[cardinality(s.beginnings)]
        ORDER BY s.karma, part.length DESC, part.created_at, part.karma
    )
    SELECT one, other FROM continued WHERE one <> other
    UNION SELECT c.session, p.session FROM scanned c JOIN scanned p ON p.karma = c.parent WHERE c.session <> p.session
"""
CREATE_SEALED_LINEAGE = """
    CREATE TEMP TABLE sealed_lineage AS
    SELECT DISTINCT l.lineage FROM sealed s JOIN scanned r ON r.karma = s.karma JOIN lineage l USING (session)
    WHERE s.persona = $1
"""
# Of these no record is trained, also none of another source.
CREATE_DEV_LINEAGE = """
    CREATE TEMP TABLE dev_lineage AS
    SELECT DISTINCT lineage FROM scanned JOIN lineage USING (session) WHERE source = ANY ($1::text[])
"""
# Who corrects whom, as far as an owner vouches for it.
CREATE_CORRECTION = """
    CREATE TEMP TABLE correction AS
    SELECT karma, parent FROM scanned s LEFT JOIN revocation v USING (karma)
    WHERE parent IS NOT NULL AND status = 'white_truth' AND v.karma IS NULL
"""
# What may be part of a circle: it corrects a record, and is corrected.
LIST_CHAINED = """
    SELECT karma, parent FROM correction
    WHERE karma IN (SELECT parent FROM correction) AND parent IN (SELECT karma FROM correction)
"""
CREATE_ADMISSION = f"""
    CREATE TEMP TABLE admission AS
    WITH revoked_text AS (
        SELECT text, min(karma) AS karma FROM scanned s LEFT JOIN revocation v USING (karma)
        WHERE text IS NOT NULL AND (status = 'revoked' OR v.karma IS NOT NULL) GROUP BY text
    ), corrected AS (
        SELECT DISTINCT parent AS karma FROM correction
    )
    SELECT r.karma, r.created_at, r.session, l.lineage, r.lesson, r.source, r.kind, r.feedback, r.parent, r.tokens, r.found,
        CASE WHEN sl.lineage IS NOT NULL THEN 'holdout' WHEN dl.lineage IS NOT NULL THEN 'dev' ELSE l.side END AS side,
        s.karma IS NOT NULL AS sealed,
        CASE
            WHEN r.status = 'revoked' OR v.karma IS NOT NULL THEN '{Reason.REVOKED}'
            WHEN rt.text IS NOT NULL THEN '{Reason.REPEATS_REVOKED}'
            WHEN ci.karma IS NOT NULL THEN '{Reason.CIRCLE}'
            WHEN c.karma IS NOT NULL THEN '{Reason.SUPERSEDED}'
            WHEN r.status <> 'white_truth' THEN '{Reason.UNCONSECRATED}'
            WHEN cardinality($2::text[]) > 0 AND r.kind <> ALL ($2) THEN '{Reason.FILTERED}'
            WHEN cardinality($7::text[]) > 0 AND r.source <> ALL ($7) THEN '{Reason.FILTERED}'
            WHEN r.created_at < $3::timestamptz THEN '{Reason.FILTERED}'
            WHEN $4 AND w.karma IS NULL THEN '{Reason.FILTERED}'
            WHEN NOT r.consented THEN '{Reason.NO_CONSENT}'
            WHEN r.licence <> ALL ($5::text[]) THEN '{Reason.LICENCE}'
            WHEN r.reason <> '{Reason.CONTAMINATED}' THEN r.reason
        END AS reason,
        r.consented AND r.licence = ANY ($5) AND r.reason IS NULL AS presentable,
        NULL::text AS rejected, nullif(rt.karma, r.karma) AS repeats, NULL::int[] AS answers
    FROM scanned r
    JOIN lineage l USING (session)
    LEFT JOIN sealed_lineage sl USING (lineage)
    LEFT JOIN dev_lineage dl USING (lineage)
    LEFT JOIN sealed s ON s.persona = $1 AND s.karma = r.karma
    LEFT JOIN revocation v ON v.karma = r.karma
    LEFT JOIN revoked_text rt ON rt.text = r.text
    LEFT JOIN circle ci ON ci.karma = r.karma
    LEFT JOIN corrected c ON c.karma = r.karma
    LEFT JOIN wanted w ON w.karma = r.karma
    WHERE $6::timestamptz IS NULL OR r.created_at <= $6
"""
EXCLUDE_DUPLICATES = f"""
    UPDATE admission a SET reason = '{Reason.DUPLICATE}', repeats = ranked.first FROM (
        SELECT karma, first_value(karma) OVER (PARTITION BY lesson ORDER BY {RANK}) AS first FROM admission
        WHERE reason IS NULL
    ) ranked WHERE ranked.karma = a.karma AND ranked.first <> a.karma
"""
# One record of a cluster stays, so a cluster is never on two sides of the split.
EXCLUDE_NEAR_DUPLICATES = f"""
    UPDATE admission a SET reason = '{Reason.NEAR_DUPLICATE}', repeats = ranked.first FROM (
        SELECT karma, first_value(karma) OVER (PARTITION BY name ORDER BY {RANK}) AS first
        FROM admission JOIN cluster USING (lesson) WHERE reason IS NULL
    ) ranked WHERE ranked.karma = a.karma AND ranked.first <> a.karma
"""
EXCLUDE_BENCHMARK_ITEMS = f"""
    UPDATE admission a SET reason = s.reason FROM scanned s
    WHERE s.karma = a.karma AND a.reason IS NULL AND s.reason = '{Reason.CONTAMINATED}'
"""
# A passage of the holdout, unless so many lineages hold it that it is boilerplate.
EXCLUDE_HOLDOUT_PASSAGES = f"""
    WITH passage AS NOT MATERIALIZED (
        SELECT karma, lineage, side, unnest(ngrams) AS ngram FROM admission a JOIN scanned s USING (karma)
        WHERE a.reason IS NULL
    ), leak AS MATERIALIZED (
        SELECT karma, lineage, ngram FROM passage
        WHERE side <> 'holdout' AND ngram IN (SELECT ngram FROM passage WHERE side = 'holdout')
    )
    UPDATE admission SET reason = '{Reason.CONTAMINATED}' WHERE karma IN (
        SELECT karma FROM leak
        WHERE ngram IN (SELECT ngram FROM leak GROUP BY ngram HAVING count(DISTINCT lineage) < $1))
"""
EXCLUDE_DISLIKED = f"""
    UPDATE admission SET reason = '{Reason.DISLIKED}' WHERE reason IS NULL AND feedback = 'down' AND side <> 'train'
"""
# What one session or source has beyond $1 rows to train on, the newest first.
EXCLUDE_BEYOND_SHARE = """
    UPDATE admission a SET reason = $2 FROM (
        SELECT karma, row_number() OVER (PARTITION BY {column} ORDER BY created_at, karma) AS place FROM admission
        WHERE reason IS NULL AND side = 'train'
            AND ($3::text[] IS NULL OR {column} = ANY ($3)) AND {column} <> ALL ($4::text[])
    ) ranked WHERE ranked.karma = a.karma AND ranked.place > $1
"""
# Of records that one goes on from the other the longest is trained, in all answers of those that it goes on from. Its
# messages so far, their weights and its tools are the same. Not what makes rows of its own: a thumb, a correction.
EXCLUDE_CONTINUED = f"""
    WITH row_of AS (
        SELECT a.karma, a.side, a.feedback, a.created_at, s.answers, s.beginnings, cardinality(s.answers) AS length
        FROM admission a JOIN scanned s USING (karma) WHERE a.reason IS NULL AND a.side <> 'holdout' AND a.parent IS NULL
    ), part AS (
        SELECT karma, side, length, created_at, beginning, at AS answers
        FROM row_of CROSS JOIN LATERAL unnest(beginnings) WITH ORDINALITY AS of (beginning, at)
        WHERE feedback IS DISTINCT FROM 'down' AND at < length
    )
    UPDATE admission a SET reason = '{Reason.CONTINUED}', repeats = found.longest FROM (
        SELECT DISTINCT ON (row_of.karma) row_of.karma, part.karma AS longest
        FROM row_of JOIN part ON part.beginning = row_of.beginnings[row_of.length] AND part.side = row_of.side
        WHERE row_of.feedback IS NULL
        ORDER BY row_of.karma, part.length DESC, part.created_at, part.karma
    ) found WHERE found.karma = a.karma
"""
# The messages that are answers of records which it goes on from.
NAME_ANSWERS = f"""
    UPDATE admission a SET answers = taken.answers FROM (
        SELECT c.repeats AS karma, array_agg(DISTINCT s.answers[cardinality(s.answers)] - 1) AS answers
        FROM admission c JOIN scanned s USING (karma) WHERE c.reason = '{Reason.CONTINUED}' GROUP BY c.repeats
    ) taken WHERE taken.karma = a.karma
"""
EXCLUDE_TOO_LONG = f"UPDATE admission SET reason = '{Reason.TOO_LONG}' WHERE reason IS NULL AND tokens > $1"
EXCLUDE_OVER_BUDGET = f"""
    UPDATE admission a SET reason = '{Reason.OVER_BUDGET}' FROM (
        SELECT karma, sum(tokens) OVER (ORDER BY created_at DESC, karma DESC) AS so_far FROM admission
        WHERE reason IS NULL AND side = 'train'
    ) counted WHERE counted.karma = a.karma AND counted.so_far > $1
"""
# The answer that a used correction rejects may be shown where its owner's consent and its content allow it.
NAME_REJECTED_ANSWERS = f"""
    UPDATE admission a SET rejected = p.karma FROM admission p
    WHERE p.karma = a.parent AND a.reason IS NULL AND a.side <> 'holdout' AND a.feedback IS DISTINCT FROM 'down'
        AND p.presentable AND coalesce(p.reason, '') NOT IN ('{Reason.REVOKED}', '{Reason.REPEATS_REVOKED}')
"""
# A record speaks for those that it is used in place of.
CREATE_CONTRADICTION = f"""
    CREATE TEMP TABLE contradicted AS
    WITH used AS (
        SELECT u.karma, coalesce(name, a.lesson) AS name
        FROM admission a LEFT JOIN cluster USING (lesson)
        JOIN admission u ON u.karma = CASE WHEN a.reason = '{Reason.CONTINUED}' THEN a.repeats ELSE a.karma END
        WHERE u.reason IS NULL
    ), pair AS (
        SELECT coalesce(c1.name, c.one) AS one, coalesce(c2.name, c.other) AS other FROM contradicting c
        LEFT JOIN cluster c1 ON c1.lesson = c.one LEFT JOIN cluster c2 ON c2.lesson = c.other
    )
    SELECT DISTINCT least(a.karma, b.karma) AS one, greatest(a.karma, b.karma) AS other
    FROM pair JOIN used a ON a.name = pair.one JOIN used b ON b.name = pair.other WHERE a.karma <> b.karma
"""

# Its label would say of an answer what another record contradicts.
EXCLUDE_DISLIKED_AND_CONTRADICTED = f"""
    UPDATE admission SET reason = '{Reason.DISLIKED}'
    WHERE reason IS NULL AND feedback = 'down' AND karma IN (SELECT unnest(ARRAY[one, other]) FROM contradicted)
"""


async def admit(conn: Connection, request: HarvestRequest) -> None:
    """Fill `admission` and `contradicted` from `scanned`, `near_lesson` and `contradicting`."""
    policy = request.policy
    await _assign_lineages(conn, request)
    await _find_circles(conn)
    await _create_admission(conn, request)
    await conn.execute(EXCLUDE_DUPLICATES)
    await _exclude_near_duplicates(conn)
    await conn.execute(EXCLUDE_BENCHMARK_ITEMS)
    await conn.execute(EXCLUDE_HOLDOUT_PASSAGES, policy.common_passage)
    await conn.execute(EXCLUDE_DISLIKED)
    await conn.execute(EXCLUDE_TOO_LONG, policy.lengths.row)
    await conn.execute(EXCLUDE_CONTINUED)
    await conn.execute(NAME_ANSWERS)
    await _exclude_beyond_shares(conn, policy.shares)
    if policy.lengths.budget:
        await conn.execute(EXCLUDE_OVER_BUDGET, policy.lengths.budget)
    await conn.execute(NAME_REJECTED_ANSWERS)
    await conn.execute(CREATE_CONTRADICTION)
    await conn.execute("CREATE INDEX ON contradicted (one); CREATE INDEX ON contradicted (other)")
    await conn.execute(EXCLUDE_DISLIKED_AND_CONTRADICTED)


async def _assign_lineages(conn: Connection, request: HarvestRequest) -> None:
    """Fill `lineage`: sessions that corrections and continued logs join are one lineage, and a lineage is on one side.

    Where the intent names the sources of dev, all of them are in it and no others: `dev_lineage`. What is sealed stays so.
    """
    split = request.policy.split
    if request.intent.dev_sources:
        split = split.model_copy(update={"dev": 0.0})
    links = await conn.fetch(LIST_LINKS)
    lineage_of = join_groups((one, other) for one, other in links)
    await conn.execute("CREATE TEMP TABLE lineage (session text NOT NULL, lineage text NOT NULL, side text NOT NULL)")
    cursor = await conn.cursor("SELECT DISTINCT session FROM scanned")
    while sessions := await cursor.fetch(BATCH):
        lineages = [(session, lineage_of.get(session, session)) for (session,) in sessions]
        rows = [(session, lineage, _side(request.persona, lineage, split)) for session, lineage in lineages]
        await conn.copy_records_to_table("lineage", records=rows)
    await conn.execute("ANALYZE lineage")
    await conn.execute(CREATE_DEV_LINEAGE, list(request.intent.dev_sources))
    await conn.execute("ANALYZE dev_lineage")


def _side(persona: str, lineage: str, split: SplitShares) -> Split:
    return split_of(lineage_place(split.key, persona, lineage), split.holdout, split.dev)


async def _find_circles(conn: Connection) -> None:
    """Fill `circle`: the records whose parents lead back to themselves."""
    await conn.execute(CREATE_CORRECTION)
    await conn.execute("ANALYZE correction")
    parents = dict(await conn.fetch(LIST_CHAINED))
    members = [(karma,) for circle in find_circles(parents) for karma in circle]
    await conn.execute("CREATE TEMP TABLE circle (karma text NOT NULL)")
    await conn.copy_records_to_table("circle", records=members)
    await conn.execute("ANALYZE circle")


async def _create_admission(conn: Connection, request: HarvestRequest) -> None:
    policy, intent = request.policy, request.intent
    await conn.execute("CREATE TEMP TABLE wanted (karma text NOT NULL)")
    await conn.copy_records_to_table("wanted", records=[(karma,) for karma in request.wanted or ()])
    await conn.execute("ANALYZE wanted")
    await conn.execute(CREATE_SEALED_LINEAGE, request.persona)
    await conn.execute("ANALYZE sealed_lineage")
    await conn.execute(
        CREATE_ADMISSION,
        request.persona,
        list(intent.kinds),
        intent.since,
        request.wanted is not None,
        list(policy.licences),
        intent.until,
        [*intent.sources, *intent.dev_sources] if intent.sources else [],
    )
    await conn.execute("ANALYZE admission")


async def _exclude_near_duplicates(conn: Connection) -> None:
    """Fill `cluster`, the lessons that nearly repeat one another, and keep one record of each cluster."""
    pairs = await conn.fetch("SELECT DISTINCT one, other FROM near_lesson")
    clusters: dict[bytes, bytes] = join_groups((one, other) for one, other in pairs)
    await conn.execute("CREATE TEMP TABLE cluster (lesson bytea NOT NULL, name bytea NOT NULL)")
    await conn.copy_records_to_table("cluster", records=clusters.items())
    await conn.execute("ANALYZE cluster")
    await conn.execute(EXCLUDE_NEAR_DUPLICATES)


async def _exclude_beyond_shares(conn: Connection, shares: Shares) -> None:
    rows = await conn.fetchval("SELECT count(*) FROM admission WHERE reason IS NULL AND side = 'train'")
    most = max(shares.session_floor, int(shares.session * rows))
    by_session = EXCLUDE_BEYOND_SHARE.format(column="session")
    await conn.execute(by_session, most, Reason.SESSION_SHARE, None, [])
    by_source = EXCLUDE_BEYOND_SHARE.format(column="source")
    for source, share in shares.sources.items():
        await conn.execute(by_source, int(share * rows), Reason.SOURCE_SHARE, [source], [])
    if shares.source < 1:
        await conn.execute(by_source, int(shares.source * rows), Reason.SOURCE_SHARE, None, list(shares.sources))
