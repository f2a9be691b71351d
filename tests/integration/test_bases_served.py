"""Two bases on one anvil: the registry loads each version into the rune that serves the base it was trained on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from services.registry import store
from services.registry.bundle import ADAPTER, PROBES
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from services.registry.store import Version
from shared.config.model import AnvilConfig, Configuration, CovenConfig, RuneConfig
from shared.config.settings import PROJECT, Settings
from shared.config.tables import BaseConfig, PersonaConfig
from shared.drivers.inference.vllm import Vllm
from shared.runtime.context import ServiceContext
from shared.storage.base_model import Bases
from shared.storage.digests import digest_tree
from shared.storage.postgres import Pool
from tests.support.consents import crypt, harvested
from tests.support.running import eventually

__all__ = ["crypt"]  # the fixture


@dataclass(frozen=True)
class TwoBases:
    """An anvil whose two engines serve a base each."""

    context: ServiceContext
    engines: dict[str, Vllm]
    folder: Path

    async def add_version(self, crypt: Pool, persona: str, base: str) -> str:
        """A version that an alias points to, trained on the base of that digest."""
        bundle = self.folder / persona
        (bundle / ADAPTER).mkdir(parents=True)
        (bundle / ADAPTER / "weights").write_text(persona)
        (bundle / PROBES).write_text("[]")
        ritual: UUID = await harvested(crypt, persona, f"m-{persona}")
        version = Version(f"{persona}@1", persona, digest_tree(bundle / ADAPTER), base, ritual, str(bundle))
        async with crypt.acquire() as conn, conn.transaction():
            await store.insert_version(conn, version)
            await store.move_alias(conn, persona, version.name, ritual)
        return version.name


@pytest.fixture
async def two_bases(settings: Settings, crypt: Pool, tmp_path: Path) -> AsyncIterator[TwoBases]:
    for name in ("large", "small"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"name": "{name}"}}')
    configuration = Configuration(
        anvils={"anvil0": AnvilConfig()},
        runes={name: RuneConfig(base=name) for name in ("large", "small")},
        covens={"hearth": CovenConfig(anvil="anvil0", runes=("large", "small"))},
        bases={name: BaseConfig(path=tmp_path / name) for name in ("large", "small")},
        personas={"coder": PersonaConfig(base="small")},
    )
    context = ServiceContext("registry", settings, crypt, None, configuration)  # type: ignore[arg-type]
    command = (sys.executable, "-m", "tests.support.fakes.fake_vllm")
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 - a spawn is over at once
            (*command, "--served-model-name", name, "--port", str(port)), cwd=PROJECT
        )
        for name, port in configuration.ports(settings).items()
    ]
    engines = {name: Vllm(configuration.rune_url(settings, name)) for name in configuration.runes}

    async def all_answer() -> bool:
        return all([await engine.healthy() for engine in engines.values()])

    try:
        await eventually(all_answer, 20, "both engines answer")
        yield TwoBases(context, engines, tmp_path)
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_each_version_is_loaded_where_its_base_is_served_and_nowhere_else(
    two_bases: TwoBases, crypt: Pool
) -> None:
    bases = Bases(two_bases.context.settings, two_bases.context.configuration)
    scribe = await two_bases.add_version(crypt, "scribe", (await bases.get("large")).digest)
    coder = await two_bases.add_version(crypt, "coder", (await bases.get("small")).digest)
    await two_bases.add_version(crypt, "muse", "sha256:of-a-base-that-is-gone")

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    assert await two_bases.engines["large"].models() == {"large", scribe}
    assert await two_bases.engines["small"].models() == {"small", coder}


async def test_a_base_that_is_missing_delays_no_other(two_bases: TwoBases, crypt: Pool) -> None:
    bases = Bases(two_bases.context.settings, two_bases.context.configuration)
    coder = await two_bases.add_version(crypt, "coder", (await bases.get("small")).digest)
    (two_bases.folder / "large" / "config.json").unlink()

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    assert await two_bases.engines["small"].models() == {"small", coder}
