"""The real servers of a test session: PostgreSQL and NATS as the embedded stack starts them, on ports of their own."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from deploy.bootstrap import prepare
from deploy.embedded import nats, postgres
from deploy.home import claim
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.messaging.client import inbox_of
from tests.support.configurations import configured

READY_S = 60
TESTER = "tester"  # a role on the bus that may do everything


PORTS = 50
_claims: list[socket.socket] = []


def free_port_base() -> int:
    """A base from which nothing of the stack's ports is taken, claimed until this process ends.

    The claim is a bound socket on the last port: test processes side by side never get the same base.
    """
    places = list(range(20_000, 32_000, PORTS))
    random.shuffle(places)
    for base in places:
        last = socket.socket()
        try:
            last.bind(("127.0.0.1", base + PORTS - 1))
        except OSError:
            last.close()
            continue
        _claims.append(last)
        if all(_free(base + offset) for offset in range(32)):
            return base
    raise RuntimeError("no free ports between 20000 and 32000")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """One server process that a test may kill and start again."""

    def __init__(self, command: tuple[str, ...], ready: object, log: Path) -> None:
        self.command = command
        self.ready = ready
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - a spawn is over at once
                self.command, stdout=file, stderr=file, start_new_session=True, umask=0o077
            )
        deadline = monotonic() + READY_S
        while not await self.ready():  # type: ignore[operator]
            if self.process.poll() is not None or monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} did not start: {self.log.read_text()[-500:]}")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def admit_tester(settings: Settings) -> None:
    """Add a role to the configuration of NATS that may do everything, as a test needs it to play every part."""
    file = nats.config_file(settings)
    config = json.loads(file.read_text())
    key = nats.public_key(settings.bus_keys_dir / f"{TESTER}.nk")
    users = config["authorization"]["users"]
    for user in users:
        if TrainingIntent.subject in user["permissions"]["subscribe"]["allow"]:
            user["permissions"]["publish"]["allow"].append(f"{inbox_of(TESTER)}.>")  # it is answered as all others are
    users.append({"nkey": key, "permissions": {"publish": ">", "subscribe": ">"}})
    file.write_text(json.dumps(config))


class House:
    """Settings of a house with a real database and a real bus, and the servers behind them."""

    def __init__(self, home: Path) -> None:
        claim(home)
        self.settings = configured(Settings(home=home, port_base=free_port_base()), home)
        postgres.initialise(self.settings)
        nats.initialise(self.settings)
        admit_tester(self.settings)
        self.postgres = Server(
            postgres.command(self.settings), lambda: postgres.ready(self.settings), home / "postgres.log"
        )
        self.nats = Server(nats.command(self.settings), lambda: nats.ready(self.settings), home / "nats.log")


def use_database(settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands use another home with this database."""
    shutil.copytree(settings.home / "secrets" / "database", home / "secrets" / "database")
    monkeypatch.setenv("SOULFORGE_HOME", str(home))
    monkeypatch.setenv("SOULFORGE_DATABASE", settings.database_url("bootstrap"))


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="soulforge-test-") as folder:
        one = House(Path(folder) / "home")
        await asyncio.gather(one.postgres.start(), one.nats.start())
        try:
            await prepare(one.settings)
            yield one
        finally:
            one.nats.stop()
            one.postgres.stop()
