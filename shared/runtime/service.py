"""Run one service: connect, consume, relay, reconcile, export spans, answer health. Start-up is recovery.

All services are built alike: `app.py` wires a service once at start, `handlers.py` declares what it consumes, and this
module does the rest.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import structlog
import uvicorn
from faststream import ContextRepo
from nats.errors import Error as NatsError

from shared.config.model import Configuration
from shared.config.settings import Settings, SettingsError
from shared.messaging import outbox
from shared.messaging.bus import on_error, open_broker
from shared.messaging.client import connect
from shared.messaging.router import AnswerInvalid, Router
from shared.messaging.streams import BusError, check_consumers
from shared.runtime.context import ServiceContext
from shared.runtime.health import health_app
from shared.runtime.loops import EndService, Loop, repeat
from shared.runtime.metrics import OUTBOX_AGE_SECONDS
from shared.runtime.presence import record_pass
from shared.runtime.telemetry import fact_export_loop
from shared.storage.postgres import UNREACHABLE, Migration, Pool, check_migrated, is_read_only, open_pool

log = structlog.get_logger()

DATABASE_DEADLINE_S = 120
RELAY_POLL_S = 0.5
CONSUMER_CHECK_S = 10.0
CONNECTIONS_CHECK_S = 5.0
CANCEL_AGAIN_S = 1.0
START_AGAIN_S = 2.0


@dataclass(frozen=True)
class Service:
    """A wired service: its background loops, and the dependencies of its handlers besides the context."""

    reconcile: Callable[[], Awaitable[float | None]]  #: one pass; may return the seconds until the next one
    loops: tuple[Loop, ...] = ()
    start: Callable[[], Awaitable[None]] | None = None  #: runs once, before anything is consumed
    stop: Callable[[], Awaitable[None]] | None = None  #: runs once, while the connections are still open
    checks: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)  #: of its readiness; they raise
    dependencies: Mapping[str, object] = field(default_factory=dict)  #: handlers' parameters by name
    answer_invalid: AnswerInvalid | None = None


@dataclass(frozen=True)
class App:
    """The entry point of a service: its name, the router of its handlers, and the function that wires it."""

    name: str
    router: Router
    build: Callable[[ServiceContext], Service]
    #: Opens what clients use before the database and the bus are there; it stays open while they are away.
    open_door: Callable[[Settings, Configuration], AbstractAsyncContextManager[object]] | None = None


async def _nothing() -> None: ...


def main(
    app: App,
    settings: Settings,
    configuration: Configuration,
    port: int,
    migrations: Iterable[Migration],
    prepare: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    """Run a service process; returns after SIGTERM or SIGINT, exits where it is wrongly configured."""
    try:
        asyncio.run(serve(app, settings, configuration, port, migrations, prepare))
    except (SettingsError, EndService) as error:
        raise SystemExit(f"{app.name}: {error}") from None


async def serve(
    app: App,
    settings: Settings,
    configuration: Configuration,
    port: int,
    migrations: Iterable[Migration] = (),
    prepare: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    """Run a service until a signal.

    `port` serves health and metrics; `migrations` are the files that must have been applied; `prepare` makes database and
    bus ready for it.
    """
    run = partial(_prepare_and_serve, prepare, app, settings, configuration, port, migrations)
    if app.open_door is None:
        await run(None)
        return
    async with app.open_door(settings, configuration) as door:
        await _keep_running(partial(run, door))


async def _keep_running(run: Callable[[], Awaitable[None]]) -> None:
    """Run until a signal, and again after whatever ends it: the door is not closed for that."""
    while True:
        stop = _stop_at_signals()
        running = asyncio.ensure_future(run())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() or running.exception() is None:
                return
            log.warning("the service starts again, its door stays open", error=repr(running.exception()))
            await asyncio.wait({stopped}, timeout=START_AGAIN_S)
        finally:
            await _end([running, stopped])


async def _prepare_and_serve(
    prepare: Callable[[], Awaitable[None]],
    app: App,
    settings: Settings,
    configuration: Configuration,
    port: int,
    migrations: Iterable[Migration],
    door: object,
) -> None:
    await prepare()
    async with AsyncExitStack() as stack:
        pool = await _database(settings, app.name)
        stack.push_async_callback(pool.close)
        await check_migrated(pool, migrations)
        client = await connect(
            settings,
            app.name,
            name=f"{app.name}-relay",
            error_cb=on_error,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=10,
        )
        stack.push_async_callback(client.close)
        await check_consumers(client.jetstream(), app.router.subscriptions)
        context = ServiceContext(app.name, settings, pool, client, configuration, door)
        service = app.build(context)
        if service.stop:
            stack.push_async_callback(service.stop)
        if service.start:
            await service.start()
        stopping = asyncio.Event()
        injected = ContextRepo({"service": context, **service.dependencies})
        broker = open_broker(settings, app.name, pool, injected, service.answer_invalid, stopping)
        broker.include_router(app.router)
        await broker.start()
        stack.push_async_callback(broker.stop)
        stack.callback(stopping.set)
        await _run(app, service, context, port)


async def _database(settings: Settings, service: str) -> Pool:
    deadline = monotonic() + DATABASE_DEADLINE_S
    while True:
        try:
            return await open_pool(settings.database_url(service), service)
        except UNREACHABLE as error:
            if monotonic() > deadline:
                raise
            log.warning("database unreachable, trying again", error=str(error) or type(error).__name__)
            await asyncio.sleep(0.5)


async def _run(app: App, service: Service, context: ServiceContext, port: int) -> None:
    """Run all parts concurrently, until a signal or until one of them ends."""
    server = _web(app, service, context, port)
    stop = _stop_at_signals()
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(server.serve(), name="http"),
        *(asyncio.create_task(repeat(loop), name=loop.name) for loop in _loops(app, service, context)),
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


def _stop_at_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set from now on, instead of what they did before."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _loops(app: App, service: Service, context: ServiceContext) -> Iterable[Loop]:
    yield Loop(
        "reconcile", partial(_reconcile, service, context), context.configuration.runtime.reconcile_s, context.woken
    )
    yield Loop("relay", partial(_relay, context), RELAY_POLL_S)
    yield fact_export_loop(context)
    yield Loop("consumers", _ConsumerCheck(app, context).run, CONSUMER_CHECK_S)
    yield Loop("connections", partial(_renew_connections, context), CONNECTIONS_CHECK_S)
    yield from service.loops


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: a cancellation that meets a timeout in `wait_for` is lost in Python 3.11."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


def _web(app: App, service: Service, context: ServiceContext, port: int) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(
            health_app(context, app.router.subscriptions, service.checks),
            host=context.settings.host,
            port=port,
            log_level="warning",
            log_config=None,
            lifespan="off",
        )
    )
    # Signals are handled by the service: it stops consuming before its HTTP server stops.
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
    return server


async def _reconcile(service: Service, context: ServiceContext) -> float | None:
    pause_s = await service.reconcile()
    await record_pass(context.pool, context.service)
    context.reconciled_at = monotonic()
    return pause_s


async def _relay(context: ServiceContext) -> None:
    try:
        await outbox.relay_all(context.pool, context.nats)
    except NatsError as error:
        log.warning("outbox waits", error=str(error) or type(error).__name__)
    oldest = await outbox.get_oldest_unpublished(context.pool)
    OUTBOX_AGE_SECONDS.set(oldest.age_s if oldest else 0.0)


async def _renew_connections(context: ServiceContext) -> None:
    """Connect again while the database is read-only: a session keeps the setting that it began with."""
    if await is_read_only(context.pool):
        await context.pool.expire_connections()


class _ConsumerCheck:
    """Ends the process when its consumers stay missing, since the next start creates them; else it would starve silently."""

    def __init__(self, app: App, context: ServiceContext) -> None:
        self._app, self._context = app, context
        self._missing = 0

    async def run(self) -> None:
        try:
            await check_consumers(self._context.nats.jetstream(), self._app.router.subscriptions)
            self._missing = 0
        except NatsError:
            return
        except BusError as error:
            self._missing += 1
            log.error("consumer missing", error=str(error))
        if self._missing >= 2:
            raise EndService("consumers are missing; exiting so that the next start creates them")
