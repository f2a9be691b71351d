"""What each role may publish and subscribe on the bus: its own messages, its own consumers, its own inbox."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from deploy.services import subscriptions
from shared.contracts.intent import RitualProgress, TrainingIntent
from shared.contracts.message import Message
from shared.contracts.queue import HOLDS_STREAM, HOLDS_SUBJECTS, QueueAsk, QueuePause, QueueResume
from shared.contracts.roles import PUBLISHERS, SERVICES, Role, is_command
from shared.messaging.client import inbox_of
from shared.messaging.streams import INTENTS, stream_of

API = "$JS.API"
ANSWER_S = "10s"  # how long a worker may answer a question


def permissions(role: Role) -> dict[str, Any]:
    """The permissions of a role in nats-server's form. What is not allowed is refused."""
    rights: dict[str, Any] = {
        "publish": {"allow": sorted({*_own_messages(role), *_api(role)})},
        "subscribe": {"allow": sorted({f"{inbox_of(role)}.>", *_read(role)})},
    }
    if role is Role.WORKER:
        # Only the orchestrator asks, so that a worker can be led to no other subject.
        rights["allow_responses"] = {"max": 1, "expires": ANSWER_S}
    return rights


def _own_messages(role: Role) -> Iterable[str]:
    return (message.subject for message, roles in PUBLISHERS.items() if role in roles)


def _api(role: Role) -> Iterable[str]:
    """The calls of JetStream, and the inboxes in which a role answers."""
    match role:
        case Role.BOOTSTRAP:
            yield f"{API}.>"
        case Role.OWNER:
            yield f"{API}.INFO"  # `soulforge status`
            yield f"{API}.STREAM.MSG.GET.{INTENTS}"  # whether an intent without an answer was stored
        case Role.WORKER:
            yield from (f"{API}.STREAM.{call}.{HOLDS_STREAM}" for call in ("INFO", "MSG.GET"))
        case Role.PUBLISHER:
            pass
        case _:
            yield from _of_a_service(role)


def _of_a_service(role: Role) -> Iterable[str]:
    for one in subscriptions([role]):
        yield f"{API}.CONSUMER.INFO.{one.stream}.{one.durable}"
        yield f"{API}.CONSUMER.MSG.NEXT.{one.stream}.{one.durable}"
        yield f"$JS.ACK.{one.stream}.{one.durable}.>"
        if one.message is TrainingIntent:
            # Not `allow_responses`: a request may name any subject for its answer.
            yield from (f"{inbox_of(asker)}.>" for asker in PUBLISHERS[TrainingIntent])
    # The gateway sends what its clients ask for without an outbox.
    outbox = {message for message in _published(role) if role is not Role.GATEWAY or not is_command(message)}
    # The outbox compares what is stored under its message's id.
    yield from (f"{API}.STREAM.MSG.GET.{stream}" for stream in {stream_of(message) for message in outbox})
    if TrainingIntent in outbox:
        yield f"{API}.STREAM.INFO.{INTENTS}"
    if role is Role.ORCHESTRATOR:
        yield HOLDS_SUBJECTS
        yield from (f"{API}.STREAM.{call}.{HOLDS_STREAM}" for call in ("INFO", "MSG.GET", "PURGE"))


def _published(role: Role) -> set[type[Message]]:
    return {message for message, roles in PUBLISHERS.items() if role in roles}


def _read(role: Role) -> Iterable[str]:
    """What a role receives besides its inbox."""
    if role in (Role.OWNER, Role.PUBLISHER):
        yield from (message.subject for message in PUBLISHERS if not is_command(message))
    elif role is Role.WORKER:
        yield from (message.subject for message in (QueuePause, QueueResume, QueueAsk))
    elif role is Role.GATEWAY:
        yield RitualProgress.subject
    elif role in SERVICES and any(one.message is TrainingIntent for one in subscriptions([role])):
        yield TrainingIntent.subject  # requests, whose answer a stored message has no subject for
