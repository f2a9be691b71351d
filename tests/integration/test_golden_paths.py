"""Golden paths from a real Phoenix: what an instrumented agent sent there comes back as the conversation that counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.harvester.golden_paths import fill as filling
from services.harvester.golden_paths import join
from services.harvester.golden_paths import phoenix as reading
from services.harvester.golden_paths.fill import Filled, fill
from services.harvester.golden_paths.phoenix import PhoenixError, open_phoenix
from services.harvester.trajectories.spans import NoPathError, Span
from shared.contracts.karma import ChatMessage, KarmaRecord, Status
from shared.storage.postgres import Pool
from tests.support.agent_loop import ANSWER, QUESTION, SYSTEM, TOOLS, Run, run_agent, scripted_model, tool
from tests.support.harvests import remember
from tests.support.phoenix import phoenix
from tests.support.recorded_traces import WITHOUT_TOOLS, Recording, conversation, expected, recordings, tool_names
from tests.support.servers import House

SENT_S = 30
SPANS = 14  # 2 agents, 7 model calls, 5 tool calls
# The 503, `read_sheet`, `tank("north site")` with the model call that asked for it, and the scout's two model calls and guess.
PRUNED = 7


@pytest.fixture(scope="module")
async def phoenix_url(servers: House) -> AsyncIterator[str]:
    async with phoenix(servers.settings) as url:
        yield url


def to_phoenix(url: str) -> SpanExporter:
    return OTLPSpanExporter(endpoint=f"{url}/v1/traces")


@pytest.fixture(scope="module")
async def run(phoenix_url: str) -> Run:
    """One run of the agent, all of whose spans have arrived."""
    run = await asyncio.to_thread(run_agent, to_phoenix(phoenix_url))
    await _until_arrived(phoenix_url, run.trace_id, SPANS)
    return run


async def _until_arrived(phoenix_url: str, trace_id: str, spans: int) -> None:
    deadline = monotonic() + SENT_S
    while len(await read(phoenix_url, trace_id)) < spans:
        assert monotonic() < deadline, "the spans did not arrive"
        await asyncio.sleep(0.2)


async def read(phoenix_url: str, trace_id: str) -> list[Span]:
    try:
        async with open_phoenix(phoenix_url) as client:
            return await client.spans(trace_id)
    except NoPathError:
        return []


def truth(trace_id: str, id: str = "tank", answer: str = ANSWER) -> KarmaRecord:
    """The record that the agent's owner consecrated: the question and the answer."""
    return KarmaRecord(
        id=id,
        persona="warden",
        messages=(ChatMessage(role="user", content=QUESTION), ChatMessage(role="assistant", content=answer)),
        status=Status.WHITE_TRUTH,
        consecrated_by="ida",
        session="s",
        trace_id=trace_id,
    )


async def path_of(pool: Pool, karma: str = "tank") -> dict[str, Any] | None:
    row = await pool.fetchrow(
        "SELECT trace_id, messages, tools, steps, pruned, problem FROM golden_path WHERE karma = $1", karma
    )
    return dict(row) if row else None


async def wait_over(pool: Pool) -> None:
    """As if the last reading were long ago."""
    await pool.execute("UPDATE golden_path SET read_at = read_at - interval '10 minutes'")


GOLDEN: list[dict[str, Any]] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_sites", "type": "function", "function": {"name": "list_sites", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_sites", "content": '["North", "South"]'},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "call_right", "type": "function", "function": {"name": "tank", "arguments": '{"site": "North"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_right", "content": '{"site": "North", "volume": 4200, "unit": "litres"}'},
    {"role": "assistant", "content": ANSWER},
]


async def test_the_agent_took_its_dead_ends_and_phoenix_saw_them(phoenix_url: str, run: Run) -> None:
    spans = await read(phoenix_url, run.trace_id)

    assert run.answer == ANSWER
    assert {"call_sheet", "call_wrong"} < {message.get("tool_call_id") for message in run.requests[-1]["messages"]}
    assert Counter(span.kind for span in spans) == {"AGENT": 2, "LLM": 7, "TOOL": 5}
    assert Counter(span.name for span in spans if span.failed) == {"ChatCompletion": 1, "read_sheet": 1, "tank": 1}


