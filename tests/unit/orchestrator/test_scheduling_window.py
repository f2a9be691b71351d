"""Windows and days: over midnight, and where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.scheduling.decide import decide
from services.orchestrator.scheduling.decision import Decision, day_bounds
from services.orchestrator.scheduling.load import Load
from services.orchestrator.scheduling.queue import QueuedRitual
from services.orchestrator.scheduling.window import openings
from shared.config.tipping import TippingConfig

BERLIN = ZoneInfo("Europe/Berlin")
# In 2026 clocks go from 02:00 to 03:00 on 29 March and from 03:00 to 02:00 on 25 October there.


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def ask(
    windows: tuple[str, ...],
    now: datetime,
    expected_s: float = 1800,
    *,
    hours: float = 0,
    deadline: datetime | None = None,
) -> Decision:
    config = TippingConfig(policy="window", windows=windows, timezone="Europe/Berlin")
    ritual = QueuedRitual(id=UUID(int=7), since=now - timedelta(hours=hours), deadline=deadline)
    return decide(ritual, Load(now=now, expected_away_s=expected_s), config)


NIGHT = ("01:00-06:00",)
OVER = ("22:00-02:00",)  # over midnight


@pytest.mark.parametrize(
    ("windows", "now", "expected_s", "expected", "until"),
    [
        (NIGHT, "2026-11-21 03:00", 1800, "now/window", None),
        (NIGHT, "2026-11-21 01:00", 1800, "now/window", None),
        (NIGHT, "2026-11-21 05:30", 1800, "now/window", None),
        (NIGHT, "2026-11-21 05:31", 1800, "wait/window", "2026-11-22 01:00"),
        (NIGHT, "2026-11-21 06:00", 1800, "wait/window", "2026-11-22 01:00"),
        (NIGHT, "2026-11-21 06:00", 0, "wait/window", "2026-11-22 01:00"),
        (NIGHT, "2026-11-21 00:59", 1800, "wait/window", "2026-11-21 01:00"),
        (OVER, "2026-11-21 21:59", 1800, "wait/window", "2026-11-21 22:00"),
        (OVER, "2026-11-21 23:59", 1800, "now/window", None),
        (OVER, "2026-11-22 01:30", 1800, "now/window", None),
        (OVER, "2026-11-22 01:31", 1800, "wait/window", "2026-11-22 22:00"),
        # Several: the first into which it fits; those that touch are one.
        (("12:00-12:30", "01:00-06:00"), "2026-11-21 11:00", 1800, "wait/window", "2026-11-21 12:00"),
        (("12:00-12:30", "01:00-06:00"), "2026-11-21 11:00", 3600, "wait/window", "2026-11-22 01:00"),
        (("12:00-12:30", "01:00-06:00"), "2026-11-21 12:00", 3600, "wait/window", "2026-11-22 01:00"),
        (("22:00-00:00", "00:00-02:00"), "2026-11-21 23:50", 3600, "now/window", None),
        (("22:00-01:00", "00:30-02:00"), "2026-11-21 23:50", 3600, "now/window", None),
        (("22:00-06:00", "23:00-23:30"), "2026-11-22 02:00", 3600, "now/window", None),
        # Longer than any window: at the beginning of one.
        (NIGHT, "2026-11-21 01:00", 20_000, "now/too_long", None),
        (NIGHT, "2026-11-21 01:30", 20_000, "now/too_long", None),
        (NIGHT, "2026-11-21 01:31", 20_000, "wait/too_long", "2026-11-22 01:00"),
        (("01:00-01:20",), "2026-11-21 01:10", 20_000, "now/too_long", None),
        (("01:00-01:20",), "2026-11-21 01:11", 20_000, "wait/too_long", "2026-11-22 01:00"),
        # Windows that never close.
        (("00:00-12:00", "12:00-00:00"), "2026-11-21 13:00", 86_400, "now/window", None),
        (("00:00-12:00", "12:00-00:00"), "2026-11-21 13:00", 864_000, "now/too_long", None),
    ],
)
def test_a_ritual_goes_where_its_work_fits_into_a_window(
    windows: tuple[str, ...], now: str, expected_s: float, expected: str, until: str | None
) -> None:
    decision = ask(windows, local(now), expected_s)

    assert f"{decision.verdict}/{decision.cause}" == expected, decision.reason
    assert decision.until == (local(until) if until else None)


@pytest.mark.parametrize(("hours", "expected"), [(9.5, "wait"), (9.7, "now")])
def test_waiting_widens_the_beginning_of_a_window_that_is_too_short(hours: float, expected: str) -> None:
    assert ask(NIGHT, local("2026-11-21 03:00"), 20_000, hours=hours).verdict == expected


@pytest.mark.parametrize(
    ("windows", "around", "opens", "length_s"),
    [
        # Spring: the hour from 02:00 to 03:00 does not exist.
        (NIGHT, "2026-03-29 00:30", "2026-03-29 01:00", 4 * 3600),
        (("02:30-05:00",), "2026-03-29 00:30", "2026-03-29 03:30", 1.5 * 3600),
        (("01:00-02:30",), "2026-03-29 00:30", "2026-03-29 01:00", 1.5 * 3600),
        (("02:00-02:30",), "2026-03-29 00:30", "2026-03-29 03:00", 0.5 * 3600),
        (("02:30-03:15",), "2026-03-29 00:30", "2026-03-30 02:30", 0.75 * 3600),  # left out on that day
        (("23:00-04:00",), "2026-03-28 20:00", "2026-03-28 23:00", 4 * 3600),
        # Autumn: that hour comes twice; the first one is meant.
        (NIGHT, "2026-10-25 00:30", "2026-10-25 01:00", 6 * 3600),
        (("02:30-05:00",), "2026-10-25 00:30", "2026-10-25 02:30", 3.5 * 3600),
        (("01:00-02:30",), "2026-10-25 00:30", "2026-10-25 01:00", 1.5 * 3600),
        (("23:00-04:00",), "2026-10-24 20:00", "2026-10-24 23:00", 6 * 3600),
    ],
)
def test_a_window_is_as_long_as_it_is_on_the_day_when_clocks_change(
    windows: tuple[str, ...], around: str, opens: str, length_s: float
) -> None:
    now = local(around)
    coming = next(each for each in openings(windows, now, BERLIN) if each.opens > now)

    assert (coming.opens, coming.length_s) == (local(opens), length_s)


def test_work_that_fits_on_other_nights_waits_for_one_that_is_not_shortened() -> None:
    decision = ask(NIGHT, local("2026-03-29 00:30"), 4.5 * 3600)

    assert decision.until == local("2026-03-30 01:00")


def test_the_repeated_hour_is_inside_only_once() -> None:
    first, second = (local("2026-10-25 02:10", fold) for fold in (0, 1))

    assert ask(("02:00-02:30",), first, 60).verdict == "now"
    assert ask(("02:00-02:30",), second, 60).until == local("2026-10-26 02:00")


def test_the_reason_says_when_a_window_opens_and_what_is_expected() -> None:
    noon = local("2026-11-21 12:00")
    assert ask(NIGHT, noon).reason == ("waits: a window opens at 2026-11-22 01:00 (Europe/Berlin); 1800 s are expected")
    assert ask(NIGHT, local("2026-11-21 05:50")).reason == (
        "waits: too late for the window that closes at 06:00; "
        "a window opens at 2026-11-22 01:00 (Europe/Berlin); 1800 s are expected"
    )
    assert ask(NIGHT, local("2026-11-21 03:00")).reason == (
        "now: 1800 s are expected and fit into the window until 06:00"
    )
    assert ask(NIGHT, noon, 20_000).reason == (
        "waits: a window opens at 2026-11-22 01:00 (Europe/Berlin); 5.6 h are expected, more than a window is long: "
        "it starts where one opens"
    )
    assert ask(NIGHT, local("2026-11-21 01:05"), 20_000).reason == (
        "now: 5.6 h are expected, more than a window is long: it starts where one opens; "
        "it will run 2300 s past the window's end at 06:00"
    )


def test_a_deadline_before_the_window_starts_it_in_time_and_not_earlier() -> None:
    noon = local("2026-11-21 12:00")
    early = ask(NIGHT, noon, deadline=local("2026-11-21 20:00"))

    assert early.until == local("2026-11-21 19:30")
    assert early.reason.endswith("; for its deadline 20:00 it starts at 19:30 at the latest")
    assert ask(NIGHT, local("2026-11-21 19:30"), deadline=local("2026-11-21 20:00")).cause == "deadline"
    assert ask(NIGHT, noon, deadline=local("2026-11-22 09:00")).until == local("2026-11-22 01:00")


@pytest.mark.parametrize(
    ("now", "hours"), [("2026-03-29 12:00", 23), ("2026-10-25 12:00", 25), ("2026-11-21 00:00", 24)]
)
def test_a_day_has_as_many_hours_as_its_clocks_give_it(now: str, hours: int) -> None:
    begins, ends = day_bounds(local(now), BERLIN)

    assert begins == local(now[:10]) and ends - begins == timedelta(hours=hours)


def test_a_day_ends_in_the_future_where_clocks_go_back_over_midnight() -> None:
    """St John's put its clocks from 00:01 back to 23:01 until 2011: that midnight came twice."""
    zone = ZoneInfo("America/St_Johns")
    second = datetime(2010, 11, 6, 23, 30, fold=1, tzinfo=zone).astimezone(UTC)

    assert day_bounds(second, zone)[1] - second == timedelta(minutes=30)


@given(
    st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"})),
    st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC)),
)
def test_every_moment_lies_in_its_day_in_every_zone(name: str, now: datetime) -> None:
    begins, ends = day_bounds(now, ZoneInfo(name))

    assert begins <= now < ends <= begins + timedelta(hours=50)
