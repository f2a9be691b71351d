"""Measures and prints: `python -m bench.harvest [quick] [rows …]`, by default 100000 and 1000000.

`quick` leaves out the harvests that look for near duplicates.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
from pgvector.asyncpg import register_vector

from bench.harvest.corpus import PERSONA, Corpus, load
from shared.storage.postgres import _teach_json
from tests.support.servers import house

EMBEDDED = 0.05  # share of the records that have an embedding
GROWTH = 0.01
HNSW = (
    "CREATE INDEX karma_minilm ON vectors.karma USING hnsw ((embedding::vector(384)) vector_cosine_ops) "
    "WHERE embedding_model = 'all-MiniLM-L6-v2'"
)


async def main(sizes: list[int], quick: bool) -> None:
    rows = [await measure(size, quick) for size in sizes]
    print()
    for row in rows:
        print(json.dumps(row))


async def measure(size: int, quick: bool) -> dict[str, Any]:
    async with house() as one:
        url = one.settings.database_url
        conn = await asyncpg.connect(url)
        try:
            await _teach_json(conn)
            await register_vector(conn)
            corpus = Corpus(1, EMBEDDED)
            say(f"{size} records: generating and loading")
            await conn.execute("DROP INDEX vectors.karma_minilm")
            await load(conn, corpus, 0, size)
            await conn.execute("SET maintenance_work_mem = '1GB'")
            began = monotonic()
            await conn.execute(HNSW)
            say(f"HNSW index over {EMBEDDED:.0%} of them: {monotonic() - began:.0f} s")
            await conn.execute("VACUUM ANALYZE vectors.karma")
            copy_s = await copied(conn)
            home = Path(tempfile.mkdtemp(dir=one.settings.home))
            first = await harvest(url, home, "quick")
            say(f"first harvest {first['wall_s']} s, COPY {copy_s:.1f} s; {first}")
            again = await harvest(url, home, "quick")
            await load(conn, corpus, size, size + int(size * GROWTH))
            grown = await harvest(url, home, "quick")
            say(f"after {GROWTH:.0%} more: {grown}")
            near = {} if quick else await near_duplicates(conn, url, home, corpus, size)
        finally:
            await conn.close()
    return {
        "rows": size,
        "copy_s": round(copy_s, 2),
        "first_s": first["wall_s"],
        "rows_per_s": round(size / first["wall_s"]),
        "ratio_to_copy": round(first["wall_s"] / copy_s, 2),
        "peak_mib": first["peak_mib"],
        "unchanged_s": again["wall_s"],
        "same_digest": again["manifest"] == first["manifest"],
        "grown_s": grown["wall_s"],
        "grown_to_first": round(grown["wall_s"] / first["wall_s"], 3),
        "grown_peak_mib": grown["peak_mib"],
        "cpu_s": first["cpu_s"],
        "grown_cpu_s": grown["cpu_s"],
        **near,
    }


async def near_duplicates(conn: Any, url: str, home: Path, corpus: Corpus, size: int) -> dict[str, Any]:
    """Of karma that has grown once: everything with near duplicates, and once more after it has grown again."""
    growth = int(size * GROWTH)
    whole = await harvest(url, home, "whole")
    say(f"everything read again, near duplicates looked for: {whole}")
    await load(conn, corpus, size + growth, size + 2 * growth)
    whole_grown = await harvest(url, home, "whole")
    say(f"after {GROWTH:.0%} more: {whole_grown}")
    return {
        "near_s": near_s(whole),
        "whole_s": whole["wall_s"],
        "whole_peak_mib": whole["peak_mib"],
        "whole_grown_near_s": near_s(whole_grown),
        "whole_grown_s": whole_grown["wall_s"],
        "whole_grown_to_whole": round(whole_grown["wall_s"] / whole["wall_s"], 3),
    }


def near_s(found: dict[str, Any]) -> float:
    """Seconds of the search for near duplicates."""
    phases: dict[str, float] = found["phases"]
    return round(phases["deciding"] - phases["comparing"], 1)


async def copied(conn: Any) -> float:
    """Seconds of PostgreSQL's own COPY of the columns that a harvest reads, the better of two."""

    async def drop(_: bytes) -> None:
        return

    times = []
    for _ in range(2):
        began = monotonic()
        await conn.copy_from_query(
            "SELECT id, persona, touched::text, created_at, status, session, parent, source, licence, kind, feedback, purposes, "
            "messages, tools, outcome FROM vectors.karma WHERE persona = $1",
            PERSONA,
            output=drop,
        )
        times.append(monotonic() - began)
    return min(times)


async def harvest(url: str, home: Path, what: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.harvest.once", url, str(home), what, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the harvest failed: exit {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:] if word.isdigit()]
    asyncio.run(main(sizes or [100_000, 1_000_000], "quick" in sys.argv))
