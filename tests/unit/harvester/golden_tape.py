"""A tape of what an agent did, as spans: one call after another, a second each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from services.harvester.trajectories.spans import Span

START = datetime(2026, 1, 1, tzinfo=UTC)
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "How deep is it?"}


def call(id: str, name: str = "look", **arguments: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def asking(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def saying(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def got(id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def attributes(prefix: str, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Messages as OpenInference writes them; what is empty is not written."""
    found: dict[str, Any] = {}
    for index, message in enumerate(messages):
        at = f"{prefix}.{index}.message"
        for key in ("role", "content", "tool_call_id"):
            if message.get(key):
                found[f"{at}.{key}"] = message[key]
        for number, each in enumerate(message.get("tool_calls", [])):
            found[f"{at}.tool_calls.{number}.tool_call.id"] = each["id"]
            found[f"{at}.tool_calls.{number}.tool_call.function.name"] = each["function"]["name"]
            found[f"{at}.tool_calls.{number}.tool_call.function.arguments"] = each["function"]["arguments"]
    return found


class Tape:
    def __init__(self, answer: str = "") -> None:
        self.spans: list[Span] = []
        self.root = self._add(None, "agent", "AGENT", "OK", {"output.value": answer} if answer else {}, seconds=100_000)

    def model(
        self, heard: Sequence[dict[str, Any]], *said: dict[str, Any], parent: Span | None = None, status: str = "OK"
    ) -> Span:
        found = attributes("llm.input_messages", heard) | attributes("llm.output_messages", said)
        schema = {"type": "function", "function": {"name": "look", "parameters": {}}}
        found["llm.tools.0.tool.json_schema"] = json.dumps(schema)
        return self._add(parent or self.root, "ChatCompletion", "LLM", status, found)

    def tool(
        self, name: str = "look", result: str = "", status: str = "OK", parent: Span | None = None, **arguments: Any
    ) -> Span:
        found = {"tool.name": name, "input.value": json.dumps(arguments)}
        return self._add(
            parent or self.root, name, "TOOL", status, found | ({"output.value": result} if result else {})
        )

    def agent(self, result: str = "") -> Span:
        return self._add(self.root, "sub", "AGENT", "OK", {"output.value": result})

    def _add(
        self, parent: Span | None, name: str, kind: str, status: str, found: dict[str, Any], seconds: int = 1
    ) -> Span:
        number = len(self.spans)
        start = START + timedelta(seconds=number)
        end = start + timedelta(seconds=seconds)
        span = Span(f"{number:016x}", parent.id if parent else None, name, kind, status, start, end, found)
        self.spans.append(span)
        return span
