"""The broker of a service: its connection, and the acknowledgement rules of its consumers.

FastStream's defaults retry without delay and give up reconnecting; every setting here avoids one of these.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from functools import partial
from types import TracebackType
from typing import Any

import asyncpg
import structlog
from faststream import BaseMiddleware, ContextRepo
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from prometheus_client import Counter
from pydantic import ValidationError

from shared.config.settings import Settings
from shared.contracts.text import clean
from shared.messaging.client import REFUSED_KEY, REFUSED_SUBJECT, connect
from shared.messaging.dead_letters import record_dead_letter
from shared.messaging.router import AnswerInvalid, PermanentError, explain
from shared.storage.postgres import UNREACHABLE, Pool

log = structlog.get_logger()

# What can never succeed: the content of the message is at fault.
PERMANENT = (PermanentError, ValidationError, UnicodeError, asyncpg.DataError, asyncpg.ProgramLimitExceededError)
LAST_DELIVERY = 6  # an unknown error this often is a permanent one
LONGEST_DELAY_S = 60

HANDLED = Counter("soulforge_messages_handled_total", "Messages handled.", ["subject"])
DEAD_LETTERS = Counter("soulforge_dead_letters_total", "Messages kept as dead letters.", ["subject"])


def open_broker(
    settings: Settings,
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

    return _Broker(
        settings,
        service,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=10,
        max_outstanding_pings=2,
        connect_timeout=5,
        graceful_timeout=20,
        context=context,
        middlewares=[partial(_Acknowledgement, pool=pool, answer_invalid=answer_invalid)],
        closed_cb=die,
        error_cb=_exit_if_refused,
        # FastStream logs errors around a handler; errors inside it are logged here.
        logger=logging.getLogger("faststream"),
        log_level=logging.DEBUG,
    )


class _Broker(NatsBroker):
    """FastStream's broker on a connection with the service's key that withstands any header."""

    def __init__(self, settings: Settings, service: str, **options: Any) -> None:
        super().__init__(settings.nats_url, name=service, **options)
        self._settings, self._service = settings, service

    async def _connect(self) -> Client:
        options = {
            key: value for key, value in self._connection_kwargs.items() if key not in ("servers", "inbox_prefix")
        }
        connection = await connect(self._settings, self._service, **options)
        self.config.connect(connection)
        return connection


class _Acknowledgement(BaseMiddleware[Any, Any]):
    """Turns the outcome of a delivery, wherever it failed, into an acknowledgement.

    That is: ack, retry with a growing delay, or answer or bury it and terminate.
    """

    def __init__(self, msg: Any, /, *, context: ContextRepo, pool: Pool, answer_invalid: AnswerInvalid | None) -> None:
        super().__init__(msg, context=context)
        self._message: Msg = msg
        self._pool, self._answer_invalid = pool, answer_invalid

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool:
        """Settle the message; True where no error goes further. One that is not settled comes again after ACK_WAIT_S."""
        if exc_val is not None and not isinstance(exc_val, Exception):
            return False  # the service stops
        try:
            await self._settle(exc_val)
        except Exception as error:
            log.warning("message not settled", subject=self._message.subject, error=_text(error))
        return True

    async def _settle(self, error: Exception | None) -> None:
        if error is None:
            await self._message.ack()
            HANDLED.labels(self._message.subject).inc()
        elif isinstance(error, PERMANENT):
            await self._end(_reason(error))
        elif isinstance(error, UNREACHABLE):
            await self._retry()
        else:
            log.error("handler failed", subject=self._message.subject, deliveries=self._deliveries, exc_info=error)
            await (self._end(_text(error)) if self._deliveries >= LAST_DELIVERY else self._retry())

    @property
    def _deliveries(self) -> int:
        return self._message.metadata.num_delivered or 1

    async def _retry(self) -> None:
        await self._message.nak(delay=min(2 ** min(self._deliveries - 1, 6), LONGEST_DELAY_S))

    async def _end(self, error: str) -> None:
        """Answer the message, else bury it; then it is not delivered again, unless the database is away."""
        try:
            if not await self._answer(error):
                await self._bury(error)
        except UNREACHABLE as away:
            log.warning("dead letter not kept yet", subject=self._message.subject, error=_text(away))
            await self._retry()
        else:
            await self._message.term()

    async def _answer(self, error: str) -> bool:
        try:
            return self._answer_invalid is not None and await self._answer_invalid(self._message, error)
        except NatsError as lost:
            log.warning("invalid message not answered", error=_text(lost))
            return False

    async def _bury(self, error: str) -> None:
        """Keep the message as a dead letter. Raises UNREACHABLE errors; any other only costs the letter."""
        message, metadata = self._message, self._message.metadata
        delivery = f"{metadata.stream}/{metadata.sequence.stream}"
        try:
            await record_dead_letter(self._pool, message.subject, message.data, message.headers or {}, error, delivery)
        except UNREACHABLE:
            raise
        except Exception as failed:
            # It stays in its stream, where the delivery names it.
            log.error("dead letter lost", subject=message.subject, delivery=delivery, error=error, failed=_text(failed))
        else:
            DEAD_LETTERS.labels(message.subject).inc()
            log.warning("dead letter kept", subject=message.subject, error=error)


def _reason(error: Exception) -> str:
    """Why a message can never be handled, without its content."""
    if isinstance(error, PermanentError):
        return clean(str(error))
    if isinstance(error, ValidationError):
        return clean(explain(error))
    return f"PostgreSQL cannot hold it: {type(error).__name__}"


def _text(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}")


async def on_error(error: Exception) -> None:
    """Log an error of a connection, and exit the process where NATS refuses its key: it would try for ever."""
    log.warning("bus error", error=str(error) or type(error).__name__)
    if REFUSED_KEY in str(error).lower():
        os._exit(1)


async def _exit_if_refused(error: Exception) -> None:
    """As `on_error`; also where a consumer is refused, which would receive nothing."""
    await on_error(error)
    if REFUSED_SUBJECT in str(error).lower():
        os._exit(1)
