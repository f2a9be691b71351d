"""Golden paths from a real Phoenix: what an instrumented agent sent there comes back as the conversation that counts."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.embedded import parts
from deploy.embedded.part import Part
from services.harvester.golden_paths import fill as filling
from services.harvester.golden_paths import phoenix as reading
from services.harvester.golden_paths.fill import Filled, fill
from services.harvester.golden_paths.phoenix import PhoenixError, open_phoenix
from services.harvester.trajectories.spans import NoPathError, Span
from shared.contracts.karma import ChatMessage, KarmaRecord, Status
from shared.storage.postgres import Pool
from tests.support.agent_loop import ANSWER, QUESTION, SYSTEM, TOOLS, TankAgent, instrumented, scripted_model
from tests.support.harvests import remember
from tests.support.servers import House

READY_S = 120
SENT_S = 30
SPANS = 14  # 2 agents, 7 model calls, 5 tool calls
# The 503, `read_sheet`, `tank("north site")` with the model call that asked for it, and the scout's two model calls and guess.
PRUNED = 7


@pytest.fixture(scope="module")
async def phoenix_url(servers: House) -> AsyncIterator[str]:
    """A real Phoenix, as the embedded stack starts it."""
    settings = servers.settings
    part = parts.phoenix(settings)
    log = settings.home / "phoenix.log"
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - a spawn is over at once
            part.command, env=part.env, stdout=file, stderr=file, start_new_session=True
        )
    try:
        await _until_ready(process, part, log)
        yield settings.phoenix_url
    finally:
        process.terminate()
        process.wait(30)


async def _until_ready(process: subprocess.Popen[bytes], part: Part, log: Path) -> None:
    deadline = monotonic() + READY_S
    assert part.ready is not None
    while not await part.ready():
        if process.poll() is not None or monotonic() > deadline:
            raise RuntimeError(f"phoenix did not start: {log.read_text()[-1000:]}")
        await asyncio.sleep(0.2)


@dataclass(frozen=True)
class Run:
    """What one run of the agent came to: its answer, the id of its trace, and what it asked the model."""

    answer: str
    trace_id: str
    requests: list[dict[str, Any]]


def run_agent(exporter: SpanExporter) -> Run:
    with (
        scripted_model() as (model_url, requests),
        instrumented(exporter) as tracer,
        openai.OpenAI(base_url=model_url, api_key="none", max_retries=0) as client,
    ):
        answer, trace_id = TankAgent(client, tracer).run(QUESTION)
    return Run(answer, trace_id, requests)


def to_phoenix(url: str) -> SpanExporter:
    return OTLPSpanExporter(endpoint=f"{url}/v1/traces")


@pytest.fixture(scope="module")
async def run(phoenix_url: str) -> Run:
    """One run of the agent, all of whose spans have arrived."""
    run = await asyncio.to_thread(run_agent, to_phoenix(phoenix_url))
    await _until_arrived(phoenix_url, run.trace_id)
    return run


async def _until_arrived(phoenix_url: str, trace_id: str) -> None:
    deadline = monotonic() + SENT_S
    while len(await read(phoenix_url, trace_id)) < SPANS:
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


GOLDEN = [
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
    await _until_arrived(phoenix_url, run.trace_id)
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

    assert await fill(pool, phoenix_url, "warden") == Filled(rebuilt=1, problems=2)
    corrected, odd = await path_of(pool, "corrected"), await path_of(pool, "odd")
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
