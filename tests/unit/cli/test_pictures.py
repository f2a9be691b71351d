"""What a person reads: the way of a ritual, its progress, its verdict and its end."""

from __future__ import annotations

import io
from uuid import uuid4

from rich.console import Console, RenderableType

from deploy.cli.sight import Sight
from deploy.cli.views.ending import ending
from deploy.cli.views.live import picture
from deploy.cli.views.report import build_report
from deploy.cli.views.rituals import listing, view
from deploy.cli.views.shows import Lines
from deploy.cli.views.verdict import verdict_view
from shared.contracts.intent import RitualProgress
from tests.unit.cli.rows import RITUAL, VERDICT, WHOLE_WAY, fact, hand_over, ritual, tipping

PHOENIX = "http://127.0.0.1:7603/redirects/traces/6cb89406a5da5a31a79c4983e87f3f29"
TRAINING = RitualProgress(
    ritual=RITUAL,
    persona="scribe",
    job="trainer",
    phase="train",
    done=32,
    total=40,
    unit="steps",
    loss=0.943,
    eta_s=4.8,
)


def shown(picture: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(picture)
    return [line.rstrip() for line in console.export_text().splitlines()]


def training() -> Sight:
    return Sight(
        ritual("evacuated", 14),
        WHOLE_WAY[:2],
        [hand_over(released_at=None, restored_at=None, seconds_without_inference=None)],
    )


def test_training_is_a_bar_with_loss_and_time_left_on_one_line_of_80_columns() -> None:
    lines = shown(picture(training(), TRAINING))
    assert lines[0] == "ritual 6cb89406 · scribe"
    assert lines[4].startswith("▸  forged") and lines[4].endswith("train 32/40 steps, loss 0.943, 4.8 s left")
    assert lines[5] == "·  verified"
    assert lines[-1] == "inference is suspended for 1 m 29 s so far"


def test_a_lost_server_is_noted_below_the_last_picture() -> None:
    assert shown(picture(training(), None, "PostgreSQL does not answer"))[-1] == "PostgreSQL does not answer"


def test_the_end_of_an_awakened_ritual_says_what_it_cost_and_how_to_try_it() -> None:
    text = "\n".join(shown(ending(Sight(ritual("awakened", 33, 33), WHOLE_WAY, [hand_over()]), "http://p")))
    assert "awakened  33 s in all, 22 s without inference" in text
    assert 'soulforge ask scribe "…"' in text
    assert "http://p/redirects/traces/" in text


def test_the_verdict_shows_both_arms_with_intervals_gains_and_flips() -> None:
    lines = shown(verdict_view("promote", VERDICT["reasons"], VERDICT))
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["persona"] == [
        "persona",
        "0.0",
        "%",
        "(0–9)",
        "78.4",
        "%",
        "(63–89)",
        "+78.4",
        "(≥",
        "+67.5)",
        "≥",
        "+5",
    ]
    assert rows["persona NLL"] == ["persona", "NLL", "2.520", "1.008", "+1.512", "(≥", "+1.483)", "–"]
    assert rows["base logic"] == [
        "base",
        "logic",
        "72.5",
        "%",
        "(63–89)",
        "71.9",
        "%",
        "(63–89)",
        "-0.6",
        "(≥",
        "-1.7)",
        ">",
        "-3",
    ]
    assert "2 flipped from right to wrong, 1 from wrong to right" in " ".join(lines)


def test_a_verdict_of_another_shape_still_shows_its_decision_and_reasons() -> None:
    for odd in ({}, {"target": None}, {"base_logic": {"items": 3}}, {"target": {"candidate": {"share": 0.5}}}):
        assert shown(verdict_view("inconclusive", ["Too little."], odd))[:2] == ["verdict  inconclusive", "Too little."]


def test_the_whole_report_is_readable() -> None:
    report = build_report(ritual("awakened", 33, 33), WHOLE_WAY, [hand_over()], {"revoked": 5}, "http://127.0.0.1:7603")
    text = "\n".join(shown(view(report)))
    for part in ("scribe@a", "155 train", "5 revoked", "3.0 GiB → 0 B", "away for 22 s", "+78.4", PHOENIX):
        assert part in text, part


def lines_of(*sights: tuple[Sight, RitualProgress | None]) -> list[str]:
    console = Console(file=io.StringIO(), width=80, record=True)
    with Lines(console) as show:
        for sight, progress in sights:
            show.update(sight, progress)
    return [line[10:] for line in console.export_text().splitlines()]


def test_elsewhere_each_fact_is_one_line_and_is_told_once() -> None:
    told = lines_of(
        (training(), None), (training(), None), (Sight(ritual("awakened", 33, 33), WHOLE_WAY, [hand_over()]), None)
    )
    assert [line.split(" ")[0] for line in told] == [
        "ritual",
        "harvested",
        "evacuated",
        "forged",
        "verified",
        "registered",
        "gpu.restored",
        "awakened",
    ]


def test_progress_is_told_sparingly() -> None:
    further = TRAINING.model_copy(update={"done": 33})
    told = lines_of((training(), TRAINING), (training(), further), (training(), further))
    assert [line for line in told if "steps" in line] == ["trainer: train 32/40 steps, loss 0.943, 4.8 s left"]


def interrupted(**body: object) -> Sight:
    facts = [*WHOLE_WAY[:2], fact("gpu.interrupted", "evacuated>harvested", {"reason": "lease lost", **body}, 25)]
    return Sight(ritual("harvested", 25, attempt=2), facts, [], tipping("wait", "waits: a window opens at 01:00", 26))


def test_an_interruption_is_no_failure_and_is_told_with_its_reason_and_whether_it_was_asked_for() -> None:
    lines = shown(picture(interrupted()))
    assert lines[:2] == [
        "ritual 6cb89406 · scribe · attempt 2 · interrupted",
        "attempt 1 was interrupted, not asked for: lease lost",
    ]
    assert "waits: a window opens at 01:00; then goes on from" in "\n".join(lines) and "✗" not in "\n".join(lines)
    assert shown(picture(interrupted(asked=True)))[1] == "attempt 1 was interrupted, asked for: lease lost"
    assert lines_of((interrupted(asked=True), None))[-2:] == [
        "attempt 1 interrupted (1.0 s): asked for: lease lost",
        "waits: a window opens at 01:00",
    ]


def test_a_wait_is_told_again_only_when_its_cause_is_another() -> None:
    def sight(reason: str, cause: str) -> tuple[Sight, None]:
        return Sight(ritual("harvested", 1), WHOLE_WAY[:1], [], tipping("wait", reason, cause=cause)), None

    told = lines_of(
        sight("waits: 2 under way", "busy"),
        sight("waits: 2 under way", "busy"),
        sight("waits: 3 under way", "busy"),
        sight("waits: nothing is left today", "budget"),
    )
    assert told[2:] == ["waits: 2 under way", "waits: nothing is left today"]


def test_the_list_calls_a_ritual_that_waits_again_interrupted_and_says_why_in_80_columns() -> None:
    body = {"reason": "the anvil was wanted back: demo", "asked": True}
    row = ritual("harvested", 25, attempt=2, interruption=body, seconds_without_inference=None)
    lines = shown(listing([row, ritual("awakened", 33, 33, seconds_without_inference=21.5)]))
    assert any(line.startswith("6cb89406 scribe  interrupted ") for line in lines)
    assert any(line.startswith("6cb89406 scribe  awakened ") for line in lines)
    assert len(lines) == 2 + 2 + 2, "the head, one line a ritual, and the reason"
    assert " ".join(lines[-2:]) == (
        "6cb89406 was interrupted, asked for: the anvil was wanted back: demo; attempt 2 goes on from its last checkpoint"
    )


def test_the_report_of_an_interrupted_ritual_says_that_it_goes_on() -> None:
    sight = interrupted(asked=True)
    report = build_report(sight.ritual, sight.facts, [], {}, "http://p", tipping("wait", "waits: busy", 26, running=2))
    text = "\n".join(shown(view(report)))
    assert "interrupted at attempt 1, asked for: lease lost" in text
    assert "attempt 2 goes on from its last checkpoint" in text
    assert "waits: busy" in text and "running 2" in text


def test_text_from_outside_is_not_taken_for_markup() -> None:
    odd = ritual("failed", 2, 2, intent={"persona": "scribe", "why": "[red]x[/nope]"}, id=uuid4())
    facts = [fact("adapter.failed", "intended>failed", {"reason": "[/bold] broke"}, 2)]
    assert "[/bold] broke" in "\n".join(shown(ending(Sight(odd, facts, []), "http://p")))
    assert "[red]x[/nope]" in "\n".join(shown(picture(Sight(odd, facts, []))))
    assert "[/bold] broke" in "\n".join(shown(view(build_report(odd, facts, [], {}, "http://p"))))
