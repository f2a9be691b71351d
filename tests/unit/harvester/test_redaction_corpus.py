"""How well secrets and personal data are found, on a corpus drawn from seeds that no recogniser was tuned on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.redaction.examine import examine
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import Sensitive
from tests.support.corpora.sensitive import CLEAN, Measured, Sample, measure, samples, table

SCANNER = Scanner(RedactionPolicy())
EXAMPLES = Path(__file__).parents[3] / "examples" / "karma"


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(SCANNER, [6, 7, 8])


def test_at_least_99_percent_of_every_class_is_found_and_97_percent_of_its_findings_are_right(
    measured: Measured,
) -> None:
    print("\n" + table(measured))

    assert {c: measured.recall(c) for c in Sensitive if measured.recall(c) < 0.99} == {}
    assert {c: measured.precision(c) for c in Sensitive if measured.precision(c) < 0.97} == {}


def test_the_corpus_is_as_large_as_it_claims_and_the_same_for_the_same_seed() -> None:
    drawn: list[Sample] = list(samples(6))

    assert all(sum(s.planted is c for s in drawn) >= 60 for c in Sensitive)
    assert sum(s.planted is None for s in drawn) >= 4000
    assert drawn == list(samples(6)) != list(samples(7))


def test_what_is_planted_does_stand_in_its_sample() -> None:
    for sample in samples(6):
        assert json.dumps(sample.value)[1:-1] in json.dumps(sample.message).replace("\\\\", "\\")


def test_a_clean_text_is_passed_by_without_a_search() -> None:
    assert not SCANNER.suspicious(CLEAN)


@pytest.mark.parametrize("persona", ["coder", "scribe"])
def test_the_examples_that_are_shipped_hold_nothing_sensitive(persona: str) -> None:
    for line in (EXAMPLES / f"{persona}.jsonl").read_text().splitlines():
        assert examine(json.loads(line), SCANNER).decision == "clean", line
