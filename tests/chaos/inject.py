"""Make the faults of a plan happen, and keep a log of those that met something."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import asyncpg
from nats.errors import Error as NatsError

from deploy.services import SERVICES, subscriptions
from shared.contracts.evacuate import GpuReclaim
from shared.contracts.intent import RitualCancel
from shared.contracts.roles import Role
from shared.drivers.containers.port import ContainerState
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.containers.state import State
from shared.messaging.client import connect
from shared.processes.identity import send, wait_ended
from shared.processes.tree import send_all
from shared.storage.postgres import UNREACHABLE
from tests.chaos.house import LEASE_TTL_S, RUNE, ChaosHouse
from tests.chaos.job import LONG_S, duration_s
from tests.chaos.schedule import Fault, Kind
from tests.support.clock import step_clock
from tests.support.poison import poison_bodies, poison_headers, valid_body
from tests.support.raw_bus import raw_connection
from tests.support.servers import TESTER

FINDS_WITHIN_S = 12.0
UNDONE_WITHIN_S = 90.0
MOST_CONNECTIONS = 140
CLOCK_STEP_S = 3600
POLL_S = 0.05
READ_ONLY = ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
READ_WRITE = ("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
# Some poison is a valid reclaim, which keeps every ritual waiting for ten minutes.
POISONED = [one.message for one in subscriptions() if one.message is not GpuReclaim]
AWAY = (*UNREACHABLE, asyncpg.PostgresError, NatsError)


@dataclass(frozen=True)
class Fired:
    """A fault that met something: when, and what it was."""

    at_s: float
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s  {self.kind}: {self.what}"


class Injector:
    """Carries out faults, also several at a time."""

    def __init__(self, house: ChaosHouse) -> None:
        self.house = house
        self.fired: list[Fired] = []
        self.missed: list[Fault] = []
        self.rune_killed_at = 0.0
        self.broken: set[Fault] = set()  #: faults that last, and keep the orchestrator from what it needs to serve
        self._containers = ProcessContainers(house.settings.containers_dir)
        self._stops_owner = asyncio.Lock()
        self._began = monotonic()
        settings = house.settings
        self._by_kind: dict[Kind, Callable[[Fault], Awaitable[str | None]]] = {
            Kind.KILL_SERVICE: lambda fault: self._kill_parts(fault.service),
            Kind.KILL_SERVICES: lambda _: self._kill_parts(*SERVICES),
            Kind.KILL_NATS: lambda _: self._kill_parts("nats"),
            Kind.KILL_POSTGRES: lambda _: self._kill_parts("postgres"),
            Kind.WIPE_JETSTREAM: lambda _: self._wipe(),
            Kind.STOP_SERVICE: self._stop_service,
            Kind.STOP_OWNER: lambda _: self._stop_owner(),
            Kind.STALL_NATS: lambda fault: self._lasting(fault, house.nats.stall(fault.seconds)),
            Kind.CUT_NATS: lambda fault: self._lasting(fault, house.nats.cut(fault.seconds)),
            Kind.STALL_POSTGRES: lambda fault: self._lasting(fault, house.postgres.stall(fault.seconds)),
            Kind.CUT_POSTGRES: lambda fault: self._lasting(fault, house.postgres.cut(fault.seconds)),
            Kind.READ_ONLY: lambda fault: self._lasting(
                fault, read_only(settings.database_url("bootstrap"), fault.seconds)
            ),
            Kind.STARVED: lambda fault: self._lasting(fault, starve(settings.database_url("bootstrap"), fault.seconds)),
            Kind.CLOCK: self._step_clock,
            Kind.KILL_SHIM: partial(self._kill_job, shim=True),
            Kind.KILL_PAYLOAD: partial(self._kill_job, shim=False),
            Kind.KILL_RUNE: lambda _: self._kill_rune(),
            Kind.POISON: self._poison,
            Kind.CANCEL: self._cancel,
        }

    async def run(self, plan: list[Fault]) -> None:
        """Every fault at its time; returns when all are over and undone."""
        self._began = monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in plan:
                await asyncio.sleep(max(0.0, self._began + fault.at_s - monotonic()))
                group.create_task(self._fire(fault))

    def elapsed_s(self) -> float:
        return monotonic() - self._began

    async def _fire(self, fault: Fault) -> None:
        at_s = self.elapsed_s()
        what = None
        with suppress(*AWAY):
            what = await self._by_kind[fault.kind](fault)
        if what is None:
            self.missed.append(fault)
        else:
            self.fired.append(Fired(round(at_s, 1), fault.kind, what))

    async def _kill_parts(self, *names: str) -> str | None:
        killed = [name for name in names if (one := self.house.process(name)) and send(one, signal.SIGKILL)]
        return ", ".join(killed) or None

    async def _wipe(self) -> str | None:
        process = self.house.process("nats")
        if not process or not send(process, signal.SIGKILL):
            return None
        await asyncio.to_thread(wait_ended, process, 5.0)
        shutil.rmtree(self.house.settings.home / "nats" / "jetstream", ignore_errors=True)
        return "its store is removed"

    async def _stop_service(self, fault: Fault) -> str | None:
        process = self.house.process(fault.service)
        if not process or not send(process, signal.SIGSTOP):
            return None
        if fault.service == "orchestrator":
            self.broken.add(fault)
        await asyncio.sleep(fault.seconds)
        send(process, signal.SIGCONT)
        self.broken.discard(fault)
        return f"{fault.service} for {fault.seconds} s"

    async def _stop_owner(self) -> str | None:
        if self._stops_owner.locked():  # the pauses would add up
            return None
        async with self._stops_owner:
            return await self._stop_owner_of(await self._find_job(LONG_S - 1))

    async def _stop_owner_of(self, name: str | None) -> str | None:
        owner = name and self.house.process("forge" if name.startswith("trainer") else "verifier")
        if not owner or not send(owner, signal.SIGSTOP):
            return None
        await asyncio.sleep(LEASE_TTL_S + 3)
        send(owner, signal.SIGCONT)
        return f"that of {name} for {LEASE_TTL_S + 3} s"

    async def _lasting(self, fault: Fault, work: Awaitable[None]) -> str:
        self.broken.add(fault)
        try:
            await work
        finally:
            self.broken.discard(fault)
        return f"for {fault.seconds} s"

    async def _kill_job(self, fault: Fault, shim: bool) -> str | None:
        name = await self._find_job()
        if name is None:
            return None
        await asyncio.sleep(fault.number % 10 / 10)
        state = State(self.house.settings.containers_dir / name)
        run = state.run()
        killed = bool(run and send(run.shim, signal.SIGKILL)) if shim else send_all(state.payload(), signal.SIGKILL)
        return name if killed else None

    async def _find_job(self, least_s: float = 0.0) -> str | None:
        """The name of a running job that takes at least so long, waited for a while."""
        deadline = monotonic() + FINDS_WITHIN_S
        while monotonic() < deadline:
            for info in await self._containers.list({}):
                right = info.name != RUNE and duration_s(info.name) >= least_s
                if right and info.state is ContainerState.RUNNING:
                    return info.name
            await asyncio.sleep(POLL_S)
        return None

    async def _step_clock(self, fault: Fault) -> str | None:
        seconds = CLOCK_STEP_S if fault.number % 2 else -CLOCK_STEP_S
        connection = await asyncpg.connect(self.house.settings.database_url("bootstrap"), timeout=5)
        try:
            return f"by {seconds} s" if await step_clock(connection, seconds) else None
        finally:
            connection.terminate()

    async def _kill_rune(self) -> str | None:
        state = State(self.house.settings.containers_dir / RUNE)
        if not await asyncio.to_thread(lambda: send_all(state.payload(), signal.SIGKILL)):
            return None
        self.rune_killed_at = monotonic()
        return RUNE

    async def _poison(self, fault: Fault) -> str:
        draw = random.Random(fault.number)
        message = draw.choice(POISONED)
        name, body = draw.choice(sorted(poison_bodies(valid_body(message), draw).items()))
        headers = (
            draw.choice([(None, None), *sorted(poison_headers(draw).items())]) if draw.random() < 0.5 else (None, None)
        )
        settings = self.house.settings
        async with asyncio.timeout(5), raw_connection(settings, settings.bus_key(TESTER)) as publisher:
            publisher.publish(message.subject, body, headers[1])
            with suppress(ConnectionError):
                await publisher.flush()
        return f"{message.subject}: {name}" + (f", headers: {headers[0]}" if headers[0] else "")

    async def _cancel(self, fault: Fault) -> str | None:
        connection = await asyncpg.connect(self.house.settings.database_url("bootstrap"), timeout=5)
        open_ = await connection.fetch("SELECT id FROM ritual WHERE ended_at IS NULL ORDER BY created_at")
        await connection.close()
        if not open_:
            return None
        ritual = open_[fault.number % len(open_)]["id"]
        client = await connect(self.house.settings, Role.PUBLISHER, allow_reconnect=False, connect_timeout=5)
        try:
            await client.jetstream().publish(
                RitualCancel.subject, RitualCancel(ritual=ritual).model_dump_json().encode()
            )
        finally:
            await client.close()
        return str(ritual)


async def read_only(url: str, seconds: float) -> None:
    """For all sessions, also those that are open. Undone whatever happens: the server keeps the setting when it restarts."""
    try:
        await _run(url, READ_ONLY)
        await asyncio.sleep(seconds)
    finally:
        deadline = monotonic() + UNDONE_WITHIN_S
        while not await _writable(url) and monotonic() < deadline:
            await asyncio.sleep(0.2)


async def _writable(url: str) -> bool:
    with suppress(*AWAY):
        await _run(url, READ_WRITE)
        return True
    return False


async def _run(url: str, statements: tuple[str, ...]) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        url, timeout=5, server_settings={"default_transaction_read_only": "off"}
    )
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        connection.terminate()


async def starve(url: str, seconds: float) -> None:
    """Take every connection that the server has left."""
    taken: list[asyncpg.Connection[Any]] = []
    try:
        with suppress(*AWAY):
            while len(taken) < MOST_CONNECTIONS:
                taken.append(await asyncpg.connect(url, timeout=5))
        await asyncio.sleep(seconds)
    finally:
        for connection in taken:
            connection.terminate()
