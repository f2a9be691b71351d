"""The automatic trigger on the real database and bus: one ritual opens by itself, and no second one before it is armed again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.cli.main import run
from services.harvester.app import app
from services.harvester.auto_trigger.policy import TriggerPolicy
from services.harvester.auto_trigger.store import get_trigger_states, list_new_karma
from services.harvester.auto_trigger.watch import check_personas, trigger_loop
from services.harvester.settings import TriggerSettings
from shared.config.settings import Settings
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualCancelled, TrainingIntent
from shared.contracts.message import Fact
from shared.ritual import ledger
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service
from shared.storage.postgres import Pool
from tests.support.configurations import configured
from tests.support.running import eventually
from tests.support.servers import use_database
from tests.support.services import nothing, running

POLICY = TriggerPolicy(enabled=True, threshold=5, min_hours=0, token_weight=0, age_weight=0)


def harvester() -> App:
    """The harvester's handlers and the loop that weighs karma."""

    def build(context: ServiceContext) -> Service:
        trigger = context.configuration.section(TriggerSettings)
        loops = trigger_loop(context, trigger, trigger.poll_s)
        return replace(app.build(context), reconcile=nothing, loops=loops)

    return replace(app, build=build)


@pytest.fixture
def triggering(settings: Settings, tmp_path: Path) -> Settings:
    """Settings under which karma asks for rituals by itself."""
    return configured(settings, tmp_path, auto_trigger=POLICY.model_dump() | {"poll_s": 0.1})


@pytest.fixture
async def context(settings: Settings, pool: Pool) -> ServiceContext:
    return ServiceContext("harvester", settings, pool, None)  # type: ignore[arg-type]


async def remember(pool: Pool, count: int, persona: str = "scribe", **values: Any) -> None:
    row = {"status": "white_truth", "parent": None, "created_at": datetime.now(UTC), "consecrated_at": None} | values
    start = await pool.fetchval("SELECT count(*) FROM vectors.karma")
    await pool.executemany(
        "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, session, parent, created_at, consecrated_at) "
        "VALUES ($1, $2, '[]', $3, 'me', 's', $4, $5, $6)",
        [
            (f"k{start + number}", persona, row["status"], row["parent"], row["created_at"], row["consecrated_at"])
            for number in range(count)
        ],
    )


async def open_ritual(pool: Pool, id: str, **intent: Any) -> UUID:
    async with pool.acquire() as conn:
        return await ledger.open_ritual(conn, TrainingIntent(persona="scribe", id=id, **intent), id, None)


async def state(context: ServiceContext, ritual: UUID, kind: type[Fact], **said: Any) -> None:
    assert await context.record(kind(ritual=ritual, persona="scribe", **said), datetime.now(UTC))


async def refuse(context: ServiceContext, ritual: UUID) -> None:
    await state(context, ritual, KarmaRefused, reason="too little")


async def rituals(pool: Pool) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch("SELECT intent_id, priority, intent FROM ritual ORDER BY created_at")]


def numbers(rows: list[Any]) -> list[str]:
    """The ids of intents without their last part, which is random."""
    return [row["intent_id"].rpartition("/")[0] for row in rows]


async def test_enough_karma_opens_exactly_one_ritual_by_itself_and_another_only_when_armed_again(
    triggering: Settings, pool: Pool, context: ServiceContext
) -> None:
    async def opened(count: int) -> bool:
        return len(await rituals(pool)) == count

    await remember(pool, 4)
    await remember(pool, 9, "coder", status="speculative")
    async with running(harvester(), triggering):
        await asyncio.sleep(0.5)
        assert await rituals(pool) == []

        await remember(pool, 1, parent="k0")
        await eventually(lambda: opened(1), 10, "the first ritual opens by itself")
        first = (await rituals(pool))[0]
        assert numbers([first]) == ["auto-trigger/scribe/1"] and first["priority"] < 5
        assert first["intent"]["requested_by"] == "automatic trigger"
        assert first["intent"]["why"].startswith("5 white truths, and no ritual yet, 1 of them corrections")
        assert "weight 6 of 5" in first["intent"]["why"]

        await remember(pool, 50)
        await asyncio.sleep(0.5)
        assert await opened(1), "its ritual is open, and the trigger disarmed"

        await refuse(context, await pool.fetchval("SELECT id FROM ritual"))
        await asyncio.sleep(0.5)
        assert await opened(1), "the ritual considered all there was"

        await remember(pool, 5)
        await eventually(lambda: opened(2), 10, "the second ritual opens")
    assert numbers(await rituals(pool)) == ["auto-trigger/scribe/1", "auto-trigger/scribe/2"]


async def test_a_ritual_that_a_publisher_opened_under_the_next_number_keeps_none_from_opening(
    triggering: Settings, pool: Pool, context: ServiceContext
) -> None:
    await state(context, await open_ritual(pool, "auto-trigger/scribe/1"), RitualCancelled)
    await remember(pool, 6)

    async def opened() -> bool:
        return len(await rituals(pool)) == 2

    async with running(harvester(), triggering):
        await eventually(opened, 10, "the trigger's own ritual opens")


