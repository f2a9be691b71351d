"""What the registry does, by policy, about an adapter that was trained on revoked records."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.registry import app as registry
from services.registry import store, views
from services.registry.decisions import RefusedError, decide
from services.registry.recall import act_on_recalls
from services.registry.store import Version
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.registry import Action, AdapterDecide, AdapterTainted, RecallAction
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.storage.postgres import Pool
from tests.support.configurations import configured
from tests.support.consents import HARVESTER, Tell, bus, crypt, harvested, heard, history, make_champion, of, told
from tests.support.running import eventually
from tests.support.services import running

__all__ = ["bus", "crypt", "heard", "history", "told"]  # the fixtures


@pytest.fixture
async def context(settings: Settings, crypt: Pool) -> ServiceContext:
    return ServiceContext("registry", settings, crypt, None)  # type: ignore[arg-type]


async def alias(pool: Pool) -> str | None:
    version: str | None = await pool.fetchval("SELECT champion FROM registry.alias WHERE persona = 'scribe'")
    return version


async def recall(crypt: Pool, *rituals: UUID, karma: str = "a") -> None:
    async with crypt.acquire() as conn, conn.transaction():
        await store.record_taint(conn, rituals, [karma])


async def test_by_default_a_tainted_adapter_is_warned_of_and_goes_on_serving(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, *history.values())
    await act_on_recalls(context.pool, "warn")
    await act_on_recalls(context.pool, "warn")

    said = await tainted(crypt)
    assert [(one.version, one.karma, one.action, one.alias_withdrawn) for one in said] == [
        ("scribe@r1", ("a",), "warn", False),
        ("scribe@r2", ("a",), "warn", False),
    ]
    assert await alias(crypt) == "scribe@r2"
    assert [version.name for version in await store.list_served(crypt)] == ["scribe@r2"]


async def tainted(crypt: Pool) -> list[AdapterTainted]:
    rows = await crypt.fetch("SELECT body FROM outbox WHERE subject = 'adapter.tainted' ORDER BY seq")
    return [AdapterTainted.model_validate_json(row["body"]) for row in rows]


async def asked(crypt: Pool) -> list[TrainingIntent]:
    rows = await crypt.fetch("SELECT body FROM outbox WHERE subject = 'training.intent' ORDER BY seq")
    return [TrainingIntent.model_validate_json(row["body"]) for row in rows]


async def test_a_withdrawn_name_goes_back_to_the_version_before_where_that_one_is_clean(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID], told: Tell
) -> None:
    await recall(crypt, history["r2"], karma="b")
    await act_on_recalls(context.pool, "withdraw")
    await act_on_recalls(context.pool, "withdraw")

    assert [(one.version, one.alias_withdrawn) for one in await tainted(crypt)] == [("scribe@r2", True)]
    assert await alias(crypt) == "scribe@r1"
    last = (await views.list_decisions(crypt, "scribe"))[0]
    assert (last.champion, last.champion_before, last.by) == ("scribe@r1", "scribe@r2", "recall policy")
    assert "consent" in last.why
    assert [version.name for version in await store.list_served(crypt)] == ["scribe@r1"]
    assert await asked(crypt) == []
    _, shown, _ = await told("recall", "b")
    assert "scribe@r2  withdrawn 20" in shown


async def test_a_name_with_no_clean_version_points_nowhere(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, *history.values())
    await act_on_recalls(context.pool, "withdraw")

    assert await alias(crypt) is None
    assert await store.list_served(crypt) == []
    assert [(one.version, one.alias_withdrawn) for one in await tainted(crypt)] == [
        ("scribe@r1", False),
        ("scribe@r2", True),
    ]


async def test_a_clean_ritual_is_asked_for_once_and_only_where_a_name_was_withdrawn(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, history["r1"])
    await act_on_recalls(context.pool, "withdraw_and_retrain")
    assert await asked(crypt) == [] and await alias(crypt) == "scribe@r2"

    for karma in ("b", "b", "y"):
        await recall(crypt, history["r2"], karma=karma)
        await act_on_recalls(context.pool, "withdraw_and_retrain")

    intent = (await asked(crypt))[0]
    assert len(await asked(crypt)) == 1
    assert (intent.persona, intent.requested_by) == ("scribe", "recall policy")
    assert "scribe@r2 was withdrawn: consent" in intent.why
    assert [one.karma for one in await tainted(crypt)] == [("a",), ("b",), ("y",)]


async def test_a_name_never_goes_back_to_a_tainted_version_not_even_for_a_moment(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    async with crypt.acquire() as conn, conn.transaction():
        await make_champion(conn, "scribe", "scribe@r1", history["r1"])
    await recall(crypt, *history.values())
    await act_on_recalls(context.pool, "withdraw_and_retrain")

    made = await views.list_decisions(crypt, "scribe")
    ways = {(one.champion_before, one.champion) for one in made if one.by == "recall policy"}
    assert ways == {("scribe@r1", None), (None, None)}
    assert [str(intent.id).rpartition("/")[0] for intent in await asked(crypt)] == ["recall/scribe@r1"]


async def test_a_withdrawn_version_that_its_owner_promoted_all_the_same_stays_until_more_is_revoked(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, history["r2"])
    await act_on_recalls(context.pool, "withdraw")
    await store.record_loaded(crypt, "rune", "scribe@r2", 3, proven=True)
    asked = AdapterDecide(action=Action.PROMOTE, persona="scribe", version="scribe@r2", champion="scribe@r1", by="me")
    with pytest.raises(RefusedError, match=r"scribe@r2 was withdrawn \(.*\): only an override"):
        await decided(crypt, asked)
    await decided(crypt, asked.model_copy(update={"override": True, "why": "the subject agreed in writing"}))

    await act_on_recalls(context.pool, "withdraw")
    assert await alias(crypt) == "scribe@r2"
    last = (await views.list_decisions(crypt, "scribe"))[0]
    assert (last.override, last.why) == (True, "the subject agreed in writing")

    await recall(crypt, history["r2"], karma="b")
    await act_on_recalls(context.pool, "withdraw")
    assert await alias(crypt) == "scribe@r1"


async def decided(crypt: Pool, asked: AdapterDecide) -> None:
    async with crypt.acquire() as conn, conn.transaction():
        await decide(conn, asked)


async def test_a_stricter_policy_withdraws_what_was_only_warned_of(
    context: ServiceContext, crypt: Pool, history: dict[str, UUID]
) -> None:
    await recall(crypt, *history.values())
    await act_on_recalls(context.pool, "warn")
    await act_on_recalls(context.pool, "withdraw")
    await act_on_recalls(context.pool, "withdraw")

    assert await alias(crypt) is None
    assert [one.action for one in await tainted(crypt)] == ["warn", "warn", "withdraw", "withdraw"]


@pytest.mark.parametrize(("policy", "ends"), [("warn", False), ("withdraw", True)])
async def test_a_ritual_under_way_on_revoked_karma_is_asked_to_end_unless_the_policy_only_warns(
    policy: RecallAction, ends: bool, context: ServiceContext, pool: Pool, crypt: Pool
) -> None:
    ritual = await harvested(pool, "r3", "m3", state="evacuated")
    await recall(crypt, ritual)
    await act_on_recalls(context.pool, policy)

    found = await ledger.get_ritual(pool, ritual)
    assert found and bool(found.cancel_requested_at) is ends
    assert await tainted(crypt) == [], "there is no version yet"

    async with crypt.acquire() as conn:
        await store.insert_version(conn, Version("scribe@late", "scribe", "sha256:late", "base", ritual, "/nowhere"))
        await make_champion(conn, "scribe", "scribe@late", ritual)
    assert await store.list_served(crypt) == [], "not served before it was decided upon"
    await act_on_recalls(context.pool, policy)
    assert [one.version for one in await tainted(crypt)] == ["scribe@late"]
    assert (await alias(crypt) is None) is ends


async def test_from_the_revocation_to_the_clean_ritual_over_the_bus(
    settings: Settings,
    pool: Pool,
    crypt: Pool,
    history: dict[str, UUID],
    heard: list[Any],
    bus: Any,
    tmp_path: Path,
) -> None:
    settings = configured(settings, tmp_path, serving={"on_recall": "withdraw_and_retrain"})
    intent = TrainingIntent(persona="scribe", id="recall/scribe@r2")  # of a publisher, before there was a recall
    async with pool.acquire() as conn:
        await ledger.open_ritual(conn, intent, str(intent.id), None)

    async def opened() -> bool:
        ids = [row["intent_id"] for row in await pool.fetch("SELECT intent_id FROM ritual")]
        return len([id for id in ids if id.startswith("recall/scribe@r2/")]) == 1

    async with running(HARVESTER, settings), running(registry.app, settings):
        await bus.publish("karma.revoked", b'{"karma": ["a"], "by": "owner"}')
        await eventually(opened, 20, "the clean ritual is opened")

        async def all_said() -> bool:
            return not await crypt.fetchval("SELECT count(*) FROM registry.outbox WHERE published_at IS NULL")

        await eventually(all_said, 10, "the relay is done with the intent")

    assert await alias(crypt) is None
    assert len(of(heard, "training.intent")) == 1
    assert {(one["version"], one["alias_withdrawn"]) for one in of(heard, "adapter.tainted")} == {
        ("scribe@r1", False),
        ("scribe@r2", True),
    }
