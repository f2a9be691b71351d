"""Compile a manifest from the admitted records: write its files, count, describe, and publish it under its digest."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.harvester.manifest import store
from services.harvester.manifest.statistics import collect_statistics
from services.harvester.manifest.store import Side
from services.harvester.manifest.write import ManifestWriter
from services.harvester.split import Split
from shared.storage.artifacts import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.harvester.manifest.store import Counts
    from services.harvester.request import HarvestRequest
    from shared.storage.artifacts import Artifacts
    from shared.storage.postgres import Connection

FORMAT = 1
ASKED = {"kinds", "sources", "dev_sources", "since", "until", "query", "query_likeness"}  # what chooses records
SCRATCH = "harvest-"  # begins the name of a folder that is not finished


@dataclass(frozen=True)
class Compiled:
    """What a harvest found and wrote. Digests are of whole directories."""

    manifest: str
    holdout: str
    seen: int
    used: int
    redacted: int
    tokens: int  #: to train on, and to watch training by
    longest: tuple[int, int]  #: tokens of the longest row to train on, and those that 99 of 100 do not exceed
    rows: Counter[str]
    excluded: dict[str, int]
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: reason -> some ids, as a file may hold them
    sides: dict[Split, Side] = field(default_factory=dict)  #: of the used records
    signals: Counter[str] = field(default_factory=Counter)  #: training rows with a `why`, a thumb `up` or `down`


async def compile_manifest(
    conn: Connection, request: HarvestRequest, artifacts: Artifacts, on_progress: Callable[[int, int], None]
) -> Compiled:
    """Write the manifest and the holdout, in the transaction in which the records were admitted."""
    counts = await store.count(conn)
    scratch = artifacts.scratch() / f"{SCRATCH}{uuid4().hex}"
    try:
        with ManifestWriter(scratch, request.persona, request.policy.prompts) as writer:
            await _write_records(conn, writer, counts.used, on_progress)
            rows = await asyncio.to_thread(writer.finish)
            statistics = await collect_statistics(conn, counts, writer)
            facts = _facts(request, counts)
            holdout = writer.seal(facts)
            manifest = writer.describe(facts | {"holdout": holdout, "statistics": statistics})
        await asyncio.to_thread(publish, writer.open_folder, artifacts.manifest(manifest))
        await asyncio.to_thread(publish, writer.sealed_folder, artifacts.holdout(holdout))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tokens = sum(statistics["tokens"][str(side)] for side in (Split.TRAIN, Split.DEV))
    return Compiled(
        manifest,
        holdout,
        counts.seen,
        counts.used,
        counts.redacted,
        tokens,
        await store.get_longest(conn),
        rows,
        counts.excluded,
        await store.list_examples(conn),
        await store.count_sides(conn),
        signals=writer.signals,
    )


async def _write_records(
    conn: Connection, writer: ManifestWriter, total: int, on_progress: Callable[[int, int], None]
) -> None:
    done = 0
    async for records in store.list_used(conn):
        await asyncio.to_thread(writer.write, records)
        done += len(records)
        on_progress(done, total)


def _facts(request: HarvestRequest, counts: Counts) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "persona": request.persona,
        "policy": request.policy.model_dump(mode="json"),
        "asked": request.intent.model_dump(mode="json", include=ASKED),
        "seen": counts.seen,
        "used": counts.used,
        "excluded": counts.excluded,
    }


def sweep(artifacts: Artifacts) -> None:
    """Remove what a harvest that was killed left unfinished."""
    for path in artifacts.scratch().glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)
