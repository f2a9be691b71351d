"""The receipt of a hand-over: its three parts, its steps, and what its models answered before and after."""

from __future__ import annotations

import io
from typing import Any

import pytest

from deploy.cli.console import SafeConsole
from deploy.cli.views.receipt import HandOverReport, Phase, build_receipt, compare
from deploy.cli.views.receipt_text import bar, figures, probes, receipt_view, shares, took
from services.orchestrator.steps import Step
from tests.unit.cli.rows import STEPS, at, hand_over, receipt, step

OPEN: dict[str, Any] = {
    "evacuated_at": None,
    "released_at": None,
    "restored_at": None,
    "memory_after": None,
    "memory_restored": None,
    "probes_after": None,
    "seconds_without_inference": None,
}


def built(**values: Any) -> HandOverReport:
    return build_receipt(receipt(**values), at(100))


def lines_of(row: HandOverReport, width: int = 80) -> list[str]:
    console = SafeConsole(file=io.StringIO(), width=width, record=True)
    console.print(receipt_view(row))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_three_parts_take_the_whole_time() -> None:
    assert [(phase.name, phase.seconds) for phase in built().phases] == [
        (Phase.EVACUATION, 4.0),
        (Phase.WORK, 16.0),
        (Phase.RESTORATION, 2.5),
    ]


def test_every_step_belongs_to_its_part_with_moment_duration_and_figures() -> None:
    steps = {step.step: step for step in built().steps}
    assert [name for name, step in steps.items() if step.phase is Phase.RESTORATION] == [
        *("take-back", "start", "answer", "load", "compare", "open", "release", "resume")
    ]
    assert (steps[Step.DRAIN].began_at, steps[Step.DRAIN].seconds, steps[Step.DRAIN].part) == (at(11.1), 1.3, "rune")
    assert steps[Step.DRAIN].detail == {"drained": 3, "aborted": 1} and steps[Step.STOP].tries == 2


def test_requests_add_up_over_runes() -> None:
    two = built(steps=[*STEPS, step("drain", 12, 12.1, "other", drained=4, aborted=0)])
    assert (two.drained, two.aborted) == (7, 1)
    assert (built(steps=STEPS[:4]).drained, built(steps=STEPS[:4]).aborted) == (None, None)


def test_an_evacuation_under_way_counts_to_now_and_has_no_other_part() -> None:
    row = built(**OPEN, steps=[*STEPS[:4], step("drain", 11.1, None, "rune")])
    assert [(phase.name, phase.ended_at, phase.seconds) for phase in row.phases] == [(Phase.EVACUATION, None, 90.0)]
    assert row.steps[-1].seconds is None


def test_what_was_refused_is_restored_without_any_work() -> None:
    row = built(
        **{**OPEN, "released_at": at(22.1)}, steps=[*STEPS[:7], step("prove", 13.5), step("take-back", 22, 22.1)]
    )
    assert [(phase.name, phase.seconds) for phase in row.phases] == [
        (Phase.EVACUATION, 12.0),
        (Phase.RESTORATION, 78.0),
    ]
    text = "\n".join(lines_of(row))
    assert "never handed over" in text
    assert next(line for line in text.splitlines() if line.startswith("  prove")).endswith("did not end")
    assert "inference  is not back yet (30 s expected)" in text


def test_a_hand_over_without_steps_has_its_parts() -> None:
    row = build_receipt(hand_over(), at(100))
    assert [phase.seconds for phase in row.phases] == [4.0, 16.0, 2.5] and row.steps == ()
    assert "probes     not asked" in lines_of(row)


BEFORE = {"rune": {"base": "a", "scribe@a": "b", "unasked": None}}


