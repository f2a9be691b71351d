"""The streams of the bus and the consumers of a service: declared by the bootstrap step, checked by services at start.

Limits retention, because work queues forget their deduplication at a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualCancel, RitualCancelled, RitualPause, RitualResume, TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRecalled, KarmaRejected, KarmaRemembered, KarmaRevoked
from shared.contracts.queue import HOLDS_STREAM, HOLDS_SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.js import JetStreamContext

    from shared.contracts.message import Message

INTENTS = "INTENTS"
KARMA = "KARMA"
RITUALS = "RITUALS"
SOUL = "SOUL"
DUPLICATE_WINDOW_S = 3600
MAX_AGE_S = 30 * 24 * 3600
ACK_WAIT_S = 30

MIB = 1024**2


def _stream(name: str, subjects: Iterable[str], max_bytes: int, *, no_ack: bool = False) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=list(subjects),
        no_ack=no_ack,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=1,
        max_age=MAX_AGE_S,
        max_bytes=max_bytes,
        discard=DiscardPolicy.OLD,
        duplicate_window=DUPLICATE_WINDOW_S,
    )


# What the role `publisher` brings has streams of its own: however much it is, it drops no fact and no revocation.
ABOUT_RITUALS = (RitualCancel, RitualPause, RitualResume)
APART: dict[type[Message], str] = {
    TrainingIntent: INTENTS,
    KarmaRemembered: KARMA,
    **dict.fromkeys(ABOUT_RITUALS, RITUALS),
}
KARMA_IN_SOUL = (KarmaConsecrated, KarmaRejected, KarmaRevoked, KarmaRecalled, KarmaHarvested, KarmaRefused)

STREAMS = (
    # The harvester replies to a request on the intent's subject: a stream that acknowledges would reply first.
    _stream(INTENTS, [TrainingIntent.subject], 256 * MIB, no_ack=True),
    _stream(
        SOUL,
        [
            "gpu.>",
            "adapter.>",
            "inference.>",
            "capability.>",
            RitualCancelled.subject,
            *(one.subject for one in KARMA_IN_SOUL),
        ],
        1024 * MIB,
    ),
    _stream(KARMA, [KarmaRemembered.subject], 1024 * MIB),
    _stream(RITUALS, [one.subject for one in ABOUT_RITUALS], 64 * MIB),
    # A bucket of keys and values: one key per holder. Nothing that is stored later replaces a hold.
    StreamConfig(
        name=HOLDS_STREAM,
        subjects=[HOLDS_SUBJECTS],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=1,
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        deny_delete=True,
        allow_rollup_hdrs=True,
        allow_direct=True,
    ),
)


class BusError(Exception):
    """The streams or consumers are not as this version needs them; the message includes what to do."""


def stream_of(message: type[Message]) -> str:
    """The stream that stores this kind of message."""
    return APART.get(message, SOUL)


@dataclass(frozen=True)
class Subscription:
    """The durable consumer of one service for one kind of message."""

    service: str
    message: type[Message]

    @property
    def stream(self) -> str:
        return stream_of(self.message)

    @property
    def durable(self) -> str:
        return f"{self.service}-{self.message.subject.replace('.', '-')}"

    def config(self) -> ConsumerConfig:
        """No `backoff` (it would replace `ack_wait`) and no `max_deliver` (the service decides when a message is dead)."""
        return ConsumerConfig(
            durable_name=self.durable,
            filter_subject=self.message.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=1000,  # a message that waits for its retry counts: it must not hold up the others
        )


async def declare(jetstream: JetStreamContext, subscriptions: Iterable[Subscription]) -> None:
    """Create or update every stream and these consumers. Repeatable; waiting messages are kept."""
    for stream in STREAMS:
        try:
            await jetstream.update_stream(stream)
        except NotFoundError:
            await jetstream.add_stream(stream)
    for subscription in subscriptions:
        await jetstream.add_consumer(subscription.stream, subscription.config())


async def check_consumers(jetstream: JetStreamContext, subscriptions: Iterable[Subscription]) -> None:
    """Raise BusError unless these consumers exist with the settings of this code."""
    for subscription in subscriptions:
        try:
            info = await jetstream.consumer_info(subscription.stream, subscription.durable)
        except NotFoundError:
            raise BusError(
                f"consumer {subscription.durable} is gone from stream {subscription.stream}: run `soulforge migrate`"
            ) from None
        expected, found = subscription.config(), info.config
        if (found.filter_subject, found.ack_wait, found.max_deliver) != (
            expected.filter_subject,
            expected.ack_wait,
            expected.max_deliver,
        ):
            raise BusError(
                f"consumer {subscription.durable} has other settings than this version needs: run `soulforge migrate`"
            )
