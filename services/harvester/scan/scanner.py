"""Scan one record: the digests of its words, what was redacted in it, and why its content keeps it out. No I/O.

Every text of a record is searched: its conversation and tools, and what is recorded about it (id, session, source, outcome…).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from services.harvester.reasons import Reason
from services.harvester.scan.decontamination import Benchmarks, read_passages
from services.harvester.scan.lesson import digest_beginnings, read_lesson
from services.harvester.scan.ngrams import sample_ngrams
from services.harvester.scan.normalise import fingerprint, join_turns, split_words
from shared.contracts.checks import Checks, UndecidedError, expect_quick
from shared.contracts.karma import ChatMessage, fault
from shared.redaction.answer_checks import redact_checks
from shared.redaction.examine import Examined, examine
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import Group, Sensitive

_MESSAGES: TypeAdapter[tuple[ChatMessage, ...]] = TypeAdapter(tuple[ChatMessage, ...])
_CHECKS: TypeAdapter[Checks] = TypeAdapter(Checks)
_EMPTY = "[]"
_SHORT = 4096  #: characters of checks that are kept when read
_NOTHING = "{}"


@dataclass(frozen=True)
class Scanned:
    """What admission needs of a record's content, without the content."""

    reason: Reason | None = None  #: why its content keeps it out
    text: bytes | None = None  #: digest of its words; None of what is no conversation
    lesson: bytes | None = None  #: digest of what it trains and of the prompt; None likewise
    found: dict[str, int] | None = None  #: class of secret or personal data -> how often
    redacted: dict[str, Any] | None = None  #: what of the record holds placeholders, by its name
    ngrams: list[int] = field(default_factory=list)
    bands: list[int] = field(default_factory=list)
    beginnings: list[tuple[int, int]] = field(default_factory=list)  #: see digest_beginnings


_MALFORMED = Scanned(Reason.MALFORMED)
_SLOW_PATTERN = Scanned(Reason.SLOW_PATTERN)


class RecordScanner:
    """Finds secrets, personal data and benchmark items in records. Build one per process: it is costly to make."""

    def __init__(self, redaction: RedactionPolicy, benchmarks: Path, with_bands: bool = True) -> None:
        self._redaction, self._with_bands = redaction, with_bands
        self._sensitive = Scanner(redaction)
        self._benchmarks = Benchmarks(read_passages(benchmarks))

    def scan(self, messages: str, tools: str, checks: str | None, about: str = _NOTHING) -> Scanned:
        """Scan a record's messages, tools, checks and an object of all else, each as PostgreSQL prints its JSON."""
        try:
            return self._scan(messages, tools, checks or _EMPTY, about)
        except (ValueError, ArithmeticError, RecursionError):
            return _MALFORMED
        except UndecidedError:
            return _SLOW_PATTERN

    def _scan(self, messages: str, tools: str, checks: str, about: str) -> Scanned:
        """Raises what comes of values that no contract checked: anyone may insert a record."""
        conversation = _read_conversation(messages)
        expect_quick(_read_checks(checks), conversation[-1].get("content") or "")
        suspicious = any(
            text != _EMPTY and self._sensitive.suspicious(text) for text in (messages, tools, checks, about)
        )
        examined, redacted, reason = Examined({}), dict[str, Any](), None
        if suspicious:
            record = {"messages": conversation, "tools": orjson.loads(tools), "checks": orjson.loads(checks)}
            examined, redacted, reason = self._redact(record | orjson.loads(about))
        turns = join_turns(redacted.get("messages", conversation))
        words, lesson = split_words(turns), read_lesson(redacted.get("messages", conversation))
        if reason is None and self._benchmarks.meets(words):
            reason = Reason.CONTAMINATED
        return Scanned(
            reason=reason,
            text=fingerprint(turns, words),
            lesson=lesson.digest,
            found={str(kind): count for kind, count in sorted(examined.found.items())} or None,
            redacted=redacted or None,
            ngrams=sample_ngrams(words),
            bands=lesson.bands() if self._with_bands else [],
            beginnings=digest_beginnings(conversation, tools),
        )

    def _redact(self, record: dict[str, Any]) -> tuple[Examined, dict[str, Any], Reason | None]:
        """What was found in a record, the parts of it that hold placeholders, and why it is held back."""
        examined = examine(record, self._sensitive)
        checks = redact_checks(record["checks"], examined.hidden, self._sensitive)
        copy = examined.values | {"checks": checks}
        redacted = {part: values for part, values in copy.items() if values != record[part]}
        reason = _quarantine(examined, self._redaction)
        if checks is None and reason is None:
            reason = Reason.PERSONAL if _groups(examined.hidden.values()) <= {"personal"} else Reason.SECRET
        return examined, redacted, reason


def _read_conversation(text: str) -> list[dict[str, Any]]:
    """Raises ValueError for what is no whole conversation."""
    values: list[dict[str, Any]] = orjson.loads(text)
    if wrong := fault(_MESSAGES.validate_python(values)):
        raise ValueError(wrong)
    return values


def _read_checks(text: str) -> Checks:
    """Raises ValueError for what are no checks. Many records have the same short ones."""
    return _keep_checks(text) if len(text) <= _SHORT else _CHECKS.validate_json(text)


@lru_cache(maxsize=1024)
def _keep_checks(text: str) -> Checks:
    return _CHECKS.validate_json(text)


def _quarantine(examined: Examined, policy: RedactionPolicy) -> Reason | None:
    """Why a record is held back, where the policy quarantines what was found in it."""
    if not examined.quarantined:
        return None
    held = _groups(kind for kind in examined.found if policy.action(kind) == "quarantine")
    return Reason.PERSONAL if held == {"personal"} else Reason.SECRET


def _groups(kinds: Iterable[Sensitive]) -> set[Group]:
    return {kind.group for kind in kinds}
