"""The holds of the bus driver: a JetStream bucket with one key per holder, which outlives orchestrator and workers.

A publisher can have the server's acknowledgement of its message stored under any key. A key counts as a hold only with the
`queue.pause` of its holder as its value, and a stored value is never replaced: neither can make a hold nor end one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nats.js.errors import NotFoundError
from pydantic import ValidationError

from shared.contracts.queue import HOLDS_STREAM, HOLDS_SUBJECTS, QueuePause
from shared.drivers.queues.port import HOLDER

if TYPE_CHECKING:
    from nats.js import JetStreamContext

KEY = HOLDS_SUBJECTS.removesuffix(">")
NO_MESSAGE = 10037  # the server's code for a key without a value, unlike that for a stream that is gone


async def put(jetstream: JetStreamContext, pause: QueuePause) -> None:
    """Store the hold; returns when it is on the server's disk."""
    if not await _is_held(jetstream, pause.holder):
        await remove(jetstream, pause.holder)  # what is no hold would not be replaced
        await jetstream.publish(KEY + pause.holder, pause.model_dump_json().encode(), stream=HOLDS_STREAM)


async def remove(jetstream: JetStreamContext, holder: str) -> None:
    with suppress(NotFoundError):
        await jetstream.purge_stream(HOLDS_STREAM, subject=KEY + holder)


async def get_holders(jetstream: JetStreamContext) -> frozenset[str] | None:
    """The holders; None where there is no bucket: the bus was wiped, and the bootstrap step makes it again."""
    try:
        info = await jetstream.stream_info(HOLDS_STREAM, subjects_filter=HOLDS_SUBJECTS)
        keys = (subject.removeprefix(KEY) for subject in info.state.subjects or {})
        return frozenset([key for key in keys if HOLDER.fullmatch(key) and await _is_held(jetstream, key)])
    except NotFoundError:
        return None


async def _is_held(jetstream: JetStreamContext, holder: str) -> bool:
    """Whether the value under this holder's key is its pause. Raises NotFoundError where there is no bucket."""
    try:
        # Not a direct get: its answer is the bare value, which a worker could have delivered on the subject of others.
        stored = await jetstream.get_last_msg(HOLDS_STREAM, KEY + holder)
        return QueuePause.model_validate_json(stored.data or b"").holder == holder
    except ValidationError:
        return False
    except NotFoundError as error:
        if error.err_code == NO_MESSAGE:
            return False
        raise
