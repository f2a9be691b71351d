"""The holds of the bus driver: a JetStream bucket with one key per holder, which outlives orchestrator and workers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import NoStreamResponseError, NotFoundError

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from shared.contracts.queue import QueuePause

BUCKET = "queue_holds"
STREAM = f"KV_{BUCKET}"
KEY = f"$KV.{BUCKET}."


async def put(jetstream: JetStreamContext, pause: QueuePause) -> None:
    """Store the hold; returns when it is on the server's disk."""
    try:
        await _publish(jetstream, pause)
    except NoStreamResponseError:
        await jetstream.create_key_value(KeyValueConfig(bucket=BUCKET, storage=StorageType.FILE))
        await _publish(jetstream, pause)


async def remove(jetstream: JetStreamContext, holder: str) -> None:
    with suppress(NotFoundError):
        await jetstream.purge_stream(STREAM, subject=KEY + holder)


async def get_holders(jetstream: JetStreamContext) -> frozenset[str] | None:
    """The holders; None where there is no bucket: there never was a hold, or the bus was wiped."""
    try:
        info = await jetstream.stream_info(STREAM, subjects_filter=KEY + ">")
    except NotFoundError:
        return None
    return frozenset(subject.removeprefix(KEY) for subject in info.state.subjects or {})


async def _publish(jetstream: JetStreamContext, pause: QueuePause) -> None:
    await jetstream.publish(KEY + pause.holder, pause.model_dump_json().encode(), stream=STREAM)
