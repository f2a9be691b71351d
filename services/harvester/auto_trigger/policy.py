"""Decide when a persona's new karma is heavy enough for a ritual, and why.

weight = truths + correction_bonus · corrections + token_weight · tokens / 1000 + age_weight · days the oldest one waits
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from shared.contracts.frozen import Frozen

DAY_S = 86400.0
COUNTED_AT_MOST = 20_000  # white truths; more of them reach any threshold


class TriggerPolicy(Frozen):
    """When a persona's karma starts a ritual by itself."""

    enabled: bool = Field(False, description="Whether rituals start by themselves. Default: no.")
    threshold: float = Field(60.0, gt=0, description="Weight at which a ritual is asked for. Default: 60.")
    thresholds: dict[str, float] = Field({}, description="Thresholds of single personas, by name. Default: none.")
    rearm_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of the threshold below which the weight must fall to arm the trigger again. Default: 0.5.",
    )
    min_hours: float = Field(12.0, ge=0, description="Fewest hours between two rituals asked for. Default: 12.")
    correction_bonus: float = Field(1.0, ge=0, description="What a correction weighs beyond its 1. Default: 1.")
    token_weight: float = Field(0.5, ge=0, description="What a thousand tokens weigh. Default: 0.5.")
    age_weight: float = Field(0.5, ge=0, description="What a day of the oldest one's waiting weighs. Default: 0.5.")
    longest_wait_days: float = Field(30.0, ge=0, description="Days of waiting that count at most. Default: 30.")

    def threshold_of(self, persona: str) -> float:
        return self.thresholds.get(persona, self.threshold)


class NewKarma(Frozen):
    """A persona's white truths that no ritual has considered yet.

    A ritual has considered what there was once it stated `karma.harvested` or `karma.refused`, whatever its end: what it
    excluded then does not count again, only what came after. A ritual that was cancelled before that, or asked for with a
    filter, has considered nothing.
    """

    persona: str
    truths: int = Field(0, ge=0)
    corrections: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)  #: about: a token is four bytes of JSON
    oldest: datetime | None = None
    considered_at: datetime | None = None  #: when a ritual last considered the persona's karma
    open_ritual: bool = False


class TriggerState(Frozen):
    """What is remembered of a persona's trigger."""

    armed: bool = True
    fired_at: datetime | None = None


class TriggerDecision(Frozen):
    """Whether a ritual is asked for now, whether the trigger is armed afterwards, and why."""

    fire: bool
    armed: bool
    weight: float
    threshold: float
    why: str


def weigh(karma: NewKarma, policy: TriggerPolicy, now: datetime) -> float:
    """Never falls when there is more of anything."""
    if not karma.truths:
        return 0.0
    return (
        karma.truths
        + policy.correction_bonus * karma.corrections
        + policy.token_weight * karma.tokens / 1000
        + policy.age_weight * min(_days_waiting(karma, now), policy.longest_wait_days)
    )


def decide_trigger(karma: NewKarma, policy: TriggerPolicy, state: TriggerState, now: datetime) -> TriggerDecision:
    """Fire where the weight is reached, the trigger is armed, min_hours have passed, and no ritual of the persona is open."""
    weight, threshold = weigh(karma, policy, now), policy.threshold_of(karma.persona)
    # A ritual that considered the karma after the trigger fired has emptied the weight, however fast it has grown since.
    emptied = state.fired_at and karma.considered_at and karma.considered_at > state.fired_at
    armed = bool(state.armed or emptied or weight < policy.rearm_share * threshold)
    next_at = state.fired_at + timedelta(hours=policy.min_hours) if state.fired_at else now
    if weight < threshold:
        held = "not reached"
    elif not armed:
        held = f"disarmed until the weight falls below {policy.rearm_share * threshold:.0f}"
    elif now < next_at:
        held = f"not before {next_at:%Y-%m-%d %H:%M} UTC"
    elif karma.open_ritual:
        held = "a ritual of this persona is open"
    else:
        held = "" if policy.enabled else "off"
    fire = not held
    why = f"{_explain(karma, now)}: weight {weight:.0f} of {threshold:.0f}" + (f"; {held}" if held else "")
    return TriggerDecision(fire=fire, armed=armed and not fire, weight=weight, threshold=threshold, why=why)


def _explain(karma: NewKarma, now: datetime) -> str:
    since = f" since {karma.considered_at:%Y-%m-%d}" if karma.considered_at else ", and no ritual yet"
    if not karma.truths:
        return f"no new white truth{since}"
    more = "" if karma.truths < COUNTED_AT_MOST else "at least "
    return (
        f"{more}{karma.truths} white truths{since}, {karma.corrections} of them corrections, "
        f"about {karma.tokens} tokens, the oldest waiting for {_days_waiting(karma, now):.0f} days"
    )


def _days_waiting(karma: NewKarma, now: datetime) -> float:
    return max((now - karma.oldest).total_seconds() / DAY_S, 0.0) if karma.oldest else 0.0
