"""Damage in the Crypt: a ritual whose bundle cannot be loaded ends, and a persona that does not serve is shown as such."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import httpx
import pytest

from services.gateway import app as gateway
from services.registry import app as registry
from services.registry import reconcile, serving, views
from services.registry.bundle import ADAPTER, PROBES
from services.registry.reconcile import SOON_S, Registry
from services.registry.settings import RegistrySettings
from services.registry.store import Version
from shared.contracts.forge import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterFailed
from shared.contracts.ritual import State
from shared.drivers.inference.vllm import Vllm
from shared.ritual import lease, ledger
from shared.runtime import advance
from shared.storage.postgres import Pool
from tests.support.consents import Tell, told
from tests.support.crypts import MAX_ERRORS, TwoBases, crypt, two_bases
from tests.support.services import running

__all__ = ["crypt", "told", "two_bases"]  # the fixtures

pytestmark = pytest.mark.timeout(60)

WEIGHTS = f"{ADAPTER}/{ADAPTER_WEIGHTS}"
REMEDY = "restore the Crypt from a backup, or train again"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(serving, "RETRY_S", 0.2)


def flip(two_bases: TwoBases, version: Version) -> None:
    two_bases.damage(version, WEIGHTS)


def remove(_: TwoBases, version: Version) -> None:
    (Path(version.bundle) / ADAPTER / ADAPTER_CONFIG).unlink()


def break_probes(_: TwoBases, version: Version) -> None:
    (Path(version.bundle) / PROBES).write_text("[{")


def put_a_pipe(_: TwoBases, version: Version) -> None:
    (Path(version.bundle) / WEIGHTS).unlink()
    os.mkfifo(Path(version.bundle) / WEIGHTS)


def refuse(two_bases: TwoBases, _: Version) -> None:
    two_bases.fail(no_adapters=True)


def crash(two_bases: TwoBases, _: Version) -> None:
    two_bases.fail(exits_at_load=True)


DAMAGES = {
    flip: f"does not hold the adapter that was verified; {REMEDY}",
    remove: f"adapter/adapter_config.json is missing; {REMEDY}",
    break_probes: "probes.json is not JSON",
    put_a_pipe: "is not a regular file",
    refuse: "loads no adapters on demand",
    crash: "the engine does not load",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
async def test_a_registered_version_that_cannot_be_loaded_ends_its_ritual_with_the_reason(
    two_bases: TwoBases, crypt: Pool, damage: Callable[[TwoBases, Version], Awaitable[None] | None], reason: str
) -> None:
    version = await two_bases.add_registered("scribe", 0.1)
    if done := damage(two_bases, version):
        await done
    service = Registry(two_bases.context, RegistrySettings())

    await until_ended(two_bases, service, version)

    failed = await ledger.get_fact(crypt, version.ritual, AdapterFailed)
    assert failed and reason in failed.reason and f"{MAX_ERRORS} times" in failed.reason


async def until_ended(two_bases: TwoBases, service: Registry, version: Version) -> None:
    deadline = monotonic() + 20
    while await ledger.list_rituals(two_bases.context.pool, State.REGISTERED):
        assert monotonic() < deadline, "the ritual stays registered"
        await service.reconcile()
        await asyncio.sleep(0.2)  # the next try is due
        if not await two_bases.engines["large"].healthy():
            await service.reconcile()
            await two_bases.start("large")


async def test_the_version_before_serves_in_place_of_a_damaged_one_until_that_is_repaired(
    two_bases: TwoBases, crypt: Pool
) -> None:
    before, wanted = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    coder = await two_bases.add_version("coder")
    whole = (Path(wanted.bundle) / WEIGHTS).read_bytes()
    two_bases.damage(wanted, WEIGHTS)
    service = Registry(two_bases.context, RegistrySettings())

    await service.reconcile()

    assert await two_bases.engines["large"].models() == {"large", before.name}
    assert await two_bases.engines["small"].models() == {"small", coder.name}
    trouble = await only_trouble(crypt)
    assert trouble.startswith(f"{wanted.name} does not serve: bundle {wanted.bundle} does not hold")
    assert trouble.endswith(f"{REMEDY} ({before.name} serves in its place)")
    assert await views.list_aliases(crypt) == {"scribe": before.name, "coder": coder.name}

    (Path(wanted.bundle) / WEIGHTS).write_bytes(whole)
    await asyncio.sleep(serving.RETRY_S)
    await service.reconcile()

    assert wanted.name in await two_bases.engines["large"].models()
    assert await views.list_aliases(crypt) == {"scribe": wanted.name, "coder": coder.name}
    assert not [served.trouble for served in await views.list_served(crypt) if served.trouble]


async def only_trouble(crypt: Pool) -> str:
    [trouble] = [served.trouble for served in await views.list_served(crypt) if served.trouble]
    return trouble


async def test_damage_is_found_at_the_start_also_while_an_engine_has_the_version_loaded(
    two_bases: TwoBases, crypt: Pool
) -> None:
    before, wanted = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    await Registry(two_bases.context, RegistrySettings()).reconcile()
    assert await two_bases.engines["large"].models() == {"large", before.name, wanted.name}
    two_bases.damage(wanted, WEIGHTS)

    await Registry(two_bases.context, RegistrySettings()).reconcile()

    assert await views.list_aliases(crypt) == {"scribe": before.name}
    assert "serves in its place" in await only_trouble(crypt)


async def test_a_damaged_version_before_is_no_trouble_until_it_would_have_to_serve(
    two_bases: TwoBases, crypt: Pool
) -> None:
    before, wanted = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    two_bases.damage(before, WEIGHTS)
    service = Registry(two_bases.context, RegistrySettings())
    await service.reconcile()
    assert await views.list_aliases(crypt) == {"scribe": wanted.name}
    assert [bool(version.fault) for version in await views.list_versions(crypt)] == [False, True]

    two_bases.damage(wanted, WEIGHTS)
    await two_bases.start("large")
    await service.reconcile()

    assert "nothing serves for scribe" in await only_trouble(crypt)
    assert await two_bases.engines["large"].models() == {"large"}


async def test_an_engine_that_refuses_a_version_is_a_fault_and_one_that_is_away_is_not(
    two_bases: TwoBases, crypt: Pool
) -> None:
    wanted = await two_bases.add_version("scribe")
    service = Registry(two_bases.context, RegistrySettings())
    two_bases.stop("large")
    assert await service.reconcile() == SOON_S, "an engine that is away is asked again soon"
    assert await views.list_aliases(crypt) == {"scribe": wanted.name}

    two_bases.fail(no_adapters=True)
    await two_bases.start("large")
    await service.reconcile()
    assert "the engine does not load it" in await only_trouble(crypt)

    two_bases.fail()
    await asyncio.sleep(serving.RETRY_S)
    assert await service.reconcile() is None
    assert await views.list_aliases(crypt) == {"scribe": wanted.name}


@pytest.mark.parametrize("fault", ["exits_at_load", "exits_at_answer"])
async def test_the_version_before_serves_in_place_of_one_that_ends_the_engine_twice(
    two_bases: TwoBases, crypt: Pool, fault: str
) -> None:
    before, wanted = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    service = Registry(two_bases.context, RegistrySettings())
    two_bases.fail(**{fault: True})

    await service.reconcile()
    assert await service.reconcile() == SOON_S
    assert await views.list_aliases(crypt) == {"scribe": wanted.name}, "once may be chance"

    await two_bases.start("large")
    await service.reconcile()
    trouble = await only_trouble(crypt)
    assert "it ended the engine 2 times in a row" in trouble and f"({before.name} serves in its place)" in trouble

    two_bases.fail()
    await two_bases.start("large")
    await service.reconcile()
    assert await two_bases.engines["large"].models() == {"large", before.name}

    two_bases.fail(**{fault: True})
    await asyncio.sleep(serving.RETRY_S)
    await service.reconcile()
    assert await two_bases.engines["large"].healthy(), "it is not tried again until the registry starts"


async def test_an_engine_that_ends_while_the_anvil_is_handed_over_counts_against_no_version(
    two_bases: TwoBases, crypt: Pool, admin: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await two_bases.add_version("scribe")
    service, fences = Registry(two_bases.context, RegistrySettings()), []

    class HandedOver(Vllm):
        async def load(self, name: str, path: Path) -> None:
            fences.append(await lease.acquire(admin, "anvil0", wanted.ritual, 1, 60))
            two_bases.stop("large")
            await super().load(name, path)

    large = HandedOver(two_bases.engines["large"].url)
    monkeypatch.setattr(reconcile, "open_rune", lambda *_, **__: large)
    for _ in range(3):
        await service.reconcile()
        await lease.release(admin, "anvil0", fences[-1] or 0)
        await two_bases.start("large")

    assert len(fences) == 3
    assert await views.list_aliases(crypt) == {"scribe": wanted.name}


async def test_the_version_that_served_is_the_one_before_the_next(two_bases: TwoBases, crypt: Pool) -> None:
    whole, damaged = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    two_bases.damage(damaged, WEIGHTS)
    await Registry(two_bases.context, RegistrySettings()).reconcile()

    await two_bases.add_version("scribe", 0.3)

    assert await crypt.fetchval("SELECT previous FROM alias") == whole.name


async def test_a_persona_that_does_not_serve_is_shown_everywhere(
    two_bases: TwoBases, told: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = two_bases.context.settings
    monkeypatch.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
    monkeypatch.setenv("SOULFORGE_CONFIG", str(settings.config))
    wanted = await two_bases.add_version("scribe")
    two_bases.damage(wanted, WEIGHTS)

    async with running(gateway.app, settings), running(registry.app, settings) as url, httpx.AsyncClient() as client:
        deadline = monotonic() + 20
        while "serving" not in (answer := await client.get(f"{url}/health/ready")).text:
            assert monotonic() < deadline, answer.text
            await asyncio.sleep(0.1)
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        reasons = answer.json()["reasons"]
        code, status, _ = await told("status")
        _, listed, _ = await told("adapters")
        asked, _, error = await told("ask", "scribe", "hello")

    trouble = f"{wanted.name} does not serve: bundle {wanted.bundle}"
    assert any(trouble in reason for reason in reasons)
    assert code and asked
    for shown in (status, listed, error):
        assert flat(trouble) in flat(shown) and flat(REMEDY) in flat(shown)
    assert flat("persona scribe") in flat(status)


def flat(text: str) -> str:
    """Without the breaks of lines."""
    return "".join(text.split())
