"""What is written of a record: a row to train on or to be judged by, a preference pair, an unpaired label.

The forms are TRL's: `messages` for a fixed target, `prompt, chosen, rejected` for a pair, `prompt, completion, label` for KTO.
Which system prompt it is trained with is `prompt` of a target, and `form` of the others, whose `prompt` is the conversation.
Every row also states `why` the record was chosen, the `evidence` of its outcome and who `consecrated_by`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from typing import Any

from orjson import Fragment

from services.harvester.policy import PromptForm, Prompts
from services.harvester.scan.normalise import join_turns
from services.harvester.split import Split

Message = dict[str, Any]
NO_CHECKS = Fragment(b"[]")
SENTENCE_ENDS = (". ", ".\n", "! ", "? ", "\n")


class File(StrEnum):
    """The kinds of files of a manifest, each a folder of shards."""

    TRAIN = "train"
    DEV = "dev"
    PAIRS = "pairs"
    DEV_PAIRS = "dev_pairs"
    LABELS = "labels"
    HOLDOUT = "holdout"


@dataclass(frozen=True)
class Used:
    """A record that is used, redacted where that was needed; `rejected` is the conversation that it corrects."""

    karma: str
    session: str
    side: Split
    feedback: str | None
    messages: list[Message]
    tools: Fragment | None = None  #: JSON that is written as it is stored
    checks: Fragment = NO_CHECKS
    rejected: list[Message] | None = None
    contradicted: bool = (
        False  #: another record answers the same prompt in a contradicting way: no preference is certain
    )
    why: str = ""  #: why it was chosen, in its owner's words
    evidence: str = ""  #: how its outcome is known
    consecrated_by: str = ""


FILES = {Split.HOLDOUT: File.HOLDOUT, Split.TRAIN: File.TRAIN, Split.DEV: File.DEV}


def rows(record: Used, persona: str, prompts: Prompts) -> Iterator[tuple[File, dict[str, Any]]]:
    """Every row that a record makes, with the file it belongs to."""
    provenance = {"why": record.why, "evidence": record.evidence, "consecrated_by": record.consecrated_by}
    for file, row in _rows(record, persona, prompts):
        yield file, row | provenance


def _rows(record: Used, persona: str, prompts: Prompts) -> Iterator[tuple[File, dict[str, Any]]]:
    messages = corrected(record.messages, record.rejected)
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
    form, short = _prompt(record.karma, messages, persona, prompts)
    if record.feedback != "down":
        yield FILES[record.side], row | {"prompt": form} | short
    if not record.contradicted:
        yield from _preferences(record, messages, {"form": form} | short)


def _preferences(record: Used, messages: list[Message], form: dict[str, str]) -> Iterator[tuple[File, dict[str, Any]]]:
    """The record's label and pair. Of dev only pairs are written: no loss is measured on labels."""
    prompt, answer = messages[:-1], messages[-1]
    asked = {"id": record.karma, "prompt": prompt, **form, **({"tools": record.tools} if record.tools else {})}
    if record.feedback and record.side is Split.TRAIN:
        yield File.LABELS, asked | {"completion": [answer], "label": record.feedback == "up"}
    if record.rejected and _same_prompt(prompt, record.rejected[:-1]) and record.rejected[-1] != answer:
        file = File.PAIRS if record.side is Split.TRAIN else File.DEV_PAIRS
        yield file, asked | {"chosen": [answer], "rejected": [record.rejected[-1]]}


def corrected(messages: list[Message], rejected: list[Message] | None) -> list[Message]:
    """The conversation to train: where a correction goes on after the answer that it corrects, it takes its place.

    Not that of a call, on whose result the correction rests.
    """
    if not rejected or rejected[-1].get("tool_calls"):
        return messages
    if len(messages) > len(rejected) and messages[: len(rejected)] == rejected:
        return [*rejected[:-1], messages[-1]]
    return messages


def _same_prompt(one: list[Message], other: list[Message]) -> bool:
    return join_turns(one) == join_turns(other)


def _prompt(karma: str, messages: list[Message], persona: str, prompts: Prompts) -> tuple[PromptForm, dict[str, str]]:
    """Which system prompt the record is trained with; and the short one as a field, where it is that."""
    system = messages[0].get("content") if messages[0]["role"] == "system" else None
    form: PromptForm = prompt_form(karma, prompts) if system else "none"
    if form != "short":
        return form, {}
    return form, {"short_prompt": prompts.short_prompts.get(persona) or shortened(str(system))}


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
