"""Near duplicates by words: pairs that share a MinHash band, each verified by its exact Jaccard similarity.

No index serves this: one hash join per band reads every record's 16 numbers, and costs seconds for a million records
(docs/adr/0008-near-duplicates.md has the figures). All lists live in temporary tables, so memory stays flat.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from services.harvester.golden.join import GOLDEN, MESSAGES
from services.harvester.likeness import candidates
from services.harvester.likeness.minhash import jaccard, shingles
from services.harvester.reading.words import spoken

if TYPE_CHECKING:
    from services.harvester.likeness.policy import LikenessPolicy
    from shared.storage.postgres import Connection

ReadWords = Callable[["Connection", Sequence[str]], Awaitable[dict[str, list[str]]]]

PAGE = 1000  # pairs verified between two statements
REMEMBERED = 4000  # records whose shingles are kept at hand: some 40 MB of usual ones

_KEEP = """
    INSERT INTO near_duplicate (karma, other, persona, likeness, measure)
    SELECT karma, other, $1, likeness, 'minhash' FROM unnest($2::text[], $3::text[], $4::real[]) AS found (karma, other, likeness)
    ON CONFLICT DO NOTHING
"""


async def words_of_karma(conn: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """The words of records as they were read; ids that are gone are left out."""
    rows = await conn.fetch(
        f"SELECT k.id, {MESSAGES} AS messages FROM vectors.karma k {GOLDEN} WHERE k.id = ANY ($1)", ids
    )
    return {row["id"]: spoken(row["messages"]) for row in rows}


async def compare(conn: Connection, persona: str, policy: LikenessPolicy, read_words: ReadWords) -> int:
    """Compare every record that was not compared yet; how many there were."""
    if not policy.by_words:
        return 0
    try:
        if not (fresh := await candidates.gather(conn, persona)):
            return 0
        await candidates.forget(conn, persona)
        await _verify(conn, persona, policy.jaccard, read_words)
        await candidates.mark_compared(conn)
    finally:
        await candidates.drop(conn)
    return fresh


async def _verify(conn: Connection, persona: str, least: float, read_words: ReadWords) -> None:
    known: OrderedDict[str, frozenset[str]] = OrderedDict()
    after = 0
    while pairs := await candidates.page(conn, after, PAGE):
        after = pairs[-1].number
        await _remember(conn, known, {id for pair in pairs for id in (pair.karma, pair.other)}, read_words)
        alike = [(pair, jaccard(known[pair.karma], known[pair.other])) for pair in pairs]
        found = [(pair, likeness) for pair, likeness in alike if likeness >= least]
        await conn.execute(
            _KEEP,
            persona,
            [pair.karma for pair, _ in found],
            [pair.other for pair, _ in found],
            [likeness for _, likeness in found],
        )


async def _remember(
    conn: Connection, known: OrderedDict[str, frozenset[str]], ids: set[str], read_words: ReadWords
) -> None:
    """Have the shingles of `ids` at hand, and forget the longest unused of the others."""
    for id in ids & known.keys():
        known.move_to_end(id)
    if missing := sorted(ids - known.keys()):
        read = await read_words(conn, missing)
        known.update((id, frozenset(shingles(read.get(id, ())))) for id in missing)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
