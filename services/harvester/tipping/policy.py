"""The decision: when a persona's new karma is heavy enough for a ritual, and why.

weight = truths + correction_bonus · corrections + token_weight · tokens / 1000 + age_weight · days the oldest one waits
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from shared.contracts.frozen import Frozen

DAY_S = 86400.0
MEASURED_AT_MOST = 20_000  # white truths looked at; more of them tip any scale


class TippingPolicy(Frozen):
    """When a persona's karma is heavy enough for a ritual of its own accord."""

    enabled: bool = Field(False, description="Whether rituals start by themselves. Default: no.")
    threshold: float = Field(60.0, gt=0, description="Weight at which a persona tips. Default: 60.")
    thresholds: dict[str, float] = Field({}, description="Thresholds of single personas, by name. Default: none.")
    rearm_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of the threshold below which the weight must fall to tip again. Default: 0.5.",
    )
    min_hours: float = Field(12.0, ge=0, description="Fewest hours between two tippings. Default: 12.")
    correction_bonus: float = Field(1.0, ge=0, description="What a correction weighs beyond its 1. Default: 1.")
    token_weight: float = Field(0.5, ge=0, description="What a thousand tokens weigh. Default: 0.5.")
    age_weight: float = Field(0.5, ge=0, description="What a day of the oldest one's waiting weighs. Default: 0.5.")
    longest_wait_days: float = Field(30.0, ge=0, description="Days of waiting that count at most. Default: 30.")

    def threshold_of(self, persona: str) -> float:
        return self.thresholds.get(persona, self.threshold)


class Measured(Frozen):
    """What lies on a persona's scale: white truths that no ritual has looked at yet.

    A ritual has looked once it stated `karma.harvested` or `karma.refused`, whatever its end: what it found wanting then
    does not tip again, only what came after. One cancelled before that counts as if it had never been, and so does one
    that was asked for with a filter.
    """

    persona: str
    truths: int = Field(0, ge=0)
    corrections: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)  #: about: a token is four bytes of JSON
    oldest: datetime | None = None
    looked_at: datetime | None = None  #: when a ritual last looked
    open_ritual: bool = False


class Scale(Frozen):
    """What is remembered of a persona's tippings."""

    armed: bool = True
    tipped_at: datetime | None = None


class Decision(Frozen):
    """Whether a ritual is asked for now, whether the scale is armed after it, and why."""

    tip: bool
    armed: bool
    weight: float
    threshold: float
    why: str


def weigh(measured: Measured, policy: TippingPolicy, now: datetime) -> float:
    """Never falls when there is more of anything."""
    if not measured.truths:
        return 0.0
    return (
        measured.truths
        + policy.correction_bonus * measured.corrections
        + policy.token_weight * measured.tokens / 1000
        + policy.age_weight * min(_days_waiting(measured, now), policy.longest_wait_days)
    )


def decide(measured: Measured, policy: TippingPolicy, scale: Scale, now: datetime) -> Decision:
    """Tip where the weight is reached, the scale is armed, min_hours have passed, and no ritual of the persona is open."""
    weight, threshold = weigh(measured, policy, now), policy.threshold_of(measured.persona)
    # A ritual that looked after the tipping emptied the scale, however fast it has filled since.
    emptied = scale.tipped_at and measured.looked_at and measured.looked_at > scale.tipped_at
    armed = bool(scale.armed or emptied or weight < policy.rearm_share * threshold)
    next_at = scale.tipped_at + timedelta(hours=policy.min_hours) if scale.tipped_at else now
    if weight < threshold:
        held = "not reached"
    elif not armed:
        held = f"disarmed until the weight falls below {policy.rearm_share * threshold:.0f}"
    elif now < next_at:
        held = f"not before {next_at:%Y-%m-%d %H:%M} UTC"
    elif measured.open_ritual:
        held = "a ritual of this persona is open"
    else:
        held = "" if policy.enabled else "off"
    tip = not held
    why = f"{_explain(measured, now)}: weight {weight:.0f} of {threshold:.0f}" + (f"; {held}" if held else "")
    return Decision(tip=tip, armed=armed and not tip, weight=weight, threshold=threshold, why=why)


def _explain(measured: Measured, now: datetime) -> str:
    since = f" since {measured.looked_at:%Y-%m-%d}" if measured.looked_at else ", and no ritual yet"
    if not measured.truths:
        return f"no new white truth{since}"
    more = "" if measured.truths < MEASURED_AT_MOST else "at least "
    return (
        f"{more}{measured.truths} white truths{since}, {measured.corrections} of them corrections, "
        f"about {measured.tokens} tokens, the oldest waiting for {_days_waiting(measured, now):.0f} days"
    )


def _days_waiting(measured: Measured, now: datetime) -> float:
    return max((now - measured.oldest).total_seconds() / DAY_S, 0.0) if measured.oldest else 0.0
