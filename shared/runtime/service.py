"""Run one service: connect, listen, relay, reconcile, export spans, answer health. Start-up is recovery.

All five services are built alike: an `app.py` names the handlers and the reconciler, and this module does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import nats
import structlog
import uvicorn

from shared.config.load import load
from shared.config.model import Configuration, embedded
from shared.config.settings import PROJECT, Settings, SettingsError
from shared.contracts.intent import RitualCancelled
from shared.contracts.message import Fact, Message, Service
from shared.messaging import outbox
from shared.messaging.bus import open_broker, subscribe
from shared.messaging.streams import Listening, assert_listening, listenings
from shared.ritual import ledger
from shared.runtime import telemetry
from shared.runtime.health import health_app
from shared.runtime.metrics import OUTBOX_AGE_SECONDS, RECONCILE_ERRORS, RECONCILE_SECONDS, STATED
from shared.storage.postgres import UNREACHABLE, Pool, assert_migrated, open_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import datetime

    from faststream.nats import NatsBroker, NatsMessage
    from nats.aio.client import Client

    from shared.ritual.ledger import Ritual

log = structlog.get_logger()

DATABASE_DEADLINE_S = 120
RELAY_POLL_S = 0.5
EXPORT_POLL_S = 1.0
CONSUMER_CHECK_S = 10.0
CANCEL_AGAIN_S = 1.0


@dataclass
class ServiceContext:
    """What a service is given to do its work with."""

    service: Service
    settings: Settings
    pool: Pool
    nats: Client
    configuration: Configuration = field(default_factory=embedded)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    reconciled_at: float = field(default_factory=monotonic)

    def wake(self) -> None:
        """Wake the reconciler now."""
        self.woken.set()

    async def record(self, fact: Fact, started_at: datetime, fence: int | None = None) -> bool:
        """State a fact in a transaction of its own; False when the rows have moved on (see `ledger.record_fact`)."""
        async with self.pool.acquire() as conn, conn.transaction():
            stated = await ledger.record_fact(conn, fact, self.service, started_at, fence)
        if stated:
            STATED.labels(fact.subject).inc()
            log.info("stated", fact=fact.subject, ritual=str(fact.ritual), attempt=fact.attempt)
        return stated

    async def record_cancelled(self, ritual: Ritual) -> bool:
        """End a ritual whose cancellation was asked for; the caller has stopped what it was doing for it."""
        fact = RitualCancelled(**ritual.key, why=ritual.cancel_why or "")
        return await self.record(fact, ritual.cancel_requested_at or ritual.entered_at)


@dataclass(frozen=True)
class App:
    """A service: what it does with what it hears, and how it makes the world agree with the rows."""

    service: Service
    handlers: dict[type[Message], Any]
    reconcile: Callable[[ServiceContext], Awaitable[None]]
    answer_invalid: dict[type[Message], Any] = field(default_factory=dict)
    background: tuple[Callable[[ServiceContext], Coroutine[Any, Any, None]], ...] = ()


def main(app: App) -> None:
    """The entry point of a service process; returns after SIGTERM or SIGINT, exits where it is wrongly configured."""
    settings = Settings()
    configure_logging(settings.log_level, app.service)
    try:
        asyncio.run(serve(app, settings))
    except SettingsError as error:
        raise SystemExit(f"{app.service}: {error}") from None


def configure_logging(level: str, service: str) -> None:
    logging.basicConfig(level=level, format="%(message)s")
    for chatty in ("httpx", "nats", "opentelemetry"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
    )
    structlog.contextvars.bind_contextvars(service=service)


async def serve(app: App, settings: Settings) -> None:
    """Run a service until a signal. Raises ConfigurationError before anything else is touched."""
    configuration = load(settings)
    async with AsyncExitStack() as stack:
        pool = await _database(settings, app.service)
        stack.push_async_callback(pool.close)
        await assert_migrated(pool, "public", PROJECT)
        await assert_migrated(pool, app.service, PROJECT)
        client = await nats.connect(
            settings.nats_url,
            name=f"{app.service}-relay",
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
        )
        stack.push_async_callback(client.close)
        await assert_listening(client.jetstream(), app.service)
        context = ServiceContext(app.service, settings, pool, client, configuration)
        stopping = asyncio.Event()
        broker = open_broker(settings.nats_url, app.service, stopping)
        for listening in listenings():
            if listening.service == app.service:
                _subscribe(app, context, broker, listening)
        await broker.start()
        stack.push_async_callback(broker.stop)
        stack.callback(stopping.set)
        await _run(app, context)


async def nudge(context: ServiceContext, message: Message, delivery: NatsMessage) -> None:
    """Wake the reconciler: what the message reports is in the rows before it is published."""
    context.wake()


def _subscribe(app: App, context: ServiceContext, broker: NatsBroker, listening: Listening) -> None:
    handler = app.handlers.get(listening.message, nudge)
    answer = app.answer_invalid.get(listening.message)
    subscribe(
        broker,
        context.pool,
        listening,
        partial(handler, context),
        partial(answer, context) if answer else None,
    )


async def _database(settings: Settings, service: Service) -> Pool:
    deadline = monotonic() + DATABASE_DEADLINE_S
    while True:
        try:
            return await open_pool(settings.database_url, service)
        except UNREACHABLE as error:
            if monotonic() > deadline:
                raise
            log.warning("database unreachable, trying again", error=str(error) or type(error).__name__)
            await asyncio.sleep(0.5)


async def _run(app: App, context: ServiceContext) -> None:
    """Everything that goes on side by side, until a signal or until one of them ends."""
    server = _web(app, context)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(server.serve(), name="http"),
        asyncio.create_task(_reconcile(app, context), name="reconcile"),
        asyncio.create_task(_relay(context), name="relay"),
        asyncio.create_task(_export(context), name="export"),
        asyncio.create_task(_watch_consumers(context), name="consumers"),
        *(asyncio.create_task(task(context)) for task in app.background),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    log.info("service started")
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        await _end(tasks[1:])
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("service stopped")
    for task in done:
        if not task.cancelled() and (error := task.exception()):
            raise error


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel until they have ended: a cancellation that meets a timeout inside `wait_for` is lost in Python 3.11."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


def _web(app: App, context: ServiceContext) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(
            health_app(context),
            host=context.settings.host,
            port=context.settings.port(app.service),
            log_level="warning",
            lifespan="off",
        )
    )
    # The signals belong to the service: it stops listening before it stops answering.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    return server


async def _reconcile(app: App, context: ServiceContext) -> None:
    """Look at start, every few seconds, and when stirred. An error is logged and looked at again."""
    while True:
        context.woken.clear()
        try:
            with RECONCILE_SECONDS.time():
                await app.reconcile(context)
        except UNREACHABLE as error:
            RECONCILE_ERRORS.inc()
            log.warning("reconcile postponed", error=str(error) or type(error).__name__)
        except Exception:
            RECONCILE_ERRORS.inc()
            log.exception("reconcile failed")
        context.reconciled_at = monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(context.woken.wait(), context.settings.reconcile_s)


async def _relay(context: ServiceContext) -> None:
    jetstream = context.nats.jetstream()
    while True:
        try:
            await outbox.relay_all(context.pool, jetstream)
            OUTBOX_AGE_SECONDS.set(await outbox.oldest_unpublished_s(context.pool))
        except (*UNREACHABLE, nats.errors.Error) as error:
            log.warning("outbox waits", error=str(error) or type(error).__name__)
        await asyncio.sleep(RELAY_POLL_S)


async def _export(context: ServiceContext) -> None:
    exporter = telemetry.open_exporter(context.settings.phoenix_url)
    while True:
        try:
            sent = await telemetry.export_facts(context.pool, exporter, context.service)
            if context.service is Service.HARVESTER:
                sent += await telemetry.export_roots(context.pool, exporter)
        except UNREACHABLE:
            sent = 0
        await asyncio.sleep(0 if sent else EXPORT_POLL_S)


async def _watch_consumers(context: ServiceContext) -> None:
    """End the process when its consumers stay gone: the next start makes them again. Starvation is silent otherwise."""
    missing = 0
    while missing < 2:
        await asyncio.sleep(CONSUMER_CHECK_S)
        try:
            await assert_listening(context.nats.jetstream(), context.service)
            missing = 0
        except nats.errors.Error:
            continue
        except Exception as error:
            missing += 1
            log.error("consumer missing", error=str(error))
    raise SystemExit("consumers are gone; exiting so that the next start makes them again")
