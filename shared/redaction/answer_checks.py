"""Redact the checks of a record as its answer was redacted, so that an answer with placeholders can still satisfy them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shared.contracts.checks import Regex
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import PLACEHOLDER, Sensitive

_ESCAPE = re.compile(r"\\([^A-Za-z0-9])")
_WORD = re.compile(r"\w{4,}")
_TEXT_KINDS = frozenset({"contains", "absent", "equals"})


def redact_checks(
    checks: list[dict[str, Any]], hidden: Mapping[str, Sensitive], scanner: Scanner
) -> list[dict[str, Any]] | None:
    """The checks without what is sensitive in them or `hidden` elsewhere in the record.

    None where a check cannot follow: a pattern that describes what was hidden or that its placeholders make too long, or a text
    that is a part of it. Such a record must be held back, since no redacted answer would satisfy it.
    """
    followed = [_follow(check, hidden, scanner) for check in checks]
    return None if None in followed else [check for check in followed if check is not None]


def _follow(check: dict[str, Any], hidden: Mapping[str, Sensitive], scanner: Scanner) -> dict[str, Any] | None:
    kind = check.get("kind")
    if kind == "regex":
        pattern = _redact_pattern(check["pattern"], hidden, scanner)
        return None if pattern is None else check | {"pattern": pattern}
    if kind not in _TEXT_KINDS:
        return check
    text = _replace(scanner.clean(check["text"])[0], hidden)
    if kind == "contains" and text == check["text"] and any(text in value for value in hidden if text):
        return None
    return check | {"text": text}


def _replace(text: str, hidden: Mapping[str, Sensitive]) -> str:
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, hidden[value].placeholder)
    return text


def _redact_pattern(pattern: str, hidden: Mapping[str, Sensitive], scanner: Scanner) -> str | None:
    """A pattern with escaped placeholders for escaped values; None where it describes a value in another way."""
    known = dict(hidden)
    for text in (pattern, _ESCAPE.sub(r"\1", pattern)):
        known |= {finding.value: finding.sensitive for finding in scanner.clean(text)[1]}
    for value in sorted(known, key=len, reverse=True):
        for form in (re.escape(value), value):
            pattern = pattern.replace(form, re.escape(known[value].placeholder))
    literal = _ESCAPE.sub(r"\1", pattern)
    words = set(_WORD.findall(PLACEHOLDER.sub(" ", literal)))
    partly = any(not words.isdisjoint(_WORD.findall(value)) for value in hidden)
    if partly or scanner.find(literal) or scanner.find(pattern):
        return None
    try:
        return Regex(pattern=pattern).pattern
    except ValidationError:  # a placeholder can be longer than what it replaces
        return None
