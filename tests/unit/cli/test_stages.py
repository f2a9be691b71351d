"""The seven stages of a ritual, and what it does or waits for now."""

from __future__ import annotations

from typing import Any

from deploy.cli.views.stages import (
    Mark,
    activity,
    get_interruption,
    inference_outage,
    is_over,
    seconds_in_stage,
    stages,
)
from services.orchestrator.views import Handover
from shared.contracts.forge import AdapterFailed
from shared.ritual.views import RecordedFact, RitualStatus
from tests.unit.cli.rows import (
    NAMED,
    STEPS,
    WHOLE,
    at,
    decision,
    evacuated,
    hand_over,
    interrupted,
    recorded,
    restored,
    ritual,
    snapshot,
    step,
)

NAMES = ["intended", "harvested", "evacuated", "forged", "verified", "registered", "awakened"]


def marks(row: RitualStatus, facts: list[RecordedFact]) -> list[Mark]:
    return [stage.mark for stage in stages(snapshot(row, facts))]


def test_all_seven_stages_of_an_awakened_ritual_are_done() -> None:
    found = stages(snapshot(ritual("awakened", 33, 33), WHOLE))
    assert [stage.name for stage in found] == NAMES
    assert {stage.mark for stage in found} == {Mark.DONE}


def test_the_stage_under_way_counts_to_now_and_the_rest_is_ahead() -> None:
    row = ritual("evacuated", 14, now=at(20))
    assert marks(row, WHOLE[:2]) == [Mark.DONE] * 3 + [Mark.NOW] + [Mark.AHEAD] * 3
    assert seconds_in_stage(snapshot(row, WHOLE[:2])) == 6.0


def test_an_interrupted_attempt_is_ahead_again() -> None:
    facts = [*WHOLE[:3], recorded(interrupted(), "forged>harvested", 25)]
    found = snapshot(ritual("harvested", 25, attempt=2, now=at(40)), facts, [hand_over()])
    assert marks(found.ritual, facts) == [Mark.DONE] * 2 + [Mark.NOW] + [Mark.AHEAD] * 4
    assert seconds_in_stage(found) == 15.0
    assert activity(found) == "waits for the anvil; then continues from its last checkpoint"


def test_the_second_attempt_counts_its_own_facts() -> None:
    facts = [
        *WHOLE[:3],
        recorded(interrupted(), "forged>harvested", 25),
        recorded(evacuated(), "harvested>evacuated", 50, started_s=48, attempt=2),
    ]
    assert marks(ritual("evacuated", 50, attempt=2), facts) == [Mark.DONE] * 3 + [Mark.NOW] + [Mark.AHEAD] * 3


def test_a_ritual_that_ended_early_is_marked_where_it_was() -> None:
    facts = [
        *WHOLE[:2],
        recorded(AdapterFailed(**NAMED, reason="out of memory"), "evacuated>failed", 20, started_s=14),
        recorded(restored(), "failed>failed", 32.5),
    ]
    found = stages(snapshot(ritual("failed", 20, 20), facts))
    assert (found[3].name, found[3].mark, found[4].mark) == ("failed", Mark.FAILED, Mark.AHEAD)
    assert activity(snapshot(ritual("failed", 20, 20), facts)) == ""


def test_a_ritual_is_over_when_it_ended_and_inference_is_back() -> None:
    away = hand_over(restored_at=None, seconds_without_inference=None)

    def over(row: RitualStatus, *hand_overs: Handover) -> bool:
        return is_over(snapshot(row, [], list(hand_overs)))

    assert not over(ritual("verified", 30), hand_over())
    assert not over(ritual("failed", 20, 20), away)
    assert not over(ritual("failed", 20, 20), hand_over(), away)
    assert over(ritual("failed", 20, 20), hand_over())
    assert over(ritual("refused", 1, 1))


def test_a_hand_over_that_never_took_inference_down_is_not_waited_for() -> None:
    assert is_over(snapshot(ritual("cancelled", 1, 1), [], [hand_over(suspended_at=None, restored_at=None)]))


def test_time_without_inference_grows_while_it_is_away() -> None:
    away = hand_over(restored_at=None, seconds_without_inference=None)
    found = inference_outage([hand_over(), away], at(41))
    assert found and found.away and found.seconds == 21.5 + 30
    assert inference_outage([], at(41)) is None


def waiting_text(*decided: str, decided_s: float = 2, **row: Any) -> str:
    found = decision(decided[0], decided[1], decided_s) if decided else None
    return activity(snapshot(ritual("harvested", 1, **row), WHOLE[:1], [], found))


def test_a_ritual_that_waits_gives_the_reason_of_the_decision() -> None:
    assert waiting_text() == "waits for the anvil"
    assert waiting_text("wait", "waits: two under way") == "waits: two under way"


def test_a_decision_that_no_longer_counts_is_not_shown() -> None:
    assert waiting_text("now", "now: the policy") == "waits for the anvil"
    assert waiting_text("wait", "waits: an hour ago", decided_s=0.5) == "waits for the anvil", "of an earlier attempt"


def test_a_request_to_end_is_shown_before_anything_else() -> None:
    assert "was asked to end" in waiting_text("wait", "waits: two under way", cancel_requested_at=at(5))


def test_a_paused_ritual_shows_why_and_what_lets_it_go_on() -> None:
    paused: dict[str, Any] = {"paused_at": at(5), "paused_why": "the  night"}

    assert waiting_text("wait", "waits: it is paused", **paused) == (
        "is paused: the night; let it go on: soulforge resume 6cb89406"
    )
    assert "was asked to end" in waiting_text(cancel_requested_at=at(6), **paused)
    at_work = activity(snapshot(ritual("evacuated", 14, **paused), WHOLE[:2]))
    assert "its job saves a checkpoint and ends" in at_work
    later = activity(snapshot(ritual("verified", 30, **paused), WHOLE[:4]))
    assert "paused" not in later, "it needs the anvil no more"


def test_an_evacuation_under_way_names_its_step() -> None:
    steps = [*STEPS[:4], step("drain", 11.1, None, "rune")]
    row = hand_over(steps=steps, evacuated_at=None, released_at=None, restored_at=None)
    found = snapshot(ritual("harvested", 1), WHOLE[:1], [row], decision("now", "now: the policy"))
    assert activity(found) == "the anvil is evacuated: drain rune"


def test_inference_is_away_from_the_closing_of_admission_on_not_from_the_announcement() -> None:
    open_ = {"evacuated_at": None, "released_at": None, "restored_at": None, "seconds_without_inference": None}
    assert inference_outage([hand_over(steps=STEPS[:3], **open_)], at(20)) is None, "queues drain, inference serves"
    found = inference_outage([hand_over(steps=STEPS[:4], **open_, suspended_at=at(10))], at(20))
    assert found and found.away and found.seconds == 9.0


def test_only_the_last_move_makes_an_interruption() -> None:
    lost = recorded(interrupted(), "evacuated>harvested", 25)
    back = recorded(restored(), "harvested>harvested", 30)
    again = recorded(evacuated(), "harvested>evacuated", 50, attempt=2)
    found = get_interruption(ritual("harvested", 25, attempt=2), [*WHOLE[:2], lost, back])
    assert found and (found.attempt, found.reason, found.asked, found.at) == (1, "lease lost", False, at(25))
    assert get_interruption(ritual("evacuated", 50, attempt=2), [*WHOLE[:2], lost, back, again]) is None
    assert get_interruption(ritual("harvested", 1), WHOLE[:1]) is None
    assert get_interruption(ritual("failed", 30, 30), [*WHOLE[:2], lost]) is None
