"""Preference pairs in every spelling in use: a better and a worse answer to the same prompt.

TRL (`prompt`, `chosen`, `rejected`, also without a prompt of its own), LLaMA-Factory (`conversations` or `instruction` with
`chosen` and `rejected`; or `chosen_messages` and `rejected_messages`), ms-swift (`messages` with `rejected_response` or
`rejected_messages`), OpenAI (`input`, `preferred_output`, `non_preferred_output`). The better answer becomes a correction of the worse one.
"""

from __future__ import annotations

from typing import Any

from shared.import_formats import alpaca, completion, openai, sharegpt
from shared.import_formats.record import Conversation, RecordError, items, json_type
from shared.import_formats.turns import Message, system

BETTER = ("chosen", "chosen_messages", "preferred_output")
WORSE = ("rejected", "non_preferred_output", "rejected_response", "rejected_messages")
PROMPTS = ("prompt", "question", "query")
FIELDS = frozenset({"system", "tools", "functions"})


def matches(values: dict[str, Any]) -> bool:
    return any(values.get(name) is not None for name in (*BETTER, *WORSE))


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    worse = next((name for name in WORSE if values.get(name) is not None), None)
    better = next((name for name in BETTER if values.get(name) is not None), None)
    if worse is None:
        raise RecordError(f"{better}: without the answer that was rejected")
    if better is None and worse not in ("rejected_response", "rejected_messages"):
        raise RecordError(f"{worse}: without the answer that was chosen")
    prompt, read = _prompt(values)
    prompt = system(values.get("system"), prompt)
    answered = bool(prompt) and prompt[-1]["role"] == "assistant" and not prompt[-1].get("tool_calls")
    if answered and better:
        raise RecordError(f"{better}: the conversation before it ends in an answer already")
    if not better and not answered:
        raise RecordError(f"{worse}: messages end in no answer, which it would be worse than")
    chosen = _answered(prompt, values[better], better) if better else prompt
    rejected = _answered(prompt if better else prompt[:-1], values[worse], worse)
    if _plain(chosen) == _plain(rejected):
        raise RecordError(f"{worse}: the same as the answer that was chosen")
    if not _one_prompt(chosen, rejected):
        raise RecordError(f"{worse}: answers another prompt than the answer that was chosen")
    given = values["input"] if isinstance(values.get("input"), dict) else values
    fields = FIELDS | read | {worse, *([better] if better else [])}
    return Conversation(chosen, openai.tools(given), rejected, fields, may_end_in_call=True)


def _prompt(values: dict[str, Any]) -> tuple[list[Message], frozenset[str]]:
    """What both answers are to, and the fields that it was read from."""
    own = {name: value for name, value in values.items() if name != "system"}
    if isinstance(asked := values.get("input"), dict):
        return openai.conversation(asked).messages, frozenset({"input"})
    if openai.matches(own):
        return openai.messages(own["messages"], "messages"), frozenset({"messages"})
    if sharegpt.matches(own):
        return sharegpt.conversation(own).messages, frozenset({"conversations", "conversation"})
    if alpaca.matches(own):
        return alpaca.asked(own), frozenset({"instruction", "input", "history"})
    for name in PROMPTS:
        if own.get(name) is not None:
            return completion.said(own[name], name, "user"), frozenset({name})
    return [], frozenset()


def _answered(prompt: list[Message], answer: object, name: str) -> list[Message]:
    """The prompt with this answer: a text, a turn, several, or the whole conversation once more."""
    if isinstance(answer, str):
        made = completion.said(answer, name, "assistant")
    elif isinstance(answer, dict | list):
        given = items([answer] if isinstance(answer, dict) else answer, name)
        made = sharegpt.turns(given, name) if any("from" in turn for turn in given) else openai.messages(given, name)
    else:
        raise RecordError(f"{name}: {json_type(answer)}, no answer")
    asked, again = _without_system(prompt), _without_system(made)
    whole = [*prompt, *made]
    if asked and again and asked[-1]["role"] == again[0]["role"] == "user" and again[0] not in asked:
        raise RecordError(f"{name}: begins with another question than the one that it answers")
    if again[: len(asked)] == asked or (asked and again[:1] == asked[:1]):
        # What it leaves out is the system prompt beside it.
        opening = [] if len(again) < len(made) else [message for message in prompt if message["role"] == "system"]
        whole = [*opening, *made]
    if not any(message["role"] == "user" for message in whole):
        raise RecordError(f"{name}: an answer without the prompt that it answers; give it as prompt or messages")
    return whole


def _one_prompt(one: list[Message], other: list[Message]) -> bool:
    """Whether the first difference of two conversations is in what the assistant wrote."""
    differing = next(((a, b) for a, b in zip(one, other, strict=False) if a != b), None)
    return differing is None or all(message["role"] == "assistant" for message in differing)


def _plain(messages: list[Message]) -> list[Message]:
    """The messages without what changes nothing: white space around a text, the ids of calls."""
    return [
        {name: value for name, value in message.items() if name != "tool_call_id"}
        | {"content": (message.get("content") or "").strip()}
        | {"tool_calls": [call["function"] for call in message.get("tool_calls", ())]}
        for message in messages
    ]


def _without_system(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["role"] != "system"]
