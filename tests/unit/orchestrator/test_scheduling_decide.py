"""The decisions of the tipping point, policy by policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.orchestrator.scheduling.decide import decide
from services.orchestrator.scheduling.decision import Decision
from services.orchestrator.scheduling.load import Load, Traffic
from services.orchestrator.scheduling.queue import QueuedRitual
from shared.config.tipping import TippingConfig

NOW = datetime(2026, 11, 21, 2, 10, tzinfo=UTC)
QUIET = Traffic(running=0, waiting=0, per_minute=0, per_minute_long=0, quiet_s=3600, watched_s=9000)
TRICKLE = Traffic(running=0, waiting=0, per_minute=3, per_minute_long=2, quiet_s=8, watched_s=9000)
BUSY = Traffic(running=1, waiting=1, per_minute=30, per_minute_long=25, quiet_s=0, watched_s=9000)
SHORTLY = Traffic(running=0, waiting=0, quiet_s=20, watched_s=20)
UNKNOWN = Traffic()
IDLE = TippingConfig(policy="idle", idle_for_s=120)
LAX = TippingConfig(policy="idle", idle_for_s=120, busy_above=3)


def ask(
    config: TippingConfig,
    traffic: Traffic = QUIET,
    *,
    hours: float = 0.0,
    priority: int = 5,
    weight: float = 0,
    deadline_s: float | None = None,
    **more: Any,
) -> Decision:
    deadline = None if deadline_s is None else NOW + timedelta(seconds=deadline_s)
    since = NOW - timedelta(hours=hours)
    ritual = QueuedRitual(id=UUID(int=7), priority=priority, since=since, weight=weight, deadline=deadline)
    return decide(ritual, Load(now=NOW, traffic=traffic, **{"queued_jobs": 0, **more}), config)


def outcome(decision: Decision) -> str:
    return f"{decision.verdict}/{decision.cause}"


@pytest.mark.parametrize("traffic", [QUIET, BUSY, UNKNOWN])
def test_immediate_goes_whatever_is_known_of_the_load(traffic: Traffic) -> None:
    assert outcome(ask(TippingConfig(), traffic, queued_jobs=None)) == "now/immediate"


@pytest.mark.parametrize(
    ("config", "traffic", "more", "expected"),
    [
        (IDLE, QUIET, {}, "now/idle"),
        (IDLE, QUIET.model_copy(update={"quiet_s": 120.0}), {}, "now/idle"),
        (IDLE, QUIET.model_copy(update={"quiet_s": 119.0}), {}, "wait/busy"),
        (IDLE, QUIET.model_copy(update={"running": 1}), {}, "wait/busy"),
        (IDLE, QUIET.model_copy(update={"waiting": 1}), {}, "wait/busy"),
        (IDLE, QUIET, {"queued_jobs": 1}, "wait/busy"),
        (IDLE, TRICKLE, {}, "wait/busy"),
        (IDLE, BUSY, {}, "wait/busy"),
        # What cannot be measured counts as busy.
        (IDLE, UNKNOWN, {}, "wait/unknown"),
        (IDLE, QUIET, {"queued_jobs": None}, "wait/unknown"),
        (IDLE, SHORTLY, {}, "wait/unknown"),
        # A tolerated rate counts as quiet if it held over both horizons and the whole time.
        (LAX, TRICKLE, {}, "now/idle"),
        (LAX, TRICKLE.model_copy(update={"per_minute": 3.1}), {}, "wait/busy"),
        (LAX, TRICKLE.model_copy(update={"per_minute_long": 3.1}), {}, "wait/busy"),
        (LAX, TRICKLE.model_copy(update={"per_minute_long": None}), {}, "wait/busy"),
        (LAX, TRICKLE.model_copy(update={"watched_s": 100.0}), {}, "wait/busy"),
        (LAX, TRICKLE.model_copy(update={"running": 3}), {}, "now/idle"),
        (LAX, TRICKLE.model_copy(update={"running": 3}), {"queued_jobs": 1}, "wait/busy"),
        # Aging: half of patience_s halves the quiet and tolerates one a minute; all of it tolerates anything.
        (IDLE, QUIET.model_copy(update={"quiet_s": 60.0}), {"hours": 12}, "now/idle"),
        (IDLE, QUIET.model_copy(update={"quiet_s": 59.0, "per_minute": 2}), {"hours": 12}, "wait/busy"),
        (IDLE, TRICKLE, {"hours": 17.9}, "wait/busy"),
        (IDLE, TRICKLE, {"hours": 18.1}, "now/idle"),
        (IDLE, TRICKLE, {"hours": 9.1, "weight": 1000}, "now/idle"),
        (IDLE, TRICKLE, {"hours": 13.6, "priority": 7}, "now/idle"),
        (IDLE, BUSY, {"hours": 23.2}, "wait/busy"),
        (IDLE, BUSY, {"hours": 23.3}, "now/idle"),
        (IDLE, BUSY, {"hours": 24, "queued_jobs": 50}, "now/aged"),
        (IDLE, UNKNOWN, {"hours": 23.9}, "wait/unknown"),
        (IDLE, UNKNOWN, {"hours": 24, "queued_jobs": None}, "now/aged"),
        # Urgency ignores the policy.
        (IDLE, BUSY, {"priority": 9}, "now/urgent"),
        (IDLE.model_copy(update={"urgent_from": 10}), BUSY, {"priority": 9}, "wait/busy"),
        (IDLE.model_copy(update={"urgent_from": 6}), UNKNOWN, {"priority": 6}, "now/urgent"),
        # Aging never raises the bar for the rate.
        (TippingConfig(policy="idle", idle_for_s=20, busy_above=4), TRICKLE, {}, "now/idle"),
        (TippingConfig(policy="idle", idle_for_s=20, busy_above=4), TRICKLE, {"hours": 12}, "now/idle"),
        # A long quiet is not shown by a rate over ten minutes.
        (TippingConfig(policy="idle", idle_for_s=7200), QUIET, {"hours": 0.1}, "wait/busy"),
        (TippingConfig(policy="idle", idle_for_s=0), TRICKLE, {}, "now/idle"),
    ],
)
def test_idle_goes_when_the_load_is_under_the_bar_of_the_ritual(
    config: TippingConfig, traffic: Traffic, more: dict[str, Any], expected: str
) -> None:
    decision = ask(config, traffic, **more)

    assert outcome(decision) == expected, decision.reason
    assert decision.until is None


@pytest.mark.parametrize(
    ("config", "traffic", "more", "sentence"),
    [
        (
            IDLE,
            TRICKLE,
            {},
            "waits: 3 requests a minute, the last 8 s ago; idle means none for 120 s; "
            "any load will do from 2026-11-22 02:10 on; measured at 02:10",
        ),
        (
            IDLE,
            BUSY,
            {"hours": 12, "queued_jobs": 4},
            "waits: 30 requests a minute, 2 in flight, the last 0 s ago, 4 worker jobs wait; "
            "idle means at most 1.0 a minute or none for 60 s; any load will do from 14:10 on; measured at 02:10",
        ),
        (
            IDLE,
            UNKNOWN,
            {},
            "waits: the load of the runes cannot be read, which counts as busy; idle means none for 120 s; "
            "any load will do from 2026-11-22 02:10 on; measured at 02:10",
        ),
        (
            IDLE,
            SHORTLY,
            {"queued_jobs": None},
            "waits: no request in the 20 s since measuring began; the worker queues cannot be read; idle means none for 120 s; "
            "any load will do from 2026-11-22 02:10 on; measured at 02:10",
        ),
        (IDLE, QUIET, {}, "now: 0 requests a minute, the last 3600 s ago; idle means none for 120 s"),
        (
            IDLE,
            UNKNOWN,
            {"hours": 30},
            "now: it has waited for 30.0 h; any load will do (the load of the runes cannot be read, which counts as busy)",
        ),
        (IDLE, BUSY, {"priority": 9}, "now: priority 9; from 9 on a ritual does not wait for the policy"),
        (TippingConfig(), BUSY, {}, "now: the policy is to start at once; 900 s are expected"),
        (
            TippingConfig(away_budget_s=3600),
            QUIET,
            {"away_today_s": 3000},
            "waits: 900 s without inference are expected; of the 3600 s of a day, 3000 s are spent; "
            "the next day begins at 2026-11-22 00:00 (UTC)",
        ),
        (
            TippingConfig(away_budget_s=3600),
            QUIET,
            {"away_today_s": 1000, "reserved_s": 2000, "deadline_s": 7200},
            "waits: 900 s without inference are expected; of the 3600 s of a day, 1000 s are spent and 2000 s reserved for "
            "rituals before it; the next day begins at 2026-11-22 00:00 (UTC); its deadline 04:10 will be missed",
        ),
        (
            TippingConfig(away_budget_s=3600),
            QUIET,
            {"expected_away_s": 4000},
            "refused: 4000 s without inference are expected, the budget of a day is 3600 s: raise away_budget_s under "
            "[tipping] in soulforge.toml, or take a recipe that trains for less time",
        ),
        (
            TippingConfig(refuse_after_s=3600),
            QUIET,
            {"hours": 2},
            "refused: it has waited for 2.0 h, the limit is 3600 s: ask again, with a higher priority if it matters, "
            "or raise refuse_after_s under [tipping] in soulforge.toml",
        ),
        (IDLE, QUIET, {"deadline_s": 0}, "refused: its deadline 02:10 has passed; ask again with a later one or none"),
        (IDLE, BUSY, {"deadline_s": 900}, "now: its deadline is 02:25 and 900 s are expected"),
        (
            IDLE,
            BUSY,
            {"deadline_s": 600},
            "now: its deadline is 02:20 and 900 s are expected, so it may end 300 s late",
        ),
        (
            IDLE,
            TRICKLE,
            {"deadline_s": 7200},
            "waits: 3 requests a minute, the last 8 s ago; idle means none for 120 s; any load will do from "
            "2026-11-22 02:10 on; measured at 02:10; for its deadline 04:10 it starts at 03:55 at the latest",
        ),
    ],
)
def test_the_reason_is_a_sentence_with_the_numbers(
    config: TippingConfig, traffic: Traffic, more: dict[str, Any], sentence: str
) -> None:
    assert ask(config, traffic, **more).reason == sentence


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"away_today_s": 2700}, "now/immediate"),
        ({"away_today_s": 2701}, "wait/budget"),
        ({"away_today_s": 2701, "priority": 9}, "wait/budget"),  # urgency never beats the hard budget
        ({"away_today_s": 2701, "deadline_s": 60}, "wait/budget"),  # nor does a deadline
        ({"away_today_s": 2700, "reserved_s": 1}, "wait/budget"),
        ({"away_today_s": 9000}, "wait/budget"),
        ({"expected_away_s": 3600}, "now/immediate"),
        ({"expected_away_s": 3601}, "refused/budget"),
        ({"expected_away_s": 3601, "priority": 9}, "refused/budget"),
        ({"expected_away_s": 0, "away_today_s": 3600}, "now/immediate"),
    ],
)
def test_the_budget_is_never_exceeded_by_a_start(more: dict[str, Any], expected: str) -> None:
    decision = ask(TippingConfig(away_budget_s=3600), **more)

    assert outcome(decision) == expected
    if expected == "wait/budget":
        assert decision.until == datetime(2026, 11, 22, tzinfo=UTC)


def test_the_day_of_the_budget_is_that_of_the_zone() -> None:
    decision = ask(TippingConfig(away_budget_s=900, timezone="America/New_York"), away_today_s=1)

    assert decision.until == datetime(2026, 11, 21, 5, tzinfo=UTC)
    assert decision.reason.endswith("the next day begins at 2026-11-21 00:00 (America/New_York)")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"hours": 1.0}, "wait/busy"),
        ({"hours": 1.1}, "refused/timed_out"),
        ({"hours": 1.1, "priority": 9}, "refused/timed_out"),
        ({"hours": 1.1, "traffic": QUIET}, "refused/timed_out"),  # whatever the load is
        ({"deadline_s": 1, "hours": 1.1}, "refused/timed_out"),
    ],
)
def test_a_ritual_that_waited_too_long_is_refused(more: dict[str, Any], expected: str) -> None:
    assert outcome(ask(IDLE.model_copy(update={"refuse_after_s": 3600.0}), **{"traffic": BUSY, **more})) == expected


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [("9999-12-31T23:59:59-12:00", "wait/busy"), ("0001-01-01T00:00:00+12:00", "refused/deadline")],
)
def test_an_absurd_deadline_in_an_intent_is_decided_too(deadline: str, expected: str) -> None:
    ritual = QueuedRitual.model_validate({"id": UUID(int=7), "since": NOW, "deadline": deadline})

    assert outcome(decide(ritual, Load(now=NOW, traffic=BUSY, queued_jobs=0), IDLE)) == expected


def test_the_measures_hold_everything_that_the_decision_was_made_from() -> None:
    measures = ask(IDLE, TRICKLE, hours=6, weight=12, deadline_s=9000, queued_jobs=3, away_today_s=5).measures

    assert measures == {
        "policy": "idle",
        "now": "2026-11-21T02:10:00+00:00",
        "priority": 5,
        "weight": 12,
        "waited_s": 21600,
        "aging": pytest.approx(0.25 * 1.012),
        "deadline": "2026-11-21T04:40:00+00:00",
        "running": 0,
        "waiting": 0,
        "per_minute": 3,
        "per_minute_long": 2,
        "quiet_s": 8,
        "watched_s": 9000,
        "queued_jobs": 3,
        "expected_away_s": 900,
        "away_today_s": 5,
        "reserved_s": 0,
        "away_budget_s": None,
    }
