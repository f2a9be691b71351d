"""Messages in OTel GenAI's forms: in attributes, and in the events of older conventions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from services.harvester.trajectories.path import rebuild
from services.harvester.trajectories.spans import Event, NoPathError, Span, kind_of
from tests.unit.harvester.golden_tape import Tape, saying


def genai(heard: Any, said: Any, events: tuple[Event, ...] = (), **attributes: Any) -> list[Span]:
    """One model call in OTel GenAI's form."""
    found = {"gen_ai.input.messages": heard, "gen_ai.output.messages": said} | attributes
    tape = Tape()
    tape.model([], saying(""))
    recorded = {name: json.dumps(value) for name, value in found.items() if value is not None}
    tape.spans[-1] = replace(tape.spans[-1], attributes=recorded, events=events)
    return tape.spans


def text(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": words}]}


@pytest.mark.parametrize("role", ["user", "tool"])
@pytest.mark.parametrize("field", ["response", "result"])
def test_a_genai_result_is_a_tools_whatever_the_role(role: str, field: str) -> None:
    asked = {"type": "tool_call", "id": "a", "name": "look", "arguments": {"at": "sea"}}
    answer = {"type": "tool_call_response", "id": "a", field: "9 m"}
    heard = [text("user", "How deep?"), {"role": "assistant", "parts": [asked]}, {"role": role, "parts": [answer]}]

    messages = rebuild(genai(heard, [text("assistant", "Nine.")])).messages

    assert [(message.role, message.content) for message in messages[2:]] == [("tool", "9 m"), ("assistant", "Nine.")]
    assert messages[1].tool_calls[0]["function"] == {"name": "look", "arguments": '{"at": "sea"}'}


def test_words_beside_a_result_stay_the_users() -> None:
    asked = {"role": "assistant", "parts": [{"type": "tool_call", "id": "a", "name": "look", "arguments": {}}]}
    both = {"role": "user", "parts": [{"type": "tool_call_response", "id": "a", "response": "9 m"}, "And now?"]}

    messages = rebuild(genai([text("user", "How deep?"), asked, both], [text("assistant", "Nine.")])).messages

    assert [message.content for message in messages[2:]] == ["9 m", "And now?", "Nine."]


@pytest.mark.parametrize(
    "result",
    [
        {"type": "tool_result", "tool_use_id": "a", "content": "9 m", "is_error": True},
        {"toolResult": {"toolUseId": "a", "status": "error", "content": [{"text": "9 m"}]}},
    ],
    ids=["anthropic", "bedrock"],
)
def test_a_result_that_is_recorded_as_a_failure_is_one(result: dict[str, Any]) -> None:
    asked = {"role": "assistant", "parts": [{"type": "tool_use", "id": "a", "name": "look", "input": {}}]}
    spans = genai([text("user", "How deep?"), asked, {"role": "user", "parts": [result]}], [text("assistant", "Nine.")])

    with pytest.raises(NoPathError, match="every tool call that the answer could rest on failed"):
        rebuild(spans)


def test_system_instructions_are_the_first_message_and_come_once() -> None:
    instructions = {"gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}]}
    asked, answered = text("user", "How deep?"), [text("assistant", "Nine.")]

    for heard in ([asked], [text("system", "Be brief."), asked]):
        roles = [message.role for message in rebuild(genai(heard, answered, **instructions)).messages]
        assert roles == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"type": "uri", "modality": "image", "uri": "x"}, "more than text"),
        ({"type": "text"}, "recorded with its content masked"),
        ({"type": "tool_call_response", "id": "a"}, "recorded without its content"),
        ({"type": "later_invention", "content": "x"}, "more than text"),
    ],
)
def test_a_part_that_is_not_understood_leaves_no_path(part: dict[str, Any], problem: str) -> None:
    with pytest.raises(NoPathError, match=problem):
        rebuild(genai([{"role": "user", "parts": [part]}], [text("assistant", "Nine.")]))


def test_a_trace_without_content_says_what_to_set() -> None:
    with pytest.raises(NoPathError, match="record content in its spans"):
        rebuild(genai(None, None))


def test_tools_may_be_recorded_in_another_convention_than_the_messages() -> None:
    spans = genai([text("user", "How deep?")], [text("assistant", "Nine.")], **{"llm.request.functions.0.name": "look"})

    assert rebuild(spans).tools == ({"type": "function", "function": {"name": "look"}},)


def test_messages_that_were_cut_off_leave_no_path() -> None:
    spans = genai([text("user", "How deep?")], [text("assistant", "Nine.")])
    cut = {**spans[-1].attributes, "gen_ai.input.messages": spans[-1].attributes["gen_ai.input.messages"][:-5]}

    with pytest.raises(NoPathError, match="OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"):
        rebuild([*spans[:-1], replace(spans[-1], attributes=cut)])


CALLS = [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
AS_ATTRIBUTES = (
    Event("gen_ai.user.message", {"content": "How deep?"}),
    Event("gen_ai.assistant.message", {"tool_calls": json.dumps(CALLS)}),
    Event("gen_ai.tool.message", {"content": "9 m", "id": "a"}),
    Event("gen_ai.choice", {"index": 0, "message": json.dumps({"role": "assistant", "content": "Nine."})}),
)
AS_JSON = tuple(
    Event(event.name, {"gen_ai.event.content": json.dumps({**event.attributes, "tool_calls": calls})})
    for event, calls in zip(AS_ATTRIBUTES, [None, CALLS, None, None], strict=True)
)
AS_LISTS = (
    Event(
        "gen_ai.content.prompt",
        {
            "gen_ai.prompt": json.dumps(
                [
                    {"role": "user", "content": "How deep?"},
                    {"role": "assistant", "content": None, "tool_calls": CALLS},
                    {"role": "tool", "content": "9 m", "tool_call_id": "a"},
                ]
            )
        },
    ),
    Event("gen_ai.content.completion", {"gen_ai.completion": json.dumps([{"content": "Nine."}])}),
)


@pytest.mark.parametrize("events", [AS_ATTRIBUTES, AS_JSON, AS_LISTS], ids=["attributes", "json", "lists"])
def test_messages_in_events_are_read(events: tuple[Event, ...]) -> None:
    messages = rebuild(genai(None, None, events)).messages

    assert [(message.role, message.content) for message in messages] == [
        ("user", "How deep?"),
        ("assistant", None),
        ("tool", "9 m"),
        ("assistant", "Nine."),
    ]


def test_a_users_words_that_look_like_json_stay_words() -> None:
    events = (Event("gen_ai.user.message", {"content": '[{"text": "a", "depth": 9}]'}), AS_ATTRIBUTES[-1])

    assert rebuild(genai(None, None, events)).messages[0].content == '[{"text": "a", "depth": 9}]'


@pytest.mark.parametrize(
    ("recorded", "attributes", "kind"),
    [
        ("CHAIN", {"gen_ai.operation.name": "chat"}, "CHAIN"),
        ("UNKNOWN", {"gen_ai.operation.name": "chat"}, "LLM"),
        ("UNKNOWN", {"gen_ai.operation.name": "execute_tool"}, "TOOL"),
        ("UNKNOWN", {"llm.request.type": "completion"}, "LLM"),
        ("UNKNOWN", {"traceloop.span.kind": "tool"}, "TOOL"),
        ("UNKNOWN", {"http.method": "POST"}, "UNKNOWN"),
    ],
)
def test_a_span_has_the_kind_that_its_convention_gives_it(recorded: str, attributes: dict[str, str], kind: str) -> None:
    assert kind_of(recorded, attributes) == kind
