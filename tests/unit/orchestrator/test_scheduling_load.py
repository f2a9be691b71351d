"""What looking every few seconds adds up to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.scheduling.load import History, Pulse, together
from shared.drivers.inference.port import Activity


def seen(running: int = 0, waiting: int = 0, finished_total: int = 0, **gate: int) -> Activity:
    return Activity(running=running, waiting=waiting, finished_total=finished_total, **gate)


def watched(looks: Mapping[float, Activity | None], history: History | None = None) -> History:
    history = history or History()
    for moment, load in looks.items():
        history = history.look(moment, load)
    return history


def quiet(start: float, stop: float, total: int = 0) -> dict[float, Activity | None]:
    return {float(moment): seen(finished_total=total) for moment in range(int(start), int(stop) + 1, 5)}


def test_nothing_is_known_before_the_first_look() -> None:
    assert History().pulse(1000) == Pulse()


def test_right_after_a_start_quiet_counts_from_the_first_look_and_rates_are_unknown() -> None:
    pulse = watched(quiet(1000, 1055, total=5000)).pulse(1056)

    assert (pulse.quiet_s, pulse.watched_s, pulse.per_minute, pulse.per_minute_long) == (55, 55, None, None)
    assert (pulse.running, pulse.waiting) == (0, 0)


def test_after_a_minute_rates_are_known_as_far_as_was_seen() -> None:
    history = watched(quiet(0, 60))
    history = watched({65.0: seen(finished_total=2), **quiet(70, 120, total=2)}, history)
    pulse = history.pulse(120)

    assert (pulse.quiet_s, pulse.watched_s, pulse.per_minute, pulse.per_minute_long) == (55, 120, 2, 1)


def test_requests_count_when_they_arrive_and_not_again_when_they_finish() -> None:
    looks: dict[float, Activity | None] = {
        **quiet(0, 60),
        65: seen(running=2, waiting=1),
        70: seen(running=3),
        75: seen(running=1, finished_total=3),  # three finished, and one is new
        80: seen(finished_total=4),
    }
    pulse = watched(looks).pulse(80)

    assert (pulse.per_minute, pulse.quiet_s) == (4, 0)


def test_a_long_answer_is_not_quiet() -> None:
    looks = {float(moment): seen(running=1, finished_total=9) for moment in range(0, 400, 5)}
    pulse = watched(looks).pulse(395)

    assert (pulse.quiet_s, pulse.per_minute, pulse.running) == (0, 0, 1)


def test_an_aborted_request_ends_without_a_count() -> None:
    looks: dict[float, Activity | None] = {**quiet(0, 60), 65: seen(running=2), **quiet(70, 80)}
    pulse = watched(looks).pulse(80)

    assert (pulse.per_minute, pulse.quiet_s) == (2, 10)


def test_the_minute_forgets_before_the_ten_minutes_do() -> None:
    looks = {**quiet(0, 60), 65: seen(finished_total=30), **quiet(70, 300, 30)}
    pulse = watched(looks).pulse(300)

    assert (pulse.per_minute, pulse.per_minute_long, pulse.quiet_s) == (0, 6, 235)

    later = watched(quiet(305, 900, 30), watched(looks)).pulse(900)
    assert (later.per_minute, later.per_minute_long, later.quiet_s) == (0, 0, 835)


@pytest.mark.parametrize(
    ("between", "after"),
    [
        ({}, seen(finished_total=7)),  # the engine was restarted and counts from 0
        ({}, seen()),
    ],
)
def test_a_restarted_engine_begins_anew(between: dict[float, Activity | None], after: Activity) -> None:
    looks: dict[float, Activity | None] = {**quiet(0, 600, total=90), **between, 605.0: after, 610.0: after}
    pulse = watched(looks).pulse(610)

    assert (pulse.quiet_s, pulse.watched_s, pulse.per_minute) == (5, 5, None)


def test_a_gap_in_looking_begins_anew_and_one_failed_look_does_not() -> None:
    failed = watched({605.0: None, 610.0: seen()}, watched(quiet(0, 600)))
    assert failed.pulse(610).quiet_s == 610

    gone = watched({605.0: None, 661.0: seen()}, watched(quiet(0, 600)))
    assert gone.pulse(661).quiet_s == 0

    backwards = watched({5.0: seen()}, watched(quiet(10, 600)))
    assert backwards.pulse(5).watched_s == 0


def test_a_failed_or_old_look_says_nothing_about_now() -> None:
    history = watched(quiet(0, 600))

    assert history.pulse(630).quiet_s == 600
    assert history.pulse(631) == Pulse()
    assert history.pulse(599) == Pulse()
    assert history.look(605, None).pulse(605) == Pulse()


def test_a_gate_counts_what_it_lets_in_also_what_is_aborted() -> None:
    looks: dict[float, Activity | None] = {
        **{float(at): seen(in_flight=0, admitted_total=10) for at in range(0, 61, 5)},
        65: seen(in_flight=2, admitted_total=12),  # accepted, and not yet in the engine
        70: seen(in_flight=0, admitted_total=14),  # all of them aborted
    }
    during = watched({at: load for at, load in looks.items() if at <= 65}).pulse(65)
    after = watched(looks).pulse(70)

    assert (during.running, during.waiting, during.per_minute) == (0, 2, 2)
    assert (after.waiting, after.per_minute, after.quiet_s) == (0, 4, 0)


@pytest.mark.parametrize(
    "sign",
    [
        seen(in_flight=0, admitted_total=11),  # let in and aborted between two looks
        seen(running=1, in_flight=0, admitted_total=10),  # past the gate
        seen(finished_total=1, in_flight=0, admitted_total=10),
    ],
)
def test_every_sign_of_a_request_ends_the_quiet(sign: Activity) -> None:
    before = seen(in_flight=0, admitted_total=10)

    assert watched({0.0: before, 30.0: before, 40.0: sign}).pulse(40).quiet_s == 0
    assert watched({0.0: before, 30.0: before, 40.0: before}).pulse(40).quiet_s == 40


@pytest.mark.parametrize("after", [seen(), seen(in_flight=0, admitted_total=3)])
def test_an_engine_that_comes_back_with_another_gate_begins_anew(after: Activity) -> None:
    looks = {float(at): seen(in_flight=0, admitted_total=10) for at in range(0, 61, 5)}

    assert watched({**looks, 65.0: after}).pulse(65).watched_s == 0


def test_the_pulse_of_an_anvil_is_that_of_all_its_runes() -> None:
    busy = Pulse(running=2, waiting=1, per_minute=9, per_minute_long=4, quiet_s=0, watched_s=900)
    calm = Pulse(running=0, waiting=0, per_minute=0, per_minute_long=1, quiet_s=100, watched_s=300)

    assert together([busy, calm]) == Pulse(
        running=2, waiting=1, per_minute=9, per_minute_long=5, quiet_s=0, watched_s=300
    )
    assert together([busy, Pulse()]) == Pulse()
    alone = together([])
    assert (alone.in_flight, alone.per_minute) == (0, 0) and alone.quiet_s and alone.quiet_s > 86400


looks = st.lists(
    st.tuples(
        st.floats(0, 90), st.none() | st.builds(seen, st.integers(0, 50), st.integers(0, 50), st.integers(0, 10**6))
    ),
    max_size=200,
)


@given(looks)
def test_any_looks_add_up_to_a_valid_pulse_that_claims_no_more_than_was_watched(
    looks: list[tuple[float, Activity | None]],
) -> None:
    history, now = History(), 0.0
    for later_s, load in looks:
        now += later_s
        history = history.look(now, load)
        pulse = Pulse.model_validate(history.pulse(now).model_dump())

        assert pulse.quiet_s is None or pulse.quiet_s <= pulse.watched_s <= now


def test_memory_is_bounded_however_often_it_looks() -> None:
    history = History()
    for tick in range(20_000):
        history = history.look(tick / 5, seen(finished_total=tick))

    assert len(history.arrived) <= 121
    assert history.pulse(20_000 / 5).per_minute == pytest.approx(300, rel=0.1)
    assert history.pulse(20_000 / 5).per_minute_long == pytest.approx(300, rel=0.02)
