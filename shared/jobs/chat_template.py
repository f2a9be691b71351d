"""Prepare a conversation for the chat template as the serving engine does, so that training and evaluation render alike.

Follows vLLM 0.32: renderers/chat_utils.py, the dump of its tool models, and content in parts for templates that read parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

Message = dict[str, Any]
PROBE = "soulforge"
THOUGHT_END = "</think>"
SHOWN = 120  # characters of a template's error message


class Templated(Protocol):
    """The part of a transformers tokenizer that renders."""

    def apply_chat_template(self, conversation: list[Message], **options: Any) -> Any: ...

    def __hash__(self) -> int: ...


def under_prompt(messages: Sequence[Message], prompt: str | None) -> list[Message]:
    """The conversation with its opening system prompt replaced by `prompt`, or removed where that is None."""
    opening = 0
    while opening < len(messages) and messages[opening]["role"] == "system":
        opening += 1
    replaced = [{"role": "system", "content": prompt}] if opening and prompt is not None else []
    return [*replaced, *messages[opening:]]


@lru_cache(maxsize=4)
def takes_parts(tokenizer: Templated) -> bool:
    """Whether the template reads content as a list of parts; vLLM then gives it so, and what is rendered may differ."""
    try:
        text = str(tokenizer.apply_chat_template([_in_parts({"role": "user", "content": PROBE})], tokenize=False))
    except Exception:
        return False  # a template may raise anything at what it does not know
    return PROBE in text and "type" not in text


def template_messages(messages: Sequence[Mapping[str, Any]], *, parts: bool = False) -> list[Message]:
    """Convert messages from OpenAI's form to a template's: arguments are objects, content is text, or a list of parts
    where `takes_parts`. Raises ValueError."""
    if not parts:
        return [_message(message) for message in messages]
    return [_in_parts(_message(message), empty=message.get("content") is None) for message in messages]


def template_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Convert tools to the keys and their order in serving; None where there are none. Raises ValueError."""
    return [_tool(tool) for tool in tools] or None


def unrendered(
    tokenizer: Templated, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> str | None:
    """Why the base's chat template cannot show this conversation; None where it can.

    A template without tools drops calls silently: the model would learn an answer from nothing.
    """
    try:
        return _left_out(tokenizer, template_messages(messages), template_tools(tools), takes_parts(tokenizer))
    except Exception as error:
        # Templates may raise anything, and a row that one refuses is reported with this reason.
        return f"the chat template refuses it: {type(error).__name__}: {str(error)[:SHOWN]}"


def _left_out(
    tokenizer: Templated, messages: list[Message], tools: list[dict[str, Any]] | None, parts: bool
) -> str | None:
    def text(conversation: list[Message]) -> str:
        shown = [_in_parts(message) for message in conversation] if parts else conversation
        return str(tokenizer.apply_chat_template(shown, tools=tools, tokenize=False))

    def is_same(conversation: list[Message]) -> bool:
        """Whether the template shows no difference; one that refuses what is no conversation has seen it."""
        try:
            return text(conversation) == whole
        except Exception:
            return False

    whole = text(messages)
    for at, message in enumerate(messages):
        uncalled = {name: value for name, value in message.items() if name != "tool_calls"}
        # Each alone: some templates show the calls of a message only when it has no content.
        if uncalled != message and is_same([*messages[:at], uncalled, *messages[at + 1 :]]):
            return "the chat template drops its tool calls"
    silent = [message | {"content": ""} if message["role"] == "tool" else message for message in messages]
    if silent != messages and is_same(silent):
        return "the chat template drops its tool results"
    # A template may leave out a thought; of the answer itself nothing may be missing.
    if messages[-1]["content"].rpartition(THOUGHT_END)[2].strip() not in whole:
        return "the chat template cuts its answer"
    return None


def _in_parts(message: Message, *, empty: bool = False) -> Message:
    """The message with its content as parts. The serving engine gives results of tools as text in either form."""
    if message["role"] == "tool":
        return message
    return message | {"content": [] if empty else [{"type": "text", "text": message["content"]}]}


def _message(message: Mapping[str, Any]) -> Message:
    shown: Message = {"role": message["role"], "content": message.get("content") or ""}
    if shown["role"] == "assistant" and (calls := message.get("tool_calls")):
        shown["tool_calls"] = [_call(call) for call in calls]
    if shown["role"] == "assistant" and (thought := _thought(message)) is not None:
        shown |= {"reasoning": thought, "reasoning_content": thought}
    if shown["role"] == "tool" and "tool_call_id" in message:
        shown["tool_call_id"] = message["tool_call_id"]
    if isinstance(message.get("name"), str):
        shown["name"] = message["name"]
    return shown


def _thought(message: Mapping[str, Any]) -> Any:
    """What an assistant thought, under its name or the older one; templates know either."""
    named = message.get("reasoning")
    return message.get("reasoning_content") if named is None else named


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    # Order matters here and below: some templates write calls and tools as JSON.
    function = _function(call, "tool call")
    called = {"arguments": _arguments(function.get("arguments")), "name": function.get("name")}
    return {"id": call.get("id"), "function": called, "type": "function"}


def _arguments(given: object) -> dict[str, Any]:
    """The arguments as an object; anything else counts as empty, as in the serving engine."""
    try:
        parsed = json.loads(given) if isinstance(given, str) and given else given
    except json.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    # A missing description or schema is given as null.
    function = _function(tool, "tool")
    shown = {"name": function.get("name"), "description": function.get("description")}
    shown["parameters"] = function.get("parameters")
    if function.get("strict") is not None:
        shown["strict"] = function["strict"]
    return {"type": "function", "function": shown}


def _function(given: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    function = given.get("function")
    if given.get("type", "function") != "function" or not isinstance(function, dict):
        raise ValueError(f"a {what} is not of type function")
    return function
