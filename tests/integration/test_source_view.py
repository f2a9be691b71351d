"""Karma in somebody else's table, taken over by a view: what comes, what follows, what stays out, what is said of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from services.harvester.ingest.karma import store_records
from services.harvester.ingest.source_view import ViewError, absorb, check_view
from services.harvester.settings import HarvesterSettings
from shared.config.settings import PROJECT
from shared.contracts.karma import LARGEST_RECORD, ChatMessage, KarmaRecord
from shared.storage.postgres import Pool

VIEW = "elsewhere.records"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
MINIMAL = "id text, persona text, messages jsonb, status text, session text, created_at timestamptz DEFAULT now()"
FULL = MINIMAL + (
    ", outcome jsonb, why text, consecrated_by text, consecrated_at timestamptz, parent text, source text, licence text, "
    "kind text, tools jsonb, purposes text[], feedback text, trace_id text, embedding vector, embedding_model text"
)


READABLE = (
    "GRANT USAGE ON SCHEMA elsewhere TO soulforge_harvester; GRANT SELECT ON elsewhere.records TO soulforge_harvester"
)


@pytest.fixture(autouse=True)
async def elsewhere(admin: Pool) -> AsyncIterator[None]:
    yield
    await admin.execute("DROP SCHEMA IF EXISTS elsewhere, soulforge_karma CASCADE; DROP TABLE IF EXISTS public.karma")


async def given_view(admin: Pool, columns: str = FULL) -> None:
    await admin.execute(
        f"CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.memory ({columns});"
        "CREATE VIEW elsewhere.records AS SELECT * FROM elsewhere.memory;" + READABLE
    )


async def put(admin: Pool, **values: Any) -> None:
    row = {"persona": "scribe", "messages": TURNS, "status": "speculative", "session": "s"} | values
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await admin.execute(f"INSERT INTO elsewhere.memory ({', '.join(row)}) VALUES ({marks})", *row.values())


async def row_of(pool: Pool, record: str) -> dict[str, Any]:
    found = await pool.fetchrow("SELECT * FROM vectors.karma WHERE id = $1", record)
    assert found, f"{record} is here"
    return dict(found)


async def ids(pool: Pool) -> list[str]:
    return [row["id"] for row in await pool.fetch("SELECT id FROM vectors.karma ORDER BY id")]


async def test_rows_of_a_view_with_the_needed_columns_alone_come_with_the_contracts_defaults(
    pool: Pool, admin: Pool
) -> None:
    await given_view(admin, MINIMAL)
    await put(admin, id="a")

    assert await absorb(pool, VIEW) == 1
    row = await row_of(pool, "a")

    assert (row["messages"], row["kind"], row["purposes"], row["tools"], row["outcome"], row["licence"]) == (
        TURNS,
        "interaction",
        ["train"],
        [],
        {},
        "owner",
    )


async def test_every_column_comes_over_and_nulls_are_the_defaults(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    said = {
        "outcome": {"verdict": "accepted"},
        "why": "it held",
        "consecrated_by": "me",
        "parent": "b",
        "source": "chat",
        "licence": "cc0",
        "kind": "fix",
        "tools": [{"type": "function"}],
        "purposes": ["train", "share"],
        "feedback": "up",
        "trace_id": "t",
        "embedding_model": "own",
    }
    await put(admin, id="a", status="white_truth", **said)
    await admin.execute("UPDATE elsewhere.memory SET embedding = '[1,2,3]'")
    await put(admin, id="b")

    assert await absorb(pool, VIEW) == 2
    row = await row_of(pool, "a")

    assert {name: row[name] for name in said} == said
    assert (row["status"], row["embedding"], row["embedding_dims"]) == ("white_truth", "[1,2,3]", 3)
    assert (await row_of(pool, "b"))["purposes"] == ["train"]


async def test_what_did_not_change_is_not_written_again(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="a")
    await put(admin, id="b", embedding_model=None)
    await absorb(pool, VIEW)
    await admin.execute("UPDATE elsewhere.memory SET why = 'since then' WHERE id = 'b'")
    before = await row_of(pool, "a")

    assert await absorb(pool, VIEW) == 1
    assert await absorb(pool, VIEW) == 0
    assert await row_of(pool, "a") == before
    assert (await row_of(pool, "b"))["why"] == "since then"


async def test_a_row_that_is_gone_upstream_stays(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="a")
    await absorb(pool, VIEW)
    await admin.execute("DELETE FROM elsewhere.memory")

    assert await absorb(pool, VIEW) == 0
    assert await ids(pool) == ["a"]


async def test_a_revocation_upstream_is_for_good(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="a", status="white_truth", consecrated_by="me")
    await absorb(pool, VIEW)
    await admin.execute("UPDATE elsewhere.memory SET status = 'revoked'")

    assert await absorb(pool, VIEW) == 1
    assert (await row_of(pool, "a"))["status"] == "revoked"
    assert await pool.fetchval("SELECT revoked_by FROM revocation WHERE karma = 'a'") == VIEW

    await admin.execute("UPDATE elsewhere.memory SET status = 'white_truth'")
    assert await absorb(pool, VIEW) == 0
    assert (await row_of(pool, "a"))["status"] == "revoked"


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_was_revoked_here_is_not_brought_back_by_the_view(pool: Pool, admin: Pool, deleted: bool) -> None:
    await given_view(admin)
    await put(admin, id="a", status="white_truth", consecrated_by="me")
    await put(admin, id="b")
    await absorb(pool, VIEW)
    await pool.execute("UPDATE vectors.karma SET status = 'revoked' WHERE id = 'a'")
    if deleted:
        await admin.execute("DELETE FROM vectors.karma WHERE id = 'a'")
    await admin.execute("UPDATE elsewhere.memory SET why = 'changed'")

    assert await absorb(pool, VIEW) == 1, "b alone"
    statuses = {row["id"]: row["status"] for row in await pool.fetch("SELECT id, status FROM vectors.karma")}
    assert statuses == {"b": "speculative"} | ({} if deleted else {"a": "revoked"})


@pytest.mark.parametrize(
    "broken",
    [
        {"id": None},
        {"id": ""},
        {"id": "x" * 201},
        {"persona": "Not A Name"},
        {"persona": None},
        {"messages": {"role": "user"}},
        {"messages": None},
        {"status": "holy"},
        {"status": None},
        {"status": "white_truth"},
        {"status": "white_truth", "consecrated_by": ""},
        {"session": None},
        {"session": "s" * 201},
        {"created_at": None},
        {"outcome": []},
        {"tools": {}},
        {"feedback": "meh"},
        {"kind": ""},
        {"parent": "p" * 3000},
        {"why": "w" * LARGEST_RECORD},
    ],
    ids=lambda broken: "-".join(broken),
)
async def test_a_row_that_the_table_would_refuse_does_not_stop_the_others(
    pool: Pool, admin: Pool, broken: dict[str, Any]
) -> None:
    await given_view(admin)
    await put(admin, id="a")
    await put(admin, **{"id": "broken"} | broken)
    await put(admin, id="z")

    assert await absorb(pool, VIEW) == 2
    assert await ids(pool) == ["a", "z"]


async def test_an_id_that_the_view_has_twice_is_taken_once_and_the_newest_wins(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="a", why="old")
    await put(admin, id="a", why="new")
    await admin.execute("UPDATE elsewhere.memory SET created_at = now() - interval '1 day' WHERE why = 'old'")

    assert await absorb(pool, VIEW) == 1
    assert (await row_of(pool, "a"))["why"] == "new"
    assert await absorb(pool, VIEW) == 0


async def test_an_embedding_that_cannot_be_compared_is_left_out_and_the_row_comes(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="nameless")
    await put(admin, id="of another size", embedding_model="all-MiniLM-L6-v2")
    await admin.execute("UPDATE elsewhere.memory SET embedding = '[1,2,3]'")
    await put(admin, id="without a vector", embedding_model="own")

    assert await absorb(pool, VIEW) == 3
    assert await pool.fetchval("SELECT count(*) FROM vectors.karma WHERE embedding IS NULL") == 3
    assert await absorb(pool, VIEW) == 0


async def test_an_embedding_computed_here_stays_until_the_words_change(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    await put(admin, id="a")
    await absorb(pool, VIEW)
    await pool.execute("UPDATE vectors.karma SET embedding = '[1,2]', embedding_model = 'own'")
    await admin.execute("UPDATE elsewhere.memory SET why = 'said later'")

    assert await absorb(pool, VIEW) == 1
    assert (await row_of(pool, "a"))["embedding"] == "[1,2]"

    await admin.execute("UPDATE elsewhere.memory SET messages = $1", [*TURNS, *TURNS])
    assert await absorb(pool, VIEW) == 1
    assert (await row_of(pool, "a"))["embedding"] is None


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (MINIMAL.replace("session text, ", ""), "elsewhere.records lacks the column session of type text"),
        (MINIMAL.replace("jsonb", "text"), "has the column messages of type text: it must be jsonb"),
        (MINIMAL.replace("timestamptz", "timestamp"), "created_at of type timestamp without time zone: it must be timestamptz"),
        (MINIMAL.replace("id text", "id uuid"), "has the column id of type uuid: it must be text"),
        (MINIMAL + ", purposes text", "has the column purposes of type text: it must be text\\[\\]"),
        (MINIMAL + ", embedding vector", "has one of embedding and embedding_model"),
        (MINIMAL + ", embedding real[], embedding_model text", "embedding of type real\\[\\]: it must be vector"),
    ],
)  # fmt: skip
async def test_a_view_of_another_shape_is_named_with_its_column_and_what_it_must_be(
    pool: Pool, admin: Pool, columns: str, says: str
) -> None:
    await given_view(admin, columns)
    async with pool.acquire() as conn:
        with pytest.raises(ViewError, match=says):
            await check_view(conn, VIEW)
    with pytest.raises(ViewError, match=says):
        await absorb(pool, VIEW)


async def test_a_view_that_is_not_there_is_named_and_what_is_no_name_is_never_run(pool: Pool) -> None:
    async with pool.acquire() as conn:
        with pytest.raises(ViewError, match=r"harvest.view in soulforge.toml is no.where, which does not exist"):
            await check_view(conn, "no.where")
        with pytest.raises(ViewError, match=r"expected schema\.view"):
            await check_view(conn, "vectors.karma; DROP TABLE vectors.karma")
    with pytest.raises(ValueError, match="view"):
        HarvesterSettings(view="karma")
    assert HarvesterSettings(view=VIEW).view == VIEW


async def test_a_view_that_fails_is_named_without_what_its_rows_say(pool: Pool, admin: Pool) -> None:
    await admin.execute(
        "CREATE SCHEMA elsewhere; CREATE VIEW elsewhere.records AS SELECT 'a' AS id, 'scribe' AS persona, "
        "('geheimnis' || random())::jsonb AS messages, 'speculative' AS status, 's' AS session, now() AS created_at;"
        + READABLE
    )
    with pytest.raises(ViewError, match=r"elsewhere\.records cannot be read") as told:
        await absorb(pool, VIEW)
    assert "geheimnis" not in str(told.value)


async def test_the_example_view_makes_conversations_of_lychds_memories(pool: Pool, admin: Pool) -> None:
    session, note, mistake, fix, chat, other = (uuid4() for _ in range(6))
    await admin.execute(
        "CREATE TABLE public.karma (id uuid PRIMARY KEY, kind varchar(30) NOT NULL, content text NOT NULL, embedding vector,"
        " meta jsonb NOT NULL DEFAULT '{}', session_id uuid, run_id uuid, created_at timestamptz NOT NULL DEFAULT now())"
    )
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    talk = [
        {"role": "user", "content": "how warm?"},
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "21"},
        {"role": "assistant", "content": "21 degrees."},
    ]
    asked = {"prompt": "Add httpx.", "persona": "coder", "system": "Be brief."}

    async def memory(id: UUID, kind: str, content: str, **meta: Any) -> None:
        await admin.execute(
            "INSERT INTO public.karma (id, kind, content, meta, session_id) VALUES ($1, $2, $3, $4, $5)",
            id, kind, content, meta, session,
        )  # fmt: skip

    await memory(note, "fact", "The boiler is in the cellar.")
    await memory(mistake, "mistake", "pip install httpx", **asked, consecrated_by="me")
    await memory(
        fix, "preference", "uv add httpx", **asked, consecrated_by="me", corrects=str(mistake), consecrated_at="?"
    )
    await memory(chat, "note", "", messages=talk, consecrated_by="me", consecrated_at="2026-01-01T00:00:00Z")
    await memory(other, "note", "x", prompt="?", revoked=True, purposes=["show"])
    await admin.execute((PROJECT / "examples/lychd/karma_view.sql").read_text())
    async with pool.acquire() as conn:
        await check_view(conn, "soulforge_karma.records")

    assert await absorb(pool, "soulforge_karma.records") == 4
    assert await absorb(pool, "soulforge_karma.records") == 0

    found = {row["id"].removeprefix("lychd-"): row for row in await pool.fetch("SELECT * FROM vectors.karma")}
    assert {id: row["status"] for id, row in found.items()} == {
        str(mistake): "speculative",
        str(fix): "white_truth",
        str(chat): "white_truth",
        str(other): "revoked",
    }
    corrected = found[str(fix)]
    assert [turn["content"] for turn in corrected["messages"]] == ["Be brief.", "Add httpx.", "uv add httpx"]
    assert (corrected["persona"], corrected["parent"], corrected["feedback"]) == ("coder", f"lychd-{mistake}", "up")
    assert (corrected["session"], corrected["kind"]) == (f"lychd-{session}", "preference")
    assert found[str(chat)]["messages"] == talk and found[str(chat)]["consecrated_at"].year == 2026
    assert found[str(other)]["purposes"] == ["show"]
    for row in found.values():
        TypeAdapter(tuple[ChatMessage, ...]).validate_python(row["messages"])


async def test_a_view_row_may_be_imported_before_and_follows_the_view_then(pool: Pool, admin: Pool) -> None:
    await given_view(admin)
    record = {"id": "a", "persona": "scribe", "session": "s", "messages": TURNS}
    async with pool.acquire() as conn, conn.transaction():
        assert await store_records(conn, [KarmaRecord.model_validate_json(json.dumps(record))]) == 1
    await put(admin, id="a", status="white_truth", consecrated_by="me")

    assert await absorb(pool, VIEW) == 1
    assert (await row_of(pool, "a"))["status"] == "white_truth"
