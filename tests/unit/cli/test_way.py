"""The seven stages of a ritual as `watch` shows them."""

from __future__ import annotations

from deploy.cli.way import Mark, inference, is_over, stages
from tests.unit.cli.rows import WHOLE_WAY, at, fact, hand_over, ritual

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
    assert way[2].seconds == 15.0 and way[2].text == "waits for the anvil"


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
