"""Which conversations a base's chat template can show, and in what form it is given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.jobs.chat_template import template_messages, template_tools, under_prompt, unrendered
from tests.unit.forge.letters import GOLDEN, PLAIN, TOOLS, Letters, Strict, Tooled, call


class OnlyWithoutContent(Tooled):
    """Shows the calls of a message only when it says nothing else, as some templates do."""

    def said(self, message: dict[str, Any]) -> str:
        return message["content"] or super().said(message)


class Deaf(Tooled):
    """Shows calls, but not what they returned."""

    def said(self, message: dict[str, Any]) -> str:
        return "" if message["role"] == "tool" else super().said(message)


@pytest.mark.parametrize(
    ("given", "shown"), [('{"b": 1, "a": [2]}', {"b": 1, "a": [2]}), ("", {}), ("none", {}), ("[1]", {}), ("null", {})]
)
def test_arguments_become_objects(given: str, shown: dict[str, Any]) -> None:
    (message,) = template_messages([{"role": "assistant", "content": None, "tool_calls": [call("look", given)]}])
    assert message["content"] == ""
    assert message["tool_calls"][0]["function"] == {"arguments": shown, "name": "look"}


def test_what_is_given_is_left_as_it_was() -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": [call("look", "{}")]}]
    template_messages(messages)
    assert messages == [{"role": "assistant", "content": None, "tool_calls": [call("look", "{}")]}]


def test_no_tools_are_none() -> None:
    assert template_tools(()) is None
    assert template_messages([{"role": "assistant", "content": "a", "tool_calls": []}]) == [
        {"role": "assistant", "content": "a"}
    ]


@pytest.mark.parametrize(
    ("tokenizer", "messages", "reason"),
    [
        (Letters(), PLAIN, None),
        (Tooled(), GOLDEN, None),
        (Letters(), GOLDEN, "the chat template drops its tool calls"),
        (Strict(), GOLDEN, "the chat template refuses it: ValueError: Conversation roles must alternate"),
        (Deaf(), GOLDEN, "the chat template drops its tool results"),
        (OnlyWithoutContent(), GOLDEN, None),
        (
            OnlyWithoutContent(),
            [*GOLDEN[:2], GOLDEN[2] | {"content": "Let me look."}, *GOLDEN[3:]],
            "the chat template drops its tool calls",
        ),
        (
            Tooled(),
            [*GOLDEN[:2], {"role": "assistant", "content": None, "tool_calls": [{"type": "custom"}]}, *GOLDEN[3:]],
            "the chat template refuses it: ValueError: a tool call is not of type function",
        ),
    ],
)
def test_why_a_template_cannot_show_a_conversation(
    tokenizer: Letters, messages: Sequence[dict[str, Any]], reason: str | None
) -> None:
    assert unrendered(tokenizer, messages, TOOLS) == reason


def test_the_opening_system_prompt_is_replaced_or_removed_and_no_other() -> None:
    later = {"role": "system", "content": "later"}
    assert under_prompt([PLAIN[0], PLAIN[0], PLAIN[1], later], None) == [PLAIN[1], later]
    assert under_prompt([PLAIN[0], PLAIN[1], later], "b") == [{"role": "system", "content": "b"}, PLAIN[1], later]
    assert under_prompt([PLAIN[1]], "b") == [PLAIN[1]]
