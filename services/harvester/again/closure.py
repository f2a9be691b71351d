"""What changed since the kept decision, and whose lineage, side or own reasons that can change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.again.limits import TooMuch, mind
from services.harvester.decide import join_sessions
from services.harvester.reasons import Reason

if TYPE_CHECKING:
    from services.harvester.again.kept import Mark
    from services.harvester.policy import HarvestPolicy
    from services.harvester.statements import Step
    from shared.postgres import Connection


async def strays(conn: Connection, persona: str) -> bool:
    """Whether a sealed record has gone over to another persona: its changes are not looked for."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM sealed s JOIN reading r ON r.karma = s.karma "
            "WHERE s.persona = $1 AND r.persona <> $1)",
            persona,
        )
    )


async def changed(step: Step, persona: str, mark: Mark) -> int:
    """`changed`, what was read or revoked since, as it was and as it is; how many records there are now."""
    await step.run(
        "CREATE UNLOGGED TABLE {fresh} AS "
        "SELECT r.karma, r.persona, r.created_at, r.cut, r.text, r.session, r.parent FROM reading r WHERE r.read_in >= $1 "
        "AND NOT EXISTS (SELECT FROM {kept} k WHERE k.karma = r.karma AND k.read_in = r.read_in)",
        mark.read_in,
    )
    await step.run("ANALYZE {fresh}")
    await mind(step, "fresh", mark.records)
    row = await step.conn.fetchrow(
        step.said(
            "SELECT (SELECT count(*) FROM reading WHERE persona = $1) AS records, "
            "(SELECT count(*) FROM {fresh} f WHERE f.persona = $1 "
            " AND NOT EXISTS (SELECT FROM {kept} k WHERE k.karma = f.karma)) AS added, "
            "EXISTS (SELECT FROM {fresh} f JOIN sealed s ON s.karma = f.karma WHERE s.persona = $1 AND f.persona <> $1) AS strays"
        ),
        persona,
    )
    assert row
    if row["records"] != mark.records + row["added"] or row["strays"]:
        raise TooMuch("records are gone")
    await step.run(
        f"""
        CREATE UNLOGGED TABLE {{changed}} AS
            SELECT karma, text, session, parent FROM {{fresh}} WHERE persona = $1
            UNION ALL
            SELECT k.karma, k.text, k.session, k.parent FROM {{kept}} k JOIN {{fresh}} f ON f.karma = k.karma
            UNION ALL
            SELECT k.karma, k.text, k.session, k.parent FROM {{kept}} k JOIN revocation v ON v.karma = k.karma
            WHERE k.reason IS DISTINCT FROM '{Reason.REVOKED}'
        """,
        persona,
    )
    await step.run("ANALYZE {changed}")
    return int(row["records"])


async def cuts(step: Step) -> list[int]:
    """Enter the new cuts, and move the records behind them to the new segments; which segments that concerns."""
    moved = await step.value(
        "SELECT EXISTS (SELECT FROM {changed} f JOIN {kept_cut} c ON c.karma = f.karma JOIN reading r ON r.karma = c.karma "
        "WHERE r.created_at <> c.created_at)"
    )
    if moved:
        raise TooMuch("a record at which a segment began has another time")
    added = await step.run(
        "INSERT INTO {kept_cut} (created_at, karma, place) "
        "SELECT r.created_at, r.karma, (SELECT coalesce(max(place), 0) FROM {kept_cut}) "
        "+ row_number() OVER (ORDER BY r.created_at, r.karma) "
        "FROM {changed} f JOIN reading r ON r.karma = f.karma WHERE r.cut AND NOT EXISTS (SELECT FROM {kept_cut} c WHERE c.karma = f.karma)"
    )
    if not added:
        return []
    # The first of them apart: to look for the segment of every record would take long.
    first_at = await step.value(
        "SELECT min(r.created_at) FROM {changed} f JOIN reading r ON r.karma = f.karma WHERE r.cut"
    )
    rows = await step.conn.fetch(
        step.said(
            f"""
            WITH behind AS MATERIALIZED (
                SELECT k.karma, k.place AS old, {place("k")} AS new FROM {{kept}} k WHERE k.created_at >= $1
            ), moved AS (
                UPDATE {{kept}} k SET place = b.new FROM behind b WHERE b.karma = k.karma AND b.new <> b.old
                RETURNING b.old, b.new
            ) SELECT old AS place FROM moved UNION SELECT new FROM moved
            """
        ),
        first_at,
    )
    return [row["place"] for row in rows]


def place(record: str) -> str:
    """The segment of a record: that of the last cut before it."""
    return (
        f"coalesce((SELECT c.place FROM {{kept_cut}} c WHERE (c.created_at, c.karma) <= ({record}.created_at, {record}.karma) "
        "ORDER BY c.created_at DESC, c.karma DESC LIMIT 1), 0)"
    )


async def affected(step: Step, persona: str, policy: HarvestPolicy, records: int) -> None:
    """`affected`, whose own state is to be found anew, and `sealed_lineage`, which of their lineages are held out.

    Those are what changed, what has the words of a record that changed (it may repeat a revoked one), what a changed
    record corrects or corrected, and all sessions of lineages that gained or lost a record or a session.
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
    await step.run(
        """
        CREATE UNLOGGED TABLE {affected} AS SELECT karma FROM {changed} UNION SELECT karma FROM {kept}
        WHERE text IN (SELECT text FROM {changed}) OR session IN (SELECT session FROM {touched_session})
            OR karma IN (SELECT parent FROM {changed} WHERE parent IS NOT NULL)
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
        SELECT k.lineage FROM {affected} a JOIN {kept} k ON k.karma = a.karma
        WHERE k.side = 'holdout' AND k.session NOT IN (SELECT session FROM {touched_session})
        """,
        persona,
    )
