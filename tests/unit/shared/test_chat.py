"""Which conversations a base's chat template can show, and in what form it is given them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from shared.jobs.chat_template import takes_parts, template_messages, template_tools, under_prompt, unrendered
from tests.unit.forge.letters import GOLDEN, PLAIN, TOOLS, Cutting, Letters, Parted, Strict, Tooled, call


class OnlyWithoutContent(Tooled):
    """Shows the calls of a message only when it says nothing else, as some templates do."""

    def said(self, message: dict[str, Any]) -> str:
        return message["content"] or super().said(message)


class Deaf(Tooled):
    """Shows calls, but not what they returned."""

    def said(self, message: dict[str, Any]) -> str:
        return "" if message["role"] == "tool" else super().said(message)


class Alternating(Tooled):
    """Refuses a result of a tool that no call came before."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        for before, message in pairwise(conversation):
            if message["role"] == "tool" and not before.get("tool_calls"):
                raise ValueError("a result without a call")
        return super().text(conversation, tools, opens)


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


@pytest.mark.parametrize(
    ("tokenizer", "content", "reason"),
    [
        (Tooled(), None, None),
        (Tooled(), "I look.", None),
        (Letters(), None, "the chat template drops its tool calls"),
        (Letters(), "I look.", "the chat template drops its tool calls"),
        (OnlyWithoutContent(), None, None),
        (OnlyWithoutContent(), "I look.", "the chat template drops its tool calls"),
    ],
)
def test_a_call_at_the_end_must_be_shown(tokenizer: Letters, content: str | None, reason: str | None) -> None:
    messages = [*GOLDEN[:2], GOLDEN[2] | {"content": content}]
    assert unrendered(tokenizer, messages, TOOLS) == reason


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_thought_has_both_names_that_templates_know(name: str) -> None:
    (message,) = template_messages([{"role": "assistant", "content": "a", name: "thought"}])
    assert message == {"role": "assistant", "content": "a", "reasoning": "thought", "reasoning_content": "thought"}


def test_content_is_given_as_parts_where_the_template_reads_them() -> None:
    assert (takes_parts(Letters()), takes_parts(Parted())) == (False, True)
    given = [PLAIN[1], {"role": "tool", "content": "found", "tool_call_id": "c"}]
    asked, found = template_messages(given, parts=True)
    assert (asked["content"], found["content"]) == ([{"type": "text", "text": "ask"}], "found")


def test_no_tools_are_none() -> None:
    assert template_tools(()) is None
    assert template_messages([{"role": "assistant", "content": "a", "tool_calls": []}]) == [
        {"role": "assistant", "content": "a"}
    ]


@pytest.mark.parametrize(
    ("tokenizer", "messages", "reason"),
    [
        (Letters(), PLAIN, None),
        (Parted(), PLAIN, None),
        (Cutting(), PLAIN, None),
        (Cutting(), [*PLAIN[:2], PLAIN[2] | {"content": "two words"}], "the chat template cuts its answer"),
        (Cutting(), [*PLAIN[:2], PLAIN[2] | {"content": "cut </think>\n"}], None),
        (Alternating(), GOLDEN, None),
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