async def test_a_run_with_three_dead_ends_comes_back_as_the_conversation_that_led_to_its_answer(
    pool: Pool, phoenix_url: str, run: Run
) -> None:
    await remember(pool, [truth(run.trace_id)])

    assert await fill(pool, phoenix_url, "warden") == Filled(rebuilt=1)

    assert await path_of(pool) == {
        "trace_id": run.trace_id,
        "messages": GOLDEN,
        "tools": TOOLS,
        "steps": 5,
        "pruned": PRUNED,
        "problem": None,
    }
    KarmaRecord.model_validate(truth(run.trace_id).model_dump() | {"messages": GOLDEN, "tools": TOOLS})


async def test_what_real_packages_recorded_comes_back_as_the_conversation_that_took_place(
    pool: Pool, phoenix_url: str
) -> None:
    recorded = recordings()
    async with httpx.AsyncClient(base_url=phoenix_url, timeout=30) as client:
        for each in recorded:
            content = {"content-type": "application/x-protobuf"}
            sent = await client.post("/v1/traces", content=each.request.SerializeToString(), headers=content)
            assert sent.status_code == httpx.codes.OK
    await remember(pool, [record_of(each) for each in recorded])
    for each in recorded:
        await _until_arrived(phoenix_url, each.trace_id, len(each.spans))

    assert await fill(pool, phoenix_url, "warden") == Filled(rebuilt=len(recorded))

    trained_on = f"k.id, {join.MESSAGES} AS messages, {join.TOOLS} AS tools"
    rows = await pool.fetch(f"SELECT {trained_on} FROM vectors.karma k {join.GOLDEN}")
    trained = {row["id"]: row for row in rows}
    for each in recorded:
        row = trained[f"{each.agent} {each.run}"]
        assert conversation(ChatMessage.model_validate(message) for message in row["messages"]) == expected(each)
        assert tool_names(row["tools"]) == ["the record's" if each.agent in WITHOUT_TOOLS else "balance"]


def record_of(recording: Recording) -> KarmaRecord:
    own = {"tools": (tool("the record's", account="string"),)}
    return truth(recording.trace_id, f"{recording.agent} {recording.run}", recording.answer).model_copy(update=own)


async def test_filling_again_does_nothing(pool: Pool, phoenix_url: str, run: Run) -> None:
    await remember(pool, [truth(run.trace_id)])
    await fill(pool, phoenix_url, "warden")
    await wait_over(pool)

    assert await fill(pool, phoenix_url, "warden") == Filled()


async def test_a_trace_of_many_pages_is_read_whole(
    pool: Pool, phoenix_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 3)
    await remember(pool, [truth(run.trace_id)])

    await fill(pool, phoenix_url, "warden")

    assert (await path_of(pool) or {})["messages"] == GOLDEN


