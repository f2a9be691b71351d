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
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
from orjson import Fragment

from services.harvester import store
from services.harvester.decide import decide
from services.harvester.manifest.rows import File, Used, needs_messages
from services.harvester.manifest.segments import KnownSegment, SegmentWriter, Written, shard
from services.harvester.split import Split
from shared.artifacts import publish
from shared.digests import digest_file, digest_files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from services.harvester.policy import HarvestPolicy
    from services.harvester.reading.reader import Reader
    from shared.artifacts import Artifacts
    from shared.contracts.intent import TrainingIntent
    from shared.postgres import Connection

FORMAT = 2
BATCH = 1000
TOP = 10
MANIFEST = "manifest.json"
SIDES = {str(side): side for side in Split}


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


@dataclass(frozen=True)
class Job:
    """What a manifest is compiled from."""

    persona: str
    intent: TrainingIntent
    policy: HarvestPolicy
    wanted: Sequence[str] | None
    reader: Reader
    artifacts: Artifacts


async def compile_manifest(conn: Connection, job: Job, heard: Callable[[int, int], Any]) -> Compiled:
    """Write the manifest and the holdout of a persona; needs an open REPEATABLE READ transaction."""
    await decide(conn, job.persona, job.policy, job.intent, job.wanted)
    stretches = await store.place_segments(conn, segment_salt(job.policy))
    known = await store.known_segments(conn, [stretch["key"] for stretch in stretches])
    fresh = [stretch for stretch in stretches if not _lies_ready(job.artifacts, known.get(stretch["key"]))]
    await _write(conn, job, fresh, heard)
    segments = await store.known_segments(conn, [stretch["key"] for stretch in stretches])
    compiled = Compiled(segments=[stretch["key"] for stretch in stretches], written=len(fresh))
    compiled.seen = sum(stretch["seen"] for stretch in stretches)
    ordered = [segments[key] for key in compiled.segments]
    _count(compiled, ordered)
    await asyncio.to_thread(_join, job, compiled, ordered, await _statistics(conn, ordered, stretches))
    return compiled


def segment_salt(policy: HarvestPolicy) -> str:
    """Segments of other forms or prompts are other segments."""
    return f"{FORMAT} {policy.prompts.model_dump_json()} {policy.redaction.model_dump_json()}"


def _lies_ready(artifacts: Artifacts, segment: KnownSegment | None) -> bool:
    return segment is not None and all(shard(artifacts, segment.key, File(name)).is_file() for name in segment.files)


async def _write(conn: Connection, job: Job, fresh: list[dict[str, Any]], heard: Callable[[int, int], Any]) -> None:
    total = sum(stretch["seen"] for stretch in fresh)
    done = 0
    await store.look_up_one_by_one(conn)
    for stretch in fresh:
        writer = SegmentWriter(job.artifacts, stretch["key"], job.persona, job.policy.prompts)
        try:
            async for records, rejected in _ahead(_records(conn, stretch["place"])):
                await asyncio.to_thread(_fill, writer, job, records, rejected)
                done += len(records)
                heard(done, total)
            segment = await asyncio.to_thread(writer.finish)
        finally:
            writer.discard()
        await store.keep_segment(conn, job.persona, segment, stretch["first_at"], stretch["last_at"])


Batch = tuple[list[Any], dict[str, dict[str, Any]]]


async def _records(conn: Connection, place: int) -> AsyncIterator[Batch]:
    """The records of a segment, and the answers that some of them correct."""
    cursor = await store.segment_records(conn, place)
    while records := await cursor.fetch(BATCH):
        yield records, await store.contents(conn, [record["parent"] for record in records if record["rejected"]])


