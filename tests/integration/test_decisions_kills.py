"""kill -9 of the registry at every effect between verification and awakening, and while versions are promoted, rolled back, withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count, pairwise

import pytest

from services.registry import store, views
from services.registry.decisions import RefusedError, decide
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from services.registry.store import Version
from shared.config.tables import PersonaConfig
from shared.contracts.registry import Action, AdapterAwakened, AdapterDecide
from shared.contracts.ritual import State
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.consents import crypt
from tests.support.crypts import TwoBases, two_bases
from tests.support.killed import Work, run_killed

__all__ = ["crypt", "two_bases"]  # the fixtures

pytestmark = pytest.mark.timeout(180)

Prepare = Callable[[], Awaitable[Work]]
Check = Callable[[Work], Awaitable[None]]


async def killed_everywhere(bases: TwoBases, crypt: Pool, prepare: Prepare, check: Check) -> list[str]:
    """Kill the same work at one effect after another, each time on what `prepare` made, and let it go on; where the kills were."""
    kills: list[str] = []
    for place in count():
        work = await prepare()
        where = await asyncio.to_thread(run_killed, work, place, bases.folder / "killed-at")
        await assert_consistent(crypt)
        context = replace(bases.context, configuration=work.configuration)
        if work.asked:
            await repeat(crypt, work.asked)
        await Registry(context, RegistrySettings(on_recall=work.on_recall)).reconcile()
        await assert_consistent(crypt)
        await check(work)
        if where is None:
            return kills
        kills.append(where)
    raise AssertionError


async def repeat(crypt: Pool, asked: AdapterDecide) -> None:
    """Decide again, as a person does whose command was killed; what was decided before is refused, for the champion moved."""
    with suppress(RefusedError):
        async with crypt.acquire() as conn, conn.transaction():
            await decide(conn, asked)


async def assert_consistent(crypt: Pool) -> None:
    """The decisions are one chain that ends at the champion, which was not withdrawn; no ritual awoke or moved the alias twice."""
    made = (await views.list_decisions(crypt, "scribe"))[::-1]
    assert all(one.champion == after.champion_before for one, after in pairwise(made))
    aliases = await views.get_aliases(crypt, "scribe")
    assert not made or (aliases and aliases.champion == made[-1].champion)
    assert not await crypt.fetch(
        "SELECT FROM alias JOIN version ON name = ANY (array[champion, previous, candidate]) WHERE withdrawn_at IS NOT NULL"
    )
    doubled = "SELECT ritual FROM {} WHERE {} GROUP BY ritual HAVING count(*) > 1"
    assert not await crypt.fetch(doubled.format("decision", "action = 'promote' AND ritual IS NOT NULL"))
    assert not await crypt.fetch(doubled.format("ritual_fact", f"subject = '{AdapterAwakened.subject}'"))


async def assert_awakened(crypt: Pool, version: Version) -> None:
    ritual = await ledger.get_ritual(crypt, version.ritual)
    assert ritual and ritual.state is State.AWAKENED
    assert (
        await crypt.fetchval("SELECT count(*) FROM decision WHERE ritual = $1 AND action = 'promote'", ritual.id) == 1
    )
    assert await views.list_aliases(crypt) == {"scribe": version.name}


def configured(bases: TwoBases, **persona: object) -> Work:
    personas = {"scribe": PersonaConfig.model_validate(persona)}
    return Work(bases.context.settings, bases.context.configuration.model_copy(update={"personas": personas}))


async def test_a_verified_adapter_is_awakened_once_wherever_the_registry_is_killed(
    two_bases: TwoBases, crypt: Pool
) -> None:
    two_bases.fail(token_s=0.0)
    values, made = count(1), []

    async def prepare() -> Work:
        made.append(await two_bases.add_verified("scribe", next(values) / 1000))
        return configured(two_bases)

    async def check(_: Work) -> None:
        version = await store.get_version(crypt, made[-1])
        assert version
        await assert_awakened(crypt, version)

    kills = await killed_everywhere(two_bases, crypt, prepare, check)

    print(f"kills: {len(kills)}:", *kills, sep="\n  ")
    places = (
        "freeze",
        "INSERT INTO version",
        "engine load",
        "INSERT INTO loaded",
        "UPDATE registry.alias SET",
        "commit",
    )
    assert len(kills) >= 17 and {*places} <= {*kills}


async def test_a_version_that_its_owner_approves_of_is_awakened_once(two_bases: TwoBases, crypt: Pool) -> None:
    two_bases.fail(token_s=0.0)
    values, made = count(1), []
    configuration = configured(two_bases, promotion="approval").configuration

    async def prepare() -> Work:
        made.append(await two_bases.add_registered("scribe", next(values) / 1000))
        await Registry(replace(two_bases.context, configuration=configuration), RegistrySettings()).reconcile()
        aliases = await views.get_aliases(crypt, "scribe")
        assert aliases and aliases.candidate == made[-1].name
        asked = AdapterDecide(
            action=Action.PROMOTE, persona="scribe", version=made[-1].name, champion=aliases.champion, by="me"
        )
        return Work(two_bases.context.settings, configuration, asked=asked)

    kills = await killed_everywhere(two_bases, crypt, prepare, lambda _: assert_awakened(crypt, made[-1]))

    print(f"kills: {len(kills)}:", *kills, sep="\n  ")
    assert len(kills) >= 10


async def test_a_roll_back_happens_once_wherever_it_is_killed(two_bases: TwoBases, crypt: Pool) -> None:
    two_bases.fail(token_s=0.0)
    first, second = await two_bases.add_version("scribe", 0.1), await two_bases.add_version("scribe", 0.2)
    await Registry(two_bases.context, RegistrySettings()).reconcile()

    async def prepare() -> Work:
        aliases = await views.get_aliases(crypt, "scribe")
        assert aliases
        if aliases.champion == first.name:
            again = AdapterDecide(
                action=Action.PROMOTE, persona="scribe", version=second.name, champion=first.name, by="me"
            )
            await repeat(crypt, again)
        asked = AdapterDecide(action=Action.ROLL_BACK, persona="scribe", champion=second.name, by="me")
        return replace(configured(two_bases), asked=asked)

    async def check(_: Work) -> None:
        assert await views.list_aliases(crypt) == {"scribe": first.name}

    kills = await killed_everywhere(two_bases, crypt, prepare, check)

    print(f"kills: {len(kills)}:", *kills, sep="\n  ")
    assert len(kills) >= 8


async def test_a_withdrawn_version_never_serves_wherever_the_registry_is_killed(
    two_bases: TwoBases, crypt: Pool
) -> None:
    two_bases.fail(token_s=0.0)
    values = count(1)
    made: list[Version] = []

    async def prepare() -> Work:
        made[:] = [await two_bases.add_version("scribe", next(values) / 1000) for _ in range(2)]
        await Registry(two_bases.context, RegistrySettings()).reconcile()
        async with crypt.acquire() as conn, conn.transaction():
            await store.record_taint(conn, [made[1].ritual], ["a"])
        return replace(configured(two_bases), on_recall="withdraw")

    async def check(_: Work) -> None:
        assert await views.list_aliases(crypt) == {"scribe": made[0].name}
        assert made[1].name not in await two_bases.engines["large"].models()
        tainted = "SELECT count(*) FROM outbox WHERE subject = 'adapter.tainted' AND convert_from(body, 'utf8') LIKE $1"
        assert await crypt.fetchval(tainted, f"%{made[1].name}%") == 1

    kills = await killed_everywhere(two_bases, crypt, prepare, check)

    print(f"kills: {len(kills)}:", *kills, sep="\n  ")
    assert len(kills) >= 12
