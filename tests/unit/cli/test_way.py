"""The seven stages of a ritual as `watch` shows them."""

from __future__ import annotations

from typing import Any

from deploy.cli.views.stages import Mark, inference, interruption, is_over, stages
from tests.unit.cli.rows import STEPS, WHOLE_WAY, at, fact, hand_over, ritual, step, tipping

NAMES = ["intended", "harvested", "evacuated", "forged", "verified", "registered", "awakened"]


def test_a_whole_way_is_done_with_the_time_of_each_stage() -> None:
    way = stages(ritual("awakened", 33, 33), WHOLE_WAY, [hand_over()], at(100))
    assert [stage.name for stage in way] == NAMES
    assert {stage.mark for stage in way} == {Mark.DONE}
    assert [stage.seconds for stage in way] == [None, 1.0, 4.0, 6.0, 10.0, 1.0, 1.0]
    assert "after 9.0 s in the queue" in way[2].text


def test_the_stage_under_way_counts_to_now_and_the_rest_is_ahead() -> None:
    way = stages(ritual("evacuated", 14), WHOLE_WAY[:2], [hand_over(released_at=None, restored_at=None)], at(20))
    assert [stage.mark for stage in way] == [Mark.DONE] * 3 + [Mark.NOW] + [Mark.AHEAD] * 3
    assert way[3].seconds == 6.0


def test_an_interrupted_attempt_is_ahead_again() -> None:
    facts = [*WHOLE_WAY[:3], fact("gpu.interrupted", "forged>harvested", {"reason": "lease lost"}, 25)]
    way = stages(ritual("harvested", 25, attempt=2), facts, [hand_over()], at(40))
    assert [stage.mark for stage in way] == [Mark.DONE] * 2 + [Mark.NOW] + [Mark.AHEAD] * 4
    assert way[2].seconds == 15.0 and way[2].text == "waits for the anvil; then goes on from its last checkpoint"


def test_the_second_attempt_shows_its_own_facts() -> None:
    facts = [
        *WHOLE_WAY[:3],
        fact("gpu.interrupted", "forged>harvested", {"reason": "lease lost"}, 25),
        fact(
            "gpu.evacuated", "harvested>evacuated", {"memory_before": 0, "memory_after": 0}, 50, started_s=48, attempt=2
        ),
    ]
    way = stages(ritual("evacuated", 50, attempt=2), facts, [], at(60))
    assert way[2].mark is Mark.DONE and way[2].seconds == 2.0
    assert way[3].mark is Mark.NOW


def test_a_ritual_that_ended_early_breaks_where_it_was_and_says_why() -> None:
    facts = [
        *WHOLE_WAY[:2],
        fact("adapter.failed", "evacuated>failed", {"reason": "out of memory"}, 20, started_s=14),
        fact("gpu.restored", "failed>failed", {"seconds_without_inference": 21.5}, 32.5),
    ]
    way = stages(ritual("failed", 20, 20), facts, [hand_over()], at(100))
    assert (way[3].name, way[3].mark, way[3].seconds, way[3].text) == ("failed", Mark.BROKEN, 6.0, "out of memory")
    assert way[4].mark is Mark.AHEAD


def test_a_ritual_is_over_when_it_ended_and_inference_is_back() -> None:
    away = hand_over(restored_at=None, seconds_without_inference=None)
    assert not is_over(ritual("verified", 30), [hand_over()])
    assert not is_over(ritual("failed", 20, 20), [away])
    assert not is_over(ritual("failed", 20, 20), [hand_over(), away])
    assert is_over(ritual("failed", 20, 20), [hand_over()])
    assert is_over(ritual("refused", 1, 1), [])


def test_a_hand_over_that_never_took_inference_down_is_not_waited_for() -> None:
    assert is_over(ritual("cancelled", 1, 1), [hand_over(suspended_at=None, restored_at=None)])


def test_time_without_inference_grows_while_it_is_away() -> None:
    away = hand_over(restored_at=None, seconds_without_inference=None)
    found = inference([hand_over(), away], at(41))
    assert found and found.away and found.seconds == 21.5 + 30
    assert inference([], at(41)) is None


def waiting_text(*decided: str, decided_s: float = 2, **row: Any) -> str:
    told = tipping(decided[0], decided[1], decided_s) if decided else None
    return stages(ritual("harvested", 1, **row), WHOLE_WAY[:1], [], at(40), told)[2].text


def test_a_ritual_that_waits_says_why_as_it_was_decided() -> None:
    assert waiting_text() == "waits for the anvil"
    assert waiting_text("wait", "waits: two under way") == "waits: two under way"


def test_a_decision_that_no_longer_counts_is_not_told() -> None:
    assert waiting_text("now", "now: the policy") == "waits for the anvil"
    assert waiting_text("wait", "waits: an hour ago", decided_s=0.5) == "waits for the anvil", "of an earlier attempt"


def test_a_ritual_that_is_to_end_says_so_before_anything_else() -> None:
    assert "was asked to end" in waiting_text("wait", "waits: two under way", cancel_requested_at=at(5))


def test_an_evacuation_under_way_names_its_step() -> None:
    row = hand_over(
        steps=[*STEPS[:4], step("drain", 11.1, None, "rune")], evacuated_at=None, released_at=None, restored_at=None
    )
    way = stages(ritual("harvested", 1), WHOLE_WAY[:1], [row], at(20), tipping("now", "now: the policy"))
    assert way[2].text == "the anvil is evacuated: drain rune"


def test_inference_is_away_from_the_closing_of_admission_on_not_from_the_announcement() -> None:
    open_ = {"evacuated_at": None, "released_at": None, "restored_at": None, "seconds_without_inference": None}
    assert inference([hand_over(steps=STEPS[:3], **open_)], at(20)) is None, "queues drain, inference serves"
    found = inference([hand_over(steps=STEPS[:4], **open_, suspended_at=at(10))], at(20))
    assert found and found.away and found.seconds == 9.0


def test_only_the_last_move_makes_an_interruption() -> None:
    lost = fact("gpu.interrupted", "evacuated>harvested", {"reason": "lease lost"}, 25)
    back = fact("gpu.restored", "harvested>harvested", {}, 30)
    again = fact("gpu.evacuated", "harvested>evacuated", {}, 50, attempt=2)
    found = interruption(ritual("harvested", 25, attempt=2), [*WHOLE_WAY[:2], lost, back])
    assert found and (found.attempt, found.reason, found.asked, found.at) == (1, "lease lost", False, at(25))
    assert interruption(ritual("evacuated", 50, attempt=2), [*WHOLE_WAY[:2], lost, back, again]) is None
    assert interruption(ritual("harvested", 1), WHOLE_WAY[:1]) is None
    assert interruption(ritual("failed", 30, 30), [*WHOLE_WAY[:2], lost]) is None
