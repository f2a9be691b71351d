"""When karma tips the scale: by weight, once, and not again before it was emptied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.tipping.policy import Measured, Scale, TippingPolicy, decide, weigh

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ON = TippingPolicy(enabled=True)
ARMED = Scale()


def scale(armed: bool, hours_ago: float) -> Scale:
    return Scale(armed=armed, tipped_at=NOW - timedelta(hours=hours_ago))


def lying(truths: int = 0, corrections: int = 0, tokens: int = 0, days: float = 0, **more: object) -> Measured:
    return Measured(
        persona="scribe",
        truths=truths,
        corrections=corrections,
        tokens=tokens,
        oldest=NOW - timedelta(days=days),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("measured", "weight"),
    [
        (lying(), 0),
        (lying(0, 0, 0, 400), 0),
        (lying(10), 10),
        (lying(10, 4), 14),
        (lying(10, 4, 6000), 17),
        (lying(10, 4, 6000, 8), 21),
        (lying(1, days=4000), 16),
    ],
)
def test_the_weight_is_the_sum_that_is_told(measured: Measured, weight: float) -> None:
    assert weigh(measured, ON, NOW) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("measured", "policy", "before", "tip", "armed", "says"),
    [
        (lying(60), ON, ARMED, True, False, "weight 60 of 60"),
        (lying(59), ON, ARMED, False, True, "not reached"),
        (lying(60), TippingPolicy(), ARMED, False, True, "off"),
        (lying(500), ON, scale(False, 100), False, False, "disarmed until the weight falls below 30"),
        (lying(31), ON, scale(False, 100), False, False, "not reached"),
        (lying(29), ON, scale(False, 1), False, True, "not reached"),
        (lying(60), ON, scale(True, 11), False, True, "not before 2026-11-20 01:00 UTC"),
        (lying(60), ON, scale(True, 12), True, False, "weight 60 of 60"),
        (lying(60, looked_at=NOW - timedelta(hours=13)), ON, scale(False, 14), True, False, "since 2026-11-19"),
        (lying(60, looked_at=NOW - timedelta(hours=15)), ON, scale(False, 14), False, False, "disarmed"),
        (lying(60, open_ritual=True), ON, ARMED, False, True, "a ritual of this persona is open"),
        (lying(6), TippingPolicy(enabled=True, thresholds={"scribe": 5}), ARMED, True, False, "weight 6 of 5"),
        (lying(60), TippingPolicy(enabled=True, thresholds={"scribe": 70}), ARMED, False, True, "60 of 70"),
        (lying(60), TippingPolicy(enabled=True, thresholds={"coder": 70}), ARMED, True, False, "60 of 60"),
    ],
)
def test_the_scale_tips_when_it_must_and_says_why(
    measured: Measured, policy: TippingPolicy, before: Scale, tip: bool, armed: bool, says: str
) -> None:
    decision = decide(measured, policy, before, NOW)

    assert (decision.tip, decision.armed) == (tip, armed), decision.why
    assert says in decision.why


def test_it_explains_itself_in_one_sentence() -> None:
    measured = lying(52, 7, 12_000, 18, looked_at=datetime(2026, 11, 1, tzinfo=UTC))

    assert decide(measured, ON, ARMED, NOW).why == (
        "52 white truths since 2026-11-01, 7 of them corrections, about 12000 tokens, the oldest waiting for 18 days: "
        "weight 74 of 60"
    )


amounts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9), st.floats(0, 10**4))
policies = st.builds(
    TippingPolicy,
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
    some: tuple[int, int, int, float], more: tuple[int, int, int, float], policy: TippingPolicy
) -> None:
    for place, extra in enumerate(more):
        grown = tuple(amount + extra if at == place else amount for at, amount in enumerate(some))
        less, heavier = lying(*some), lying(*grown)  # type: ignore[arg-type]

        assert weigh(less, policy, NOW) <= weigh(heavier, policy, NOW)
        assert decide(less, policy, ARMED, NOW).tip <= decide(heavier, policy, ARMED, NOW).tip


steps = st.lists(st.tuples(st.floats(0.01, 50), st.integers(0, 300), st.booleans(), st.booleans()), max_size=40)


@given(steps, policies)
def test_it_never_tips_twice_without_falling_low_or_being_emptied_between_and_never_early(
    history: list[tuple[float, int, bool, bool]], policy: TippingPolicy
) -> None:
    now, state, looked_at = NOW, Scale(), None
    tips: list[datetime] = []
    freed = True
    for hours, truths, looks, is_open in history:
        now += timedelta(hours=hours)
        looked_at = now - timedelta(hours=hours / 2) if looks else looked_at
        measured = Measured(persona="scribe", truths=truths, oldest=now, looked_at=looked_at, open_ritual=is_open)
        decision = decide(measured, policy, state, now)
        freed = freed or looks or truths < policy.rearm_share * policy.threshold
        if decision.tip:
            assert freed and not is_open and decision.weight >= policy.threshold
            assert not tips or now - tips[-1] >= timedelta(hours=policy.min_hours)
            tips.append(now)
            freed = False
        state = Scale(armed=decision.armed, tipped_at=tips[-1] if tips else None)
