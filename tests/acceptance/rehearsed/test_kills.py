"""kill -9 of every service, of nats-server and of PostgreSQL, once in every stage of one ritual: it ends, and has each effect once.

The servers, the services and the rune are real; the two jobs are short ones (tests/support/fakes), so that a stage lasts as
long as the test holds it.
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from deploy.embedded import nats as embedded_nats
from deploy.ritual import publish
from deploy.services import OWNERS, SERVICES, service_url
from shared.contracts.ritual import State
from shared.contracts.roles import Role
from shared.messaging.client import connect
from tests.support.following import holding, is_in
from tests.support.rehearsal import PERSONA, assert_persona_serves
from tests.support.running import Stack, eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]

TARGETS = (*SERVICES, "nats", "postgres")
STAGES = (State.INTENDED, State.HARVESTED, State.EVACUATED, State.FORGED, State.VERIFIED, State.REGISTERED)
EFFECTS = (
    "karma.harvested",
    "gpu.evacuated",
    "adapter.forged",
    "adapter.verified",
    "gpu.restored",
    "adapter.registered",
    "adapter.awakened",
)


async def test_a_ritual_survives_kill_9_of_everything_in_every_stage(rehearsed: Stack) -> None:
    fired: list[tuple[State, str]] = []
    ritual = await _ritual_with_kills(rehearsed, fired)

    await eventually(lambda: is_in(rehearsed, ritual, State.AWAKENED), 240, f"{ritual} awakened")

    print("kills fired:", len(fired), [f"{stage}:{target}" for stage, target in fired])
    assert fired == [(stage, target) for stage in STAGES for target in TARGETS]
    await _assert_each_effect_once(rehearsed, ritual)
    await assert_persona_serves(rehearsed)
    await _assert_one_trace(rehearsed, ritual)


async def _ritual_with_kills(stack: Stack, fired: list[tuple[State, str]]) -> UUID:
    """Start a ritual and, in each of its stages, kill every target once while the stage is held open.

    The next stage is held before a stage is released: the ritual cannot run past one.
    """
    async with AsyncExitStack() as end:
        holds = [await end.enter_async_context(AsyncExitStack()) for _ in STAGES]
        await holds[0].enter_async_context(holding(stack, STAGES[0]))
        answer = await publish(stack.settings, {"persona": PERSONA, "seed": 7})
        ritual = UUID(answer["ritual"])
        for place, stage in enumerate(STAGES):
            await eventually(partial(is_in, stack, ritual, stage), 240, f"{ritual} {stage}")
            for target in TARGETS:
                assert await is_in(stack, ritual, stage), f"{stage} did not hold until {target} was killed"
                await _kill(stack, target)
                fired.append((stage, target))
            if stage is not STAGES[-1]:
                await holds[place + 1].enter_async_context(holding(stack, STAGES[place + 1]))
            await holds[place].aclose()
    return ritual


async def _kill(stack: Stack, target: str) -> None:
    """SIGKILL the process of a part and wait until its successor is ready."""
    before = stack.pid(target)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        now = stack.supervisor().parts[target].pid
        return now not in (None, before) and await _ready(stack, target)

    await eventually(back, 60, f"{target} is back after kill -9")


async def _ready(stack: Stack, target: str) -> bool:
    try:
        if target == "postgres":
            await (await stack.connect()).close()
            return True
        if target == "nats":
            return await embedded_nats.ready(stack.settings)
        url = f"{service_url(stack.settings, target)}/health/live"
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(url)).status_code == httpx.codes.OK
    except (OSError, httpx.HTTPError, asyncpg.PostgresError):
        return False


async def _assert_each_effect_once(stack: Stack, ritual: UUID) -> None:
    await eventually(lambda: _restored(stack, ritual), 60, "the hand-over is closed")
    conn = await stack.connect()
    facts = await conn.fetch(
        "SELECT subject, count(*) AS times FROM ritual_fact WHERE ritual = $1 GROUP BY subject", ritual
    )
    moved = await conn.fetchval(
        "SELECT count(*) FROM registry.decision WHERE ritual = $1 AND action = 'promote'", ritual
    )
    versions = await conn.fetchval("SELECT count(*) FROM registry.version WHERE ritual = $1", ritual)
    attempt = await conn.fetchval("SELECT attempt FROM ritual WHERE id = $1", ritual)
    await conn.close()

    assert {row["subject"]: row["times"] for row in facts} == dict.fromkeys(EFFECTS, 1)
    assert (moved, versions, attempt) == (1, 1, 1)
    await eventually(lambda: _all_said_once(stack, ritual), 60, "every fact is in the stream exactly once")


async def _all_said_once(stack: Stack, ritual: UUID) -> bool:
    """JetStream holds each event of the ritual once, although relays were killed in the middle."""
    said: dict[str, int] = {}
    client = await connect(stack.settings, Role.BOOTSTRAP)
    try:
        stream = client.jetstream()
        state = (await stream.stream_info("SOUL")).state
        for seq in range(state.first_seq, state.last_seq + 1):
            message = await stream.get_msg("SOUL", seq)
            if str(ritual).encode() in (message.data or b"") and message.subject in EFFECTS:
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
    assert {name.partition(".")[0] for name in names} >= {*OWNERS.values(), "trainer", "evaluator"}
