"""The streams and consumers of the bus: one table, made by the bootstrap step, asserted by services at start.

Settings and the traps they avoid: limits retention (work queues forget their deduplication at a restart), no
`backoff` (it would override `ack_wait`), no `max_deliver` (the service decides when a message is dead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from shared.contracts.evacuate import GpuAccept, GpuReclaim, GpuRestored
from shared.contracts.intent import RitualCancel, TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRecalled, KarmaRevoked
from shared.contracts.message import Message, Service
from shared.contracts.ritual import OWNERS, TRANSITIONS

if TYPE_CHECKING:
    from nats.js import JetStreamContext

INTENTS = "INTENTS"
SOUL = "SOUL"
ACK_WAIT_S = 30
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
        subjects=["karma.>", "gpu.>", "adapter.>", "inference.>", RitualCancel.subject, "ritual.cancelled"],
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


@dataclass(frozen=True)
class Listening:
    """One durable consumer: a service hears one kind of message."""

    service: Service
    message: type[Message]

    @property
    def stream(self) -> str:
        return INTENTS if self.message is TrainingIntent else SOUL

    @property
    def durable(self) -> str:
        return f"{self.service}-{self.message.subject.replace('.', '-')}"

    def config(self) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=self.durable,
            filter_subject=self.message.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=16,
        )


def listenings() -> tuple[Listening, ...]:
    """Who hears what: the owner of the state a fact leads to, and the orchestrator whatever ends the GPU work."""
    heard: set[tuple[Service, type[Message]]] = {
        (Service.HARVESTER, TrainingIntent),
        (Service.ORCHESTRATOR, RitualCancel),
        (Service.ORCHESTRATOR, GpuReclaim),
        (Service.ORCHESTRATOR, GpuAccept),
        (Service.HARVESTER, KarmaConsecrated),
        (Service.HARVESTER, KarmaRevoked),
        (Service.REGISTRY, GpuRestored),
        (Service.REGISTRY, KarmaRecalled),
    }
    for (_, fact), after in TRANSITIONS.items():
        heard.add((OWNERS.get(after, Service.ORCHESTRATOR), fact))
        heard.add((Service.ORCHESTRATOR, fact))
    return tuple(
        Listening(service, message) for service, message in sorted(heard, key=lambda pair: (pair[0], pair[1].subject))
    )


async def bootstrap(jetstream: JetStreamContext) -> None:
    """Make or update every stream and consumer. Repeatable; waiting messages stay."""
    for stream in STREAMS:
        try:
            await jetstream.update_stream(stream)
        except NotFoundError:
            await jetstream.add_stream(stream)
    for listening in listenings():
        await jetstream.add_consumer(listening.stream, listening.config())


async def assert_listening(jetstream: JetStreamContext, service: Service) -> None:
    """Raise BusError unless this service's consumers exist with the settings of this code."""
    for listening in listenings():
        if listening.service != service:
            continue
        try:
            info = await jetstream.consumer_info(listening.stream, listening.durable)
        except NotFoundError:
            raise BusError(
                f"consumer {listening.durable} is gone from stream {listening.stream}: run `soulforge migrate`"
            ) from None
        wanted = listening.config()
        found = info.config
        if (found.filter_subject, found.ack_wait, found.max_deliver) != (
            wanted.filter_subject,
            wanted.ack_wait,
            wanted.max_deliver,
        ):
            raise BusError(
                f"consumer {listening.durable} has other settings than this version needs: run `soulforge migrate`"
            )
