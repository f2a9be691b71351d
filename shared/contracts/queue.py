"""Worker queues around stages 2 and 5: pause the workers that share the anvil, confirm the pause, resume them.

All are published on core NATS, so that workers react at once. Holds are durable in the key-value bucket `queue_holds` of
JetStream, one key per holder, whose value is its `queue.pause`; a worker that starts during a hold reads it there. An
answer is not stored: it is proof only when it came after the question.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.contracts.message import Message
from shared.contracts.moment import Moment

HOLDS = "queue_holds"  # the bucket
HOLDS_STREAM = f"KV_{HOLDS}"
HOLDS_SUBJECTS = f"$KV.{HOLDS}.>"


class QueuePause(Message):
    """Workers start no job until `queue.resume` of the same holder. Published by the orchestrator."""

    subject: ClassVar[str] = "queue.pause"

    holder: str = Field(description="Anvil and fence, e.g. anvil0/17. Several may hold at once.")
    anvil: str
    reason: str
    deadline: Moment = Field(description="Time from which a worker that is not idle makes the hand-over fail.")


class QueueResume(Message):
    """The holder released its hold; workers resume when no other hold is left. Published by the orchestrator."""

    subject: ClassVar[str] = "queue.resume"

    holder: str
    anvil: str


class QueueAsk(Message):
    """Every worker answers at once with its `queue.paused`, to the request's reply subject. Sent by the orchestrator."""

    subject: ClassVar[str] = "queue.ask"


class QueuePaused(Message):
    """A worker's acknowledgement: it pauses for `holders`, and `active` of its jobs still run; idle when that is 0.

    The answer to `queue.ask`; also published when the last job ends during a hold.
    """

    subject: ClassVar[str] = "queue.paused"

    worker: str = Field(min_length=1, max_length=100, description="The worker's name in soulforge.toml.")
    holders: tuple[str, ...] = Field((), description="The holds it knows of; it starts no job while there is one.")
    active: int = Field(0, ge=0, description="Jobs running now.")
