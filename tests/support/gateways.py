"""A gateway over small engines, and the registry's rows that it serves by, which the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai

from deploy.services import load_configuration
from services.gateway.app import app
from services.gateway.door import Door
from services.gateway.engines import Engines
from services.gateway.forward import Forwarder
from services.gateway.keys.key import hash_secret, make_secret
from shared.config.settings import ENGINE_SOCKET, Settings
from shared.drivers.inference.open import open_gate
from shared.storage.postgres import Pool
from tests.support.configurations import QUICK, configured
from tests.support.fakes.engines import FakeEngine, fake_engine
from tests.support.running import eventually
from tests.support.services import running

BASE = "base"


@dataclass
class Gateway:
    """The running gateway. `engines` by the name of their rune; `url` is where clients reach it."""

    settings: Settings
    admin: Pool
    folder: Path
    engines: dict[str, FakeEngine] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.settings.gateway_url

    def client(self, timeout_s: float = 30.0, key: str = "none") -> openai.AsyncOpenAI:
        """The stock client with nothing changed but address and key."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=timeout_s)

    async def add_key(self, *scopes: str, name: str = "tester", personas: Collection[str] | None = None) -> str:
        """Add a key with these scopes; returns its secret, once the gateway knows it."""
        secret = make_secret()
        await self.admin.execute(
            "INSERT INTO gateway.api_key (id, name, hash, scopes, personas) VALUES ($1, $2, $3, $4, $5)",
            f"key-{uuid4().hex[:12]}",
            name,
            hash_secret(secret),
            list(scopes),
            personas and list(personas),
        )

        async def is_known() -> bool:
            async with httpx.AsyncClient(base_url=self.url) as client:
                headers = {"authorization": f"Bearer {secret}"}
                return (await client.get("/v1/models", headers=headers)).status_code == 200

        await eventually(is_known, 10, "the gateway knows a key")
        return secret

    async def add_version(self, persona: str, digest: str, load: bool = True) -> tuple[str, UUID]:
        """Register a version, and load it into every engine; returns its name and its ritual."""
        name, ritual = f"{persona}@{digest}", uuid4()
        await self.admin.execute(
            "INSERT INTO public.ritual (id, intent_id, persona, intent, priority, state, trace_id) "
            "VALUES ($1, $2, $3, '{}', 5, 'awakened', '')",
            ritual,
            name,
            persona,
        )
        await self.admin.execute(
            "INSERT INTO registry.version (name, persona, adapter, base, ritual, bundle) VALUES ($1, $2, $3, 'b', $4, '')",
            name,
            persona,
            f"sha256:{digest}",
            ritual,
        )
        if load:
            await asyncio.gather(*(engine.vllm.load(name, self.folder) for engine in self.engines.values()))
        return name, ritual

    async def move_alias(self, persona: str, version: str) -> None:
        await self.admin.execute(
            "INSERT INTO registry.alias (persona, champion) VALUES ($1, $2) "
            "ON CONFLICT (persona) DO UPDATE SET champion = excluded.champion, previous = alias.champion",
            persona,
            version,
        )

    async def serves(self, *models: str) -> None:
        await serves(self.url, *models)


async def serves(url: str, *models: str) -> None:
    """Wait until a gateway lists these models as loaded."""

    async def listed() -> bool:
        async with httpx.AsyncClient(base_url=url, timeout=5) as client:
            try:
                cards = (await client.get("/v1/models")).json()["data"]
            except httpx.ConnectError:
                return False
        return set(models) <= {card["id"] for card in cards if card["soulforge"]["loaded"]}

    await eventually(listed, 30, f"the gateway serves {models}")


def list_routes(settings: Settings) -> list[tuple[str, str]]:
    """Every method and path of the door."""
    configuration = load_configuration(settings)
    engines = Engines(settings, configuration)
    routes: list[Any] = Door(settings, configuration, engines, Forwarder(engines, {}), None).app.routes
    return [(method, route.path) for route in routes for method in sorted(route.methods or {"any"}) if method != "HEAD"]


def tables_of(engines: int, folder: Path, limits: Mapping[str, object], reconcile_s: float = 30.0) -> dict[str, Any]:
    """The configuration of so many engines that something else runs. `limits` are those of `[gateway]`."""
    runes = [f"rune{number}" for number in range(engines)]
    engine = {"command": ["of", "the", "test", "{socket}"], "base": BASE, "max_loras": 4}
    return {
        "runtime": {
            **QUICK,
            "reconcile_s": reconcile_s,
        },  # what is decided reaches it by the announcement, not by a poll
        "gateway": dict(limits),
        "anvils": {"anvil0": {"accelerator": "cpu"}},
        "bases": {BASE: {"path": str(folder)}},
        "covens": {"hearth": {"anvil": "anvil0", "runes": runes}},
        "runes": dict.fromkeys(runes, engine),
    }


@asynccontextmanager
async def gateway_over(
    settings: Settings,
    admin: Pool,
    folder: Path,
    engines: int = 1,
    limits: Mapping[str, object] | None = None,
    reconcile_s: float = 30.0,
    **faults: Any,
) -> AsyncIterator[Gateway]:
    """A gateway over so many engines with these faults. `limits` are those of `[gateway]`."""
    async with AsyncExitStack() as stack:
        own = configured(settings, folder, **tables_of(engines, folder, limits or {}, reconcile_s))
        runes = load_configuration(own).runes
        started = {
            rune: await stack.enter_async_context(
                fake_engine(socket=settings.make_engine_dir(rune) / ENGINE_SOCKET, base=BASE, **faults)
            )
            for rune in runes
        }
        await stack.enter_async_context(running(app, own))
        for rune in runes:
            await open_gate(own, rune).open()
        yield Gateway(own, admin, folder, started)
