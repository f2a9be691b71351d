"""Versions in a real Crypt, and two small engines on one anvil that serve a base each and the versions trained on it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.registry import store
from services.registry.bundle import ADAPTER, PROBES, version_name
from services.registry.store import Version
from shared.config.model import AnvilConfig, Configuration, CovenConfig, RuneConfig
from shared.config.settings import ENGINE_SOCKET, PROJECT, Settings
from shared.config.tables import BaseConfig, PersonaConfig, RuntimeConfig
from shared.contracts.evacuate import GpuRestored
from shared.contracts.forge import AdapterForged
from shared.contracts.message import Fact
from shared.contracts.probe import Probe
from shared.contracts.registry import AdapterRegistered
from shared.contracts.verify import AdapterVerified, Champion, ChampionEvidence, Rank
from shared.drivers.inference.vllm import Vllm
from shared.ritual import ledger
from shared.ritual.ledger import AttemptKey
from shared.runtime.context import ServiceContext
from shared.storage.base_model import Bases
from shared.storage.digests import digest_file, digest_tree
from shared.storage.postgres import Pool
from tests.support.adapters import save_adapter
from tests.support.bundles import write_evidence
from tests.support.consents import crypt, harvested, make_champion
from tests.support.facts import TRAINING
from tests.support.probes import fake_probes
from tests.support.running import eventually
from tests.unit.cli.rows import VERDICT

__all__ = ["crypt"]  # the fixture

MAX_ERRORS = 2
MODELS = {"scribe": "large", "coder": "small"}


@dataclass(frozen=True)
class TwoBases:
    """An anvil whose two engines serve a base each. `faults` is what both engines get wrong; see vllm_faults.py."""

    context: ServiceContext
    harvester: Pool
    engines: dict[str, Vllm]
    folder: Path
    faults: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def start(self, base: str, model: str | None = None) -> None:
        """Start the engine of a base, again where it runs; returns when it answers. `model`: the base is another one."""
        self.stop(base)
        socket = self.context.settings.make_engine_dir(base) / ENGINE_SOCKET
        command = (
            sys.executable,
            "-m",
            "tests.support.fakes.fake_vllm",
            "--served-model-name",
            model or base,
            "--uds",
            str(socket),
        )
        env = {**os.environ, "FAKE_VLLM_FILE": str(self.faults)}
        self.processes[base] = subprocess.Popen(command, cwd=PROJECT, env=env)  # noqa: ASYNC220 - a spawn is over at once
        await eventually(self.engines[base].healthy, 20, f"the engine of {base} answers")

    def stop(self, base: str) -> None:
        if process := self.processes.get(base):
            process.kill()
            process.wait()

    async def digest(self, base: str) -> str:
        return (await Bases(self.context.settings, self.context.configuration).get(base)).digest

    async def add_version(self, persona: str, value: float = 0.1, base: str | None = None) -> Version:
        """A version that the persona's alias points to; another `value` is another adapter."""
        version = await self._freeze(persona, value, base or await self.digest(MODELS[persona]))
        async with self.context.pool.acquire() as conn, conn.transaction():
            await make_champion(conn, persona, version.name, version.ritual)
        return version

    async def add_registered(self, persona: str, value: float, rank: Rank = Rank.NON_INFERIOR) -> Version:
        """A version of a ritual that waits for its awakening, with inference restored; `rank`: beside the champion of now."""
        version = await self._freeze(persona, value, await self.digest(MODELS[persona]), "verified")
        await self._register(version, version.ritual, rank)
        return version

    async def add_verified(self, persona: str, value: float) -> str:
        """An adapter in the Lab that passed, with inference restored; returns the name of the version that it will be."""
        run = self.folder / f"run-{persona}-{value}"
        run.mkdir()
        adapter = digest_tree(path := self.save_adapter(run / "adapter", value))
        name = version_name(persona, adapter)
        results = run / "results.json"
        results.write_text(json.dumps({"probes": _written(await self.probes_of(name, path))}))
        ritual = await harvested(self.harvester, name, "m", "evacuated")
        of: AttemptKey = {"ritual": ritual, "persona": persona, "attempt": 1}
        base = await self.digest(MODELS[persona])
        forged = {"path": str(path), "base": base, "recipe": "default", "fence": 1, "training": TRAINING}
        await self._record(AdapterForged(**of, adapter=adapter, **forged))
        evidence, _ = write_evidence(run, adapter)
        await self._record(await self._passed(of, adapter, results, evidence))
        await self._record(GpuRestored(**of, anvil="anvil0", seconds_without_inference=1))
        return name

    async def register_again(self, version: Version) -> UUID:
        """A later ritual that made the same adapter, and waits for its awakening."""
        ritual = await harvested(self.harvester, f"again {version.name} {uuid4()}", "m", "verified")
        await self._register(version, ritual)
        return ritual

    async def _register(self, version: Version, ritual: UUID, rank: Rank = Rank.NON_INFERIOR) -> None:
        of: AttemptKey = {"ritual": ritual, "persona": version.persona, "attempt": 1}
        await self._record_passed(of, version.adapter, rank)
        await self._record(
            AdapterRegistered(**of, adapter=version.adapter, version=version.name, bundle=version.bundle)
        )
        await self._record(GpuRestored(**of, anvil="anvil0", seconds_without_inference=1))

    def damage(self, version: Version, file: str = f"{ADAPTER}/adapter_model.safetensors") -> Path:
        """Flip a bit of a file in its bundle, and return the file."""
        damaged = Path(version.bundle) / file
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
        return damaged

    def fail(self, **faults: bool | float) -> None:
        self.faults.write_text(json.dumps(faults))

    def save_adapter(self, folder: Path, value: float) -> Path:
        return save_adapter(folder, value)

    async def probes_of(self, version: str, adapter: Path) -> tuple[Probe, ...]:
        return fake_probes(version)

    async def _freeze(self, persona: str, value: float, base: str, state: str = "awakened") -> Version:
        bundle = self.folder / f"{persona}-{value}"
        bundle.mkdir()
        adapter = digest_tree(path := self.save_adapter(bundle / ADAPTER, value))
        name = version_name(persona, adapter)
        (bundle / PROBES).write_text(json.dumps(_written(await self.probes_of(name, path))))
        ritual: UUID = await harvested(self.harvester, name, f"m-{name}", state)
        version = Version(name, persona, adapter, base, ritual, str(bundle))
        async with self.context.pool.acquire() as conn, conn.transaction():
            await store.insert_version(conn, version)
        return version

    async def _passed(
        self, of: AttemptKey, adapter: str, results: Path, evidence: Path, rank: Rank = Rank.NON_INFERIOR
    ) -> AdapterVerified:
        """The verdict of an adapter that passed, compared with the champion of now."""
        row = await self.context.pool.fetchrow(
            "SELECT v.name, v.adapter FROM alias a JOIN version v ON v.name = a.champion WHERE a.persona = $1",
            of["persona"],
        )
        champion = Champion(version=row["name"], adapter=row["adapter"]) if row else None
        compared = ChampionEvidence(rank=rank, reason=f"It is {rank}.", champion=champion)
        return AdapterVerified(
            **of,
            adapter=adapter,
            decision="promote",
            reasons=(),
            verdict=VERDICT.model_copy(update={"champion": compared}),
            results=str(results),
            evidence=str(evidence),
            evidence_digest=digest_file(evidence) if evidence.exists() else "",
        )

    async def _record_passed(self, of: AttemptKey, adapter: str, rank: Rank) -> None:
        """Record the verdict of a ritual that is past it already."""
        fact = await self._passed(of, adapter, self.folder / "results.json", self.folder / "evidence.json", rank)
        await self.context.pool.execute(
            "INSERT INTO ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at) "
            "VALUES ($1, $2, $3, $4, 'verifier', 1, 'forged', 'verified', $5, clock_timestamp())",
            fact.event_id,
            fact.ritual,
            fact.subject,
            fact.step,
            fact.details(),
        )

    async def _record(self, fact: Fact) -> None:
        async with self.context.pool.acquire() as conn, conn.transaction():
            assert await ledger.record_fact(conn, fact, "registry", datetime.now(UTC))


