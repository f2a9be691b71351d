"""kill -9 of the registry at every effect between verification and awakening, and while versions are promoted, rolled back, withdrawn.

With the real vLLM (`make test-handover`) at some of them, each time of the gateway before it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import pytest

from services.registry import store, views
from services.registry.decisions import RefusedError, decide
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from services.registry.store import Version
from shared.config.settings import Settings
from shared.config.tables import PersonaConfig
from shared.contracts.registry import Action, AdapterAwakened, AdapterDecide
from shared.contracts.ritual import State
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.consents import crypt
from tests.support.crypts import TwoBases, over_two_bases
from tests.support.killed import Work, run_killed
from tests.support.model import needs_jobs
from tests.support.real_base import RealBase, Vllms, over_real_base, vllms

__all__ = ["crypt", "vllms"]  # the fixtures

pytestmark = pytest.mark.timeout(180)
REAL = pytest.param("vLLM", marks=[needs_jobs, pytest.mark.extended, pytest.mark.timeout(3600)])
REAL_KILLS = 5  # of each kind, at least

Prepare = Callable[[], Awaitable[Work]]
Check = Callable[[Work], Awaitable[None]]


@pytest.fixture(params=["small engines", REAL])
async def bases(
    request: pytest.FixtureRequest, settings: Settings, vllms: Vllms, crypt: Pool, pool: Pool, tmp_path: Path
) -> AsyncIterator[TwoBases]:
    opened = (
        over_real_base(vllms, crypt, pool, tmp_path)
        if request.param == "vLLM"
        else over_two_bases(settings, crypt, pool, tmp_path)
    )
    async with opened as one:
        one.fail(token_s=0.0)
        yield one


async def killed_everywhere(bases: TwoBases, crypt: Pool, prepare: Prepare, check: Check, least: int) -> list[str]:
    """Kill the same work at one effect after another, each time on what `prepare` made, and let it go on; where the kills were.

    `least`: how many effects it has, at least.
    """
    kills: list[str] = []
    real = isinstance(bases, RealBase)
    for place in count(step=least // REAL_KILLS if real else 1):
        work = await prepare()
        where = await asyncio.to_thread(run_killed, work, place, bases.folder / "killed-at")
        if isinstance(bases, RealBase):
            await bases.kill_gateway()
            await bases.assert_answers(crypt)
        await assert_consistent(crypt)
        context = replace(bases.context, configuration=work.configuration)
        if work.asked:
            await repeat(crypt, work.asked)
        await Registry(context, RegistrySettings(on_recall=work.on_recall)).reconcile()
        await assert_consistent(crypt)
        await check(work)
        if isinstance(bases, RealBase):
            await bases.assert_answers(crypt)
        if where is None:
            print(f"kills: {len(kills)}:", *kills, sep="\n  ")
            assert len(kills) >= (REAL_KILLS if real else least)
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
    bases: TwoBases, crypt: Pool
) -> None:
    values, made = count(1), []

    async def prepare() -> Work:
        made.append(await bases.add_verified("scribe", next(values) / 1000))
        return configured(bases)

    async def check(_: Work) -> None:
        version = await store.get_version(crypt, made[-1])
        assert version
        await assert_awakened(crypt, version)

    kills = await killed_everywhere(bases, crypt, prepare, check, 17)

    places = (
        "freeze",
        "INSERT INTO version",
        "engine load",
        "INSERT INTO loaded",
        "UPDATE registry.alias SET",
        "commit",
    )
    assert isinstance(bases, RealBase) or {*places} <= {*kills}


async def test_a_version_that_its_owner_approves_of_is_awakened_once(bases: TwoBases, crypt: Pool) -> None:
    values, made = count(1), []
    configuration = configured(bases, promotion="approval").configuration

    async def prepare() -> Work:
        made.append(await bases.add_registered("scribe", next(values) / 1000))
        await Registry(replace(bases.context, configuration=configuration), RegistrySettings()).reconcile()
        aliases = await views.get_aliases(crypt, "scribe")
        assert aliases and aliases.candidate == made[-1].name
        asked = AdapterDecide(
            action=Action.PROMOTE, persona="scribe", version=made[-1].name, champion=aliases.champion, by="me"
        )
        return Work(bases.context.settings, configuration, asked=asked)

    await killed_everywhere(bases, crypt, prepare, lambda _: assert_awakened(crypt, made[-1]), 10)


async def test_a_roll_back_happens_once_wherever_it_is_killed(bases: TwoBases, crypt: Pool) -> None:
    first, second = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    await Registry(bases.context, RegistrySettings()).reconcile()

    async def prepare() -> Work:
        aliases = await views.get_aliases(crypt, "scribe")
        assert aliases
        if aliases.champion == first.name:
            again = AdapterDecide(
                action=Action.PROMOTE, persona="scribe", version=second.name, champion=first.name, by="me"
            )
            await repeat(crypt, again)
        asked = AdapterDecide(action=Action.ROLL_BACK, persona="scribe", champion=second.name, by="me")
        return replace(configured(bases), asked=asked)

    async def check(_: Work) -> None:
        assert await views.list_aliases(crypt) == {"scribe": first.name}

    await killed_everywhere(bases, crypt, prepare, check, 8)


async def test_a_withdrawn_version_never_serves_wherever_the_registry_is_killed(bases: TwoBases, crypt: Pool) -> None:
    values = count(1)
    made: list[Version] = []

    async def prepare() -> Work:
        made[:] = [await bases.add_version("scribe", next(values) / 1000) for _ in range(2)]
        await Registry(bases.context, RegistrySettings()).reconcile()
        async with crypt.acquire() as conn, conn.transaction():
            await store.record_taint(conn, [made[1].ritual], ["a"])
        return replace(configured(bases), on_recall="withdraw")

    async def check(_: Work) -> None:
        assert await views.list_aliases(crypt) == {"scribe": made[0].name}
        assert made[1].name not in await bases.engines["large"].models()
        tainted = "SELECT count(*) FROM outbox WHERE subject = 'adapter.tainted' AND convert_from(body, 'utf8') LIKE $1"
        assert await crypt.fetchval(tainted, f"%{made[1].name}%") == 1

    await killed_everywhere(bases, crypt, prepare, check, 12)
