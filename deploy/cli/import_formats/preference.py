"""Preference pairs in every spelling in use: a better and a worse answer to the same prompt.

TRL (`prompt`, `chosen`, `rejected`, also without a prompt of its own), LLaMA-Factory (`conversations` or `instruction` with
`chosen` and `rejected`), ms-swift (`messages` with `rejected_response` or `rejected_messages`), OpenAI (`input`,
`preferred_output`, `non_preferred_output`). The better answer becomes a correction of the worse one.
"""

from __future__ import annotations

from typing import Any

from deploy.cli.import_formats import alpaca, completion, openai, sharegpt
from deploy.cli.import_formats.record import Conversation, RecordError, items, json_type
from deploy.cli.import_formats.turns import Message, system

BETTER = ("chosen", "preferred_output")
WORSE = ("rejected", "non_preferred_output", "rejected_response", "rejected_messages")
PROMPTS = ("prompt", "question", "query")
FIELDS = frozenset((*BETTER, *WORSE, *PROMPTS, "input", "system", "messages", "tools", "conversations", "conversation"))
FIELDS |= alpaca.FIELDS


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
    prompt = system(values.get("system"), _prompt(values))
    if better is None:
        chosen = prompt
        while prompt and prompt[-1]["role"] != "user":
            prompt = prompt[:-1]
    else:
        chosen = _answered(prompt, values[better], better)
    rejected = _answered(prompt, values[worse], worse)
    if chosen == rejected:
        raise RecordError(f"{worse}: the same as the answer that was chosen")
    given = values["input"] if isinstance(values.get("input"), dict) else values
    return Conversation(chosen, openai.tools(given), rejected)


def _prompt(values: dict[str, Any]) -> list[Message]:
    if isinstance(asked := values.get("input"), dict):
        return openai.conversation(asked).messages
    if openai.matches(values):
        return openai.messages(values["messages"], "messages")
    if sharegpt.matches(values):
        return sharegpt.conversation({name: values.get(name) for name in values if name != "system"}).messages
    if alpaca.matches(values):
        return alpaca.asked({name: value for name, value in values.items() if name != "system"})
    name = next((name for name in PROMPTS if values.get(name) is not None), None)
    return completion.said(values[name], name, "user") if name else []


def _answered(prompt: list[Message], answer: object, name: str) -> list[Message]:
    """The prompt with this answer: a text, a turn, several, or the whole conversation once more."""
    if isinstance(answer, str):
        made = completion.said(answer, name, "assistant")
    elif isinstance(answer, dict | list):
        given = items([answer] if isinstance(answer, dict) else answer, name)
        made = sharegpt.turns(given, name) if any("from" in turn for turn in given) else openai.messages(given, name)
    else:
        raise RecordError(f"{name}: {json_type(answer)}, no answer")
    whole = made if any(message["role"] in ("user", "system") for message in made) else [*prompt, *made]
    if not any(message["role"] == "user" for message in whole):
        raise RecordError(f"{name}: an answer without the prompt that it answers")
    return whole
