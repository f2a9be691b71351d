"""The life of a version: promoted by policy or by its owner, rolled back, pinned, rejected, retired; and what engines hold of it."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from time import monotonic

import pytest

from services.harvester.ingest.karma import store_records
from services.registry import app as registry
from services.registry import serving, store, views
from services.registry.decisions import RefusedError, decide
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.config.model import AnvilConfig, CovenConfig, RuneConfig
from shared.config.settings import Settings
from shared.config.tables import PersonaConfig
from shared.contracts.registry import Action, AdapterAwakened, AdapterDecide, AdapterKept, AdapterProposed
from shared.contracts.ritual import State
from shared.contracts.roles import Role
from shared.contracts.verify import Rank
from shared.drivers.inference.port import PromptMessage
from shared.messaging.client import connect
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.consents import Tell, crypt, record_manifest, told, truth
from tests.support.crypts import TwoBases
from tests.support.deciding import bases, decided, end_of, registry_of, two_bases
from tests.support.probes import PROMPTS
from tests.support.running import eventually
from tests.support.services import handlers_only, running

__all__ = ["bases", "crypt", "told", "two_bases"]  # the fixtures

ROLL_BACK_S = 2.0
AT_ONCE = 8


async def test_a_version_waits_for_approval_and_serves_once_its_owner_approves_of_it(
    bases: TwoBases, crypt: Pool, told: Tell
) -> None:
    before = await bases.add_version("scribe", 0.1)
    version = await bases.add_registered("scribe", 0.2)
    service = registry_of(bases, PersonaConfig(promotion="approval", approve_within_h=1))

    await service.reconcile()

    state, proposed = await end_of(crypt, version.ritual, AdapterProposed)
    assert state is State.AWAITING_APPROVAL and isinstance(proposed, AdapterProposed)
    assert (proposed.champion, 3000 < (proposed.until - datetime.now(UTC)).total_seconds() <= 3600) == (
        before.name,
        True,
    )
    assert await views.list_aliases(crypt) == {"scribe": before.name}
    assert version.name in await bases.engines["large"].models()
    assert "awaiting_approval" in (await told("status"))[1]
    assert "approval until" in (await told("show", str(version.ritual)))[1]

    code, shown, _ = await told("approve", "scribe", "--by", "ada", "--why", "read it")
    assert code == 0 and f"scribe answers as {version.name} now" in shown
    assert await views.list_aliases(crypt) == {"scribe": version.name}, "without a pass of the registry"

    await service.reconcile()
    await service.reconcile()
    state, awakened = await end_of(crypt, version.ritual, AdapterAwakened)
    assert state is State.AWAKENED and isinstance(awakened, AdapterAwakened)
    assert (awakened.previous, awakened.probes) == (before.name, len(PROMPTS))
    _, history, _ = await told("adapters", "history", "scribe")
    assert "ada" in history and "read it" in history


async def test_a_version_that_is_worse_than_the_champion_is_a_candidate_and_shows_why(
    bases: TwoBases, crypt: Pool, told: Tell
) -> None:
    before = await bases.add_version("scribe", 0.1)
    version = await bases.add_registered("scribe", 0.2, Rank.INFERIOR)

    await registry_of(bases, PersonaConfig()).reconcile()

    state, kept = await end_of(crypt, version.ritual, AdapterKept)
    assert state is State.KEPT and isinstance(kept, AdapterKept) and kept.reason == "It is inferior."
    aliases = await views.get_aliases(crypt, "scribe")
    assert aliases and (aliases.champion, aliases.candidate) == (before.name, version.name)
    assert "It is inferior." in (await told("show", str(version.ritual)))[1]
    _, history, _ = await told("adapters", "history", "scribe")
    assert "It is inferior." in history and "sealed holdout: 0 verdicts" in history

    code, _, _ = await told("adapters", "promote", version.name, "--by", "ada", "--why", "I prefer it")
    assert code == 0 and await views.list_aliases(crypt) == {"scribe": version.name}, "its owner may"


@pytest.mark.parametrize("way", ["reject", "time", "superseded", "cancel"])
async def test_a_version_that_is_not_approved_is_kept(bases: TwoBases, crypt: Pool, told: Tell, way: str) -> None:
    version = await bases.add_registered("scribe", 0.2)
    service = registry_of(bases, PersonaConfig(promotion="approval"))
    await service.reconcile()
    reasons = {"reject": "too short", "time": "was not approved within its time", "superseded": "superseded by scribe@"}
    match way:
        case "reject":
            assert (await told("reject", "scribe", "--why", "too short"))[0] == 0
        case "time":
            await crypt.execute("UPDATE alias SET until = now() - interval '1 s'")
        case "superseded":
            await bases.add_registered("scribe", 0.3)
        case "cancel":
            await ledger.request_cancel(crypt, version.ritual, "no need")

    await service.reconcile()

    state, kept = await end_of(crypt, version.ritual, AdapterKept)
    aliases = await views.get_aliases(crypt, "scribe")
    assert aliases and aliases.champion is None
    if way == "cancel":
        assert (state, aliases.candidate) == (State.CANCELLED, None)
        return
    assert state is State.KEPT and isinstance(kept, AdapterKept) and reasons[way] in kept.reason
    assert (aliases.candidate == version.name) is (way == "time"), "it may still be promoted by name"
    assert version.name in (await told("adapters"))[1].replace("\n", "")


async def test_a_pin_stands_until_it_is_lifted(bases: TwoBases, crypt: Pool, told: Tell) -> None:
    pinned = await bases.add_version("scribe", 0.1)
    version = await bases.add_registered("scribe", 0.2)
    code, _, error = await told("adapters", "promote", version.name)
    assert code == 0, error
    assert (await told("adapters", "pin", pinned.name))[0] == 0
    assert await crypt.fetchval("SELECT approved FROM registry.alias") is None, "the pin is the later decision"
    service = registry_of(bases)

    await service.reconcile()

    state, kept = await end_of(crypt, version.ritual, AdapterKept)
    assert state is State.KEPT and isinstance(kept, AdapterKept) and "is pinned to" in kept.reason
    listed = {one.name: one.roles for one in await views.list_versions(crypt)}
    assert listed == {pinned.name: ("champion", "pinned"), version.name: ("candidate",)}
    assert version.name in await bases.engines["large"].models()
    code, _, error = await told("adapters", "promote", version.name)
    assert code == 1 and "unpin it first" in error

    assert (await told("adapters", "unpin", "scribe"))[0] == 0
    assert (await told("adapters", "promote", version.name))[0] == 0
    assert await views.list_aliases(crypt) == {"scribe": version.name}


async def test_a_roll_back_takes_effect_within_two_seconds_and_its_version_does_not_come_back_by_itself(
    bases: TwoBases, crypt: Pool, told: Tell
) -> None:
    first, second = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    service = registry_of(bases)
    await service.reconcile()

    began = monotonic()
    code, _, _ = await told("adapters", "rollback", "scribe", "--why", "worse")
    [served] = await views.list_served(crypt)
    answer = await bases.engines["large"].answer(first.name, (PromptMessage(role="user", content="hi"),), 2)
    took_s = monotonic() - began

    print(f"rolled back, and answered, within {took_s:.2f} s")
    assert code == 0 and served.version == first.name and answer and took_s < ROLL_BACK_S
    again = await bases.register_again(second)
    await service.reconcile()
    state, kept = await end_of(crypt, again, AdapterKept)
    assert state is State.KEPT and isinstance(kept, AdapterKept) and "was rolled back or rejected" in kept.reason

    later = await bases.add_registered("scribe", 0.3)
    await service.reconcile()
    assert (await end_of(crypt, later.ritual, AdapterKept))[0] is State.KEPT, "a roll back stands until it is lifted"
    assert await views.list_aliases(crypt) == {"scribe": first.name}
    with pytest.raises(RefusedError, match="no version before"):
        await decided(crypt, Action.ROLL_BACK, None, first.name)

    await decided(crypt, Action.PROMOTE, second.name, first.name)
    await service.reconcile()
    assert await views.list_aliases(crypt) == {"scribe": second.name}, "by name it comes back"


async def test_of_decisions_at_once_one_wins_and_each_follows_from_the_one_before(bases: TwoBases, crypt: Pool) -> None:
    versions = [await bases.add_version("scribe", 0.1 * place) for place in range(1, AT_ONCE + 1)]
    for version in versions:
        await store.record_loaded(crypt, "large", version.name, 1, proven=True)

    for turn in range(5):
        aliases = await views.get_aliases(crypt, "scribe")
        assert aliases and aliases.champion
        others = [version.name for version in versions if version.name != aliases.champion]
        made = [decided(crypt, Action.PROMOTE, name, aliases.champion) for name in others]
        if turn:
            made.append(decided(crypt, Action.ROLL_BACK, None, aliases.champion))
        found = await asyncio.gather(*made, return_exceptions=True)
        refused = [one for one in found if isinstance(one, RefusedError)]
        assert len(refused) == len(made) - 1 and all("by now, not" in str(one) for one in refused)

    decisions = (await views.list_decisions(crypt, "scribe"))[::-1]
    assert all(one.champion == after.champion_before for one, after in pairwise(decisions))


async def test_the_owner_decides_on_the_bus_and_what_is_refused_is_a_dead_letter(
    bases: TwoBases, crypt: Pool, settings: Settings
) -> None:
    first, second = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    owner = await connect(settings, Role.OWNER)
    body = {"action": "roll_back", "persona": "scribe", "champion": second.name, "by": "ada", "why": "worse"}

    async def letters() -> bool:
        return bool(await crypt.fetchval("SELECT count(*) FROM dead_letter"))

    async def announced() -> bool:
        return await crypt.fetchval("SELECT bool_and(announced_at IS NOT NULL) FROM decision") is True

    async with running(handlers_only(registry.app), settings):
        for _ in range(2):
            await owner.jetstream().publish(AdapterDecide.subject, json.dumps(body).encode())
        await eventually(letters, 20, "the second one is refused")
    await owner.close()
    await registry_of(bases).reconcile()
    await eventually(announced, 5, "the decisions are announced")

    assert await views.list_aliases(crypt) == {"scribe": first.name}
    reason = await crypt.fetchval("SELECT error FROM dead_letter")
    assert f"the champion of scribe is {first.name} by now, not {second.name}" in reason
    bodies = await crypt.fetch("SELECT body FROM outbox WHERE subject = 'adapter.decided' ORDER BY seq")
    last = json.loads(bodies[-1]["body"])
    assert (last["action"], last["by"], last["champion"]) == ("roll_back", "ada", first.name)


async def test_the_same_message_decides_once(bases: TwoBases, crypt: Pool) -> None:
    await bases.add_version("scribe", 0.1)
    second = await bases.add_version("scribe", 0.2)
    asked = AdapterDecide(action=Action.ROLL_BACK, persona="scribe", champion=second.name, by="me")

    for _ in range(2):
        async with crypt.acquire() as conn, conn.transaction():
            await decide(conn, asked, "SOUL/7")

    assert [one.action for one in await views.list_decisions(crypt, "scribe")].count("roll_back") == 1


async def test_every_engine_of_a_base_holds_what_is_desired_and_forgets_what_is_wanted_no_more(
    bases: TwoBases, crypt: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {
        "anvils": {"anvil0": AnvilConfig(), "anvil1": AnvilConfig()},
        "runes": {name: RuneConfig(base="large") for name in ("large", "small")},
        "covens": {name: CovenConfig(anvil=name.replace("c", "anvil"), runes=(rune,)) for name, rune in
                   (("c0", "large"), ("c1", "small"))},
        "personas": {},
    }  # fmt: skip
    await bases.start("small", "large")
    configuration = bases.context.configuration.model_copy(update=both)
    service = Registry(replace(bases.context, configuration=configuration), RegistrySettings())
    versions = [await bases.add_version("scribe", 0.1 * place) for place in (1, 2, 3)]
    names = [version.name for version in versions]
    waiting = await bases.add_registered("scribe", 0.4)

    async def held() -> set[frozenset[str]]:
        return {await engine.models() for engine in bases.engines.values()}

    await service.reconcile()

    assert await views.list_aliases(crypt) == {"scribe": waiting.name}
    assert await held() == {frozenset({"large", names[1], names[2], waiting.name})}, "what it began with stays a while"
    listed = {one.name: one.loaded for one in await views.list_versions(crypt)}
    assert listed[waiting.name] == ("large", "small") and listed[names[0]] == ()

    monkeypatch.setattr(serving, "UNLOAD_AFTER_S", 0.0)
    await service.reconcile()
    assert await held() == {frozenset({"large", names[2], waiting.name})}

    monkeypatch.setattr(serving, "UNLOAD_AFTER_S", 600.0)
    await decided(crypt, Action.RETIRE, waiting.name, waiting.name)
    await service.reconcile()
    assert await held() == {frozenset({"large", names[2]})}, "a withdrawn version goes at once"

    bases.stop("large")
    await bases.start("large")
    await service.reconcile()
    assert await held() == {frozenset({"large", names[2]})}


async def test_a_live_version_needs_neither_its_karma_nor_its_manifest(
    bases: TwoBases, crypt: Pool, admin: Pool
) -> None:
    first, second = await bases.add_version("scribe", 0.1), await bases.add_version("scribe", 0.2)
    service = registry_of(bases)
    await service.reconcile()
    async with admin.acquire() as conn, conn.transaction():
        await store_records(conn, [truth("a")])
    await record_manifest(admin, f"m-{second.name}", "a")
    for table in ("vectors.karma", "harvester.manifest_record", "harvester.manifest"):
        assert (await admin.execute(f"DELETE FROM {table}")) != "DELETE 0"
    shutil.rmtree(bases.context.settings.home / "lab", ignore_errors=True)

    bases.stop("large")
    await bases.start("large")
    await registry_of(bases).reconcile()

    assert await bases.engines["large"].models() == {"large", first.name, second.name}
    assert await views.list_aliases(crypt) == {"scribe": second.name}
    await decided(crypt, Action.ROLL_BACK, None, second.name)
    assert await views.list_aliases(crypt) == {"scribe": first.name}
    messages = (PromptMessage(role="user", content="hi"),)
    assert await bases.engines["large"].answer(first.name, messages, 2)
