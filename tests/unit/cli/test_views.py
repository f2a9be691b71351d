"""What a person reads: a ritual under way, its verdict, its end, the list, and the whole report."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from rich.console import RenderableType

from deploy.cli.console import SafeConsole
from deploy.cli.queries.curve import Curve
from deploy.cli.queries.rituals import Snapshot
from deploy.cli.views.live import LiveView, current_view, end_view, fact_line, intent_line
from deploy.cli.views.page.content import build_page
from deploy.cli.views.page.render import CARD, PAGE, render
from deploy.cli.views.report import build_report
from deploy.cli.views.rituals import list_view, report_view
from deploy.cli.views.stages import activity
from deploy.cli.views.verdict import verdict_view
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.intent import RecipeOverrides, Refinement, RitualProgress
from shared.ritual.views import RitualError
from tests.support.pages import CONTEXT
from tests.unit.cli.rows import (
    BANISHED,
    NAMED,
    RITUAL,
    VERDICT,
    WHOLE,
    at,
    decision,
    evacuated,
    hand_over,
    interrupted,
    listed,
    recorded,
    ritual,
    snapshot,
)

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
    tokens_per_s=231.4,
)


def shown(view: RenderableType, width: int = 80) -> list[str]:
    console = SafeConsole(file=io.StringIO(), width=width, record=True)
    console.print(view)
    return [line.rstrip() for line in console.export_text().splitlines()]


def training() -> Snapshot:
    away = hand_over(released_at=None, restored_at=None, seconds_without_inference=None)
    return snapshot(ritual("evacuated", 14), WHOLE[:2], [away])


def awakened() -> Snapshot:
    return snapshot(ritual("awakened", 33, 33), WHOLE, [hand_over()])


def test_what_goes_on_is_all_stages_and_a_bar_with_loss_and_time_left_in_80_columns() -> None:
    lines = shown(current_view(training(), TRAINING))
    assert lines == [
        "✓ intended ✓ harvested ✓ evacuated ▸ forged · verified · registered · awakened",
        lines[1],
        "inference is suspended for 1 m 29 s so far",
    ]
    assert lines[1].startswith("1 m 26 s ━") and lines[1].endswith(
        " train 32/40 steps, loss 0.943, 231 tokens/s, 4.8 s left"
    )


def test_what_else_a_training_reports_is_on_a_line_of_its_own() -> None:
    figures = {
        "tokens": 12345,
        "dev_loss": 1.2345,
        "learning_rate": 0.0004,
        "memory_bytes": 3 * 1024**3,
        "energy_j": 1234.0,
    }
    lines = shown(current_view(training(), TRAINING.model_copy(update=figures)))
    assert lines[2] == "12,345 tokens, dev loss 1.234, learning rate 0.0004, 3.0 GiB, 1.2 kJ"


def test_without_progress_it_is_reported_what_the_ritual_does() -> None:
    assert shown(current_view(training(), None))[1] == "1 m 26 s the trainer starts"


def test_on_a_terminal_what_goes_on_is_drawn_below_the_facts_and_a_lost_server_is_noted() -> None:
    console = SafeConsole(file=io.StringIO(), width=80, force_terminal=True)
    with LiveView(console) as view:
        view.update(training(), TRAINING)
        view.lost("PostgreSQL does not answer")
        view.update(awakened(), None)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("harvested (1.0 s): 155 to train", "32/40 steps", "PostgreSQL does not answer", "awakened (0.5 s)"):
        assert part in text, part
    assert text.index("harvested (1.0 s)") < text.index("32/40 steps") < text.index("awakened (0.5 s)")


def test_the_end_of_an_awakened_ritual_shows_what_it_cost_and_how_to_try_it() -> None:
    text = "\n".join(shown(end_view(awakened(), "http://p")))
    assert "verdict  promote" in text
    assert "awakened  33 s in all, 22 s without inference" in text
    assert 'soulforge ask scribe "…"' in text
    assert "http://p/redirects/traces/" in text


def unisolated() -> Snapshot:
    """A ritual whose trainer ran unisolated, on a machine where the next job would, too."""
    spoilt = [
        replace(row, fact=row.fact.model_copy(update={"isolation": ("environment",)}))
        if isinstance(row.fact, AdapterForged)
        else row
        for row in WHOLE
    ]
    found = snapshot(ritual("awakened", 33, 33), spoilt, [hand_over()])
    return replace(found, unisolated="no bubblewrap")


def test_a_job_that_ran_unisolated_is_mentioned_at_the_end_and_in_the_report() -> None:
    line = "the trainer of attempt 1 ran UNISOLATED: only environment"
    assert line in shown(end_view(unisolated(), "http://p"))
    report = build_report(unisolated(), {}, PHOENIX)
    assert report.unisolated == (line,), "a ritual that ended has no job to come"
    assert any(row.startswith("isolation") and "ran UNISOLATED" in row for row in shown(report_view(report, WHOLE)))
    assert build_report(awakened(), {}, PHOENIX).unisolated == ()


def test_while_jobs_run_unisolated_it_is_shown_below_the_stages_and_in_the_log() -> None:
    under_way = replace(training(), unisolated="no bubblewrap")
    why = "jobs run UNISOLATED, as allow_unisolated under [jobs] permits: no bubblewrap"
    assert "jobs run UNISOLATED" in shown(current_view(under_way, None))
    assert "UNISOLATED" not in "".join(shown(current_view(training(), None)))
    console = SafeConsole(file=io.StringIO(), width=120)
    with LiveView(console) as view:
        view.update(under_way, None)
        view.update(under_way, None)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(why) == 1
    assert build_report(under_way, {}, PHOENIX).unisolated == (why,)


def test_the_verdict_shows_both_arms_with_intervals_gains_and_flips() -> None:
    lines = shown(verdict_view(VERDICT))
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
    assert rows["base-logic"] == [
        "base-logic",
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


def test_the_verdict_shows_the_context_and_what_a_request_saves() -> None:
    lines = shown(verdict_view(VERDICT.model_copy(update={"context": CONTEXT})), width=240)
    row = next(line for line in lines if line.startswith("context "))
    assert " ".join(row.split()) == "context 24.3 % (63–89) 78.4 % (63–89) +54.1 (≥ +35.0) shown"
    assert "the base without it 0.0 % (63–89), the candidate with it 81.1 % (63–89); 61.5 tokens saved" in "".join(
        lines
    )


def test_the_verdict_shows_what_was_not_as_it_should_be() -> None:
    assert "warning: replay fell short" not in shown(verdict_view(VERDICT))
    assert "warning: replay fell short" in shown(
        verdict_view(VERDICT.model_copy(update={"warnings": ("replay fell short",)}))
    )


def test_the_verdict_by_likelihood_needs_a_gain_there() -> None:
    unruled = {"metric": "nll", "base": None, "candidate": None, "rule_gain": None}
    target = VERDICT.target.model_copy(update=unruled)
    lines = shown(verdict_view(VERDICT.model_copy(update={"target": target})))
    assert not any(line.startswith("persona  ") for line in lines)
    assert next(line for line in lines if line.startswith("persona NLL")).endswith("≥ +0.05")


def test_the_whole_report_is_readable() -> None:
    found = awakened()
    report = build_report(
        found, {"revoked": 5}, "http://127.0.0.1:7603", [(f"n-{at}", f"n-{at + 1}") for at in range(5)]
    )
    text = "\n".join(shown(report_view(report, found.facts)))
    for part in (
        "scribe@a",
        "155 train",
        "5 revoked",
        "3.0 GiB → 0 B",
        "away for 22 s",
        "+78.4",
        "155 to train",
        "5 of used records, left out of preferences: n-0 and n-1, ",
        "and 2 more; correct or reject one of each",
        PHOENIX,
    ):
        assert part in text, part
    assert text.count("contradictions") == 1


def lines_of(*snapshots: tuple[Snapshot, RitualProgress | None]) -> list[str]:
    console = SafeConsole(file=io.StringIO(), width=80, record=True)
    with LiveView(console) as view:
        for found, progress in snapshots:
            view.update(found, progress)
    return [line[10:] for line in console.export_text().splitlines()]


def test_each_fact_is_one_line_and_is_printed_once() -> None:
    lines = lines_of((training(), None), (training(), None), (awakened(), None))
    assert lines[0] == "ritual 6cb89406 intended: train scribe, recipe default, priority 5: it is time"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "harvested (1.0 s)",
        "evacuated (4.0 s)",
        "forged (6.0 s)",
        "verified (10 s)",
        "registered (1.0 s)",
        "gpu.restored (1.5 s)",
        "awakened (0.5 s)",
    ]


def test_a_wait_for_the_anvil_is_part_of_the_line_of_the_evacuation() -> None:
    since = WHOLE[0].stated_at
    assert fact_line(WHOLE[1], since) == "evacuated (4.0 s): memory 3.0 GiB → 0 B, after 9.0 s in the queue"
    at_once = recorded(evacuated(), "harvested>evacuated", 5, started_s=1.5)
    assert "queue" not in fact_line(at_once, since)


def test_progress_is_printed_sparingly() -> None:
    further = TRAINING.model_copy(update={"done": 33})
    lines = lines_of((training(), TRAINING), (training(), further), (training(), further))
    assert [line for line in lines if "steps" in line] == [
        "trainer: train 32/40 steps, loss 0.943, 231 tokens/s, 4.8 s left"
    ]


def paused(**values: Any) -> Snapshot:
    facts = [*WHOLE[:2], recorded(interrupted(**values), "evacuated>harvested", 25)]
    waits = decision("wait", "waits: a window opens at 01:00", 26)
    return snapshot(ritual("harvested", 25, attempt=2), facts, [], waits)


def test_an_interruption_is_no_failure_and_has_its_reason_and_whether_it_was_asked_for() -> None:
    lines = shown(current_view(paused(), None))
    assert "waits: a window opens at 01:00; then continues from" in "\n".join(lines) and "✗" not in "\n".join(lines)
    assert lines_of((paused(), None))[-2] == "attempt 1 interrupted (1.0 s): lease lost"
    assert lines_of((paused(asked=True), None))[-2:] == [
        "attempt 1 interrupted (1.0 s): asked for: lease lost",
        "waits: a window opens at 01:00",
    ]


def test_a_wait_is_printed_again_only_when_its_cause_is_another() -> None:
    def waits(reason: str, cause: str) -> tuple[Snapshot, None]:
        return snapshot(ritual("harvested", 1), WHOLE[:1], [], decision("wait", reason, cause=cause)), None

    lines = lines_of(
        waits("waits: 2 under way", "busy"),
        waits("waits: 2 under way", "busy"),
        waits("waits: 3 under way", "busy"),
        waits("waits: nothing is left today", "budget"),
    )
    assert lines[2:] == ["waits: 2 under way", "waits: nothing is left today"]


def test_the_list_calls_a_ritual_that_waits_again_interrupted_and_gives_the_reason_in_80_columns() -> None:
    row = listed("harvested", 25, attempt=2, interruption=interrupted("the anvil was wanted back: demo", asked=True))
    lines = shown(list_view([row, listed("awakened", 33, 33, seconds_without_inference=21.5)]))
    assert any(line.startswith("6cb89406 scribe  interrupted ") for line in lines)
    assert any(line.startswith("6cb89406 scribe  awakened ") for line in lines)
    assert len(lines) == 2 + 2 + 2, "the head, one line a ritual, and the reason"
    assert " ".join(lines[-2:]) == (
        "6cb89406 was interrupted, asked for: the anvil was wanted back: demo; attempt 2 continues from its last checkpoint"
    )


def test_a_paused_ritual_is_shown_as_paused_with_the_reason_in_the_list_and_the_report() -> None:
    paused: dict[str, Any] = {"paused_at": at(28), "paused_why": "the night"}
    text = "\n".join(
        shown(list_view([listed("harvested", 27, attempt=2, interruption=interrupted(asked=True), **paused)]))
    )
    assert " paused " in text
    assert "6cb89406 is paused: the night; let it go on: soulforge resume 6cb89406" in " ".join(text.split())
    assert "interrupted" not in text

    report = build_report(snapshot(ritual("harvested", 27, **paused), WHOLE[:1]), {}, "http://phoenix")
    assert report.paused_at == at(28)
    assert ": the night" in next(line for line in shown(report_view(report, WHOLE[:1])) if line.startswith("paused"))
    over = build_report(snapshot(ritual("awakened", 33, 33, **paused), WHOLE), {}, "http://phoenix")
    assert (over.paused_at, over.paused_why) == (None, None)


def test_the_report_shows_what_the_intent_changes_of_its_recipe() -> None:
    overrides = {"epochs": 3.0, "batch_size": None, "learning_rate_multiplier": None}
    row = ritual("harvested", 27, intent_body={"persona": "scribe", "recipe": "default", "overrides": overrides})
    lines = shown(report_view(build_report(snapshot(row, WHOLE[:1]), {}, "http://phoenix"), WHOLE[:1]))
    assert "persona scribe, recipe default, epochs 3.0" in " ".join(lines)


def test_the_report_names_what_a_ritual_refines_and_what_is_suggested_for_a_banished_one() -> None:
    suggested = Refinement(recipe="gentle", overrides=RecipeOverrides(epochs=1), why="general lost 4.0 points")
    facts = [*WHOLE[:1], recorded(BANISHED.model_copy(update={"suggested": suggested}), "forged>banished", 30)]
    row = ritual("banished", 30, 30, intent_body={"persona": "scribe", "refines": str(RITUAL)})
    report = build_report(snapshot(row, facts), {}, "http://phoenix")

    assert (report.refines, report.suggested) == (RITUAL, suggested)
    text = " ".join(" ".join(shown(report_view(report, facts))).split())
    assert f"refines {RITUAL}" in text
    assert "suggested recipe gentle, epochs 1 (general lost 4.0 points)" in text
    for page in (render(build_page(snapshot(row, facts), report, Curve(), None))[name] for name in (PAGE, CARD)):
        assert f"which refines {RITUAL}" in page and "uggested: recipe gentle, epochs 1 (general" in page
    assert intent_line(row).endswith(f"priority {row.priority}, refines {str(RITUAL)[:8]}")


def test_the_report_of_an_interrupted_ritual_says_that_it_continues() -> None:
    found = paused(asked=True)
    waits = decision("wait", "waits: busy", 26, running=2)
    report = build_report(snapshot(found.ritual, list(found.facts), [], waits), {}, "http://p")
    text = "\n".join(shown(report_view(report, found.facts)))
    assert "interrupted at attempt 1, asked for: lease lost" in text
    assert "attempt 2 continues from its last checkpoint" in text
    assert "waits: busy" in text and "running 2" in text


@pytest.fixture
def odd() -> Snapshot:
    """A failed ritual whose texts look like markup."""
    intent = {"persona": "scribe", "why": "[red]x[/nope]"}
    failed = AdapterFailed(**NAMED, reason="[/bold] broke")
    return snapshot(ritual("failed", 2, 2, intent_body=intent, id=uuid4()), [recorded(failed, "intended>failed", 2)])


def test_text_from_outside_is_not_taken_for_markup(odd: Snapshot) -> None:
    report = build_report(odd, {}, "http://p")
    assert "[/bold] broke" in "\n".join(shown(end_view(odd, "http://p")))
    assert "[red]x[/nope]" in lines_of((odd, None))[0] and "[/bold] broke" in lines_of((odd, None))[1]
    assert "[/bold] broke" in "\n".join(shown(report_view(report, odd.facts)))


def test_an_error_that_keeps_a_ritual_from_going_on_is_shown_wherever_the_ritual_is() -> None:
    error = RitualError(RITUAL, "registry", 3, "ValueError: [bold]no[/bold]", last_at=at(96), retry_at=at(104))
    text = "the registry met 3 errors in a row: ValueError: [bold]no[/bold]; it tries again in 4 s"
    found = replace(snapshot(ritual("verified", 30), WHOLE[:4]), errors=(error,))

    assert text in activity(found)
    assert text in " ".join(shown(list_view([listed("verified", 30, errors=(error,))]), width=200))
    report = build_report(found, {}, PHOENIX)
    assert report.errors == (text,)
    assert text in " ".join(shown(report_view(report, found.facts), width=200))
