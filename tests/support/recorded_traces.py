"""The recorded runs of instrumented agents (tools/record_traces), and the conversation that each is to be read as."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from services.harvester.golden_paths.phoenix import read_span
from services.harvester.trajectories.spans import Span
from shared.config.settings import PROJECT
from shared.contracts.karma import ChatMessage
from tools.record_traces.scenario import ACCOUNTS, SYSTEM

TRACES = Path(__file__).parent / "traces"
AGENTS = sorted(file.stem for file in (PROJECT / "tools/record_traces/agents").glob("[a-z]*.py"))
# The calls that the answer of a run rests on: the id of each, and the account that it asks for.
RUNS = {
    "one_call": [[("call_1", "harbour")]],
    "failed_then_good": [[("call_2", "harbour")]],
    "parallel_calls": [[("call_1", "harbour"), ("call_2", "mill")]],
    "answer_in_a_tool": [[("call_1", "harbour")]],
}
# The record's own tools are used for these: the trace has none.
WITHOUT_TOOLS = {"genai_openai", "genai_strands_details", "genai_strands_events", "openinference_openai_agents"}
# What an agent puts before the user's question.
INTRODUCED = {"openinference_smolagents": "New task:\n"}
STATUSES = {0: "UNSET", 1: "OK", 2: "ERROR"}


@dataclass(frozen=True)
class Recording:
    """One run of one agent."""

    agent: str
    run: str
    question: str
    answer: str  #: what the agent returned
    request: ExportTraceServiceRequest

    @property
    def spans(self) -> list[Span]:
        """Its spans, as a server would list them that translates nothing."""
        groups = (group for resource in self.request.resource_spans for group in resource.scope_spans)
        return [read_span(_row(span)) for group in groups for span in group.spans]

    @property
    def trace_id(self) -> str:
        return str(self.request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex())


def recording(file: Path) -> Recording:
    found = json.loads(file.read_text(encoding="utf-8"))
    request = ParseDict(found["request"], ExportTraceServiceRequest())
    return Recording(file.parent.name, file.stem, found["question"], found["answer"], request)


def recordings() -> list[Recording]:
    return [recording(file) for file in sorted(TRACES.glob("*/*.json"))]


def expected(recording: Recording) -> list[dict[str, Any]]:
    """The conversation of a run: one for all agents, apart from what an agent adds to the question."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": INTRODUCED.get(recording.agent, "") + recording.question},
    ]
    for step in RUNS[recording.run]:
        messages.append({"role": "assistant", "calls": [(id, "balance", {"account": account}) for id, account in step]})
        messages += [{"role": "tool", "id": id, "content": str(ACCOUNTS[account])} for id, account in step]
    return [*messages, {"role": "assistant", "content": _comparable(recording.answer)}]


def conversation(messages: Iterable[ChatMessage]) -> list[dict[str, Any]]:
    """Messages with all that counts, however their JSON is spaced."""
    return [_message(message) for message in messages]


def tool_names(tools: Sequence[dict[str, Any]]) -> list[str]:
    return [tool["function"]["name"] for tool in tools if tool["type"] == "function" and tool["function"]["parameters"]]


def _message(message: ChatMessage) -> dict[str, Any]:
    functions = [(call["id"], call["function"]) for call in message.tool_calls]
    fields = {
        "content": _comparable(message.content) if message.role == "assistant" else message.content,
        "calls": [(id, function["name"], json.loads(function["arguments"])) for id, function in functions],
        "id": message.tool_call_id,
    }
    return {"role": message.role} | {name: value for name, value in fields.items() if value}


def _comparable(text: str | None) -> Any:
    return json.loads(text) if text and text.startswith("{") else text


def _row(span: trace_pb2.Span) -> dict[str, Any]:
    attributes = {each.key: _value(each.value) for each in span.attributes}
    return {
        "context": {"span_id": span.span_id.hex()},
        "parent_id": span.parent_span_id.hex() or None,
        "name": span.name,
        "span_kind": attributes.pop("openinference.span.kind", "UNKNOWN"),
        "status_code": STATUSES[span.status.code],
        "start_time": _time(span.start_time_unix_nano),
        "end_time": _time(span.end_time_unix_nano),
        "attributes": attributes,
        "events": [
            {"name": event.name, "attributes": {each.key: _value(each.value) for each in event.attributes}}
            for event in span.events
        ],
    }


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat()


def _value(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(value.WhichOneof("value")), None)