async def test_it_is_off_by_default(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    settings = configured(settings, tmp_path, auto_trigger={"poll_s": 0.05})
    await remember(pool, 500)
    async with running(harvester(), settings):
        await asyncio.sleep(0.5)

    assert await rituals(pool) == [] and await get_trigger_states(pool) == {}


async def test_the_trigger_fires_with_its_intent_or_not_at_all(
    context: ServiceContext, pool: Pool, admin: Pool
) -> None:
    await remember(pool, 6)
    await admin.execute("ALTER TABLE outbox ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        assert await check_personas(context, POLICY) == []
    finally:
        await admin.execute("ALTER TABLE outbox DROP CONSTRAINT full_up")
    assert await get_trigger_states(pool) == {}

    assert await check_personas(context, POLICY) == ["scribe"]
    assert await pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'training.intent'") == 1


async def test_two_checks_side_by_side_fire_once(context: ServiceContext, pool: Pool) -> None:
    await remember(pool, 6)

    fired = await asyncio.gather(*(check_personas(context, POLICY) for _ in range(4)))

    assert sorted(fired) == [[], [], [], ["scribe"]]
    assert numbers(await pool.fetch("SELECT intent_id FROM auto_trigger")) == ["auto-trigger/scribe/1"]


async def test_nothing_fires_while_a_ritual_is_open(context: ServiceContext, pool: Pool) -> None:
    await remember(pool, 6)
    ritual = await open_ritual(pool, "mine")
    assert await check_personas(context, POLICY) == []

    await state(context, ritual, RitualCancelled)

    assert await check_personas(context, POLICY) == ["scribe"], "cancelled before it considered the karma"


async def test_a_trigger_whose_weight_fell_low_is_armed_again_and_waits_for_its_hours(
    context: ServiceContext, pool: Pool
) -> None:
    await remember(pool, 6)
    assert await check_personas(context, POLICY) == ["scribe"]
    assert not (await get_trigger_states(pool))["scribe"].armed
    await pool.execute("UPDATE vectors.karma SET status = 'revoked'")
    await remember(pool, 1)
    assert await check_personas(context, POLICY) == []
    assert (await get_trigger_states(pool))["scribe"].armed

    await remember(pool, 6)
    assert await check_personas(context, POLICY.model_copy(update={"min_hours": 1.0})) == []
    assert await check_personas(context, POLICY) == ["scribe"]
    assert numbers(await pool.fetch("SELECT intent_id FROM auto_trigger")) == ["auto-trigger/scribe/2"]


async def test_only_white_truths_that_no_whole_ritual_has_considered_at_lie_on_the_scale(
    context: ServiceContext, pool: Pool
) -> None:
    old = datetime.now(UTC) - timedelta(days=3)
    await remember(pool, 7, created_at=old)
    await remember(pool, 2, created_at=old, status="revoked")
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('k0', 'me')")
    assert [(new.truths, new.considered_at) for new in await list_new_karma(pool)] == [(6, None)]

    filters: dict[str, dict[str, Any]] = {
        "kinds": {"kinds": ("chat",)},
        "sources": {"sources": ("chat",)},
        "dev": {"dev_sources": ("chat",)},
        "near": {"query": "x"},
        "late": {"since": old},
    }
    for id, intent in filters.items():
        await refuse(context, await open_ritual(pool, id, **intent))
    assert [new.truths for new in await list_new_karma(pool)] == [6], "those considered a part only"

    until = old - timedelta(days=1)
    await refuse(context, await open_ritual(pool, "past", until=until))
    assert [(new.truths, new.considered_at) for new in await list_new_karma(pool)] == [(6, until)]

    counts = {"manifest": "m", "holdout": "h", "train": 1, "dev": 0, "held_out": 0, "seen": 1, "excluded": {}}
    await state(context, await open_ritual(pool, "whole"), KarmaHarvested, **counts)
    assert [new.truths for new in await list_new_karma(pool)] == [0]
    await remember(pool, 3, created_at=old, consecrated_at=datetime.now(UTC), parent="k1")
    new = (await list_new_karma(pool))[0]
    assert (new.truths, new.corrections, new.open_ritual) == (3, 3, True), "remembered long ago, vouched for now"


@pytest.mark.parametrize("enabled", [True, False])
async def test_stats_show_how_far_each_persona_is_from_a_ritual(
    enabled: bool,
    settings: Settings,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_database(settings, tmp_path, monkeypatch)
    configured(settings, tmp_path, auto_trigger=POLICY.model_dump() | {"enabled": enabled})
    await remember(pool, 2)
    await remember(pool, 6, "coder")
    await remember(pool, 8, "muse")
    await pool.execute("INSERT INTO auto_trigger VALUES ('muse', false, now(), 'auto-trigger/muse/1')")

    assert await asyncio.to_thread(run, ["karma", "stats"]) == 0

    shown = capsys.readouterr()
    counted, weighed = shown.out.split("\n\n")
    assert [line.split()[:2] for line in counted.splitlines()[1:]] == [["coder", "6"], ["muse", "8"], ["scribe", "2"]]
    lines = {line.split()[0]: line for line in weighed.splitlines()[1:]}
    states = {"coder": "fires now", "muse": "disarmed", "scribe": "armed"} if enabled else dict.fromkeys(lines, "off")
    for persona, weight in {"coder": "6/5", "muse": "8/5", "scribe": "2/5"}.items():
        assert f"{weight}  {states[persona]} " in lines[persona]
    assert lines["scribe"].count("█") == 8 and lines["coder"].count("█") == 20
    assert ("[auto_trigger]" in shown.err) is not enabled
