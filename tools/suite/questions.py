"""Questions whose generated answers are checked by rule, and the rules to write them with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from shared.contracts.checks import Check, Regex


@dataclass(frozen=True)
class Question:
    """What a user asks, perhaps under a system prompt, and the checks of a right answer."""

    prompt: str
    checks: tuple[Check, ...]
    system: str | None = None


@dataclass(frozen=True)
class AnswerKind:
    """Questions that test one ability."""

    name: str
    asks: str
    items: tuple[Question, ...]


def names(*answers: str) -> tuple[Check, ...]:
    """The answer names one of these, as whole words, in any letter case."""
    return (Regex(pattern=rf"(?i).*\b(?:{'|'.join(map(re.escape, answers))})\b.*"),)


def number(value: int, word: str = "") -> tuple[Check, ...]:
    """The answer has this number, in digits or as this word."""
    return (Regex(pattern=rf"(?i).*(?<![\d.,])(?:{'|'.join(filter(None, (str(value), word)))})(?![\d]|[.,]\d).*"),)


def begins(*words: str) -> tuple[Check, ...]:
    """The answer begins with one of these words, in any letter case."""
    return (Regex(pattern=rf"(?i)\W*(?:{'|'.join(map(re.escape, words))})\b.*"),)


def matches(pattern: str) -> tuple[Check, ...]:
    return (Regex(pattern=pattern),)


def rows(kind: AnswerKind) -> Iterable[dict[str, object]]:
    for place, item in enumerate(kind.items):
        system = {"system": item.system} if item.system is not None else {}
        checks = [check.model_dump() for check in item.checks]
        yield {"id": f"{kind.name}-{place:03}", **system, "prompt": item.prompt, "checks": checks}


def lines(kind: AnswerKind) -> str:
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows(kind))
