"""The broker of a service: its connection, and the acknowledgement rules of its consumers.

FastStream's defaults retry without delay and give up reconnecting; every setting here avoids one of these. The router
sets that a message is not rejected at the first exception.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from faststream import BaseMiddleware, ContextRepo
from faststream.exceptions import NackMessage, RejectMessage
from faststream.nats import NatsBroker, NatsMessage
from nats.errors import Error as NatsError
from prometheus_client import Counter

from shared.messaging.dead_letters import record_dead_letter
from shared.messaging.router import AnswerInvalid, PermanentError
from shared.storage.postgres import UNREACHABLE, Pool

log = structlog.get_logger()

LAST_DELIVERY = 6  # an unknown error this often is a permanent one
LONGEST_DELAY_S = 60

HANDLED = Counter("soulforge_messages_handled_total", "Messages handled.", ["subject"])
DEAD_LETTERS = Counter("soulforge_dead_letters_total", "Messages kept as dead letters.", ["subject"])


def open_broker(
    url: str,
    service: str,
    pool: Pool,
    context: ContextRepo,
    answer_invalid: AnswerInvalid | None,
    stopping: asyncio.Event,
) -> NatsBroker:
    """Make a broker that reconnects for ever, and exits the process when its connection closes before `stopping`.

    `answer_invalid` may reply to the publisher of an invalid message; where it returns True no dead letter is kept.
    """

    async def die() -> None:
        if not stopping.is_set():
            print("the connection to NATS is closed; exiting to be restarted", file=sys.stderr, flush=True)
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
        context=context,
        middlewares=[partial(_Acknowledgement, pool=pool, answer_invalid=answer_invalid)],
        closed_cb=die,
        error_cb=_on_error,
        # FastStream logs errors around a handler; errors inside it are logged here.
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
    )


class _Acknowledgement(BaseMiddleware[Any, Any]):
    """Turns the outcome of a handler into an acknowledgement: ack, retry with a growing delay, or dead letter."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, pool: Pool, answer_invalid: AnswerInvalid | None) -> None:
        super().__init__(msg, context=context)
        self._pool, self._answer_invalid = pool, answer_invalid

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        subject, deliveries = msg.raw_message.subject, msg.raw_message.metadata.num_delivered or 1
        try:
            result = await call_next(msg)
        except PermanentError as error:
            if not await self._answer(msg, str(error)):
                await self._keep(msg, str(error))
            raise RejectMessage from error
        except UNREACHABLE as error:
            raise NackMessage(delay=min(2 ** (deliveries - 1), LONGEST_DELAY_S)) from error
        except Exception as error:
            log.exception("handler failed", subject=subject, deliveries=deliveries)
            if deliveries >= LAST_DELIVERY:
                await self._keep(msg, f"{type(error).__name__}: {error}")
                raise RejectMessage from error
            raise NackMessage(delay=min(2 ** (deliveries - 1), LONGEST_DELAY_S)) from error
        HANDLED.labels(subject).inc()
        return result

    async def _answer(self, message: NatsMessage, error: str) -> bool:
        try:
            return self._answer_invalid is not None and await self._answer_invalid(message, error)
        except NatsError as lost:
            log.warning("invalid message not answered", error=str(lost) or type(lost).__name__)
            return False

    async def _keep(self, message: NatsMessage, error: str) -> None:
        metadata, subject = message.raw_message.metadata, message.raw_message.subject
        delivery = f"{metadata.stream}/{metadata.sequence.stream}"
        try:
            await record_dead_letter(self._pool, subject, message.body, dict(message.headers), error, delivery)
        except Exception as failed:
            log.warning("dead letter not kept yet", subject=subject, error=str(failed) or type(failed).__name__)
            raise NackMessage(delay=5) from failed
        DEAD_LETTERS.labels(subject).inc()
        log.warning("dead letter kept", subject=subject, error=error)


async def _on_error(error: Exception) -> None:
    log.warning("bus error", error=str(error) or type(error).__name__)
    if "permissions violation" in str(error).lower():
        os._exit(1)
