"""What is a complete interaction: it ends in the assistant's answer, or in its call of tools."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.karma import ChatMessage, fault

ASKED = ChatMessage(role="user", content="Is it raining?")
FUNCTION = {"name": "look", "arguments": '{"at": "sky"}'}
CALL = {"id": "c1", "type": "function", "function": FUNCTION}


def fault_of(last: dict[str, Any]) -> str | None:
    return fault([ASKED, ChatMessage.model_validate({"role": "assistant"} | last)])


def called(**function: Any) -> dict[str, Any]:
    return {"tool_calls": [CALL, CALL | {"function": FUNCTION | function}]}


@pytest.mark.parametrize(
    "last",
    [
        {"content": "Yes."},
        {"tool_calls": [CALL]},
        {"content": "I look.", "tool_calls": [CALL], "weight": 1},
        called(arguments=""),
    ],
)
def test_an_interaction_ends_in_an_answer_or_in_calls(last: dict[str, Any]) -> None:
    assert fault_of(last) is None


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ({}, "must end with an assistant message that has content or calls a tool"),
        ({"role": "user", "content": "x"}, "must end with an assistant message"),
        ({"role": "tool", "content": "x", "tool_calls": [CALL]}, "must end with an assistant message"),
        (called(name=""), "the last message calls a tool: no function name"),
        (called(name=None), "no function name"),
        (called(arguments={"at": "sky"}), "arguments are not text"),
        (called(arguments="the sky"), "arguments are not a JSON object"),
        (called(arguments="[1]"), "arguments are not a JSON object"),
        (called(arguments="[" * 9999), "arguments are not a JSON object"),
        ({"content": "I look."} | called(name=""), "no function name"),
        ({"tool_calls": [{}]}, "no function name"),
        ({"tool_calls": [CALL], "weight": 0}, "the last message has the weight 0"),
    ],
)
def test_another_end_is_refused_by_what_it_lacks(last: dict[str, Any], why: str) -> None:
    assert why in (fault_of(last) or "")
