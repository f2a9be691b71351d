"""What changed since the kept decision, and whose lineage, side or own reasons that can change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.again.limits import TooMuch, mind
from services.harvester.decide import join_sessions
from services.harvester.reasons import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from services.harvester.again.kept import Mark
    from services.harvester.policy import HarvestPolicy
    from services.harvester.statements import Step


async def changed(step: Step, persona: str, mark: Mark) -> int:
    """`changed`, what was read or revoked since, as it was and as it is; how many records there are now."""
    records = await _fresh(step, persona, mark)
    added = await step.value(
        "SELECT count(*) FROM {fresh} f WHERE NOT EXISTS (SELECT FROM {kept} k WHERE k.karma = f.karma)"
    )
    if records != mark.records + added:
        raise TooMuch("records are gone")
    await step.run(
        f"""
        CREATE UNLOGGED TABLE {{changed}} AS
            SELECT karma, text, session FROM {{fresh}}
            UNION ALL
            SELECT k.karma, k.text, k.session FROM {{kept}} k JOIN {{fresh}} f ON f.karma = k.karma
            UNION ALL
            SELECT k.karma, k.text, k.session FROM {{kept}} k JOIN revocation v ON v.karma = k.karma
            WHERE k.reason IS DISTINCT FROM '{Reason.REVOKED}'
        """
    )
    await step.run("ANALYZE {changed}")
    return records


async def _fresh(step: Step, persona: str, mark: Mark) -> int:
    """`fresh`, what was read since; how many records there are: both by one look at all of them."""
    await step.run(
        "CREATE UNLOGGED TABLE {seen} AS SELECT count(*) AS records, array_agg(ctid) FILTER (WHERE read_in >= $2) AS fresh "
        "FROM reading WHERE persona = $1",
        persona,
        mark.read_in,
    )
    await step.run(
        "CREATE UNLOGGED TABLE {fresh} AS SELECT r.karma, r.text, r.session FROM reading r "
        "WHERE r.ctid = ANY ((SELECT fresh FROM {seen})::tid[]) "
        "AND NOT EXISTS (SELECT FROM {kept} k WHERE k.karma = r.karma AND k.read_in = r.read_in)"
    )
    await step.run("ANALYZE {fresh}")
    await mind(step, "fresh", mark.records)
    return int(await step.value("SELECT records FROM {seen}"))


async def cuts(step: Step) -> list[int]:
    """Enter the new cuts, and move the records behind them to the new segments; which segments that concerns."""
    moved = await step.value(
        "SELECT EXISTS (SELECT FROM {changed} f JOIN {kept_cut} c ON c.karma = f.karma JOIN reading r ON r.karma = c.karma "
        "WHERE r.created_at <> c.created_at)"
    )
    if moved:
        raise TooMuch("a record at which a segment began has another time")
    added = await step.conn.fetch(
        step.said(
            "SELECT r.created_at, r.karma FROM {changed} f JOIN reading r ON r.karma = f.karma "
            "WHERE r.cut AND NOT EXISTS (SELECT FROM {kept_cut} c WHERE c.karma = f.karma) ORDER BY 1, 2"
        )
    )
    return [place for cut in added for place in await _cut(step, cut["created_at"], cut["karma"])]


async def _cut(step: Step, created_at: datetime, karma: str) -> tuple[int, int]:
    """Cut the segment that this record falls into in two."""
    cut = "(SELECT $1::timestamptz AS created_at, $2::text AS karma) AS cut"
    old = await step.value(f"SELECT {place('cut')} FROM {cut}", created_at, karma)
    new = await step.value(
        "INSERT INTO {kept_cut} (created_at, karma, place) SELECT $1, $2, coalesce(max(place), 0) + 1 FROM {kept_cut} "
        "RETURNING place",
        created_at,
        karma,
    )
    await step.run(
        "UPDATE {kept} SET place = $3 WHERE place = $4 AND (created_at, karma) > ($1, $2)", created_at, karma, new, old
    )
    return old, new


def place(record: str) -> str:
    """The segment of a record: that of the last cut before it."""
    return (
        f"coalesce((SELECT c.place FROM {{kept_cut}} c WHERE (c.created_at, c.karma) <= ({record}.created_at, {record}.karma) "
        "ORDER BY c.created_at DESC, c.karma DESC LIMIT 1), 0)"
    )


async def affected(step: Step, persona: str, policy: HarvestPolicy, records: int) -> None:
    """`affected`, whose own state is to be found anew, and `sealed_lineage`, which of their lineages are held out.

    Those are what changed, what has the words of a record that changed (it may repeat a revoked one), and all sessions
    of lineages that gained or lost a record or a session: among them is what a changed record corrects or corrected.
    """
    await join_sessions(step, persona, policy)
    await step.run(
        """
        CREATE UNLOGGED TABLE {touched_session} AS
        WITH moved AS (
            SELECT session, o.lineage AS old, n.lineage AS new FROM {kept_joined} o FULL JOIN {joined} n USING (session)
            WHERE o.lineage IS DISTINCT FROM n.lineage
        ), touched AS (
            SELECT coalesce(new, session) AS lineage FROM moved UNION SELECT coalesce(old, session) FROM moved
            UNION SELECT coalesce(j.lineage, c.session) FROM {changed} c LEFT JOIN {joined} j USING (session)
        )
        SELECT session FROM {joined} WHERE lineage IN (SELECT lineage FROM touched)
        UNION SELECT lineage FROM touched WHERE lineage NOT IN (SELECT session FROM {joined})
        """
    )
    await step.run("ANALYZE {touched_session}")
    # `held`, the lineage of one that is held out and whose lineage is what it was.
    await step.run(
        """
        CREATE UNLOGGED TABLE {affected} AS
        SELECT karma, max(held) AS held FROM (
            SELECT karma, NULL AS held FROM {changed}
            UNION ALL
            SELECT karma, CASE WHEN side = 'holdout' AND session NOT IN (SELECT session FROM {touched_session}) THEN lineage END
            FROM {kept} WHERE text IN (SELECT text FROM {changed}) OR session IN (SELECT session FROM {touched_session})
        ) AS found GROUP BY karma
        """
    )
    await step.run("ANALYZE {affected}")
    await mind(step, "affected", records)
    await step.run(
        """
        CREATE UNLOGGED TABLE {sealed_lineage} AS
        SELECT coalesce(j.lineage, r.session) AS lineage FROM {affected} a JOIN reading r ON r.karma = a.karma
        JOIN sealed s ON s.persona = $1 AND s.karma = r.karma LEFT JOIN {joined} j ON j.session = r.session
        WHERE r.session IN (SELECT session FROM {touched_session})
        UNION
        SELECT held FROM {affected} WHERE held IS NOT NULL
        """,
        persona,
    )
    await step.run("ANALYZE {sealed_lineage}")
