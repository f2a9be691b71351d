"""What the orchestrator records, as the command line shows it: receipts, interruptions, decisions, and who wants an anvil."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from nats.aio.client import Client

from deploy.cli.main import run
from deploy.cli.queries.rituals import get_snapshot, list_rituals
from deploy.cli.views.stages import wait_reason
from services.orchestrator import store as orchestrator
from services.orchestrator.scheduling.decision import Cause, wait
from services.orchestrator.steps import Answers, Step, Steps
from services.orchestrator.views import get_anvil_status, list_handovers
from shared.config.settings import Settings
from shared.contracts.evacuate import GpuAccept, GpuEvacuated, GpuInterrupted, GpuReclaim
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Fact
from shared.messaging.streams import SOUL
from shared.ritual import lease, ledger
from shared.storage.postgres import Pool, open_pool
from tests.support.running import eventually

GIB = 1024**3
ANVIL = "anvil0"
ANSWERS: dict[str, Answers] = {"rune": {"base": "An anvil.", "scribe@a": "A hammer."}}


@pytest.fixture
async def rows(settings: Settings) -> AsyncIterator[Pool]:
    """Connections with all rights, in the orchestrator's schema: the rows of a ritual are those of several services."""
    pool = await open_pool(settings.database_url("bootstrap"), "orchestrator")
    yield pool
    await pool.close()


