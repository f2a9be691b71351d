"""Compile a manifest: decide, write the segments that are new, and join all of them by name.

The manifest directory (train, dev, pairs, labels) and the holdout directory are separate places: the trainer is never
given the latter. Both depend on the karma and the policy alone: the same at the same mark, byte for byte.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from services.harvester import store
from services.harvester.again import kept
from services.harvester.again.decide import decided
from services.harvester.again.kept import Decision
from services.harvester.again.tallies import tally
from services.harvester.decide import decide
from services.harvester.manifest.rows import File
from services.harvester.manifest.segments import SCRATCH, KnownSegment, Written, shard
from services.harvester.manifest.statistics import counted, statistics
from services.harvester.manifest.write import Job, write_segments
from services.harvester.redaction.scanner import VERSION
from services.harvester.split import Split
from services.harvester.statements import Step
from shared.storage.artifacts import publish
from shared.storage.digests import digest_file, digest_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.harvester.policy import HarvestPolicy
    from shared.storage.artifacts import Artifacts
    from shared.storage.postgres import Pool

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass
class Compiled:
    """What a harvest found and wrote. Digests are of whole directories."""

    manifest: str = ""
    holdout: str = ""
    seen: int = 0
    used: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    redacted: int = 0
    segments: list[str] = field(default_factory=list)
    written: int = 0  #: segments that were not known before
    decision: Decision | None = None


async def compile_manifest(pool: Pool, job: Job, table: str, heard: Callable[[int, int], Any]) -> Compiled:
    """Write the manifest and the holdout of a persona. Raises ChangedMeanwhile."""
    salt = segment_salt(job.order.policy)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read"):
        decision = await decided(conn, job, table, salt, decide)
    table = decision.table
    if decision.anew:
        await _summed(pool, decision, salt)
        await kept.keep(pool, job.order.persona, decision)
    counts = await counted(pool, table)
    async with pool.acquire() as conn:
        stretches = await store.placed_segments(conn, table)
        known = await store.known_segments(conn, [stretch["key"] for stretch in stretches])
    fresh = [stretch for stretch in stretches if not _lies_ready(job.artifacts, known.get(stretch["key"]))]
    await write_segments(pool, job, table, fresh, heard)
    async with pool.acquire() as conn:
        known |= await store.known_segments(conn, [stretch["key"] for stretch in fresh])
    compiled = Compiled(segments=[stretch["key"] for stretch in stretches], written=len(fresh), decision=decision)
    compiled.seen = sum(stretch["seen"] for stretch in stretches)
    ordered = [known[key] for key in compiled.segments]
    _count(compiled, ordered)
    numbers = statistics(counts, ordered, stretches)
    await asyncio.to_thread(_join, job, compiled, ordered, numbers)
    return compiled


async def _summed(pool: Pool, decision: Decision, salt: str) -> None:
    """Side by side: PostgreSQL does each of them in one process."""
    placing = asyncio.create_task(_placed(pool, decision, salt))
    try:
        await _tallied(pool, decision)
        await placing
    finally:
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)


async def _placed(pool: Pool, decision: Decision, salt: str) -> None:
    async with pool.acquire() as conn:
        await store.place_segments(conn, decision.table, salt)
        if decision.mark:
            await kept.index_records(conn, decision.table)


async def _tallied(pool: Pool, decision: Decision) -> None:
    async with pool.acquire() as conn:
        await tally(Step(conn, decision.table))
        if decision.mark:
            await kept.index_others(conn, decision.table)


def segment_salt(policy: HarvestPolicy) -> str:
    """Segments of other forms or prompts are other segments, and so are those that another scanner has redacted."""
    return f"{FORMAT} {VERSION} {policy.prompts.model_dump_json()} {policy.redaction.model_dump_json()}"


def _lies_ready(artifacts: Artifacts, segment: KnownSegment | None) -> bool:
    return segment is not None and all(shard(artifacts, segment.key, File(name)).is_file() for name in segment.files)


def _count(compiled: Compiled, segments: list[KnownSegment]) -> None:
    for segment in segments:
        for name, written in segment.files.items():
            compiled.rows[name] += written.rows
        compiled.excluded.update(segment.excluded)
        compiled.tokens += sum(segment.statistics.get("tokens", {}).get(split, 0) for split in (Split.TRAIN, Split.DEV))
        compiled.redacted += segment.statistics.get("records", {}).get("redacted", 0)
    compiled.used = compiled.seen - sum(compiled.excluded.values())


def _join(job: Job, compiled: Compiled, segments: list[KnownSegment], numbers: dict[str, Any]) -> None:
    """Put the directories together from the files of their segments, and say by digest what they hold."""
    scratch = job.artifacts.scratch() / f"{SCRATCH}{uuid4().hex}"
    said = {
        "format": FORMAT,
        "persona": job.order.persona,
        "policy": job.order.policy.model_dump(mode="json"),
        "asked": job.order.intent.model_dump(
            mode="json", include={"kinds", "since", "until", "query", "query_likeness"}
        ),
        "seen": compiled.seen,
        "used": compiled.used,
        "excluded": dict(sorted(compiled.excluded.items())),
    }
    try:
        sealed = _lay(job.artifacts, scratch / "holdout", segments, (File.HOLDOUT,))
        compiled.holdout = _name(scratch / "holdout", sealed, said)
        files = _lay(job.artifacts, scratch / "manifest", segments, tuple(set(File) - {File.HOLDOUT}))
        compiled.manifest = _name(
            scratch / "manifest", files, said | {"holdout": compiled.holdout, "statistics": numbers}
        )
        publish(scratch / "manifest", job.artifacts.manifest(compiled.manifest))
        publish(scratch / "holdout", job.artifacts.holdout(compiled.holdout))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lay(
    artifacts: Artifacts, folder: Path, segments: list[KnownSegment], wanted: tuple[File, ...]
) -> dict[str, Written]:
    folder.mkdir(parents=True, mode=0o700)
    laid: dict[str, Written] = {}
    for file in sorted(wanted):
        holding = [segment for segment in segments if file in segment.files]
        for place, segment in enumerate(holding):
            name = f"{file}/{place:05d}.jsonl"
            (folder / name).parent.mkdir(exist_ok=True)
            _link(shard(artifacts, segment.key, file), folder / name)
            laid[name] = segment.files[file]
    return laid


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _name(folder: Path, files: dict[str, Written], said: dict[str, Any]) -> str:
    """Write the manifest's own file and return the digest of the directory."""
    values = said | {"files": {name: vars(written) for name, written in sorted(files.items())}}
    text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (folder / MANIFEST).write_bytes(text)
    digests = {name: written.digest for name, written in files.items()}
    return digest_files({**digests, MANIFEST: digest_file(folder / MANIFEST)})
