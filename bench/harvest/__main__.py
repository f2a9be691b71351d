"""Measure and print: `python -m bench.harvest [rows …]`, by default 100000 and 1000000. Fails where a bar is missed."""

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

from bench.harvest.corpus import Corpus, load
from shared.storage.postgres import _teach_json
from tests.support.servers import house

EMBEDDED = 0.05  # share of the records that have an embedding
SECONDS = {100_000: 360.0}  # rows -> the longest that their harvest may take
MOST_MIB = 400  # peak resident memory of all harvester processes
HNSW = (
    "CREATE INDEX karma_minilm ON vectors.karma USING hnsw ((embedding::vector(384)) vector_cosine_ops) "
    "WHERE embedding_model = 'all-MiniLM-L6-v2'"
)


async def main(sizes: list[int]) -> int:
    rows = [await measure(size) for size in sizes]
    print()
    for row in rows:
        print(json.dumps(row))
    missed = [problem for row in rows for problem in missed_bars(row)]
    print("\n".join(missed) or "all bars are kept")
    return 1 if missed else 0


def missed_bars(row: dict[str, Any]) -> list[str]:
    most_s, size = SECONDS.get(row["rows"], float("inf")), row["rows"]
    problems = []
    if row["wall_s"] > most_s:
        problems.append(f"{size} records took {row['wall_s']} s, at most {most_s:.0f} s are allowed")
    if row["peak_mib"] > MOST_MIB:
        problems.append(f"{size} records took {row['peak_mib']} MiB, at most {MOST_MIB} MiB are allowed")
    if not row["same_digest"]:
        problems.append(f"{size} records gave another digest at the second harvest")
    return problems


async def measure(size: int) -> dict[str, Any]:
    async with house() as one:
        url = one.settings.database_url("bootstrap")
        conn = await asyncpg.connect(url)
        try:
            await _teach_json(conn)
            await register_vector(conn)
            report(f"{size} records: generating and loading")
            await conn.execute("DROP INDEX vectors.karma_minilm")
            await load(conn, Corpus(1, EMBEDDED), 0, size)
            await conn.execute("SET maintenance_work_mem = '1GB'")
            began = monotonic()
            await conn.execute(HNSW)
            report(f"HNSW index over {EMBEDDED:.0%} of them: {monotonic() - began:.0f} s")
            await conn.execute("VACUUM ANALYZE vectors.karma")
        finally:
            await conn.close()
        home = Path(tempfile.mkdtemp(dir=one.settings.home))
        first = await harvest(url, home)
        report(f"first harvest: {first}")
        again = await harvest(url, home)
    return {
        "rows": size,
        "wall_s": first["wall_s"],
        "rows_per_s": round(size / first["wall_s"]),
        "cpu_s": first["cpu_s"],
        "peak_mib": max(first["peak_mib"], again["peak_mib"]),
        "again_s": again["wall_s"],
        "same_digest": again["manifest"] == first["manifest"],
        "phases": first["phases"],
    }


async def harvest(url: str, home: Path) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.harvest.once", url, str(home), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the harvest failed: exit {process.returncode}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def report(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main([int(word) for word in sys.argv[1:]] or [100_000, 1_000_000])))
