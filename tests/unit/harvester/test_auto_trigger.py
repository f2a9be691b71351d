"""When karma triggers a ritual: by weight, once, and not again before a ritual considered it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.auto_trigger.policy import NewKarma, TriggerPolicy, TriggerState, decide_trigger, weigh

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ON = TriggerPolicy(enabled=True)
ARMED = TriggerState()


def triggered(armed: bool, hours_ago: float) -> TriggerState:
    return TriggerState(armed=armed, fired_at=NOW - timedelta(hours=hours_ago))


def new_karma(truths: int = 0, corrections: int = 0, tokens: int = 0, days: float = 0, **more: object) -> NewKarma:
    return NewKarma(
        persona="scribe",
        truths=truths,
        corrections=corrections,
        tokens=tokens,
        oldest=NOW - timedelta(days=days),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("karma", "weight"),
    [
        (new_karma(), 0),
        (new_karma(0, 0, 0, 400), 0),
        (new_karma(10), 10),
        (new_karma(10, 4), 14),
        (new_karma(10, 4, 6000), 17),
        (new_karma(10, 4, 6000, 8), 21),
        (new_karma(1, days=4000), 16),
    ],
)
def test_the_weight_is_the_documented_sum(karma: NewKarma, weight: float) -> None:
    assert weigh(karma, ON, NOW) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("karma", "policy", "before", "fire", "armed", "says"),
    [
        (new_karma(60), ON, ARMED, True, False, "weight 60 of 60"),
        (new_karma(59), ON, ARMED, False, True, "not reached"),
        (new_karma(60), TriggerPolicy(), ARMED, False, True, "off"),
        (new_karma(500), ON, triggered(False, 100), False, False, "disarmed until the weight falls below 30"),
        (new_karma(31), ON, triggered(False, 100), False, False, "not reached"),
        (new_karma(29), ON, triggered(False, 1), False, True, "not reached"),
        (new_karma(60), ON, triggered(True, 11), False, True, "not before 2026-11-20 01:00 UTC"),
        (new_karma(60), ON, triggered(True, 12), True, False, "weight 60 of 60"),
        (
            new_karma(60, considered_at=NOW - timedelta(hours=13)),
            ON,
            triggered(False, 14),
            True,
            False,
            "since 2026-11-19",
        ),
        (new_karma(60, considered_at=NOW - timedelta(hours=15)), ON, triggered(False, 14), False, False, "disarmed"),
        (new_karma(60, open_ritual=True), ON, ARMED, False, True, "a ritual of this persona is open"),
        (new_karma(6), TriggerPolicy(enabled=True, thresholds={"scribe": 5}), ARMED, True, False, "weight 6 of 5"),
        (new_karma(60), TriggerPolicy(enabled=True, thresholds={"scribe": 70}), ARMED, False, True, "60 of 70"),
        (new_karma(60), TriggerPolicy(enabled=True, thresholds={"coder": 70}), ARMED, True, False, "60 of 60"),
    ],
)
def test_the_trigger_fires_when_it_must_and_explains_why(
    karma: NewKarma, policy: TriggerPolicy, before: TriggerState, fire: bool, armed: bool, says: str
) -> None:
    decision = decide_trigger(karma, policy, before, NOW)

    assert (decision.fire, decision.armed) == (fire, armed), decision.why
    assert says in decision.why


def test_it_explains_itself_in_one_sentence() -> None:
    karma = new_karma(52, 7, 12_000, 18, considered_at=datetime(2026, 11, 1, tzinfo=UTC))

    assert decide_trigger(karma, ON, ARMED, NOW).why == (
        "52 white truths since 2026-11-01, 7 of them corrections, about 12000 tokens, the oldest waiting for 18 days: "
        "weight 74 of 60"
    )


amounts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9), st.floats(0, 10**4))
policies = st.builds(
    TriggerPolicy,
    enabled=st.just(True),
    threshold=st.floats(1, 1000),
    rearm_share=st.floats(0.05, 0.95),
    min_hours=st.floats(0, 100),
    correction_bonus=st.floats(0, 10),
    token_weight=st.floats(0, 10),
    age_weight=st.floats(0, 10),
    longest_wait_days=st.floats(0, 1000),
)


@given(amounts, amounts, policies)
def test_more_of_anything_never_weighs_less(
    some: tuple[int, int, int, float], more: tuple[int, int, int, float], policy: TriggerPolicy
) -> None:
    for place, extra in enumerate(more):
        grown = tuple(amount + extra if at == place else amount for at, amount in enumerate(some))
        less, heavier = new_karma(*some), new_karma(*grown)  # type: ignore[arg-type]

        assert weigh(less, policy, NOW) <= weigh(heavier, policy, NOW)
        assert decide_trigger(less, policy, ARMED, NOW).fire <= decide_trigger(heavier, policy, ARMED, NOW).fire


steps = st.lists(st.tuples(st.floats(0.01, 50), st.integers(0, 300), st.booleans(), st.booleans()), max_size=40)


@given(steps, policies)
def test_it_never_fires_twice_without_falling_low_or_being_emptied_between_and_never_early(
    history: list[tuple[float, int, bool, bool]], policy: TriggerPolicy
) -> None:
    now, state, considered_at = NOW, TriggerState(), None
    fired: list[datetime] = []
    freed = True
    for hours, truths, considers, is_open in history:
        now += timedelta(hours=hours)
        considered_at = now - timedelta(hours=hours / 2) if considers else considered_at
        karma = NewKarma(persona="scribe", truths=truths, oldest=now, considered_at=considered_at, open_ritual=is_open)
        decision = decide_trigger(karma, policy, state, now)
        freed = freed or considers or truths < policy.rearm_share * policy.threshold
        if decision.fire:
            assert freed and not is_open and decision.weight >= policy.threshold
            assert not fired or now - fired[-1] >= timedelta(hours=policy.min_hours)
            fired.append(now)
            freed = False
        state = TriggerState(armed=decision.armed, fired_at=fired[-1] if fired else None)