@pytest.fixture(autouse=True)
def at_home(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands are given in this house."""
    monkeypatch.setenv("SOULFORGE_HOME", str(settings.home))
    monkeypatch.setenv("SOULFORGE_PORT_BASE", str(settings.port_base))
    monkeypatch.chdir(tmp_path)


async def state(pool: Pool, fact: Fact) -> None:
    async with pool.acquire() as conn, conn.transaction():
        assert await ledger.record_fact(conn, fact, "orchestrator", datetime.now(UTC))


async def harvested(pool: Pool, name: str = "one") -> UUID:
    async with pool.acquire() as conn, conn.transaction():
        ritual = await ledger.open_ritual(conn, TrainingIntent(persona="scribe"), name, None)
        fact = KarmaHarvested(
            ritual=ritual, persona="scribe", manifest="m", holdout="h", train=1, dev=1, held_out=1, seen=3, excluded={}
        )
        assert await ledger.record_fact(conn, fact, "harvester", datetime.now(UTC))
    return ritual


async def taken(pool: Pool, ritual: UUID, attempt: int = 1) -> Steps:
    """The anvil is leased to the ritual, and the evacuation is under way."""
    async with pool.acquire() as conn, conn.transaction():
        fence = await lease.acquire(conn, ANVIL, ritual, attempt, 60)
        assert fence
        await orchestrator.insert_handover(conn, ANVIL, fence, ritual, attempt)
        await orchestrator.record_suspended(conn, ANVIL, fence, 3 * GIB, 30.0)
    steps = Steps(pool, ANVIL, fence)
    async with steps.step(Step.ANNOUNCE) as detail:
        detail["memory"] = 3 * GIB
    async with steps.step(Step.CLOSE, "rune") as detail:
        detail["closed"] = True
    return steps


async def evacuated(pool: Pool, ritual: UUID, attempt: int = 1) -> Steps:
    steps = await taken(pool, ritual, attempt)
    await steps.begin(Step.DRAIN, "rune")
    async with steps.step(Step.DRAIN, "rune") as detail:
        detail |= {"drained": 3, "aborted": 1}
    await orchestrator.record_probes_before(pool, ANVIL, steps.fence, ANSWERS)
    await orchestrator.record_evacuated(pool, ANVIL, steps.fence, 0)
    fact = GpuEvacuated(
        **named(ritual, attempt), anvil=ANVIL, fence=steps.fence, memory_before=3 * GIB, memory_after=0, device="cpu"
    )
    await state(pool, fact)
    return steps


async def released(pool: Pool, steps: Steps) -> None:
    async with steps.step(Step.TAKE_BACK), pool.acquire() as conn, conn.transaction():
        assert await lease.release(conn, ANVIL, steps.fence)
        await orchestrator.record_released(conn, ANVIL, steps.fence)


async def restored(pool: Pool, steps: Steps, answers: dict[str, Answers] | None = None) -> None:
    for rune, models in (answers or ANSWERS).items():
        await orchestrator.record_probes_after(pool, ANVIL, steps.fence, rune, models)
    async with pool.acquire() as conn, conn.transaction():
        assert await orchestrator.record_restored(conn, ANVIL, 2 * GIB)


def named(ritual: UUID, attempt: int = 1) -> dict[str, Any]:
    return {"ritual": ritual, "persona": "scribe", "attempt": attempt}


async def soulforge(*words: str) -> int:
    return await asyncio.to_thread(run, list(words))


async def test_a_receipt_is_shown_as_the_orchestrator_wrote_it(rows: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    ritual = await harvested(rows)
    steps = await evacuated(rows, ritual)
    await released(rows, steps)
    await restored(rows, steps, {"rune": {"base": "An anvil.", "scribe@a": "A stone."}})

    capsys.readouterr()  # what the writers logged
    assert await soulforge("show", str(ritual), "--json") == 0

    report = json.loads(capsys.readouterr().out)
    [receipt] = report["hand_overs"]
    assert [(step["step"], step["part"], step["tries"]) for step in receipt["steps"]] == [
        ("announce", "", 1),
        ("close", "rune", 1),
        ("drain", "rune", 2),
        ("take-back", "", 1),
    ]
    assert all(step["seconds"] >= 0 for step in receipt["steps"])
    assert [phase["name"] for phase in receipt["phases"]] == ["evacuation", "GPU work", "restoration"]
    assert (receipt["drained"], receipt["aborted"], receipt["expected_s"]) == (3, 1, 30.0)
    assert (receipt["memory_before"], receipt["memory_after"], receipt["memory_restored"]) == (3 * GIB, 0, 2 * GIB)
    assert (receipt["probes"]["equal"], receipt["probes"]["differing"]) == (False, ["scribe@a"])
    assert report["seconds_without_inference"] == receipt["seconds_without_inference"] > 0


async def test_steps_stay_with_their_own_hand_over(rows: Pool) -> None:
    await released(rows, await taken(rows, await harvested(rows, "another")))
    ritual = await interrupted(rows)
    await taken(rows, ritual, attempt=2)

    found = await list_handovers(rows, ritual)

    assert [(row.fence, [step.step for step in row.steps]) for row in found] == [
        (2, ["announce", "close", "drain", "take-back"]),
        (3, ["announce", "close"]),
    ]


async def interrupted(pool: Pool) -> UUID:
    ritual = await harvested(pool)
    steps = await evacuated(pool, ritual)
    await state(pool, GpuInterrupted(**named(ritual), reason="the anvil was wanted back: demo", asked=True))
    await released(pool, steps)
    return ritual


async def test_an_interrupted_ritual_is_shown_as_interrupted_everywhere_until_it_goes_on(
    rows: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    ritual = await interrupted(rows)

    assert await soulforge("rituals") == 0
    listed = capsys.readouterr().out
    assert await soulforge("show", str(ritual)) == 0
    shown = capsys.readouterr().out
    assert await soulforge("status") == 1, "no service runs here"
    status = capsys.readouterr().out

    assert "interrupted" in listed and "asked for: the anvil was wanted back: demo" in listed
    assert "interrupted at attempt 1, asked for: the anvil was wanted back: demo" in shown
    assert "attempt 2 continues from its last checkpoint" in shown
    assert f"{str(ritual)[:8]}  scribe   interrupted" in status
    await evacuated(rows, ritual, attempt=2)
    assert [row.interruption for row in await list_rituals(rows, 5)] == [None]


async def test_the_last_decision_is_why_the_ritual_waits(rows: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    ritual = await harvested(rows)
    decision = wait(Cause.BUSY, "2 in flight", datetime.now(UTC)).model_copy(update={"measures": {"running": 2}})
    await orchestrator.record_decision(rows, ritual, decision)

    found = await get_snapshot(rows, ritual)
    assert await soulforge("show", str(ritual)) == 0
    shown = capsys.readouterr().out

    assert found and found.decision and found.decision.measures == {"cause": "busy", "running": 2}
    assert wait_reason(found.ritual, found.decision) == "waits: 2 in flight"
    assert "waits: 2 in flight" in shown and "running 2" in shown


async def last_said(client: Client, subject: str) -> tuple[dict[str, Any], str]:
    message = await client.jetstream().get_last_msg(SOUL, subject)
    return json.loads(message.data or b""), (message.headers or {})["Nats-Msg-Id"]


async def test_a_reclaim_is_reported_on_the_bus_and_shows_what_it_interrupts(
    rows: Pool, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    ritual = await harvested(rows)
    await evacuated(rows, ritual)

    assert await soulforge("reclaim", "--for", "2h", "--why", "demo", "--no-wait") == 0

    body, id = await last_said(client, GpuReclaim.subject)
    assert body == {"anvil": ANVIL, "hold_s": 7200.0, "why": "demo"} and UUID(id)
    told = capsys.readouterr().out
    assert f"ritual {str(ritual)[:8]} (scribe) is interrupted at attempt 1" in told
    assert "no ritual takes it until" in told and "(2 h 00 m)" in told


async def test_a_reclaim_of_a_free_anvil_has_nothing_to_wait_for(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await soulforge("reclaim", ANVIL) == 0
    body, _ = await last_said(client, GpuReclaim.subject)
    assert body["hold_s"] == 600.0
    assert "no ritual holds anvil0" in capsys.readouterr().out


async def test_a_reclaim_waits_until_inference_is_back(rows: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    steps = await evacuated(rows, await harvested(rows))
    waiting = asyncio.create_task(soulforge("reclaim"))
    shown = ""

    async def shows(text: str) -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return text in shown and not waiting.done()

    try:
        await eventually(partial(shows, "the job saves its checkpoint and ends"), 20, "the job is shown")
        await released(rows, steps)
        await steps.begin(Step.ANSWER, "rune")
        await eventually(partial(shows, "inference comes back (answer rune)"), 20, "the return is shown")
        await restored(rows, steps)
        assert await asyncio.wait_for(waiting, 20) == 0
    finally:
        with suppress(asyncio.CancelledError):
            await waiting
    assert "inference on anvil0 is back after" in capsys.readouterr().out


async def test_a_reclaim_gives_up_where_the_anvil_is_contained_or_the_time_is_over(
    rows: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await released(rows, await evacuated(rows, await harvested(rows)))
    assert await soulforge("reclaim", "--timeout", "1s") == 1
    assert "inference is not back after 1.0 s; the reclaim stays in force" in capsys.readouterr().err

    async with rows.acquire() as conn:
        await orchestrator.record_containment(conn, ANVIL, "rune small is stuck", 5, False)
    assert await soulforge("reclaim") == 1
    assert "anvil0 is contained (rune small is stuck)" in capsys.readouterr().err


async def test_only_what_serves_and_is_contained_can_be_accepted(
    rows: Pool, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await soulforge("accept") == 1
    assert "anvil0 is not contained: there is nothing to accept" in capsys.readouterr().err

    async with rows.acquire() as conn:
        await orchestrator.record_containment(conn, ANVIL, "rune small is stuck", 5, False)
        assert await soulforge("accept") == 1
        assert "ends by itself when it serves again" in capsys.readouterr().err
        await orchestrator.record_containment(conn, ANVIL, "scribe@a answers differently", 5, True)

    assert await soulforge("accept", ANVIL, "--why", "new weights") == 0
    body, id = await last_said(client, GpuAccept.subject)
    assert body == {"anvil": ANVIL, "why": "new weights"} and UUID(id)


async def test_the_status_of_an_anvil_shows_its_holder_its_containment_and_who_wants_it(
    rows: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    free = await get_anvil_status(rows, ANVIL)
    assert (free.holder, free.containment, free.reclaim, free.open_fence) == (None, None, None, None)
    steps = await evacuated(rows, await harvested(rows))
    held = await get_anvil_status(rows, ANVIL)
    assert held.holder and (held.holder.fence, held.holder.live, held.holder.persona) == (steps.fence, True, "scribe")
    assert held.open_fence == steps.fence
    await released(rows, steps)
    returning = await get_anvil_status(rows, ANVIL)
    assert (returning.holder, returning.open_fence) == (None, steps.fence)
    await restored(rows, steps)
    await orchestrator.record_reclaim(rows, ANVIL, "demo", 600, datetime.now(UTC))
    async with rows.acquire() as conn:
        await orchestrator.record_containment(conn, ANVIL, "rune small is stuck", 5, False)

    assert await soulforge("status") == 1

    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if "anvil0 is contained" in line)
    assert line.startswith("✗  anvil ") and "after 5 failures: rune small is stuck" in shown
    assert "reclaimed (demo): no ritual takes it until" in " ".join(shown.split())
