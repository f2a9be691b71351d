"""Events of a job as a stream: a client that loses its connection misses none and sees none twice, also when the gateway restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from nats.aio.client import Client
from openai.types.fine_tuning import FineTuningJobEvent

from services.gateway.jobs import stream
from shared.config.settings import Settings
from shared.contracts.intent import RitualProgress
from shared.contracts.scopes import Scope
from shared.storage.postgres import Pool
from tests.support.fine_tuning import Tuning, becomes, tuning_over, waits_for
from tests.support.running import eventually
from tests.unit.cli.rows import WHOLE

VOUCH = (Scope.TRAIN, Scope.CONSECRATE)
LOST = 10
STEPS = 100


class Reader:
    """A client of the stream that remembers the last event it has seen, as a browser does."""

    def __init__(self, client: openai.AsyncOpenAI, job: str) -> None:
        self._client = client
        self._path = f"fine_tuning/jobs/{job}/events?stream=true"
        self.seen: list[dict[str, Any]] = []
        self.done = False
        self.connections = 0

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """One connection, which is gone with the block."""
        key = {"authorization": f"Bearer {self._client.api_key}"}
        async with (
            httpx.AsyncClient(base_url=str(self._client.base_url), headers=key, timeout=20) as http,
            http.stream("GET", self._path, headers=headers) as answer,
        ):
            yield answer

    async def read(self, most: int | None = None) -> None:
        """Read so many more events, or to the end of the stream; then the connection is gone."""
        last = {"last-event-id": self.seen[-1]["id"]} if self.seen else {}
        left = most
        self.connections += 1
        async with self.open(last) as answer:
            assert answer.status_code == httpx.codes.OK, await answer.aread()
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    self.done = True
                elif line.startswith("data: "):
                    self.seen.append(json.loads(line.removeprefix("data: ")))
                    left = left and left - 1
                if left == 0:
                    return


@pytest.fixture
async def tuning(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Tuning]:
    async with tuning_over(settings, admin, tmp_path) as one:
        yield one


async def progress(bus: Client, ritual: UUID, first: int, last: int) -> None:
    for step in range(first, last):
        one = {"ritual": ritual, "persona": "scribe", "job": "trainer", "phase": "train", "unit": "steps"}
        message = RitualProgress(**one, done=step, total=STEPS, loss=1.0 / (step + 1))
        await bus.publish(message.subject, message.model_dump_json().encode())
    await bus.flush()


async def test_ten_lost_connections_and_a_restart_cost_no_event_and_repeat_none(
    settings: Settings, admin: Pool, tmp_path: Path, client: Client
) -> None:
    facts = [one.fact for one in WHOLE]
    async with tuning_over(settings, admin, tmp_path) as tuning:
        one = await tuning.client(*VOUCH)
        job = await tuning.create(one)
        ritual = await tuning.ritual(job)
        await tuning.state(ritual.id, facts[:2])
        await becomes(one, job.id, "running")
        reader = Reader(one, job.id)
        for lost in range(LOST - 1):
            follows = asyncio.create_task(reader.read(most=4))
            await progress(client, ritual.id, 5 * lost, 5 * lost + 5)
            await follows

        async def are_recorded() -> bool:
            steps: int = await admin.fetchval("SELECT count(*) FROM gateway.job_event WHERE type = 'metrics'")
            return steps == 5 * (LOST - 1)

        await eventually(are_recorded, 10, "the gateway has recorded every step")
    async with tuning_over(settings, admin, tmp_path) as tuning:
        one = tuning.connect(one.api_key)
        await reader.read(most=1)
        await tuning.state(ritual.id, facts[2:])
        while not reader.done:
            await reader.read()
        stored = [event async for event in one.fine_tuning.jobs.list_events(job.id, limit=100)][::-1]

    assert reader.connections > LOST
    assert [event["id"] for event in reader.seen] == [event.id for event in stored]
    assert len({event["message"] for event in reader.seen}) == len(reader.seen)
    metrics = [event.data for event in stored if event.type == "metrics"]
    assert len(metrics) == 5 * (LOST - 1) + 1, "each step once, and the figures at the end of the training"
    assert reader.seen[-1]["message"] == "The job has successfully completed"


async def test_a_repeated_step_is_no_second_event_and_nothing_follows_the_end(tuning: Tuning, client: Client) -> None:
    one = await tuning.client(*VOUCH)
    job = await tuning.create(one)
    ritual = await tuning.ritual(job)
    await tuning.state(ritual.id, [fact.fact for fact in WHOLE[:2]])
    for _ in range(3):
        await progress(client, ritual.id, 1, 4)
    await tuning.state(ritual.id, [fact.fact for fact in WHOLE[2:]])
    await becomes(one, job.id, "succeeded")
    await progress(client, ritual.id, 4, 8)
    await asyncio.sleep(0.3)

    for last in ("1", "ftevent-0-1", "ftevent-" + "0" * 24 + "-1", "nothing"):
        with pytest.raises(openai.BadRequestError) as refused:
            await one.fine_tuning.jobs.list_events(job.id, after=last)
        assert refused.value.param == "after"
    events = (await one.fine_tuning.jobs.list_events(job.id, limit=100)).data
    assert [event.message[:5] for event in events if event.message.startswith("Step ")] == ["Step "] * 3
    assert events[0].message == "The job has successfully completed"


async def test_the_stock_client_follows_the_stream_to_its_end(tuning: Tuning) -> None:
    one = await tuning.client(*VOUCH)
    job = await tuning.create(one)
    ritual = await tuning.ritual(job)
    await tuning.state(ritual.id, [fact.fact for fact in WHOLE])

    events = await one.get(
        f"/fine_tuning/jobs/{job.id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.AsyncStream[FineTuningJobEvent],
    )
    said = [event.message async for event in events]

    assert said[0].startswith("Created") and said[-1] == "The job has successfully completed"


async def test_an_idle_stream_beats_and_ends_when_its_client_leaves(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(stream, "AT_ONCE", 2)
    one = await tuning.client(Scope.TRAIN)
    job = await tuning.create(one)
    reading = [asyncio.create_task(beats(Reader(one, job.id))) for _ in range(2)]
    await asyncio.gather(*reading)

    async def may_open() -> bool:
        try:
            await Reader(one, job.id).read(most=1)
        except AssertionError:
            return False
        return True

    await eventually(may_open, 5, "the places of those that left are free")


async def beats(reader: Reader) -> None:
    """Read until two heartbeats came."""
    heartbeats = 0
    async with reader.open({}) as answer:
        async for line in answer.aiter_lines():
            heartbeats += line == ": heartbeat"
            if heartbeats == 2:
                return


async def test_a_revoked_key_ends_its_streams_and_a_key_has_only_some(
    tuning: Tuning, admin: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "OF_ONE_KEY", 1)
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.2)
    one = await tuning.client(Scope.TRAIN)
    job = await tuning.create(one)
    await waits_for(one, job.id, "consecration")
    reader = Reader(one, job.id)
    follows = asyncio.create_task(reader.read())

    async def has_seen() -> bool:
        return bool(reader.seen)

    await eventually(has_seen, 10, "the stream is open")
    async with Reader(one, job.id).open({}) as answer:
        assert answer.status_code == httpx.codes.TOO_MANY_REQUESTS
    await admin.execute("UPDATE gateway.api_key SET revoked_at = now()")

    await asyncio.wait_for(follows, 10)
    assert not reader.done
