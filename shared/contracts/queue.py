"""Around stages 2 and 5: workers that share the anvil are asked to pause, say that they do, and go on.

All are core NATS: words that tell workers at once. What holds is durable in the key-value bucket `queue_holds` of
JetStream, one key a holder, whose value is its `queue.pause`; a worker that starts during a hold reads it there. An
answer is not stored: it is proof only when it came after the question.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from shared.contracts.message import Message


class QueuePause(Message):
    """Workers start no job from now on, until `queue.resume` of the same holder; stated by the orchestrator."""

    subject: ClassVar[str] = "queue.pause"

    holder: str = Field(description="Anvil and fence, e.g. anvil0/17. Several may hold at once.")
    anvil: str
    reason: str
    deadline: AwareDatetime = Field(description="When a worker that is not idle makes the hand-over fail.")


class QueueResume(Message):
    """The holder has let go; workers go on when no other holds. Stated by the orchestrator."""

    subject: ClassVar[str] = "queue.resume"

    holder: str
    anvil: str


class QueueAsk(Message):
    """Every worker answers at once with its `queue.paused`, to the request's reply subject. Asked by the orchestrator."""

    subject: ClassVar[str] = "queue.ask"


class QueuePaused(Message):
    """A worker's acknowledgement: it pauses for `holders`, and `active` of its jobs still run; idle when that is 0.

    The answer to `queue.ask`, and said by itself when the last job ends during a hold.
    """

    subject: ClassVar[str] = "queue.paused"

    worker: str = Field(min_length=1, max_length=100, description="The worker's name in soulforge.toml.")
    holders: tuple[str, ...] = Field((), description="The holds it knows of; it starts no job while there is one.")
    active: int = Field(0, ge=0, description="Jobs that run now.")
