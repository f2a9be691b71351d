"""Thirty evacuations of the real vLLM while OpenAI clients keep asking: `make test-handover`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from services.gateway.app import app
from shared.config.tables import EMBEDDED_BASE
from tests.support.load import End, LiveLoad, live_load
from tests.support.model import MODEL, needs_jobs
from tests.support.orchestrated import Orchestrated, orchestrated
from tests.support.servers import House
from tests.support.services import running

pytestmark = [needs_jobs, pytest.mark.extended, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("SOULFORGE_EVACUATIONS", "30"))
CLIENTS = 4
GRACE_S = 60.0  # longer than the longest answer: asserted
UP_S = 300


@pytest.fixture
async def vllm(house: House, tmp_path: Path) -> AsyncIterator[Orchestrated]:
    async with orchestrated(house.settings, tmp_path, MODEL.parent, gateway=True) as one:
        one.configure(real=True, grace_s=GRACE_S, stop_grace_s=20, free_within_s=20, start_within_s=UP_S)
        async with running(app, one.settings):
            await one.start()
            await one.eventually(one.serves, UP_S, "vLLM serves")
            yield one


async def test_no_request_ends_uncleanly_in_thirty_evacuations_under_live_load(vllm: Orchestrated) -> None:
    model = EMBEDDED_BASE
    async with live_load(vllm.settings.gateway_url, (model,), CLIENTS) as load:
        for number in range(ROUNDS):
            await _until_answered(vllm, load)
            await _there_and_back(vllm, number)
        await _until_answered(vllm, load)
    report = load.report
    rows = await vllm.pool.fetch(
        "SELECT step, sum((detail ->> 'drained')::int) AS drained, sum((detail ->> 'aborted')::int) AS aborted "
        "FROM orchestrator.hand_over_step WHERE step = 'drain' GROUP BY step"
    )
    away = await vllm.pool.fetch("SELECT seconds_without_inference AS s FROM orchestrator.hand_over ORDER BY fence")
    print(f"{ROUNDS} evacuations under {CLIENTS} clients: {report}")
    print(f"drained {rows[0]['drained']}, aborted {rows[0]['aborted']}")
    print("seconds without inference:", *(f"{row['s']:.1f}" for row in away))

    assert report.unclean == []
    assert report.counts[End.UNREACHABLE] == 0
    assert report.longest_s < GRACE_S
    assert report.counts[End.ABORTED] == rows[0]["aborted"] == 0
    assert rows[0]["drained"] > 0
    assert len(away) == ROUNDS
    equal = await vllm.pool.fetch(
        "SELECT body ->> 'probes_equal' AS equal FROM ritual_fact WHERE subject = 'gpu.restored'"
    )
    assert [row["equal"] for row in equal] == ["true"] * ROUNDS


async def _there_and_back(vllm: Orchestrated, number: int) -> None:
    ritual = await vllm.harvested(f"live-{number}")

    async def evacuated() -> bool:
        return await vllm.state(ritual) == "evacuated"

    await vllm.eventually(evacuated, GRACE_S + UP_S, f"evacuation {number}")
    assert not await vllm.rune.healthy()
    await vllm.end(ritual)
    await vllm.eventually(vllm.serves, UP_S, f"restoration {number}")
    print(f"evacuation {number + 1} of {ROUNDS} done", flush=True)


async def _until_answered(vllm: Orchestrated, load: LiveLoad) -> None:
    """The clients have whole answers again, from streams and not."""
    since = monotonic()

    async def answered() -> bool:
        ended = load.report.since(since).ended
        return {one.streamed for one in ended if one.end is End.FULL} == {True, False}

    await vllm.eventually(answered, UP_S, "the clients are answered")
