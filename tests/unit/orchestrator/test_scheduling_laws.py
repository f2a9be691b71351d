"""The laws of the tipping point: total, monotone in priority and load, no overdraft, no starvation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.scheduling.decide import decide, decide_queue
from services.orchestrator.scheduling.decision import Cause, Verdict, day_bounds
from services.orchestrator.scheduling.idle import bar
from services.orchestrator.scheduling.load import Load, Traffic
from services.orchestrator.scheduling.queue import QueuedRitual, aged_after_s
from shared.config.tipping import TippingConfig

NOW = datetime(2026, 11, 21, 2, 10, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")

walls = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda at: f"{at[0]:02}:{at[1]:02}")
windows = st.lists(
    st.tuples(walls, walls).filter(lambda edges: edges[0] != edges[1]).map("-".join), min_size=1, max_size=4
)
seconds = st.floats(0, 2 * 86400)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@st.composite
def configs(draw: st.DrawFn, policies: tuple[str, ...] = ("immediate", "idle", "window")) -> Any:
    expected_s = draw(st.floats(1, 100_000))
    return TippingConfig(
        policy=draw(st.sampled_from(policies)),
        idle_for_s=draw(st.sampled_from([0.0, 10.0, 120.0, 3600.0])),
        busy_above=draw(st.sampled_from([0.0, 0.5, 4.0, 100.0])),
        patience_s=draw(st.floats(1, 200_000)),
        heavy_from=draw(st.floats(1, 5000)),
        windows=tuple(draw(windows)),
        timezone=draw(st.sampled_from(ZONES)),
        expected_away_s=expected_s,
        away_budget_s=draw(st.none() | st.floats(expected_s, 200_000)),
        refuse_after_s=draw(st.none() | st.floats(1, 400_000)),
        urgent_from=draw(st.integers(0, 10)),
    )


def queued_rituals(now: datetime = NOW) -> st.SearchStrategy[QueuedRitual]:
    return st.builds(
        QueuedRitual,
        id=st.uuids(),
        priority=st.integers(0, 9),
        since=st.floats(-3600, 500_000).map(lambda ago: now - timedelta(seconds=ago)),
        weight=st.floats(0, 10_000),
        deadline=st.none() | st.floats(-10_000, 300_000).map(lambda ahead: now + timedelta(seconds=ahead)),
    )


#: running, waiting, queued, arrivals a minute short and long, and how recent the last request is; None is unknown
counts = st.none() | st.integers(0, 8)
rates = st.none() | st.floats(0, 200)
loads = st.tuples(counts, counts, counts, rates, rates, rates)
Values = tuple[int | None, int | None, int | None, float | None, float | None, float | None]


def measured(load: Values, now: datetime = NOW, watched_s: float = 4000.0, **more: Any) -> Load:
    running, waiting, queued, short, long, recent = load
    quiet_s = None if recent is None else max(watched_s - recent * 20, 0.0)
    traffic = Traffic(
        running=running,
        waiting=waiting,
        per_minute=short,
        per_minute_long=long,
        quiet_s=quiet_s,
        watched_s=watched_s,
    )
    return Load(now=now, traffic=traffic, queued_jobs=queued, **more)


def busier(load: Values, more: Values) -> Values:
    """At least as much of everything; what is unknown in either is unknown."""
    return tuple(None if a is None or b is None else a + b for a, b in zip(load, more, strict=True))  # type: ignore[return-value]


spent = st.fixed_dictionaries(
    {
        "away_today_s": st.floats(0, 100_000),
        "expected_away_s": st.none() | st.floats(0, 200_000),
        "reserved_s": st.just(0.0) | st.floats(0, 50_000),
    }
)


@given(configs(), moments, loads, st.sampled_from([0.0, 30.0, 4000.0]), spent, st.data())
def test_every_valid_input_is_decided_and_a_wait_ends_in_the_future(
    config: TippingConfig, now: datetime, load: Values, watched_s: float, more: dict[str, Any], data: st.DataObject
) -> None:
    ritual = data.draw(queued_rituals(now))
    decision = decide(ritual, measured(load, now, watched_s, **more), config)

    assert decision.reason.startswith({"now": "now: ", "wait": "waits: ", "refused": "refused: "}[decision.verdict])
    if decision.verdict is Verdict.WAIT:
        assert decision.until is None or decision.until > now
    else:
        assert decision.until is None


@given(configs(), loads, loads, spent, queued_rituals())
def test_more_load_never_turns_a_wait_into_now_and_never_refuses(
    config: TippingConfig, load: Values, more_load: Values, more: dict[str, Any], ritual: QueuedRitual
) -> None:
    calm = decide(ritual, measured(load, **more), config).verdict
    busy = decide(ritual, measured(busier(load, more_load), **more), config).verdict

    assert (calm is Verdict.REFUSED) == (busy is Verdict.REFUSED)
    assert calm is Verdict.NOW or busy is not Verdict.NOW


@given(configs(), loads, spent, queued_rituals(), st.integers(0, 9), st.floats(0, 5000))
def test_more_priority_or_weight_never_turns_now_into_anything_else(
    config: TippingConfig, load: Values, more: dict[str, Any], ritual: QueuedRitual, priority: int, weight: float
) -> None:
    raised = ritual.model_copy(update={"priority": max(priority, ritual.priority), "weight": ritual.weight + weight})
    low, high = (decide(each, measured(load, **more), config).verdict for each in (ritual, raised))

    assert (low is Verdict.REFUSED) == (high is Verdict.REFUSED)
    assert low is not Verdict.NOW or high is Verdict.NOW


@given(configs(("idle",)), loads, spent, queued_rituals(), st.floats(0, 100_000))
def test_under_idle_waiting_never_raises_the_bar(
    config: TippingConfig, load: Values, more: dict[str, Any], ritual: QueuedRitual, longer_s: float
) -> None:
    older = ritual.model_copy(update={"since": ritual.since - timedelta(seconds=longer_s)})
    young, old = (decide(each, measured(load, **more), config) for each in (ritual, older))

    assert young.verdict is not Verdict.NOW or old.verdict is Verdict.NOW or old.cause is Cause.TIMED_OUT


@given(configs(("idle",)), st.floats(0, 0.999), st.floats(0, 0.999))
def test_the_bar_only_comes_down(config: TippingConfig, one: float, other: float) -> None:
    high, low = (bar(aged, config) for aged in sorted([one, other]))

    assert low.quiet_s <= high.quiet_s and low.per_minute >= high.per_minute and low.by_rate >= high.by_rate


@given(configs(), loads, spent, queued_rituals())
def test_a_start_never_overdraws_the_budget_of_the_day(
    config: TippingConfig, load: Values, more: dict[str, Any], ritual: QueuedRitual
) -> None:
    decision = decide(ritual, measured(load, **more), config)
    expected_s = config.expected_away_s if more["expected_away_s"] is None else more["expected_away_s"]

    if decision.verdict is Verdict.NOW and config.away_budget_s is not None:
        assert more["away_today_s"] + expected_s <= config.away_budget_s


@given(configs(("idle",)), loads, queued_rituals())
def test_under_idle_every_ritual_that_is_not_refused_goes_in_the_end_at_any_load(
    config: TippingConfig, load: Values, ritual: QueuedRitual
) -> None:
    forgiving = config.model_copy(update={"refuse_after_s": None})
    patient = ritual.model_copy(update={"deadline": None})
    aged_at = patient.since + timedelta(seconds=aged_after_s(patient, forgiving) + 1)

    assert decide(patient, measured(load, aged_at), forgiving).verdict is Verdict.NOW


@given(configs(("window",)), moments, st.floats(0, 200_000), st.data())
def test_under_window_every_ritual_goes_when_its_wait_is_over(
    config: TippingConfig, now: datetime, expected_s: float, data: st.DataObject
) -> None:
    ritual = data.draw(queued_rituals(now)).model_copy(update={"deadline": None})
    forgiving = config.model_copy(update={"refuse_after_s": None, "away_budget_s": None, "urgent_from": 10})
    first = decide(ritual, Load(now=now, expected_away_s=expected_s), forgiving)
    then = first.until or now

    assert then - now < timedelta(days=5)
    assert decide(ritual, Load(now=then, expected_away_s=expected_s), forgiving).verdict is Verdict.NOW


days = st.lists(st.tuples(st.floats(0, 20_000), st.integers(0, 9), st.floats(1, 4000)), min_size=1, max_size=60)


@given(days, st.floats(4000, 10_000), st.sampled_from(ZONES))
def test_no_day_is_overdrawn_by_any_sequence_of_hand_overs_that_take_what_was_expected(
    asked: list[tuple[float, int, float]], budget_s: float, zone_name: str
) -> None:
    config = TippingConfig(away_budget_s=budget_s, timezone=zone_name)
    now = datetime(2026, 10, 24, tzinfo=UTC)  # clocks change on the next day, or a week later
    away: list[tuple[datetime, datetime]] = []
    for later_s, priority, expected_s in asked:
        now += timedelta(seconds=later_s)
        ritual = QueuedRitual(id=UUID(int=1), priority=priority, since=now)
        load = Load(now=now, expected_away_s=expected_s, away_today_s=_spent(away, now, config))
        if decide(ritual, load, config).verdict is Verdict.NOW:
            away.append((now, now + timedelta(seconds=expected_s)))
            now += timedelta(seconds=expected_s)

    assert all(_spent(away, ended, config) <= budget_s + 1e-3 for _, ended in away)


def _spent(away: list[tuple[datetime, datetime]], now: datetime, config: TippingConfig) -> float:
    began, ends = day_bounds(now, config.zone)
    return sum(max((min(to, ends) - max(since, began)).total_seconds(), 0.0) for since, to in away)


def test_a_large_ritual_that_waits_for_its_window_is_not_starved_by_small_urgent_ones() -> None:
    config = TippingConfig(
        policy="window", windows=("05:00-07:00",), away_budget_s=3600, expected_away_s=600, promote_after_s=3600
    )
    now = datetime(2026, 11, 1, tzinfo=UTC)
    large = QueuedRitual(id=UUID(int=1), priority=0, since=now)
    away: list[tuple[datetime, datetime]] = []
    for _ in range(5 * 24 * 6):  # every ten minutes somebody asks for something urgent and small
        now += timedelta(minutes=10)
        if away and now < away[-1][1]:
            continue
        small = QueuedRitual(id=UUID(int=2), priority=9, since=now)
        day_s = _spent(away, now, config)
        waiting = {
            large.id: (large, Load(now=now, expected_away_s=3500, away_today_s=day_s)),
            small.id: (small, Load(now=now, expected_away_s=600, away_today_s=day_s)),
        }
        for ritual, decision in decide_queue(waiting, config):
            if decision.verdict is Verdict.NOW:
                if ritual is large:
                    return
                away.append((now, now + timedelta(seconds=600)))
    raise AssertionError("the large ritual never went")
