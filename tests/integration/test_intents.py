"""Intents from outside, on the real bus: what is answered, what is kept, what makes a ritual and what does not."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from services.harvester.app import app
from shared.config.settings import PROJECT, Settings
from shared.contracts.message import ritual_id
from shared.contracts.roles import Role
from shared.messaging.client import connect, inbox_of
from shared.storage.postgres import Pool
from tests.support.configurations import configured
from tests.support.running import eventually
from tests.support.services import running

SUBJECT = "training.intent"


@pytest.fixture
async def harvester(settings: Settings) -> AsyncIterator[str]:
    async with running(app, settings) as url:
        yield url


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A connection as another component's."""
    client = await connect(settings, Role.PUBLISHER)
    yield client
    await client.close()


async def request(client: Client, body: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await client.request(SUBJECT, body, timeout=5)).data)
    return answer


async def count(pool: Pool, table: str) -> int:
    return int(await pool.fetchval(f"SELECT count(*) FROM {table}"))


@pytest.mark.usefixtures("harvester")
async def test_a_request_is_answered_with_the_ritual_it_opened(client: Client, pool: Pool) -> None:
    answer = await request(client, b'{"persona": "scribe"}')

    assert answer["persona"] == "scribe"
    assert str(await pool.fetchval("SELECT id FROM ritual")) == answer["ritual"]


@pytest.mark.usefixtures("harvester")
async def test_the_example_of_another_component_starts_a_ritual(settings: Settings) -> None:
    key = str(settings.bus_key(Role.PUBLISHER))
    command = (
        sys.executable,
        "examples/intent.py",
        "scribe",
        "--id",
        "mine",
        "--nats",
        settings.nats_url,
        "--key",
        key,
    )
    process = await asyncio.create_subprocess_exec(*command, cwd=settings.project, stdout=asyncio.subprocess.PIPE)
    shown, _ = await asyncio.wait_for(process.communicate(), 30)

    assert json.loads(shown)["ritual"] == str(ritual_id("mine"))


@pytest.mark.usefixtures("harvester")
async def test_a_plain_publish_starts_a_ritual(client: Client, pool: Pool) -> None:
    await client.publish(SUBJECT, b'{"persona": "scribe"}')

    async def opened() -> bool:
        return await count(pool, "ritual") == 1

    await eventually(opened, 10, "the ritual is opened")


@pytest.mark.usefixtures("harvester")
async def test_a_jetstream_publisher_reads_the_answer_as_its_acknowledgement(client: Client) -> None:
    acknowledged = await client.jetstream().publish(SUBJECT, b'{"persona": "scribe"}', timeout=5)

    assert acknowledged.stream == "INTENTS"
    with pytest.raises(APIError, match="not a TrainingIntent"):
        await client.jetstream().publish(SUBJECT, b'{"persona": 5}', timeout=5)


async def test_an_intent_published_while_nobody_listens_is_taken_later(
    settings: Settings, pool: Pool, client: Client
) -> None:
    await client.publish(SUBJECT, b'{"persona": "scribe", "id": "early"}')
    await client.flush()

    async def opened() -> bool:
        return bool(await pool.fetchval("SELECT true FROM ritual WHERE id = $1", ritual_id("early")))

    assert not await opened()
    async with running(app, settings):
        await eventually(opened, 10, "the stored intent is taken")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"nonsense", "Invalid JSON"),
        (b"{}", "persona: Field required"),
        (b'{"persona": "Scribe!"}', "persona"),
        (b'{"persona": "scribe", "prority": 3}', "prority: Extra inputs are not permitted"),
        (b'{"persona": "scribe", "recipe": "no-such"}', "known recipes are auto, default"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (b'{"persona": "scribe", "why": "a\\u0000b"}', "why: Value error, NUL character in text"),
        (b'{"persona": "scribe", "kinds": ["a\\u0000b"]}', "kinds: Value error, NUL character in text"),
        (
            b'{"persona": "scribe", "since": "0001-01-01T00:00:00+14:00"}',
            "since: Value error, not between the years 1900",
        ),
        (
            b'{"persona": "scribe", "until": "9999-12-31T23:59:59-05:00"}',
            "until: Value error, not between the years 1900",
        ),
        (b'{"persona": "scribe", "deadline": 1e300}', "deadline: Input should be a valid datetime"),
    ],
)
@pytest.mark.usefixtures("harvester")
async def test_a_malformed_request_is_answered_with_what_is_wrong_and_buried_nowhere(
    client: Client, pool: Pool, body: bytes, says: str
) -> None:
    answer = await request(client, body)

    assert says in answer["error"]["description"]
    assert await count(pool, "harvester.dead_letter") == await count(pool, "ritual") == 0


