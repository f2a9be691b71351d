"""Write the segments that are not there yet, each record redacted where that is needed; the next batch is fetched meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from orjson import Fragment

from services.harvester import store
from services.harvester.manifest.rows import Used, needs_messages
from services.harvester.manifest.segments import SegmentWriter
from services.harvester.split import Split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.harvester.policy import HarvestPolicy
    from services.harvester.reading.reader import Reader
    from shared.artifacts import Artifacts
    from shared.contracts.intent import TrainingIntent
    from shared.postgres import Connection

BATCH = 1000
SIDES = {str(side): side for side in Split}
Batch = tuple[list[Any], dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Job:
    """What a manifest is compiled from."""

    persona: str
    intent: TrainingIntent
    policy: HarvestPolicy
    wanted: Sequence[str] | None
    reader: Reader
    artifacts: Artifacts


async def write_segments(
    conn: Connection, job: Job, fresh: list[dict[str, Any]], heard: Callable[[int, int], Any]
) -> None:
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