@pytest.mark.parametrize(
    ("before", "after", "equal", "differing", "missing", "expected"),
    [
        (BEFORE, {"rune": {"base": "a", "scribe@a": "b"}}, True, (), (), "2 models asked: equal"),
        (BEFORE, {"rune": {"base": "a", "scribe@a": "x"}}, False, ("scribe@a",), (), "2 models asked: differs: scribe@a"),
        (BEFORE, {"rune": {"base": "a"}}, True, (), ("scribe@a",), "2 models asked: equal; missing: scribe@a"),
        (BEFORE, {"rune": {"base": "a", "scribe@a": None}}, True, (), ("scribe@a",), "2 models asked: equal; missing: scribe@a"),
        (BEFORE, None, None, (), (), "not asked again yet; 2 models answered before"),
        ({"rune": {"base": None}}, {"rune": {"base": "a"}}, None, (), (), "not asked"),
        ({}, {}, None, (), (), "not asked"),
        (None, None, None, (), (), "not asked"),
        (
            {"rune": {"base": "a"}, "other": {"base": "a"}, "mute": {}},
            {"rune": {"base": "a"}, "other": {"base": "b"}},
            *(False, ("base on other",), (), "2 models asked: differs: base on other"),
        ),
    ],
)  # fmt: skip
def test_probes_are_equal_or_say_which_are_not(
    before: Any, after: Any, equal: bool | None, differing: tuple[str, ...], missing: tuple[str, ...], expected: str
) -> None:
    report = compare(before, after)
    assert (report.equal, report.differing, report.missing) == (equal, differing, missing)
    assert probes(report, over=False).plain == expected


def test_probes_that_were_never_asked_again_are_not_promised_once_it_is_over() -> None:
    assert probes(compare(BEFORE, None), over=True).plain == "not asked"


@pytest.mark.parametrize("seconds", [[4.0, 16.0, 2.5], [0.001, 80_000.0, 0.002], [1.0], [0.0, 3.0, 0.0], [5.0, 0.0]])
def test_the_bar_is_always_as_wide_and_shows_whatever_took_time(seconds: list[float]) -> None:
    cells = shares(seconds, 60)
    assert sum(cells) == 60
    assert all((cell > 0) == (part > 0) for cell, part in zip(cells, seconds, strict=True))


def test_the_bar_is_in_proportion() -> None:
    assert bar(built().phases, 45).plain == "▒" * 8 + "█" * 32 + "░" * 5
    assert bar(()).plain == ""


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"drained": 0, "aborted": 0}, "0 drained"),
        ({"drained": 2, "aborted": 3}, "2 drained, 3 aborted"),
        ({"memory": 3 * 1024**3}, "3.0 GiB in use"),
        ({"models": 1, "missing": 2}, "1 model, 2 missing"),
        ({"equal": False, "missing": 0}, "not equal"),
        ({"closed": False}, "the engine has no way to"),
        ({"closed": True, "manner": "stop"}, ""),
        ({"manner": "sleep"}, "sleep"),
        ({"something": "new"}, "something new"),
        ({}, ""),
    ],
)
def test_figures_are_reported_in_words(detail: dict[str, Any], expected: str) -> None:
    assert figures(detail).plain == expected


def test_many_steps_take_milliseconds() -> None:
    assert [took(seconds) for seconds in (None, 0.0, 0.0994, 0.1, 75)] == ["–", "0 ms", "99 ms", "0.1 s", "1 m 15 s"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_receipt_is_one_line_a_step(width: int) -> None:
    lines = lines_of(built(), width)
    assert lines[0] == "hand-over  anvil0, fence 1, attempt 1"
    assert len(lines) == 2 + 3 + len(STEPS) + 4, "title, bar, parts, steps, findings"
    assert max(len(line) for line in lines) <= 80
    stop = next(line.split() for line in lines if line.startswith("  stop"))
    assert stop[1] == "rune" and stop[3:] == ["0.7", "s", "2", "tries"]
    assert lines[-4:] == [
        "memory     3.0 GiB → 0 B in use, 3.0 GiB restored",
        "requests   3 drained, 1 aborted",
        "probes     2 models asked: equal",
        "inference  away for 22 s (30 s expected)",
    ]


class LongerReport(HandOverReport):
    """A report with one more column than the text has words for."""

    queue_wait_s: float | None = None


def test_a_column_without_words_of_its_own_is_shown_as_it_is() -> None:
    longer = LongerReport(**built().model_dump(), queue_wait_s=2.5)

    assert [line.split() for line in lines_of(longer) if "wait" in line] == [["queue", "wait", "s", "2.5"]]
    assert len(lines_of(longer)) == len(lines_of(built())) + 1
    assert len(lines_of(longer.model_copy(update={"queue_wait_s": None}))) == len(lines_of(built()))
