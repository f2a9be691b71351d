"""The embedded stack without Phoenix: real processes under the product's supervisor, a small engine, proxies before the servers."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

from deploy.bootstrap import prepare
from deploy.embedded import nats, part, postgres
from deploy.embedded.part import Part, PartState
from deploy.embedded.parts import parts
from deploy.embedded.stack import end_containers
from deploy.embedded.supervisor import Supervisor
from deploy.home import claim
from deploy.services import SERVICES
from shared.config.settings import DATABASE_SOCKET, PROJECT, Settings
from shared.config.tables import EMBEDDED_BASE
from shared.processes.identity import ProcessIdentity
from shared.storage.postgres import open_pool
from tests.chaos.partition import Proxy
from tests.support.harvests import example, remember
from tests.support.orchestrated import named_base
from tests.support.servers import admit_tester, free_port_base

ANVIL = "anvil0"
RUNE = f"rune-{ANVIL}-rune"
START_WITHIN_S = 20.0
LEASE_TTL_S = 6.0
NATS_PROXY = 40  # a port beyond the stack's own 32
NEEDED_TO_SERVE = ("postgres", "nats", "orchestrator", "gateway")
TOML = """
forge = "{anvil}"
[runtime]
lease_ttl_s = {lease_ttl_s}
reconcile_s = 0.3
[hand_over]
models_within_s = 5
reclaim_grace_s = 2
[harvest.likeness]
by_meaning = false
by_words = false
[jobs]
python = {python}
[anvils.{anvil}]
free_within_s = 5
[runes.rune]
command = [{python}, "-m", "tests.support.fakes.fake_vllm", "--uds", "{{socket}}", "--served-model-name", "{base}"]
env = {{ PYTHONPATH = "{project}", FAKE_VLLM_TOKEN_S = "0.001" }}
max_loras = 4
grace_s = 2
stop_grace_s = 2
start_within_s = {start_within_s}
[covens.hearth]
anvil = "{anvil}"
runes = ["rune"]
"""


class ChaosHouse:
    """One home and what runs for it. `settings` lead past the proxies, those of the services through them."""

    def __init__(self, folder: Path) -> None:
        home = folder / "home"
        claim(home)
        config = home / "soulforge.toml"
        config.write_text(
            TOML.format(
                anvil=ANVIL,
                lease_ttl_s=LEASE_TTL_S,
                python=json.dumps(sys.executable),
                base=EMBEDDED_BASE,
                project=PROJECT,
                start_within_s=START_WITHIN_S,
            )
        )
        models = folder / "models"
        named_base(models)
        self.settings = Settings(home=home, port_base=free_port_base(), models=models, config=config)
        postgres.initialise(self.settings)
        nats.initialise(self.settings)
        admit_tester(self.settings)
        base = self.settings.port_base
        self.nats = Proxy(base + NATS_PROXY, self.settings.port("nats"))
        self._postgres_relay = home / "relay" / DATABASE_SOCKET
        self.postgres = Proxy(self._postgres_relay, self.settings.database_socket_dir / DATABASE_SOCKET)
        url = f"nats://127.0.0.1:{base + NATS_PROXY}"
        self.through_proxy = Settings(home=home, port_base=base, nats=url)
        self.supervisor = Supervisor(home, self._parts(), self._note, lambda *_: None)
        self.notes: list[str] = []

    async def start(self) -> None:
        """Everything up, with karma for every ritual."""
        await self.nats.listen()
        await self.postgres.listen()
        # The usual delays of up to 30 s between restarts are for what fails by itself.
        patch.object(part, "LONGEST_DELAY_S", 0.5).start()
        await self.supervisor.start()
        await prepare(self.settings)
        pool = await open_pool(self.settings.database_url("harvester"), "harvester", size=1)
        await remember(pool, example("scribe"))
        await pool.close()

    async def close(self) -> None:
        """Stop everything. Raises PartError where something survives."""
        try:
            await self.supervisor.stop()
        finally:
            await end_containers(self.settings, self._note)
            await self.nats.close()
            await self.postgres.close()
            patch.stopall()

    def is_ready(self, name: str) -> bool:
        return self.supervisor.status[name].state is PartState.READY

    def process(self, name: str) -> ProcessIdentity | None:
        """The process of a part, while it runs."""
        tree = self.supervisor.status[name].tree
        return tree.leader if tree else None

    def _parts(self) -> list[Part]:
        ours = urlsplit(self.settings.database_url("bootstrap"))._replace(query=f"host={self._postgres_relay.parent}")
        addresses = {
            "SOULFORGE_NATS": self.through_proxy.nats_url,
            "SOULFORGE_DATABASE": ours.geturl(),
            "PYTHONPATH": str(PROJECT),
        }
        found = []
        for one in parts(self.settings, {**os.environ, **addresses}):
            if one.name in SERVICES:
                one = replace(one, command=(sys.executable, "-m", "tests.chaos.service", one.name))
            found += [one] if one.name != "phoenix" else []
        return found

    def _note(self, line: str) -> None:
        self.notes.append(line)
