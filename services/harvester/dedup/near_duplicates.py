"""Find the texts that nearly repeat one another, into the temporary table `near_text`.

By words: pairs that share a MinHash band, each verified by its exact Jaccard similarity. By meaning: of each embedded
record the nearest others by cosine. A pair speaks for all records of its two texts; records of equal text are no pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.dedup import store
from services.harvester.scan.minhash import BANDS, jaccard, shingles

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.harvester.policy import LikenessPolicy
    from shared.storage.postgres import Connection

    OnProgress = Callable[[int, int], None]


async def find_near_duplicates(conn: Connection, persona: str, policy: LikenessPolicy, on_progress: OnProgress) -> None:
    """Compare all scanned records that their content does not keep out, in the caller's transaction."""
    await store.create_near_text(conn)
    if policy.by_words:
        await _compare_words(conn, policy.jaccard, on_progress)
    if policy.by_meaning:
        await _compare_meanings(conn, persona, policy.cosine, on_progress)


async def _compare_words(conn: Connection, least: float, on_progress: OnProgress) -> None:
    await store.create_candidates(conn)
    for band in range(1, BANDS + 1):
        await store.add_candidates(conn, band)
        on_progress(band, BANDS)
    total = await store.order_candidates(conn)
    done = 0
    async for pairs in store.list_candidates(conn):
        words = await store.get_words(conn, {karma for pair in pairs for karma in (pair.one, pair.other)})
        shingled = {karma: frozenset(shingles(some)) for karma, some in words.items()}
        near = [pair for pair in pairs if jaccard(shingled[pair.one], shingled[pair.other]) >= least]
        await store.insert_near(conn, near)
        done += len(pairs)
        on_progress(done, total)


async def _compare_meanings(conn: Connection, persona: str, least: float, on_progress: OnProgress) -> None:
    total = await store.count_embedded(conn)
    done = 0
    async for ids in store.list_embedded(conn):
        await store.insert_near_meanings(conn, persona, ids, least)
        done += len(ids)
        on_progress(done, total)
