"""Decisions of a test: made from what is kept, and held against those that are made about everything."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from services.harvester.again import kept
from services.harvester.again.kept import Decision
from services.harvester.manifest.compile import Compiled
from services.harvester.reading import reader
from shared.storage.postgres import Pool
from tests.support.harvests import harvested

#: Of all records: what decisions say of them, and of all of them.
STATE = (
    "SELECT p.karma, p.lineage, p.side, p.reason, p.content, p.rejected, p.created_at, p.touched, p.found, p.shown, p.grams, "
    "c.karma AS segment FROM {table} p LEFT JOIN {table}_cut c USING (place) ORDER BY p.karma"
)
OTHERS = (
    "SELECT kind, name, offered, used FROM {table}_tally WHERE offered <> 0 OR used <> 0 ORDER BY kind, name",
    "SELECT session, lineage, place FROM {table}_joined ORDER BY session",
    "SELECT text, name FROM {table}_cluster ORDER BY text",
    "SELECT karma, lineage, gram FROM {table}_shared_gram ORDER BY karma, gram",
    "SELECT s.key, s.seen, s.first_at, s.last_at FROM {table}_stretch s ORDER BY 1",
)


def cut_short(patch: pytest.MonkeyPatch, records: int) -> None:
    """Segments of so many records on average, in this process."""
    patch.setattr(
        reader, "_begins_segment", lambda karma: int.from_bytes(blake2b(karma, digest_size=8).digest()) % records == 0
    )


async def everything(pool: Pool, table: str) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in await pool.fetch(sql.format(table=table))] for sql in (STATE, *OTHERS)]


async def decided_anew(pool: Pool, home: Path, **values: Any) -> tuple[Compiled, str | None, list[Any]]:
    """A harvest that knows of no kept decision and keeps none, and what it decided."""
    found: list[Any] = []

    async def look(pool: Pool, _: str, decision: Decision) -> None:
        found.extend(await everything(pool, decision.table))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "key", lambda *_: None)
        patch.setattr(kept, "keep", look)
        return *await harvested(pool, home, **values), found


async def same(pool: Pool, folder: Path, **values: Any) -> Compiled:
    """Harvest anew, then from what is kept where it is, both from the same state: both give the same."""
    sealed = await pool.fetch("SELECT persona, karma FROM sealed")
    expected, missing, state = await decided_anew(pool, folder / "anew", **values)
    await pool.execute("TRUNCATE sealed, segment CASCADE")
    await pool.executemany("INSERT INTO sealed (persona, karma) VALUES ($1, $2)", [tuple(row) for row in sealed])

    found, said = await harvested(pool, folder / "again", **values)

    assert found.decision
    if found.decision.mark:
        for one, other in zip(await everything(pool, found.decision.table), state, strict=True):
            assert one == other
    assert (found.manifest, found.holdout, said) == (expected.manifest, expected.holdout, missing)
    assert (found.seen, found.used, found.excluded) == (expected.seen, expected.used, expected.excluded)
    return found


async def goes_on(pool: Pool, folder: Path, **values: Any) -> Compiled:
    """The same, and the kept decision is what it was made from."""
    found = await same(pool, folder, **values)
    assert found.decision and not found.decision.anew
    return found


async def reason(pool: Pool, found: Compiled, karma: str) -> str | None:
    """Why this record was left out."""
    assert found.decision
    row = await pool.fetchrow(f"SELECT reason FROM {found.decision.table} WHERE karma = $1", karma)
    assert row, f"{karma} was not decided about"
    said: str | None = row["reason"]
    return said