async def test_an_intent_whose_recipe_nothing_here_trains_opens_no_ritual(
    settings: Settings, client: Client, pool: Pool, tmp_path: Path
) -> None:
    without = configured(settings, tmp_path, jobs={"unsloth": {"python": str(tmp_path / "python")}})
    async with running(app, without):
        answer = await request(client, b'{"persona": "scribe", "recipe": "qlora"}')

    assert "needs unsloth, which is not installed" in answer["error"]["description"]
    assert "make setup-unsloth" in answer["error"]["description"]
    assert await count(pool, "ritual") == 0


async def test_an_intent_whose_verdict_could_not_be_measured_opens_no_ritual(
    settings: Settings, client: Client, pool: Pool, tmp_path: Path
) -> None:
    suites = shutil.copytree(PROJECT / "services/verifier/suites", tmp_path / "suites")
    own = configured(settings, tmp_path)
    path = tmp_path / "soulforge.toml"
    path.write_text(f"suites = '{suites}'\n{path.read_text()}")
    async with running(app, own):
        (suites / "general" / "facts.jsonl").unlink()
        answer = await request(client, b'{"persona": "scribe"}')

    assert "general.yaml: tasks: general/facts.jsonl is missing" in answer["error"]["description"]
    assert await count(pool, "ritual") == 0


@pytest.mark.usefixtures("harvester")
async def test_a_malformed_publish_becomes_a_dead_letter_and_stops_nobody(client: Client, pool: Pool) -> None:
    await client.publish(SUBJECT, b'{"persona": 5}', headers={"X-From": "elsewhere"})
    answer = await request(client, b'{"persona": "scribe"}')

    assert "ritual" in answer
    letter = await pool.fetchrow("SELECT subject, body, headers, error FROM harvester.dead_letter")
    assert letter
    assert (letter["subject"], letter["body"]) == (SUBJECT, b'{"persona": 5}')
    assert json.loads(letter["headers"])["X-From"] == "elsewhere"
    assert "persona" in letter["error"]


@pytest.mark.usefixtures("harvester")
async def test_the_same_intent_id_ten_times_makes_one_ritual(client: Client, pool: Pool) -> None:
    answers = await asyncio.gather(*(request(client, b'{"persona": "scribe", "id": "mine"}') for _ in range(10)))

    assert {answer["ritual"] for answer in answers} == {str(ritual_id("mine"))}
    assert await count(pool, "ritual") == 1


@pytest.mark.usefixtures("harvester")
async def test_an_answer_goes_to_no_subject_but_the_inbox_of_who_asked(client: Client, settings: Settings) -> None:
    replies = ("karma.revoked", "gpu.reclaim", "$JS.API.STREAM.PURGE.SOUL", f"{inbox_of(Role.BOOTSTRAP)}.a")
    for reply in replies:
        await client.publish(SUBJECT, json.dumps({"persona": "scribe", "id": reply}).encode(), reply=reply)
    await request(client, b'{"persona": "scribe", "id": "last"}')  # they are answered in order

    reader = await connect(settings, Role.BOOTSTRAP)
    stored = (await reader.jetstream().stream_info("SOUL", subjects_filter=">")).state.subjects or {}
    await reader.close()
    assert set(stored) <= {"karma.refused"}


@pytest.mark.usefixtures("harvester")
async def test_two_intents_without_an_id_are_two_rituals(client: Client, pool: Pool) -> None:
    first, second = [await request(client, b'{"persona": "scribe"}') for _ in range(2)]

    assert first["ritual"] != second["ritual"]
    assert await count(pool, "ritual") == 2