async def _ahead(batches: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
    """The same batches, the next one being fetched while one is worked on."""
    coming = asyncio.ensure_future(anext(batches, None))
    try:
        while (batch := await coming) is not None:
            coming = asyncio.ensure_future(anext(batches, None))
            yield batch
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _fill(writer: SegmentWriter, job: Job, records: list[Any], rejected: dict[str, dict[str, Any]]) -> None:
    for record in records:
        if record["reason"] is not None:
            writer.exclude(record["karma"], record["reason"])
            continue
        parent = rejected.get(record["parent"]) if record["rejected"] else None
        writer.use(
            _used(job, record, parent),
            source=record["source"],
            kind=record["kind"],
            tokens=record["tokens"],
            found=record["found"],
        )
        if parent:
            writer.mention(record["parent"])


def _used(job: Job, record: Any, parent: dict[str, Any] | None) -> Used:
    side = SIDES[record["side"]]
    taken_apart = needs_messages(record["karma"], side, record["feedback"], parent is not None, job.policy.prompts)
    messages, tools = _content(job.reader, record, taken_apart)
    checks = Fragment(record["checks"] or "[]")
    answer = _content(job.reader, parent, True)[0] if parent else None
    return Used(
        record["karma"],
        record["session"],
        side,
        record["feedback"],
        record["has_prompt"],
        messages,
        tools,
        checks,
        answer,
    )


def _content(reader: Reader, record: Any, taken_apart: bool) -> tuple[Any, Any]:
    """Messages and tools as they may be written; taken apart only where something must be done with them."""
    if record["redacted"]:
        return reader.cleaned(orjson.loads(record["messages"]), orjson.loads(record["tools"]))
    tools = [] if record["tools"] == "[]" else Fragment(record["tools"])
    return (orjson.loads(record["messages"]) if taken_apart else Fragment(record["messages"])), tools


def _count(compiled: Compiled, segments: list[KnownSegment]) -> None:
    for segment in segments:
        for name, written in segment.files.items():
            compiled.rows[name] += written.rows
        compiled.excluded.update(segment.excluded)
        compiled.tokens += sum(segment.statistics.get("tokens", {}).get(split, 0) for split in (Split.TRAIN, Split.DEV))
        compiled.redacted += segment.statistics.get("records", {}).get("redacted", 0)
    compiled.used = compiled.seen - sum(compiled.excluded.values())


async def _statistics(
    conn: Connection, segments: list[KnownSegment], stretches: list[dict[str, Any]]
) -> dict[str, Any]:
    totals: dict[str, Counter[str]] = {}
    for segment in segments:
        for name, counts in segment.statistics.items():
            totals.setdefault(name, Counter()).update(counts)
    return {
        "lengths": {name.removeprefix("lengths_"): _by_number(c) for name, c in totals.items() if "lengths_" in name},
        "tokens": dict(sorted(totals.get("tokens", Counter()).items())),
        "prompts": dict(sorted(totals.get("prompts", Counter()).items())),
        "sources": _top(totals.get("sources", Counter())),
        "kinds": _top(totals.get("kinds", Counter())),
        "redacted": dict(sorted(totals.get("redacted", Counter()).items())),
        "quarantined": await store.quarantined(conn),
        "concentration": await store.concentration(conn),
        "mark": {"created_at": stretches[-1]["last_at"].astimezone(UTC).isoformat()} if stretches else {},
    }


def _by_number(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: int(entry[0])))


def _top(counts: Counter[str]) -> dict[str, int]:
    """The largest, and the rest in one sum."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ranked[TOP:])
    return dict(ranked[:TOP]) | ({"(others)": rest} if rest else {})


def _join(job: Job, compiled: Compiled, segments: list[KnownSegment], statistics: dict[str, Any]) -> None:
    """Put the directories together from the files of their segments, and say by digest what they hold."""
    scratch = job.artifacts.scratch() / uuid4().hex
    said = {
        "format": FORMAT,
        "persona": job.persona,
        "policy": job.policy.model_dump(mode="json"),
        "asked": job.intent.model_dump(mode="json", include={"kinds", "since", "until", "query", "query_likeness"}),
        "seen": compiled.seen,
        "used": compiled.used,
        "excluded": dict(sorted(compiled.excluded.items())),
    }
    try:
        sealed = _lay(job.artifacts, scratch / "holdout", segments, (File.HOLDOUT,))
        compiled.holdout = _name(scratch / "holdout", sealed, said)
        files = _lay(job.artifacts, scratch / "manifest", segments, tuple(set(File) - {File.HOLDOUT}))
        compiled.manifest = _name(
            scratch / "manifest", files, said | {"holdout": compiled.holdout, "statistics": statistics}
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
