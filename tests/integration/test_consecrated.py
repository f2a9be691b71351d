"""Consecrated karma on the real bus: remembered once, a speculative record vouched for, contradictions buried."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from services.harvester import app as harvester_app
from services.harvester.handlers import karma_consecrated
from services.harvester.ingest.karma import Consecration, consecrate
from shared.config.settings import Settings
from shared.contracts.karma import KarmaConsecrated
from shared.messaging.router import Router
from shared.runtime.context import InContext
from shared.runtime.service import App, Service
from shared.storage.postgres import Pool
from tests.support.running import eventually
from tests.support.services import handlers_only, nothing, running

SUBJECT = "karma.consecrated"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
SAID = {"id": "a", "persona": "scribe", "session": "s", "messages": TURNS, "consecrated_by": "me"}


# What consumes consecrations, without the harvest beside it.
app = handlers_only(harvester_app.app)


@pytest.fixture
async def harvester(settings: Settings) -> AsyncIterator[str]:
    async with running(app, settings) as url:
        yield url


def body(**values: Any) -> bytes:
    return json.dumps(SAID | values).encode()


async def store(pool: Pool, status: str, messages: list[dict[str, Any]] = TURNS, **values: Any) -> None:
    row = {"id": "a", "persona": "scribe", "session": "s", "messages": messages, "status": status} | values
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await pool.execute(f"INSERT INTO vectors.karma ({', '.join(row)}) VALUES ({marks})", *row.values())


async def karma(pool: Pool) -> dict[str, Any]:
    row = await pool.fetchrow("SELECT * FROM vectors.karma WHERE id = 'a'")
    return dict(row) if row else {}


async def letters(pool: Pool) -> list[str]:
    return [row["error"] for row in await pool.fetch("SELECT error FROM harvester.dead_letter ORDER BY id")]


async def heard(pool: Pool, client: Client) -> None:
    """Wait until everything published before was dealt with: messages are handled one by one, in order."""
    await client.publish(SUBJECT, body(id="last"))

    async def remembered() -> bool:
        return bool(await pool.fetchval("SELECT true FROM vectors.karma WHERE id = 'last'"))

    await eventually(remembered, 10, "the last message is handled")


@pytest.mark.usefixtures("harvester")
async def test_a_plain_publish_and_a_jetstream_publish_are_both_remembered(client: Client, pool: Pool) -> None:
    await client.publish(SUBJECT, body(feedback="up", purposes=["train", "share"], outcome={"evidence": "ran"}))
    await client.jetstream().publish(SUBJECT, body(id="b"))
    await heard(pool, client)

    row = await karma(pool)
    assert (row["status"], row["consecrated_by"], row["messages"]) == ("white_truth", "me", TURNS)
    assert (row["feedback"], row["purposes"], row["outcome"]["evidence"]) == ("up", ["train", "share"], "ran")
    assert row["consecrated_at"] is not None
    assert await pool.fetchval("SELECT count(*) FROM vectors.karma") == 3
    assert await letters(pool) == []


@pytest.mark.usefixtures("harvester")
async def test_a_remembered_record_is_speculative_and_changes_no_record_that_is_known(
    client: Client, pool: Pool
) -> None:
    await store(pool, "white_truth", id="known", consecrated_by="me")
    remembered = {"id": "a", "persona": "scribe", "session": "s", "messages": TURNS, "why": "seen"}
    for values in (
        {},
        {"id": "known"},
        {"id": "vouched", "consecrated_by": "me"},
        {"id": "x", "status": "white_truth"},
    ):
        await client.publish("karma.remembered", json.dumps(remembered | values).encode())
    await client.publish("karma.remembered", json.dumps(remembered | {"id": "end"}).encode())

    async def stored() -> bool:
        return bool(await pool.fetchval("SELECT true FROM vectors.karma WHERE id = 'end'"))

    await eventually(stored, 10, "the last message is handled")
    rows = await pool.fetch("SELECT id, status, why FROM vectors.karma WHERE id <> 'end' ORDER BY id")
    assert [tuple(row) for row in rows] == [("a", "speculative", "seen"), ("known", "white_truth", "")]
    assert len(await letters(pool)) == 2


@pytest.mark.usefixtures("harvester")
async def test_a_duplicate_changes_nothing(client: Client, pool: Pool, admin: Pool) -> None:
    await client.publish(SUBJECT, body())
    await heard(pool, client)
    before = await karma(pool)
    await admin.execute("DELETE FROM vectors.karma WHERE id = 'last'")
    for _ in range(3):
        await client.publish(SUBJECT, body(why="said again", consecrated_by="somebody else"))
    await heard(pool, client)

    assert await karma(pool) == before
    assert await letters(pool) == []


@pytest.mark.usefixtures("harvester")
async def test_a_speculative_record_becomes_a_white_truth(client: Client, pool: Pool) -> None:
    await store(
        pool, "speculative", source="chat", why="because", outcome={"evidence": "kept"}, purposes=["train", "show"]
    )
    await client.publish(SUBJECT, body(consecrated_at="2026-02-01T00:00:00Z", trace_id="t"))
    await heard(pool, client)

    row = await karma(pool)
    assert (row["status"], row["consecrated_by"], row["consecrated_at"].month) == ("white_truth", "me", 2)
    assert (row["source"], row["why"], row["trace_id"]) == ("chat", "because", "t")
    assert (row["outcome"], row["purposes"]) == ({"evidence": "kept"}, ["train", "show"])


@pytest.mark.usefixtures("harvester")
async def test_the_same_words_in_another_spelling_are_the_same_record(client: Client, pool: Pool) -> None:
    await store(pool, "speculative", [{**turn, "name": None, "tool_calls": []} for turn in TURNS])
    await client.publish(SUBJECT, body(outcome={"evidence": "checked since"}))
    await heard(pool, client)

    row = await karma(pool)
    assert (row["status"], row["outcome"]["evidence"]) == ("white_truth", "checked since")


@pytest.mark.parametrize("status", ["speculative", "white_truth"])
@pytest.mark.parametrize(
    "other", [{"messages": [*TURNS, *TURNS]}, {"persona": "coder"}, {"messages": [TURNS[0], {**TURNS[1], "name": "n"}]}]
)
@pytest.mark.usefixtures("harvester")
async def test_a_known_id_with_other_words_is_a_dead_letter_that_says_so(
    client: Client, pool: Pool, status: str, other: dict[str, Any]
) -> None:
    await store(pool, status, consecrated_by="first")
    before = await karma(pool)
    await client.publish(SUBJECT, body(**other))
    await heard(pool, client)

    assert await karma(pool) == before
    [error] = await letters(pool)
    assert "known with other messages or another persona" in error


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.usefixtures("harvester")
async def test_a_revoked_record_is_not_consecrated_again(client: Client, pool: Pool, deleted: bool) -> None:
    if deleted:
        await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('a', 'me')")
    else:
        await store(pool, "revoked")
    await client.publish(SUBJECT, body())
    await heard(pool, client)

    assert (await karma(pool)).get("status") == (None if deleted else "revoked")
    [error] = await letters(pool)
    assert "was revoked" in error


@pytest.mark.usefixtures("harvester")
async def test_a_correction_of_a_revoked_record_stays_out_too(client: Client, pool: Pool) -> None:
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ('b', 'me')")
    await client.publish(SUBJECT, json.dumps(json.loads(body()) | {"parent": "b"}).encode())
    await heard(pool, client)

    assert await karma(pool) == {}
    [error] = await letters(pool)
    assert "was revoked" in error


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (b"nonsense", "Invalid JSON"),
        (body(consecrated_by=None), "consecrated_by"),
        (body(status="speculative"), "status"),
        (
            body(messages=[{"role": "user", "content": "geheimnis\0"}, TURNS[1]]),
            "messages: Value error, NUL character in text",
        ),
        (body(why="geheimnis\0"), "why: Value error, NUL character in text"),
        (body(parent="".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(4000))), "PostgreSQL cannot hold it"),
    ],
    ids=["no-json", "nobody-vouches", "speculative", "nul-in-json", "nul-in-text", "too-long-for-the-index"],
)
@pytest.mark.usefixtures("harvester")
async def test_what_can_never_be_stored_is_a_dead_letter_and_stops_nobody(
    client: Client, pool: Pool, wrong: bytes, says: str
) -> None:
    await client.publish(SUBJECT, wrong)
    await heard(pool, client)

    [error] = await letters(pool)
    assert says in error and "geheimnis" not in error


async def test_what_was_published_while_nobody_listens_is_taken_later(
    settings: Settings, pool: Pool, client: Client
) -> None:
    await client.publish(SUBJECT, body())
    await client.flush()
    async with running(app, settings):
        await heard(pool, client)

    assert (await karma(pool))["status"] == "white_truth"


async def test_a_redelivery_after_the_commit_is_harmless(pool: Pool) -> None:
    record = KarmaConsecrated.model_validate_json(body())
    became = []
    for _ in range(2):
        async with pool.acquire() as conn, conn.transaction():
            became.append(await consecrate(conn, record))

    assert became == [Consecration.DONE, Consecration.KNOWN]


async def test_a_message_that_was_not_acknowledged_comes_again_and_is_stored_once(
    settings: Settings, pool: Pool, client: Client
) -> None:
    attempts: list[Consecration] = []

    forgetful = Router("harvester")

    @forgetful.consume(KarmaConsecrated)
    async def fails_once_after_its_commit(record: KarmaConsecrated, service: InContext) -> None:
        await karma_consecrated(record, service)
        attempts.append(Consecration.DONE)
        if len(attempts) == 1:
            raise ConnectionError("the answer was lost")

    async with running(App("harvester", forgetful, lambda context: Service(nothing)), settings):
        await client.publish(SUBJECT, body())

        async def twice() -> bool:
            return len(attempts) == 2

        await eventually(twice, 20, "the message comes again")

    assert await pool.fetchval("SELECT count(*) FROM vectors.karma") == 1
    assert await letters(pool) == []
