"""Write the segments that are not there yet, each record redacted where that is needed; many of them in several processes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from orjson import Fragment

from services.harvester import store
from services.harvester.copied import NULL, plain_json, text
from services.harvester.copying import copy_out
from services.harvester.manifest.rows import Used, needs_messages, prompt_form, written_row
from services.harvester.manifest.segments import SIDES, Counted, SegmentWriter
from services.harvester.split import Split

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.harvester.manifest.segments import Content
    from services.harvester.order import Order
    from services.harvester.policy import HarvestPolicy
    from services.harvester.reading.reader import Reader
    from services.harvester.workers import Workers
    from shared.storage.artifacts import Artifacts
    from shared.storage.postgres import Pool

BATCH = 500
WORTH_INDEX = 4  # segments; to find fewer, their table is read as a whole each time
AT_ONCE = 3  # segments that a process is given
TRUE = b"t"
HELD_OUT = Split.HOLDOUT.encode()
_OPENS = b'[{"role": "'  # a conversation as PostgreSQL prints it, where its first message holds nothing unusual
_SYSTEM = _OPENS + b'system", "content": "'


class ChangedMeanwhile(Exception):
    """A record was changed between its reading and its writing: what was decided of it holds no more."""


@dataclass(frozen=True)
class Job:
    """What a manifest is compiled from."""

    order: Order
    reader: Reader
    artifacts: Artifacts
    workers: Workers | None = None


@dataclass(frozen=True)
class Stretches:
    """Segments to write, as they pass to another process."""

    persona: str
    policy: HarvestPolicy
    artifacts: Artifacts
    table: str
    stretches: list[dict[str, Any]]


class Placed(NamedTuple):
    """A record of a segment as COPY writes it: see `store.SEGMENT_RECORDS`."""

    karma: bytes
    session: bytes
    side: bytes
    reason: bytes
    source: bytes
    kind: bytes
    feedback: bytes
    parent: bytes
    tokens: bytes
    redacted: bytes
    rejected: bytes  #: digest of what it corrects, where that may be shown
    found: bytes
    same: bytes  #: the record is what was read
    tools: bytes
    checks: bytes
    messages: bytes


async def write_segments(
    pool: Pool, job: Job, table: str, fresh: list[dict[str, Any]], heard: Callable[[int, int], Any]
) -> None:
    """Write what was decided into `table`. Raises ChangedMeanwhile; what was written until then stays and is used."""
    total = sum(stretch["seen"] for stretch in fresh)
    if len(fresh) >= WORTH_INDEX:
        await store.index_places(pool, table)
    whole = Stretches(job.order.persona, job.order.policy, job.artifacts, table, fresh)
    if job.workers and job.workers.worth(total):
        parts = [_part(whole, fresh[first : first + AT_ONCE]) for first in range(0, len(fresh), AT_ONCE)]
        await job.workers.each(write_stretches, parts, lambda done: heard(done, total))
        return
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        heard(done, total)

    await _write(asyncio.to_thread, job.reader, pool, count, whole)


def _part(whole: Stretches, stretches: list[dict[str, Any]]) -> Stretches:
    return Stretches(whole.persona, whole.policy, whole.artifacts, whole.table, stretches)


async def write_stretches(reader: Reader, pool: Pool, count: Callable[[int], Any], part: Stretches) -> None:
    """In a process of its own, where nothing else waits for the loop."""

    async def here(work: Callable[..., Any], *values: Any) -> Any:
        return work(*values)

    await _write(here, reader, pool, count, part)


async def _write(
    aside: Callable[..., Awaitable[Any]], reader: Reader, pool: Pool, count: Callable[[int], Any], part: Stretches
) -> None:
    for stretch in part.stretches:
        writer = SegmentWriter(part.artifacts, stretch["key"], part.persona, part.policy.prompts)
        try:
            await _fill(aside, _Filler(reader, writer, part.policy), pool, count, part.table, stretch["place"])
            segment = await aside(writer.finish)
        finally:
            writer.discard()
        await store.keep_segment(pool, part.persona, segment, stretch["first_at"], stretch["last_at"])


async def _fill(
    aside: Callable[..., Awaitable[Any]],
    filler: _Filler,
    pool: Pool,
    count: Callable[[int], Any],
    table: str,
    place: int,
) -> None:
    async def take(lines: list[bytes]) -> None:
        records = [Placed._make(line.split(b"\t")) for line in lines]
        corrected = [text(one.parent) for one in records if one.rejected != NULL]
        await aside(filler.fill, records, await store.contents(pool, corrected))
        count(len(records))

    async with pool.acquire() as conn, conn.transaction(readonly=True):
        await store.look_up_one_by_one(conn)
        await copy_out(conn, store.SEGMENT_RECORDS.format(table=table), place, batch=BATCH, take=take)


class _Filler:
    """Gives the records of a segment to its writer."""

    def __init__(self, reader: Reader, writer: SegmentWriter, policy: HarvestPolicy) -> None:
        self._reader, self._writer, self._prompts = reader, writer, policy.prompts

    def fill(self, records: list[Placed], rejected: dict[str, Content]) -> None:
        as_they_are: list[Placed] = []
        for record in records:
            if record.reason != NULL:
                self._writer.exclude(text(record.karma), record.reason.decode())
            elif record.same != TRUE:
                raise ChangedMeanwhile(f"karma {text(record.karma)}")
            elif self._is_written_as_it_is(record):
                as_they_are.append(record)
            else:
                self._use_as_they_are(as_they_are)  # first, since rows stand in the order of the records
                as_they_are.clear()
                self._use(record, rejected)
        self._use_as_they_are(as_they_are)

    def _is_written_as_it_is(self, record: Placed) -> bool:
        changed = record.redacted == TRUE or record.feedback != NULL or record.rejected != NULL
        return not changed and self._prompts.short == 0

    def _use_as_they_are(self, records: list[Placed]) -> None:
        ids = [text(record.karma) for record in records]
        lines: dict[bytes, list[bytes]] = {side: [] for side in SIDES}
        forms: list[str] = []
        for record, karma in zip(records, ids, strict=True):
            messages, tools = plain_json(record.messages), None if record.tools == b"[]" else plain_json(record.tools)
            forms.append(self._form(karma, record.side, messages))
            session, checks = _quoted(record.session), _checks(record.checks)
            lines[record.side].append(written_row(karma, session, messages, checks, tools, forms[-1]))
        self._writer.use_written(ids, lines, forms, [_counted(record) for record in records])

    def _form(self, karma: str, side: bytes, messages: bytes) -> str:
        """Which system prompt a row is trained with; one of the holdout is not trained."""
        if side == HELD_OUT:
            return ""
        return prompt_form(karma, self._prompts) if _has_prompt(messages) else "none"

    def _use(self, record: Placed, rejected: dict[str, Content]) -> None:
        answer = None
        if record.rejected != NULL:
            answer = self._answer(text(record.parent), record.rejected, rejected)
        found = orjson.loads(plain_json(record.found)) if record.found != NULL else None
        self._writer.use(self._used(record, SIDES[record.side], answer), _counted(record), found)

    def _answer(self, parent: str, content: bytes, rejected: dict[str, Content]) -> list[dict[str, Any]]:
        """The conversation that a record corrects."""
        found = rejected.get(parent)
        if found is None or found.digest != content.removeprefix(rb"\\x").decode():
            raise ChangedMeanwhile(f"karma {parent}")
        self._writer.mention(parent)
        messages: list[dict[str, Any]] = orjson.loads(found.messages)
        return self._reader.cleaned(messages, orjson.loads(found.tools))[0] if found.redacted else messages

    def _used(self, record: Placed, side: Split, answer: list[dict[str, Any]] | None) -> Used:
        karma, written = text(record.karma), plain_json(record.messages)
        feedback = None if record.feedback == NULL else record.feedback.decode()
        messages: Any = Fragment(written)
        tools: Any = [] if record.tools == b"[]" else Fragment(plain_json(record.tools))
        if record.redacted == TRUE:
            messages, tools = self._reader.cleaned(orjson.loads(written), orjson.loads(plain_json(record.tools)))
        elif needs_messages(karma, side, feedback, answer is not None, self._prompts):
            messages = orjson.loads(written)
        checks = Fragment(_checks(record.checks))
        return Used(karma, text(record.session), side, feedback, _has_prompt(written), messages, tools, checks, answer)


def _counted(record: Placed) -> Counted:
    return record.side, record.tokens, record.source, record.kind


def _checks(field: bytes) -> bytes:
    return b"[]" if field == NULL else plain_json(field)


@lru_cache(maxsize=4096)
def _quoted(field: bytes) -> bytes:
    return orjson.dumps(text(field))


def _has_prompt(messages: bytes) -> bool:
    """Whether a conversation begins with a system prompt that says something."""
    if messages.startswith(_SYSTEM):
        return messages[len(_SYSTEM) : len(_SYSTEM) + 1] != b'"'
    if messages.startswith((_OPENS + b'user"', _OPENS + b'assistant"')):
        return False
    first = orjson.loads(messages)[0]
    return first.get("role") == "system" and bool(first.get("content"))
