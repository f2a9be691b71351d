"""kill -9 of every service, of nats-server and of PostgreSQL, once in every stage: each ritual ends, each effect is one.

The servers, the services and the rune are real; the two jobs are short ones (tests/faults) that hand out an adapter
which the first test really trained, so that a stage lasts as long as the test holds it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from deploy.ritual import publish
from shared.contracts.ritual import State
from shared.drivers.inference.vllm import Vllm
from shared.settings import SERVICES
from tests.e2e.running import Stack, ask, eventually
from tests.faults.holding import REHEARSAL, held

pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]

TARGETS = (*SERVICES, "nats", "postgres")
# A stage whose work is short is held open by a lock on a table that its work needs.
LOCKS = {
    State.INTENDED: "vectors.karma",
    State.HARVESTED: "orchestrator.hand_over",
    State.VERIFIED: "registry.version",
    State.REGISTERED: "registry.alias",
}
JOBS = {State.EVACUATED: "trainer", State.FORGED: "evaluator"}
STAGES = (State.INTENDED, State.HARVESTED, State.EVACUATED, State.FORGED, State.VERIFIED, State.REGISTERED)
PAIRS = (STAGES[0:2], STAGES[2:4], STAGES[4:6])
EFFECTS = (
    "karma.harvested",
    "gpu.evacuated",
    "adapter.forged",
    "adapter.verified",
    "gpu.restored",
    "adapter.registered",
    "adapter.awakened",
)


@pytest.fixture(scope="module")
async def rehearsed(stack: Stack) -> AsyncIterator[Stack]:
    """The same home, up again with the short jobs."""
    conn = await stack.connect()
    bundle = await conn.fetchval("SELECT bundle FROM registry.version WHERE persona = 'scribe'")
    results = await conn.fetchval(
        "SELECT body ->> 'results' FROM ritual_fact WHERE subject = 'adapter.verified' ORDER BY stated_at"
    )
    await conn.close()
    shutil.rmtree(REHEARSAL, ignore_errors=True)
    shutil.copytree(Path(bundle) / "adapter", REHEARSAL / "adapter", copy_function=shutil.copyfile)
    for name in ("results.json", "base_scores.json"):
        shutil.copyfile(Path(results).with_name(name), REHEARSAL / name)
    stack.down()
    stack.up(
        SOULFORGE_FORGE_TRAINER="tests.faults.fake_trainer", SOULFORGE_VERIFIER_EVALUATOR="tests.faults.fake_evaluator"
    )
    yield stack
    shutil.rmtree(REHEARSAL, ignore_errors=True)


@pytest.mark.parametrize("stages", PAIRS, ids=lambda stages: "+".join(stages))
async def test_a_ritual_survives_kill_9_of_everything_in_every_stage(
    rehearsed: Stack, stages: tuple[State, ...]
) -> None:
    fired: list[tuple[State, str]] = []
    ritual = await _intend_held(rehearsed, stages, fired)

    await eventually(lambda: _is(rehearsed, ritual, State.AWAKENED), 240, f"{ritual} awakened")

    print("kills fired:", len(fired), [f"{stage}:{target}" for stage, target in fired])
    assert fired == [(stage, target) for stage in stages for target in TARGETS]
    await _assert_each_effect_once(rehearsed, ritual)
    await _assert_serves(rehearsed)
    await _assert_one_trace(rehearsed, ritual)


async def test_a_ritual_survives_the_loss_of_all_of_jetstream(rehearsed: Stack) -> None:
    """The streams, the consumers and every message are gone in the middle; PostgreSQL alone knows, and that is enough."""
    async with _held(rehearsed, State.EVACUATED):
        answer = await publish(rehearsed.settings.nats_url, {"persona": "scribe", "seed": 99})
        ritual = UUID(answer["ritual"])
        await eventually(lambda: _is(rehearsed, ritual, State.EVACUATED), 240, f"{ritual} evacuated")
        before = rehearsed.pid("nats")
        shutil.rmtree(rehearsed.home / "nats" / "jetstream")
        os.kill(before, signal.SIGKILL)

        async def back() -> bool:
            return rehearsed.pid("nats") != before and await _ready(rehearsed, "nats")

        await eventually(back, 60, "nats is back, with nothing in it")

    await eventually(lambda: _is(rehearsed, ritual, State.AWAKENED), 240, f"{ritual} awakened")
    await _assert_serves(rehearsed)


async def _intend_held(stack: Stack, stages: tuple[State, ...], fired: list[tuple[State, str]]) -> UUID:
    """Start a ritual and, in each of the stages, kill every target once while the stage is held open."""
    ritual: UUID | None = None
    for stage in stages:
        async with _held(stack, stage):
            if ritual is None:
                answer = await publish(stack.settings.nats_url, {"persona": "scribe", "seed": 7 + STAGES.index(stage)})
                ritual = UUID(answer["ritual"])
            await eventually(lambda: _is(stack, ritual, stage), 240, f"{ritual} {stage}")  # noqa: B023
            for target in TARGETS:
                assert await _is(stack, ritual, stage), f"{stage} did not hold until {target} was killed"
                await _kill(stack, target)
                fired.append((stage, target))
    assert ritual
    return ritual


@asynccontextmanager
async def _held(stack: Stack, stage: State) -> AsyncIterator[None]:
    """Nothing gets out of `stage` meanwhile."""
    if role := JOBS.get(stage):
        held(role).touch()
        yield
        held(role).unlink()
        return
    task = asyncio.create_task(_lock_for_ever(stack, LOCKS[stage]))
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _lock_for_ever(stack: Stack, table: str) -> None:
    """Keep a table locked, also after the server was killed: a new lock is taken before anyone else is served."""
    while True:
        try:
            conn = await stack.connect()
            async with conn.transaction():
                await conn.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                while True:
                    await conn.execute("SELECT 1")
                    await asyncio.sleep(0.05)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0)


async def _kill(stack: Stack, target: str) -> None:
    """SIGKILL the process of a part and wait until its successor is ready."""
    before = stack.pid(target)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        try:
            return stack.pid(target) != before and await _ready(stack, target)
        except FileNotFoundError:
            return False

    await eventually(back, 60, f"{target} is back after kill -9")


async def _ready(stack: Stack, target: str) -> bool:
    try:
        if target == "postgres":
            await (await stack.connect()).close()
            return True
        url = f"http://127.0.0.1:{stack.settings.port('nats-monitor')}/healthz"
        if target != "nats":
            url = f"{stack.settings.service_url(target)}/health/live"
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except (OSError, httpx.HTTPError, asyncpg.PostgresError):
        return False


async def _is(stack: Stack, ritual: UUID | None, state: State) -> bool:
    try:
        conn = await stack.connect()
    except (OSError, asyncpg.PostgresError):
        return False
    found = await conn.fetchval("SELECT state FROM ritual WHERE id = $1", ritual)
    await conn.close()
    assert found not in ("failed", "refused", "banished"), await _why(stack, ritual)
    return bool(found == state)


async def _why(stack: Stack, ritual: UUID | None) -> str:
    conn = await stack.connect()
    rows = await conn.fetch("SELECT subject, body FROM ritual_fact WHERE ritual = $1 ORDER BY stated_at", ritual)
    await conn.close()
    return str([tuple(row) for row in rows])[-1500:]


async def _assert_each_effect_once(stack: Stack, ritual: UUID) -> None:
    await eventually(lambda: _restored(stack, ritual), 60, "the hand-over is closed")
    conn = await stack.connect()
    facts = await conn.fetch(
        "SELECT subject, count(*) AS times FROM ritual_fact WHERE ritual = $1 GROUP BY subject", ritual
    )
    moved = await conn.fetchval("SELECT count(*) FROM registry.alias_history WHERE ritual = $1", ritual)
    versions = await conn.fetchval("SELECT count(*) FROM registry.version WHERE ritual = $1", ritual)
    attempt = await conn.fetchval("SELECT attempt FROM ritual WHERE id = $1", ritual)
    await conn.close()

    assert {row["subject"]: row["times"] for row in facts} == dict.fromkeys(EFFECTS, 1)
    assert (moved, versions, attempt) == (1, 1, 1)
    await eventually(lambda: _all_said_once(stack, ritual), 60, "every fact is in the stream exactly once")


async def _all_said_once(stack: Stack, ritual: UUID) -> bool:
    """JetStream holds each event of the ritual once, although relays were killed in the middle."""
    import nats

    said: dict[str, int] = {}
    client = await nats.connect(stack.settings.nats_url)
    try:
        subscription = await client.jetstream().subscribe(">", stream="SOUL", ordered_consumer=True)
        waiting = (await client.jetstream().stream_info("SOUL")).state.messages
        for _ in range(waiting):
            message = await subscription.next_msg(timeout=5)
            if str(ritual).encode() in message.data and message.subject in EFFECTS:
                said[message.subject] = said.get(message.subject, 0) + 1
    finally:
        await client.close()
    return said == dict.fromkeys(EFFECTS, 1)


async def _restored(stack: Stack, ritual: UUID) -> bool:
    conn = await stack.connect()
    done = await conn.fetchval(
        "SELECT count(*) FROM ritual_fact WHERE ritual = $1 AND subject = 'gpu.restored'", ritual
    )
    await conn.close()
    return bool(done)


async def _assert_serves(stack: Stack) -> None:
    conn = await stack.connect()
    version = await conn.fetchval("SELECT version FROM registry.alias WHERE persona = 'scribe'")
    held_by = await conn.fetchval("SELECT ritual FROM lease")
    await conn.close()

    assert held_by is None
    assert version in await Vllm(stack.settings.rune_url).models()
    assert (
        await ask(stack.settings.rune_url, version, "Note about the gate: it squeaks; the post is loose.")
    ).startswith("Note | ")


async def _assert_one_trace(stack: Stack, ritual: UUID) -> None:
    spans: list[dict[str, Any]] = []

    async def whole() -> bool:
        async with httpx.AsyncClient(base_url=stack.settings.phoenix_url, timeout=10) as client:
            found = await client.get("/v1/projects/soulforge/spans", params={"trace_id": ritual.hex, "limit": 200})
        spans[:] = found.json()["data"]
        return any(span["parent_id"] is None for span in spans)

    started = monotonic()
    await eventually(whole, 60, "the root span is in Phoenix")
    names = [span["name"] for span in spans]
    assert len(names) == len({span["context"]["span_id"] for span in spans}), f"after {monotonic() - started:.0f} s"
    assert {name.partition(".")[0] for name in names} >= {*SERVICES, "trainer", "evaluator"}
