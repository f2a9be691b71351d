"""The spans of a trace, read over Phoenix's REST API (why not its client, nor its tables: docs/adr/0007)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from services.harvester.trajectories.messages import LOST
from services.harvester.trajectories.spans import LLM, UNKNOWN, Event, NoPathError, Span, kind_of

PAGE = 50
MAX_SPANS = 2000
MAX_BYTES = 64 * 1024 * 1024  # of one trace: a model call's span holds the whole conversation so far, twice
TIMEOUT_S = 20.0
OTEL_LIMIT = 128  # of a span's attributes, by default: the first ones go, silently, and Phoenix closes the gap

# What is kept of a span. A model call's `input.value` and `output.value` repeat its messages.
_OF_A_MODEL = (
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.tools.",
    "llm.request.functions.",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.prompt.",
    "gen_ai.completion.",
)
_OF_OTHERS = (
    "input.value",
    "output.value",
    "tool.name",
    "tool.id",
    "tool_call.id",
    "gen_ai.tool.",
    "traceloop.entity.",
    "pydantic_ai.tool.retry.cause",
    "error.type",
    "final_result",
)


Read = TypeVar("Read")


class PhoenixError(Exception):
    """Phoenix cannot be asked now, whatever the trace; the message names what to do."""


class Phoenix:
    """Phoenix's traces. A trace is in one project and only a project can be asked, so all are, the last that had one first."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._projects: list[str] = []

    async def spans(self, trace_id: str) -> list[Span]:
        """All spans of a trace. Raises PhoenixError; NoPathError where there are none, or too many to hold."""
        if not self._projects:
            self._projects = [project async for project in self._list_projects()]
        for project in self._projects:
            if found := [span async for span in self._spans(project, trace_id)]:
                self._projects.sort(key=lambda each: each != project)
                return found
        raise NoPathError("Phoenix holds no span of the trace")

    async def _list_projects(self) -> AsyncIterator[str]:
        async for page, _ in self._pages("v1/projects", {"limit": "100"}):
            for row in page:
                yield self._read(_project, row)

    async def _spans(self, project: str, trace_id: str) -> AsyncIterator[Span]:
        read = size = 0
        query = {"limit": str(PAGE), "trace_id": trace_id}
        async for page, length in self._pages(f"v1/projects/{quote(project, safe='')}/spans", query):
            read, size = read + len(page), size + length
            if read > MAX_SPANS:
                raise NoPathError(f"the trace has more than {MAX_SPANS} spans")
            if size > MAX_BYTES:
                raise NoPathError(f"the trace is larger than {MAX_BYTES >> 20} MiB")
            for row in page:
                yield self._read(read_span, row)

    async def _pages(self, path: str, query: dict[str, str]) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        """The rows of each page, and its bytes."""
        cursor: str | None = ""
        while cursor is not None:
            body = await self._get(path, query | ({"cursor": cursor} if cursor else {}))
            rows, cursor = self._read(_page, await asyncio.to_thread(self._read, json.loads, body))
            yield rows, len(body)

    def _read(self, reader: Callable[[Any], Read], value: Any) -> Read:
        try:
            return reader(value)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise PhoenixError(
                f"what answers at {self._url} is no Phoenix that is known: set SOULFORGE_PHOENIX"
            ) from None

    async def _get(self, path: str, query: dict[str, str]) -> bytes:
        try:
            async with self._client.stream("GET", path, params=query) as response:
                if response.is_error:
                    raise PhoenixError(
                        f"Phoenix at {self._url} answered {response.status_code} to {path.split('?')[0]}: see its log"
                    )
                return await _bounded(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PhoenixError(
                f"Phoenix at {self._url} cannot be reached ({type(error).__name__}): start it, or set SOULFORGE_PHOENIX"
            ) from error


@asynccontextmanager
async def open_phoenix(url: str) -> AsyncIterator[Phoenix]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
        yield Phoenix(client, url)


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_BYTES:
            raise NoPathError(f"the trace is larger than {MAX_BYTES >> 20} MiB")
    return bytes(body)


def _page(answer: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    return answer["data"], answer.get("next_cursor")


def _project(row: Mapping[str, Any]) -> str:
    return str(row["id"])


def read_span(row: Mapping[str, Any]) -> Span:
    attributes = row["attributes"]
    kind = kind_of(str(row["span_kind"]), attributes)
    kept = _OF_A_MODEL if kind == LLM else _OF_OTHERS
    if kind == LLM and len(attributes) + (row["span_kind"] != UNKNOWN) == OTEL_LIMIT:
        raise NoPathError(LOST)
    return Span(
        id=row["context"]["span_id"],
        parent=row["parent_id"],
        name=row["name"],
        kind=kind,
        status=row["status_code"],
        started_at=datetime.fromisoformat(row["start_time"]),
        ended_at=datetime.fromisoformat(row["end_time"]),
        attributes={name: value for name, value in attributes.items() if name.startswith(kept)},
        events=tuple(_event(event) for event in row["events"]),
    )


def _event(event: Mapping[str, Any]) -> Event:
    """An exception is known by its name; what it says is not read."""
    name = str(event["name"])
    return Event(name, dict(event["attributes"]) if name.startswith("gen_ai.") else {})
