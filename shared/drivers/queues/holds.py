"""The holds of the bus driver: a JetStream bucket with one key per holder, which outlives orchestrator and workers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError

from shared.contracts.queue import HOLDS_STREAM, HOLDS_SUBJECTS

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from shared.contracts.queue import QueuePause

KEY = HOLDS_SUBJECTS.removesuffix(">")


async def put(jetstream: JetStreamContext, pause: QueuePause) -> None:
    """Store the hold; returns when it is on the server's disk."""
    await jetstream.publish(KEY + pause.holder, pause.model_dump_json().encode(), stream=HOLDS_STREAM)


async def remove(jetstream: JetStreamContext, holder: str) -> None:
    with suppress(NotFoundError):
        await jetstream.purge_stream(HOLDS_STREAM, subject=KEY + holder)


async def get_holders(jetstream: JetStreamContext) -> frozenset[str] | None:
    """The holders; None where there is no bucket: the bus was wiped, and the bootstrap step makes it again."""
    try:
        info = await jetstream.stream_info(HOLDS_STREAM, subjects_filter=HOLDS_SUBJECTS)
    except NotFoundError:
        return None
    return frozenset(subject.removeprefix(KEY) for subject in info.state.subjects or {})
