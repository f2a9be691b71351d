"""The broker of a service: durable pull consumers that never lose a message and never spin.

FastStream's defaults reject at the first exception, retry without delay, and give up reconnecting; every setting here
answers one of those traps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import structlog
from faststream import AckPolicy
from faststream.exceptions import NackMessage, RejectMessage
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.annotations import NatsMessage
from pydantic import ValidationError

from shared.messaging.dead_letters import record_dead_letter
from shared.messaging.streams import Listening
from shared.runtime.metrics import DEAD, HEARD
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.contracts.message import Message
    from shared.storage.postgres import Pool

log = structlog.get_logger()

LAST_DELIVERY = 6  # an unknown error this often is a permanent one
LONGEST_DELAY_S = 60


class PermanentError(Exception):
    """This message can never be handled as it is; the text says why, without repeating the message."""


def open_broker(url: str, service: str, stopping: asyncio.Event) -> NatsBroker:
    """A broker that reconnects for ever and ends the process when its connection is closed but for `stopping`."""

    async def die() -> None:
        if not stopping.is_set():
            print("the connection to NATS was closed for good; exiting to be restarted", file=sys.stderr, flush=True)
            os._exit(1)

    return NatsBroker(
        url,
        name=service,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=10,
        max_outstanding_pings=2,
        connect_timeout=5,
        graceful_timeout=20,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        closed_cb=die,
        error_cb=_complain,
        # Its own words are for what goes wrong around a handler; what goes wrong inside is logged here.
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
    )


def subscribe(
    broker: NatsBroker,
    pool: Pool,
    listening: Listening,
    handle: Callable[[Any, NatsMessage], Awaitable[None]],
    answer_invalid: Callable[[NatsMessage, str], Awaitable[bool]] | None = None,
) -> None:
    """Give every message of `listening` to `handle`, validated; what can never be handled is buried, not lost.

    `answer_invalid` may tell a waiting publisher what is wrong; where it returns True nothing is buried.
    """

    async def deliver(message: NatsMessage) -> None:
        try:
            await _deliver(pool, listening.message, handle, message)
        except PermanentError as error:
            if answer_invalid is None or not await answer_invalid(message, str(error)):
                await _record_dead_letter(pool, message, str(error))
            raise RejectMessage from error

    broker.subscriber(
        listening.message.subject,
        stream=JStream(listening.stream, declare=False),
        durable=listening.durable,
        pull_sub=PullSub(batch_size=1, timeout=5),
        max_workers=1,
        decoder=_raw,
    )(deliver)


async def _deliver(
    pool: Pool, contract: type[Message], handle: Callable[[Any, NatsMessage], Awaitable[None]], message: NatsMessage
) -> None:
    deliveries = message.raw_message.metadata.num_delivered or 1
    try:
        await handle(contract.model_validate_json(message.body), message)
        HEARD.labels(contract.subject).inc()
    except ValidationError as error:
        raise PermanentError(f"not a {contract.__name__}: {explain(error)}") from error
    except PermanentError:
        raise
    except UNREACHABLE as error:
        raise NackMessage(delay=min(2 ** (deliveries - 1), LONGEST_DELAY_S)) from error
    except Exception as error:
        log.exception("handler failed", subject=contract.subject, deliveries=deliveries)
        if deliveries >= LAST_DELIVERY:
            await _record_dead_letter(pool, message, f"{type(error).__name__}: {error}")
            raise RejectMessage from error
        raise NackMessage(delay=min(2 ** (deliveries - 1), LONGEST_DELAY_S)) from error


async def _record_dead_letter(pool: Pool, message: NatsMessage, error: str) -> None:
    metadata = message.raw_message.metadata
    subject = message.raw_message.subject
    try:
        await record_dead_letter(
            pool, subject, message.body, dict(message.headers), error, f"{metadata.stream}/{metadata.sequence.stream}"
        )
    except UNREACHABLE as unreachable:
        raise NackMessage(delay=5) from unreachable
    DEAD.labels(subject).inc()
    log.warning("message buried", subject=subject, error=error)


def explain(error: ValidationError) -> str:
    """What is wrong with a message, in one line, without repeating the message."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors(include_input=False)
    )


async def _raw(message: NatsMessage) -> bytes:
    # The body is validated against the contract, whatever content type the publisher claims.
    return message.body


async def _complain(error: Exception) -> None:
    log.warning("bus error", error=str(error) or type(error).__name__)
    if "permissions violation" in str(error).lower():
        os._exit(1)