async def test_a_trace_that_is_too_large_is_named_as_such(
    pool: Pool, phoenix_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_SPANS", SPANS - 1)
    await remember(pool, [truth(run.trace_id)])

    assert await fill(pool, phoenix_url, "warden") == Filled(problems=1)
    assert (await path_of(pool) or {})["problem"] == f"the trace has more than {SPANS - 1} spans"


async def test_spans_that_come_late_are_found_by_a_later_filling(pool: Pool, phoenix_url: str) -> None:
    kept = InMemorySpanExporter()
    run = await asyncio.to_thread(run_agent, kept)
    await remember(pool, [truth(run.trace_id)])

    assert await fill(pool, phoenix_url, "warden") == Filled(problems=1)
    assert (await path_of(pool) or {})["problem"] == "Phoenix holds no span of the trace"
    exporter = to_phoenix(phoenix_url)
    exporter.export(kept.get_finished_spans())
    exporter.shutdown()
    await _until_arrived(phoenix_url, run.trace_id, SPANS)
    assert await fill(pool, phoenix_url, "warden") == Filled()
    await wait_over(pool)

    assert await fill(pool, phoenix_url, "warden") == Filled(rebuilt=1)
    assert (await path_of(pool) or {})["messages"] == GOLDEN


async def test_a_trace_in_the_making_is_not_judged(pool: Pool, phoenix_url: str) -> None:
    kept = InMemorySpanExporter()
    run = await asyncio.to_thread(run_agent, kept)
    exporter = to_phoenix(phoenix_url)
    exporter.export([span for span in kept.get_finished_spans() if span.parent])
    exporter.shutdown()
    deadline = monotonic() + SENT_S
    while len(await read(phoenix_url, run.trace_id)) < SPANS - 1:
        assert monotonic() < deadline
        await asyncio.sleep(0.2)
    await remember(pool, [truth(run.trace_id)])

    await fill(pool, phoenix_url, "warden")

    assert (await path_of(pool) or {})["problem"] == "the trace is still being written"


async def test_what_stands_in_no_trace_stays_as_it_was_remembered(pool: Pool, phoenix_url: str, run: Run) -> None:
    await remember(pool, [truth(run.trace_id, "corrected", "It holds 4100 litres.")])
    await remember(pool, [truth("run-17", "odd")])
    await remember(pool, [truth(str(UUID(run.trace_id)), "as a uuid")])
    calling = ChatMessage.model_validate({**GOLDEN[2], "content": ANSWER})
    ends_in_call = truth(run.trace_id, "a call").model_copy(update={"messages": (*truth("").messages[:1], calling)})
    await remember(pool, [ends_in_call])

    assert await fill(pool, phoenix_url, "warden") == Filled(rebuilt=1, problems=3)
    corrected, odd = await path_of(pool, "corrected"), await path_of(pool, "odd")
    assert "the record ends in a call" in (await path_of(pool, "a call") or {})["problem"]
    assert corrected and corrected["problem"] == "no model call of the trace gave the record's answer"
    assert odd and odd["problem"] == "trace_id is no OpenTelemetry trace id of 32 hexadecimal digits"


async def test_consent_withdrawn_while_phoenix_is_asked_leaves_nothing(
    pool: Pool, phoenix_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(pool, [truth(run.trace_id)])
    really_read = filling._read

    async def read_and_revoke(*values: Any) -> Any:
        path = await really_read(*values)
        await pool.execute("UPDATE vectors.karma SET status = 'revoked'")
        return path

    monkeypatch.setattr(filling, "_read", read_and_revoke)

    assert await fill(pool, phoenix_url, "warden") == Filled()
    assert await path_of(pool) is None


async def test_without_phoenix_nothing_is_done_and_the_error_says_what_to_do(pool: Pool) -> None:
    await remember(pool, [truth("0" * 32)])

    with pytest.raises(PhoenixError, match=r"cannot be reached .*: start it, or set SOULFORGE_PHOENIX"):
        await fill(pool, "http://127.0.0.1:9", "warden")

    assert await path_of(pool) is None


async def test_a_server_that_is_not_phoenix_is_told_from_a_trace_without_spans(pool: Pool) -> None:
    await remember(pool, [truth("0" * 32)])

    with scripted_model() as (stranger, _), pytest.raises(PhoenixError, match="answered 501"):
        await fill(pool, stranger, "warden")

    assert await path_of(pool) is None


@pytest.mark.parametrize(
    "page",
    [
        {"origin": "http://page.example"},
        {"origin": "null"},
        {"host": "page.example:7603"},
        {"host": "page.example:7603", "origin": "http://page.example:7603"},
    ],
    ids=lambda headers: " ".join(headers),
)
async def test_a_web_page_reaches_no_trace(phoenix_url: str, page: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=phoenix_url, timeout=10) as client:
        for method, path in (("GET", "/v1/projects"), ("POST", "/graphql"), ("POST", "/v1/traces"), ("GET", "/")):
            body = {"query": "{ projects { edges { node { name } } } }"}
            assert (await client.request(method, path, headers=page, json=body)).status_code == httpx.codes.FORBIDDEN

        own = await client.post("/graphql", headers={"origin": phoenix_url}, json=body)
    assert own.status_code == httpx.codes.OK and "projects" in own.json()["data"]
