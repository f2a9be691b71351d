"""The queue of waiting rituals: priority, then age, and none waits for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.scheduling.decide import decide_queue
from services.orchestrator.scheduling.decision import Cause, Verdict
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual, aged_after_s, aging, ordered
from shared.config.tipping import TippingConfig

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR_S = 3600.0


def queued(number: int, priority: int, hours: float, weight: float = 0.0) -> QueuedRitual:
    return QueuedRitual(id=UUID(int=number), priority=priority, since=NOW - timedelta(hours=hours), weight=weight)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([queued(1, 5, 1), queued(2, 9, 0), queued(3, 5, 2)], [2, 3, 1]),  # priority, then age
        ([queued(1, 5, 1), queued(2, 5, 1)], [1, 2]),  # the same order every time
        ([queued(1, 0, 53), queued(2, 9, 0)], [2, 1]),
        ([queued(1, 0, 55), queued(2, 9, 0)], [1, 2]),  # 9 points of priority are worth 54 hours
        ([queued(1, 4, 5), queued(2, 5, 0)], [2, 1]),
        ([queued(1, 4, 7), queued(2, 5, 0)], [1, 2]),
    ],
)
def test_rituals_are_ordered_by_priority_then_age_until_waiting_outweighs_priority(
    waiting: list[QueuedRitual], expected: list[int]
) -> None:
    assert [each.id.int for each in ordered(waiting, 6 * HOUR_S)] == expected


arrivals = st.lists(st.tuples(st.floats(0, 400), st.integers(0, 9)), min_size=1, max_size=25)


@given(arrivals, st.floats(1, 20))
def test_only_what_arrives_within_nine_points_of_waiting_can_overtake(
    arrivals: list[tuple[float, int]], promote_h: float
) -> None:
    queue = ordered([queued(n, priority, hours) for n, (hours, priority) in enumerate(arrivals)], promote_h * HOUR_S)
    for place, behind in enumerate(queue):
        for ahead in queue[:place]:
            assert ahead.since - behind.since <= timedelta(hours=9 * promote_h, seconds=1)


@given(arrivals, st.floats(1, 20))
def test_every_ritual_comes_first_in_the_end_though_urgent_ones_never_cease_to_arrive(
    arrivals: list[tuple[float, int]], promote_h: float
) -> None:
    """One ritual is served an hour, and one of priority 9 arrives an hour."""
    waiting = [queued(n, priority, hours) for n, (hours, priority) in enumerate(arrivals)]
    bound = len(waiting) + int(9 * promote_h) + 2
    now, left = NOW, {each.id for each in waiting}
    for hour in range(bound):
        now += timedelta(hours=1)
        waiting.append(QueuedRitual(id=UUID(int=1000 + hour), priority=9, since=now))
        served = ordered(waiting, promote_h * HOUR_S)[0]
        waiting.remove(served)
        left.discard(served.id)

    assert not left


@given(arrivals, st.data())
def test_more_priority_never_moves_a_ritual_back(arrivals: list[tuple[float, int]], data: st.DataObject) -> None:
    waiting = [queued(n, priority, hours) for n, (hours, priority) in enumerate(arrivals)]
    one = data.draw(st.sampled_from(waiting))
    raised = one.model_copy(update={"priority": data.draw(st.integers(one.priority, 9))})
    changed = [raised if each is one else each for each in waiting]

    assert ordered(changed, HOUR_S).index(raised) <= ordered(waiting, HOUR_S).index(one)


def verdicts(
    waiting: list[QueuedRitual], config: TippingConfig, expected_s: float = 600, **more: float
) -> list[tuple[int, str]]:
    measured = Load(now=NOW, expected_away_s=expected_s, **more)
    decisions = decide_queue({each.id: (each, measured) for each in waiting}, config)
    return [(each.id.int, f"{decision.verdict}/{decision.cause}") for each, decision in decisions]


def test_one_goes_and_the_others_wait_behind_it() -> None:
    decisions = decide_queue(
        {each.id: (each, Load(now=NOW)) for each in [queued(1, 5, 1), queued(2, 6, 1)]}, TippingConfig()
    )

    assert [(each.id.int, decision.verdict) for each, decision in decisions] == [
        (2, Verdict.NOW),
        (1, Verdict.WAIT),
    ]
    assert decisions[1][1].cause is Cause.BEHIND and decisions[1][1].reason == "waits: ritual 00000000 goes first"
    assert decisions[1][1].measures["priority"] == 5


def test_one_that_waits_for_its_window_lets_an_urgent_one_pass() -> None:
    night = TippingConfig(policy="window", windows=("01:00-05:00",))

    assert verdicts([queued(1, 5, 40), queued(2, 9, 0)], night) == [(1, "wait/window"), (2, "now/urgent")]


def test_what_a_ritual_ahead_will_need_is_kept_for_it() -> None:
    night = TippingConfig(policy="window", windows=("01:00-05:00",), away_budget_s=1800)
    waiting = [queued(1, 5, 40), queued(2, 9, 0)]

    assert verdicts(waiting, night, 900) == [(1, "wait/window"), (2, "now/urgent")]
    assert verdicts(waiting, night, 901) == [(1, "wait/window"), (2, "wait/budget")]


def test_what_the_one_that_goes_will_need_is_spent_for_those_behind_it() -> None:
    waiting = [queued(1, 5, 2), queued(2, 5, 1)]

    assert verdicts(waiting, TippingConfig(away_budget_s=1200), 600) == [(1, "now/immediate"), (2, "wait/behind")]
    assert verdicts(waiting, TippingConfig(away_budget_s=1199), 600) == [(1, "now/immediate"), (2, "wait/budget")]


def test_a_refused_ritual_blocks_no_other() -> None:
    config = TippingConfig(away_budget_s=900, refuse_after_s=10 * HOUR_S)

    assert verdicts([queued(1, 9, 11), queued(2, 5, 0)], config) == [(1, "refused/timed_out"), (2, "now/immediate")]


@pytest.mark.parametrize(
    ("wanted", "hours"),
    [
        (queued(1, 5, 0), 24.0),
        (queued(1, 9, 0), 14.4),
        (queued(1, 0, 0), 144.0),
        (queued(1, 5, 0, weight=500), 16.0),
        (queued(1, 5, 0, weight=1000), 12.0),
        (queued(1, 5, 0, weight=50_000), 12.0),
    ],
)
def test_aging_takes_the_configured_time_at_the_default_priority_and_less_with_priority_and_weight(
    wanted: QueuedRitual, hours: float
) -> None:
    assert aged_after_s(wanted, TippingConfig()) == pytest.approx(hours * HOUR_S)


def test_a_ritual_from_the_future_of_another_clock_is_as_young_as_can_be() -> None:
    assert aging(queued(1, 5, -3), NOW, TippingConfig()) == 0
