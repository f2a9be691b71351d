"""Hand over the records of a job's files: as white truths of who vouches for them, or as speculative ones. Some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

from services.gateway.files.records import iterate_records
from services.gateway.jobs import bus
from services.gateway.jobs.store import Event
from shared.contracts.karma import KarmaConsecrated, KarmaRemembered

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nats.aio.client import Client

    from services.gateway.files.store import StoredFile
    from services.gateway.jobs.store import Job
    from shared.contracts.karma import KarmaRecord
    from shared.contracts.message import Message

AT_ONCE = 256
IN_FLIGHT = 16


class UnreadableError(Exception):
    """A file of a job cannot be read from the disk: an error of that job only."""


class Records:
    """Reads files and publishes what is in them. Where a file is being read is kept while the process lives."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reading: dict[str, tuple[int, Iterator[KarmaRecord]]] = {}

    async def publish_some(self, job: Job, files: Sequence[StoredFile]) -> int:
        """Publish the next records of a job; returns how many are published then. Raises BusAwayError, UnreadableError."""
        begun, records = self._reading.pop(job.id, (-1, iter(())))
        if begun != job.published:
            _close(records)
            records = _read(job, files)
        try:
            batch = await asyncio.to_thread(lambda: list(islice(records, AT_ONCE)))
        except OSError as error:
            raise UnreadableError(f"the files of {job.id} cannot be read: {error}") from error
        for start in range(0, len(batch), IN_FLIGHT):
            await asyncio.gather(*(self._publish(record) for record in batch[start : start + IN_FLIGHT]))
        published = job.published + len(batch)
        if job.records is not None and published < job.records:
            self._reading[job.id] = published, records
        else:
            _close(records)
        return published

    def keep_only(self, jobs: Collection[str]) -> None:
        """Close the files of all other jobs."""
        for id in self._reading.keys() - jobs:
            _close(self._reading.pop(id)[1])

    async def _publish(self, record: KarmaRecord) -> None:
        # An id of its own each time: what is handed over again must not be dropped as a duplicate of what was lost.
        await bus.publish(self._client, as_message(record), str(uuid4()))


def as_message(record: KarmaRecord) -> Message:
    kind = KarmaConsecrated if record.consecrated_by else KarmaRemembered
    return kind.model_validate(record.model_dump())


def source_of(file: str) -> str:
    """The `source` of the records of a file."""
    return f"openai:{file}"


def _read(job: Job, files: Sequence[StoredFile]) -> Generator[KarmaRecord]:
    """The records of a job behind those that are published. To close it closes the file that is being read."""
    at = job.created_at if job.vouched_by else None
    passed = job.published
    for file in files:
        with closing(iterate_records(file, job.persona, source_of(file.id), job.vouched_by, at)) as records:
            for record in records:
                if passed:
                    passed -= 1
                else:
                    yield record


def _close(records: Iterator[KarmaRecord]) -> None:
    """Close the file that is being read."""
    if isinstance(records, Generator):
        records.close()


def handed_over(job: Job) -> Event:
    vouched = f"as white truths that {job.vouched_by} vouches for" if job.vouched_by else "as speculative"
    return Event("published", f"{job.records} records were handed over {vouched}", data={"records": job.records})
