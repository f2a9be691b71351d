"""How many records each session and source gives, and what was held back for being sensitive: kept, and brought forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.again.limits import TooMuch
from services.harvester.decide import most_of_session
from services.harvester.reasons import Reason

if TYPE_CHECKING:
    from services.harvester.policy import HarvestPolicy
    from services.harvester.statements import Step


def tallied(records: str, sign: int = 1) -> str:
    """`offered`: rows to train on before the shares are looked at; `used`: those in the end, or times something was found."""
    trained = f"{records} AS p WHERE side = 'train' AND (reason IS NULL OR reason = '{Reason.TOO_LONG}')"
    by = " UNION ALL ".join(
        f"SELECT '{column}' AS kind, {column} AS name, {sign} * count(*) AS offered, "
        f"{sign} * count(*) FILTER (WHERE reason IS NULL) AS used FROM {trained} GROUP BY {column}"
        for column in ("session", "source")
    )
    return (
        f"{by} UNION ALL SELECT 'found', found.key, 0, {sign} * sum(found.value::int) FROM {records} AS p "
        "CROSS JOIN LATERAL jsonb_each_text(p.found) AS found "
        f"WHERE p.reason IN ('{Reason.SECRET}', '{Reason.PERSONAL}') GROUP BY found.key"
    )


async def tally(step: Step) -> None:
    await step.run(
        "CREATE UNLOGGED TABLE {tally} AS SELECT kind, name, offered::bigint, used::bigint "
        f"FROM ({tallied('{decided}')}) AS t"
    )


async def bring_forward(step: Step, before: str, after: str) -> None:
    """By records as they were and as they are."""
    await step.run(
        "INSERT INTO {kept_tally} AS t (kind, name, offered, used) SELECT kind, name, sum(offered), sum(used) "
        f"FROM ({tallied(before, -1)} UNION ALL {tallied(after)}) AS moved GROUP BY kind, name "
        "HAVING sum(offered) <> 0 OR sum(used) <> 0 "
        "ON CONFLICT (kind, name) DO UPDATE SET offered = t.offered + excluded.offered, used = t.used + excluded.used"
    )


async def check_shares(step: Step, policy: HarvestPolicy) -> None:
    """Raises TooMuch where a session or source has more than its share: whose rows go then depends on all."""
    most = await step.conn.fetch(
        step.said(
            "SELECT kind, max(offered) AS largest, sum(offered)::bigint AS rows FROM {kept_tally} "
            "WHERE kind IN ('session', 'source') GROUP BY kind"
        )
    )
    rows = {row["kind"]: (row["largest"], row["rows"]) for row in most}
    largest, trained = rows.get("session", (0, 0))
    if largest > most_of_session(policy, trained):
        raise TooMuch("a session has more than its share")
    shares = policy.shares
    for row in await step.conn.fetch(step.said("SELECT name, offered FROM {kept_tally} WHERE kind = 'source'")):
        share = shares.sources.get(row["name"], shares.source)
        if share < 1 and row["offered"] > int(share * trained):
            raise TooMuch("a source has more than its share")
