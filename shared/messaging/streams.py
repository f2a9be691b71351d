"""The streams of the bus and the consumers of a service: declared by the bootstrap step, checked by services at start.

Limits retention, because work queues forget their deduplication at a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from shared.contracts.intent import RitualCancel, RitualCancelled, TrainingIntent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.js import JetStreamContext

    from shared.contracts.message import Message
    from shared.messaging.router import Subscription

INTENTS = "INTENTS"
SOUL = "SOUL"
DUPLICATE_WINDOW_S = 3600
MAX_AGE_S = 30 * 24 * 3600

STREAMS = (
    # The harvester answers a request on the intent's subject itself: a stream that acknowledges would answer first.
    StreamConfig(
        name=INTENTS,
        subjects=[TrainingIntent.subject],
        no_ack=True,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=1,
        max_age=MAX_AGE_S,
        max_bytes=256 * 1024**2,
        discard=DiscardPolicy.OLD,
        duplicate_window=DUPLICATE_WINDOW_S,
    ),
    StreamConfig(
        name=SOUL,
        subjects=["karma.>", "gpu.>", "adapter.>", "inference.>", RitualCancel.subject, RitualCancelled.subject],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=1,
        max_age=MAX_AGE_S,
        max_bytes=1024**3,
        discard=DiscardPolicy.OLD,
        duplicate_window=DUPLICATE_WINDOW_S,
    ),
)


class BusError(Exception):
    """The bus is not as this code needs it; the message says what to do."""


def stream_of(message: type[Message]) -> str:
    """The stream that stores this kind of message."""
    return INTENTS if message is TrainingIntent else SOUL


async def declare(jetstream: JetStreamContext, subscriptions: Iterable[Subscription]) -> None:
    """Make or update every stream and these consumers. Repeatable; waiting messages stay."""
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
        wanted, found = subscription.config(), info.config
        if (found.filter_subject, found.ack_wait, found.max_deliver) != (
            wanted.filter_subject,
            wanted.ack_wait,
            wanted.max_deliver,
        ):
            raise BusError(
                f"consumer {subscription.durable} has other settings than this version needs: run `soulforge migrate`"
            )
