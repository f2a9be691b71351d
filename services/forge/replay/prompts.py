"""The prompts: templates filled with written lists, in one order that mixes all kinds, so that any share has many of them."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field, TypeAdapter

from shared.contracts.frozen import Frozen
from shared.storage.digests import PREFIX

SOURCE = Path(__file__).with_name("prompts.toml")
FIELDS = " | "


class Kind(Frozen):
    """The prompts of one kind. Each item is put into `each` of the templates; `numbers` stands for so many pairs of numbers."""

    templates: tuple[str, ...]
    each: int = Field(ge=1)
    items: tuple[str, ...] = ()
    numbers: int = 0
    text: bool = False


@dataclass(frozen=True)
class Prompt:
    """One prompt. `is_text`: the opening of a plain text, which the base goes on from; else a user's question."""

    kind: str
    text: str
    is_text: bool


@cache
def list_prompts() -> tuple[Prompt, ...]:
    """Every prompt once, ordered by its digest."""
    kinds = TypeAdapter(dict[str, Kind]).validate_python(tomllib.loads(SOURCE.read_text(encoding="utf-8")))
    found = {prompt.text: prompt for name, kind in kinds.items() for prompt in _prompts(name, kind)}
    return tuple(sorted(found.values(), key=lambda prompt: hashlib.sha256(prompt.text.encode()).digest()))


@cache
def prompts_digest() -> str:
    """The digest of all prompts, in their order."""
    listed = json.dumps([(prompt.text, prompt.is_text) for prompt in list_prompts()])
    return PREFIX + hashlib.sha256(listed.encode()).hexdigest()


def _prompts(name: str, kind: Kind) -> Iterator[Prompt]:
    for at, item in enumerate(kind.items or _pairs(kind.numbers)):
        for turn in range(kind.each):
            text = kind.templates[(at + turn) % len(kind.templates)].format(*item.split(FIELDS))
            yield Prompt(name, text[0].upper() + text[1:], kind.text)


def _pairs(count: int) -> list[str]:
    """Pairs of two-digit numbers."""
    return [f"{11 + 37 * at % 89}{FIELDS}{11 + 53 * at % 83}" for at in range(count)]
