"""Patterns that never end elsewhere: at the import, in the harvest and in the evaluator each is given up in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest

from services.harvester.reasons import Reason
from services.harvester.scan.scanner import RecordScanner, _keep_checks
from services.verifier.evaluator.holdout import HoldoutItem, score
from services.verifier.results import HeldOutAnswer
from services.verifier.verdict import judge
from shared.config.settings import PROJECT
from shared.contracts.checks import MaxWords, Regex, UndecidedError, expect_quick, passes
from shared.contracts.karma import ChatMessage
from shared.contracts.verify import Arm, Policy
from shared.import_formats.formats import Format
from shared.import_formats.parser import Fault, parse_line
from shared.import_formats.record import ImportDefaults
from shared.redaction.policy import RedactionPolicy
from tests.support.evaluations import INTACT, LEARNED, results

pytestmark = pytest.mark.timeout(60)

A, X, COMMAS = "a" * 4000, "x" * 4000, "," * 4000
CATASTROPHIC = {
    "nested repeat": (r"(a+)+b", A),
    "lazy nested repeat": (r"(a+?)+?b", A),
    "two repeats in one": (r"(x+x+)+y", X),
    "overlapping alternatives": (r"(a|aa)+$b", A),
    "counted in counted": (r"(?:a{1,100}){1,100}b", A),
    "counted three deep": (r"((a{1,50}){1,50}){1,50}b", A),
    "words and dots": (r"(([a-z])+.)+[A-Z]([a-z])+", A),
    "back reference": (r"(a+)+\1b", A),
    "two back references": (r"(?:(a+)(a+)\1\2)+b", A),
    "negative look-ahead": (r"(?:(?!b)a+)+c", A),
    "positive look-ahead": (r"(?=(a+a+)+b)a*", A),
    "atomic group": (r"(?>(a|aa)+)b|(a|aa)+c", A),
    "any, twelve times": (r"(.*a){12}b", A),
    "six lazy fields": (r".*?,.*?,.*?,.*?,.*?,.*?;", COMMAS),
}
each = pytest.mark.parametrize(("pattern", "answer"), CATASTROPHIC.values(), ids=CATASTROPHIC.keys())


@pytest.fixture
def bounded() -> Callable[[], float]:
    """CPU seconds of this process since the test began: others on the machine do not count."""
    began = process_time()
    return lambda: process_time() - began


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> RecordScanner:
    return RecordScanner(RedactionPolicy(), tmp_path_factory.mktemp("benchmarks"))


def checks_of(*patterns: str) -> list[dict[str, str]]:
    return [{"kind": "regex", "pattern": pattern} for pattern in patterns]


def turns(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]


@each
def test_at_the_import_a_slow_pattern_is_a_fault_of_its_line(
    pattern: str, answer: str, bounded: Callable[[], float]
) -> None:
    record = {"id": "a", "persona": "scribe", "session": "s", "messages": turns(answer)}
    raw = json.dumps(record | {"outcome": {"checks": checks_of(pattern)}}).encode()

    found = parse_line("f", 7, raw, Format.AUTO, ImportDefaults("file", "file-1"))

    assert isinstance(found, Fault) and found.line == 7
    assert found.why.startswith("outcome.checks: a pattern takes longer than 50 ms on the record's own answer")
    assert bounded() < 0.5


@each
def test_in_the_harvest_a_record_with_a_slow_pattern_is_excluded_with_the_reason(
    pattern: str, answer: str, scanner: RecordScanner, bounded: Callable[[], float]
) -> None:
    found = scanner.scan(json.dumps(turns(answer)), "[]", json.dumps(checks_of(pattern)))

    assert found.reason is Reason.SLOW_PATTERN
    assert bounded() < 0.5


def test_the_harvest_keeps_short_checks_when_read_and_no_long_ones(scanner: RecordScanner) -> None:
    short, long = checks_of("kept"), checks_of("x" * 1500, "y" * 1500, "z" * 1500)

    for checks in (short, long):
        kept = _keep_checks.cache_info().currsize
        assert scanner.scan(json.dumps(turns("x")), "[]", json.dumps(checks)).reason is None
        assert _keep_checks.cache_info().currsize - kept == (checks is short)


@each
def test_in_the_evaluator_an_answer_that_a_pattern_does_not_decide_has_failed(
    pattern: str, answer: str, bounded: Callable[[], float]
) -> None:
    messages = tuple(ChatMessage.model_validate(turn) for turn in turns("yes"))
    item = HoldoutItem(id="h", session="s", messages=messages, checks=(Regex(pattern=f"yes|{pattern}"),))

    found = score(item, {Arm.BASE: 2.0, Arm.CANDIDATE: 1.0}, {Arm.BASE: "yes", Arm.CANDIDATE: answer})

    base, candidate = found.arms[Arm.BASE], found.arms[Arm.CANDIDATE]
    assert (base.passed, candidate.passed) == (True, False)
    assert (base.undecided, candidate.undecided) == (False, True)
    assert bounded() < 0.5


def test_the_verdict_names_how_many_answers_no_pattern_decided() -> None:
    failed = HeldOutAnswer(nll=1.0, passed=False, answer="", undecided=True)
    undecided = [row.model_copy(update={"arms": dict.fromkeys(row.arms, failed)}) for row in LEARNED[:3]]

    verdict = judge(results(INTACT, [*undecided, *LEARNED[3:]]), Policy(resamples=400))

    assert verdict.reasons[-1] == "6 answers count as failed: the patterns of their items take too long."
    assert not any("patterns" in reason for reason in judge(results(INTACT, LEARNED), Policy(resamples=400)).reasons)


def test_all_patterns_of_an_answer_share_one_limit(bounded: Callable[[], float]) -> None:
    heavy = tuple(Regex(pattern=rf"(?:.*,.*;|{number})?,*") for number in range(32))

    assert all(check.passes(COMMAS[:2400]) for check in heavy)
    alone_s = bounded()
    with pytest.raises(UndecidedError):
        passes(heavy, COMMAS[:2400])

    assert bounded() - alone_s < alone_s / 2


def test_only_the_start_of_a_records_own_answer_is_tried() -> None:
    quadratic = (Regex(pattern=r"(?:.*,.*;)?,*"), MaxWords(words=1))

    expect_quick(quadratic, COMMAS * 100)
    with pytest.raises(UndecidedError):
        passes(quadratic, COMMAS * 100)


@pytest.mark.parametrize(
    ("pattern", "answer", "right"),
    [
        (r"# [a-z][^\n]+\n(?!#)[^\n]+", "# list\nls", True),
        (r"# [a-z][^\n]+\n(?!#)[^\n]+", "# list\n# ls", False),
        (r"(\w+) \1", "so so", True),
        (r"a.b", "a\nb", True),
        (r"yes", "  yes\n", True),
        (r"yes", "yes, no", False),
        (r"(?i)straße", "STRASSE", False),
        (r"\d{4}-\d\d", "2026-11", True),
    ],
)
def test_a_usual_pattern_means_what_it_means_in_python(pattern: str, answer: str, right: bool) -> None:
    assert Regex(pattern=pattern).passes(answer) is right


def test_both_environments_match_with_the_same_engine() -> None:
    pinned = {
        line
        for lock in ("core", "jobs")
        for line in (PROJECT / f"requirements/{lock}.lock").read_text(encoding="utf-8").splitlines()
        if line.startswith("regex==")
    }

    assert len(pinned) == 1
    assert all(
        "\nregex\n" in Path(PROJECT / f"requirements/{name}.in").read_text(encoding="utf-8")
        for name in ("core", "jobs")
    )