def _written(probes: tuple[Probe, ...]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in probes]


@pytest.fixture
async def two_bases(settings: Settings, crypt: Pool, pool: Pool, tmp_path: Path) -> AsyncIterator[TwoBases]:
    async with over_two_bases(settings, crypt, pool, tmp_path) as one:
        yield one


@asynccontextmanager
async def over_two_bases(settings: Settings, crypt: Pool, pool: Pool, folder: Path) -> AsyncIterator[TwoBases]:
    for name in ("large", "small"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(f'{{"name": "{name}"}}')
    configuration = Configuration(
        anvils={"anvil0": AnvilConfig()},
        runes={name: RuneConfig(base=name) for name in ("large", "small")},
        covens={"hearth": CovenConfig(anvil="anvil0", runes=("large", "small"))},
        bases={name: BaseConfig(path=folder / name) for name in ("large", "small")},
        personas={"coder": PersonaConfig(base="small")},
        runtime=RuntimeConfig(max_errors=MAX_ERRORS),
    )
    context = ServiceContext("registry", settings, crypt, None, configuration)  # type: ignore[arg-type]
    engines = {name: Vllm(configuration.rune_url(settings, name)) for name in configuration.runes}
    one = TwoBases(context, pool, engines, folder, folder / "faults.json")
    try:
        await asyncio.gather(*(one.start(base) for base in engines))
        yield one
    finally:
        for base in one.processes:
            one.stop(base)
