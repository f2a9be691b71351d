"""Bring the kept decision forward: the records that are decided otherwise, and the segments that they stand in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester import store
from services.harvester.again.stages import COLUMNS
from services.harvester.again.tallies import bring_forward

if TYPE_CHECKING:
    from services.harvester.statements import Step

_SAID = [name for name in COLUMNS if name != "sealed"]  # who is sealed is looked up where it matters


async def apply(step: Step, salt: str, split: list[int]) -> list[int]:
    """The segments that changed, those among them that were `split`."""
    new, old = (", ".join(f"{row}.{name}" for name in _SAID) for row in "wk")
    await step.run(
        "CREATE UNLOGGED TABLE {differing} AS SELECT w.karma FROM {decided} w LEFT JOIN {kept} k ON k.karma = w.karma "
        f"WHERE ({new}) IS DISTINCT FROM ({old})"
    )
    await step.run("ANALYZE {differing}")
    await step.run(
        f"CREATE UNLOGGED TABLE {{dirty}} AS SELECT place FROM {_among('decided')} AS new "
        f"UNION SELECT place FROM {_among('kept')} AS old UNION SELECT unnest($1::int[])",
        split,
    )
    await bring_forward(step, _among("kept"), _among("decided"))
    await step.run("DELETE FROM {kept} WHERE karma IN (SELECT karma FROM {differing})")
    columns = ", ".join(COLUMNS)
    await step.run(f"INSERT INTO {{kept}} ({columns}) SELECT {columns} FROM {_among('decided')} AS new")
    for name in ("joined", "cluster"):
        await step.run(f"TRUNCATE {{kept_{name}}}")
        await step.run(f"INSERT INTO {{kept_{name}}} SELECT * FROM {{{name}}}")
    places = [row["place"] for row in await step.conn.fetch(step.said("SELECT place FROM {dirty}"))]
    await store.place_again(step.conn, step.kept, salt, places)
    return places


def _among(table: str) -> str:
    return f"(SELECT r.* FROM {{differing}} d JOIN {{{table}}} r ON r.karma = d.karma)"
