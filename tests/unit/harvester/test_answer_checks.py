"""Checks follow the redaction of their answer, or the record is held back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.contracts.checks import Regex
from shared.redaction.answer_checks import redact_checks
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import Sensitive

SCANNER = Scanner(RedactionPolicy())
MAIL = "ida.horn" + "@" + "maplewood.io"
NUMBER = "0151 2" + "3456789"
HIDDEN = {MAIL: Sensitive.EMAIL, NUMBER: Sensitive.PHONE}


def redacted(**check: Any) -> dict[str, Any] | None:
    checks = redact_checks([check], HIDDEN, SCANNER)
    return None if checks is None else checks[0]


@pytest.mark.parametrize("kind", ["contains", "absent", "equals"])
def test_a_text_gets_the_placeholders_of_the_answer(kind: str) -> None:
    assert redacted(kind=kind, text=f"Write to {MAIL}.") == {"kind": kind, "text": "Write to [e-mail]."}
    # by itself the number is none of a phone: it is known from the answer
    assert redacted(kind=kind, text=NUMBER) == {"kind": kind, "text": "[phone number]"}


def test_a_pattern_gets_escaped_placeholders_and_still_matches_the_redacted_answer() -> None:
    check = redacted(kind="regex", pattern=rf"Write to {re.escape(MAIL)}\.?")

    assert check is not None
    assert re.fullmatch(check["pattern"], "Write to [e-mail].")


@pytest.mark.parametrize("pattern", [re.escape(NUMBER) + "x?" * 992, rf"(?:{re.escape(NUMBER)}){{690}}"])
def test_a_pattern_that_its_placeholders_make_too_long_holds_the_record_back(pattern: str) -> None:
    assert Regex(pattern=pattern)
    assert redact_checks([{"kind": "regex", "pattern": pattern}], HIDDEN, SCANNER) is None


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "regex", "pattern": r".*horn.*maplewood.*"},
        {"kind": "regex", "pattern": MAIL.replace("@", "[@]")},
        {"kind": "contains", "text": "ida.horn"},
    ],
)
def test_what_describes_a_part_of_something_hidden_holds_the_record_back(check: dict[str, Any]) -> None:
    assert redact_checks([check], HIDDEN, SCANNER) is None


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "regex", "pattern": r"\d+ bridges"},
        {"kind": "contains", "text": "seven"},
        {"kind": "absent", "text": "ida"},
        {"kind": "max_words", "words": 4},
    ],
)
def test_other_checks_stay_as_they_are(check: dict[str, Any]) -> None:
    assert redact_checks([check], HIDDEN, SCANNER) == [check]
