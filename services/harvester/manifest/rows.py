"""What is written of a record: a row to train on or to be judged by, a preference pair, an unpaired label.

The forms are TRL's: `messages` for a fixed target, `prompt, chosen, rejected` for a pair, `prompt, completion, label` for KTO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Any

from orjson import Fragment, dumps

from services.harvester.policy import PromptForm, Prompts
from services.harvester.reading.words import turns
from services.harvester.split import Split

Message = dict[str, Any]
SENTENCE_ENDS = (". ", ".\n", "! ", "? ", "\n")


class File(StrEnum):
    """The kinds of files of a manifest, each a folder of shards."""

    TRAIN = "train"
    DEV = "dev"
    PAIRS = "pairs"
    LABELS = "labels"
    HOLDOUT = "holdout"


@dataclass(frozen=True)
class Used:
    """A record that is used, redacted where that was needed; `rejected` is the answer that it corrects.

    `messages`, `tools` and `checks` may be Fragments: JSON that is written as it is. See `needs_messages`.
    """

    karma: str
    session: str
    side: Split
    feedback: str | None
    has_prompt: bool
    messages: list[Message] | Fragment
    tools: list[dict[str, Any]] | Fragment
    checks: list[dict[str, Any]] | Fragment
    rejected: list[Message] | None = None


def needs_messages(karma: str, side: Split, feedback: str | None, rejected: bool, prompts: Prompts) -> bool:
    """Whether the rows of a record take its messages apart; else a Fragment serves."""
    if side is Split.HOLDOUT:
        return False
    return bool(feedback) or rejected or (prompts.short > 0 and prompt_form(karma, prompts) == "short")


def written_row(karma: str, session: bytes, messages: bytes, checks: bytes, tools: bytes | None, prompt: str) -> bytes:
    """The row of a record that is written as it is stored, all but `karma` being JSON: what `rows` makes of it, in one piece.

    `prompt` is empty in the holdout. Most rows are such ones, and to put them together by key costs three times as much.
    """
    said = b'"prompt":"%b",' % prompt.encode() if prompt else b""
    end = b',"tools":%b}\n' % tools if tools else b"}\n"
    return b'{"checks":%b,"id":%b,"messages":%b,%b"session":%b%b' % (checks, dumps(karma), messages, said, session, end)


FILES = {Split.HOLDOUT: File.HOLDOUT, Split.TRAIN: File.TRAIN, Split.DEV: File.DEV}


def rows(record: Used, persona: str, prompts: Prompts) -> Iterator[tuple[File, dict[str, Any]]]:
    """Every row that a record makes, with the file it belongs to."""
    messages = record.messages
    if isinstance(messages, list):
        messages = corrected(messages, record.rejected)
    row: dict[str, Any] = {
        "id": record.karma,
        "session": record.session,
        "messages": messages,
        "checks": record.checks,
        **({"tools": record.tools} if record.tools else {}),
    }
    if record.side is Split.HOLDOUT:
        yield File.HOLDOUT, row
        return
    if record.feedback != "down":
        yield FILES[record.side], row | _prompt(record, messages, persona, prompts)
    if record.side is Split.TRAIN and isinstance(messages, list):
        yield from _preferences(record, messages)


def _preferences(record: Used, messages: list[Message]) -> Iterator[tuple[File, dict[str, Any]]]:
    prompt, answer = messages[:-1], messages[-1]
    if record.feedback:
        yield (
            File.LABELS,
            {"id": record.karma, "prompt": prompt, "completion": [answer], "label": record.feedback == "up"},
        )
    if record.rejected and _same_prompt(prompt, record.rejected[:-1]) and record.rejected[-1] != answer:
        yield (
            File.PAIRS,
            {"id": record.karma, "prompt": prompt, "chosen": [answer], "rejected": [record.rejected[-1]]},
        )


def corrected(messages: list[Message], rejected: list[Message] | None) -> list[Message]:
    """The conversation to train: where a correction goes on after the answer that it corrects, it takes its place."""
    if rejected and len(messages) > len(rejected) and messages[: len(rejected)] == rejected:
        return [*rejected[:-1], messages[-1]]
    return messages


def _same_prompt(one: list[Message], other: list[Message]) -> bool:
    return turns(one) == turns(other)


def _prompt(record: Used, messages: list[Message] | Fragment, persona: str, prompts: Prompts) -> dict[str, Any]:
    """Which system prompt the row is trained with."""
    form = prompt_form(record.karma, prompts) if record.has_prompt else "none"
    if form != "short" or not isinstance(messages, list):
        return {"prompt": form}
    return {"prompt": form, "short_prompt": prompts.short_prompts.get(persona) or shortened(messages[0]["content"])}


def prompt_form(karma: str, prompts: Prompts) -> PromptForm:
    """By a keyed hash of the id: the same for the same id and seed, in the shares of the policy over all ids."""
    hashed = _keyed(prompts.seed).copy()
    hashed.update(karma.encode())
    place = int.from_bytes(hashed.digest(), "big") / 2**64
    if place < prompts.full:
        return "full"
    return "short" if place < prompts.full + prompts.short else "none"


@cache
def _keyed(seed: int) -> Any:
    return blake2b(digest_size=8, key=f"system prompt {seed}".encode())


def shortened(prompt: str) -> str:
    """The first sentence of a system prompt."""
    prompt = prompt.strip()
    ends = [place + len(end) for end in SENTENCE_ENDS if (place := prompt.find(end)) >= 0]
    return prompt[: min(ends, default=len(prompt))].strip()
