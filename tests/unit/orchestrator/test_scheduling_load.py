"""The traffic of a rune, from samples of its counters every few seconds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.scheduling.load import Traffic, TrafficHistory, combine
from shared.drivers.inference.port import Activity


def seen(running: int = 0, waiting: int = 0, finished_total: int = 0, **gate: int) -> Activity:
    return Activity(running=running, waiting=waiting, finished_total=finished_total, **gate)


def watched(samples: Mapping[float, Activity | None], history: TrafficHistory | None = None) -> TrafficHistory:
    history = history or TrafficHistory()
    for at, sample in samples.items():
        history = history.add(at, sample)
    return history


def quiet(start: float, stop: float, total: int = 0) -> dict[float, Activity | None]:
    return {float(moment): seen(finished_total=total) for moment in range(int(start), int(stop) + 1, 5)}


def test_nothing_is_known_before_the_first_sample() -> None:
    assert TrafficHistory().traffic(1000) == Traffic()


def test_right_after_a_start_quiet_counts_from_the_first_sample_and_rates_are_unknown() -> None:
    traffic = watched(quiet(1000, 1055, total=5000)).traffic(1056)

    assert (traffic.quiet_s, traffic.watched_s, traffic.per_minute, traffic.per_minute_long) == (55, 55, None, None)
    assert (traffic.running, traffic.waiting) == (0, 0)


def test_after_a_minute_rates_are_known_as_far_as_was_seen() -> None:
    history = watched(quiet(0, 60))
    history = watched({65.0: seen(finished_total=2), **quiet(70, 120, total=2)}, history)
    traffic = history.traffic(120)

    assert (traffic.quiet_s, traffic.watched_s, traffic.per_minute, traffic.per_minute_long) == (55, 120, 2, 1)


def test_requests_count_when_they_arrive_and_not_again_when_they_finish() -> None:
    samples: dict[float, Activity | None] = {
        **quiet(0, 60),
        65: seen(running=2, waiting=1),
        70: seen(running=3),
        75: seen(running=1, finished_total=3),  # three finished, and one is new
        80: seen(finished_total=4),
    }
    traffic = watched(samples).traffic(80)

    assert (traffic.per_minute, traffic.quiet_s) == (4, 0)


def test_a_long_answer_is_not_quiet() -> None:
    samples = {float(moment): seen(running=1, finished_total=9) for moment in range(0, 400, 5)}
    traffic = watched(samples).traffic(395)

    assert (traffic.quiet_s, traffic.per_minute, traffic.running) == (0, 0, 1)


def test_an_aborted_request_ends_without_a_count() -> None:
    samples: dict[float, Activity | None] = {**quiet(0, 60), 65: seen(running=2), **quiet(70, 80)}
    traffic = watched(samples).traffic(80)

    assert (traffic.per_minute, traffic.quiet_s) == (2, 10)


def test_the_minute_forgets_before_the_ten_minutes_do() -> None:
    samples = {**quiet(0, 60), 65: seen(finished_total=30), **quiet(70, 300, 30)}
    traffic = watched(samples).traffic(300)

    assert (traffic.per_minute, traffic.per_minute_long, traffic.quiet_s) == (0, 6, 235)

    later = watched(quiet(305, 900, 30), watched(samples)).traffic(900)
    assert (later.per_minute, later.per_minute_long, later.quiet_s) == (0, 0, 835)


@pytest.mark.parametrize(
    ("between", "after"),
    [
        ({}, seen(finished_total=7)),  # the engine was restarted and counts from 0
        ({}, seen()),
    ],
)
def test_a_restarted_engine_starts_the_count_over(between: dict[float, Activity | None], after: Activity) -> None:
    samples: dict[float, Activity | None] = {**quiet(0, 600, total=90), **between, 605.0: after, 610.0: after}
    traffic = watched(samples).traffic(610)

    assert (traffic.quiet_s, traffic.watched_s, traffic.per_minute) == (5, 5, None)


def test_a_gap_between_samples_starts_the_count_over_and_one_failed_sample_does_not() -> None:
    failed = watched({605.0: None, 610.0: seen()}, watched(quiet(0, 600)))
    assert failed.traffic(610).quiet_s == 610

    gone = watched({605.0: None, 661.0: seen()}, watched(quiet(0, 600)))
    assert gone.traffic(661).quiet_s == 0

    backwards = watched({5.0: seen()}, watched(quiet(10, 600)))
    assert backwards.traffic(5).watched_s == 0


def test_a_failed_or_old_sample_does_not_describe_the_present() -> None:
    history = watched(quiet(0, 600))

    assert history.traffic(630).quiet_s == 600
    assert history.traffic(631) == Traffic()
    assert history.traffic(599) == Traffic()
    assert history.add(605, None).traffic(605) == Traffic()


def test_a_gate_counts_what_it_lets_in_also_what_is_aborted() -> None:
    samples: dict[float, Activity | None] = {
        **{float(at): seen(in_flight=0, admitted_total=10) for at in range(0, 61, 5)},
        65: seen(in_flight=2, admitted_total=12),  # accepted, and not yet in the engine
        70: seen(in_flight=0, admitted_total=14),  # all of them aborted
    }
    during = watched({at: load for at, load in samples.items() if at <= 65}).traffic(65)
    after = watched(samples).traffic(70)

    assert (during.running, during.waiting, during.per_minute) == (0, 2, 2)
    assert (after.waiting, after.per_minute, after.quiet_s) == (0, 4, 0)


@pytest.mark.parametrize(
    "sign",
    [
        seen(in_flight=0, admitted_total=11),  # let in and aborted between two samples
        seen(running=1, in_flight=0, admitted_total=10),  # past the gate
        seen(finished_total=1, in_flight=0, admitted_total=10),
    ],
)
def test_every_sign_of_a_request_ends_the_quiet(sign: Activity) -> None:
    before = seen(in_flight=0, admitted_total=10)

    assert watched({0.0: before, 30.0: before, 40.0: sign}).traffic(40).quiet_s == 0
    assert watched({0.0: before, 30.0: before, 40.0: before}).traffic(40).quiet_s == 40


@pytest.mark.parametrize("after", [seen(), seen(in_flight=0, admitted_total=3)])
def test_an_engine_that_comes_back_with_another_gate_starts_the_count_over(after: Activity) -> None:
    samples = {float(at): seen(in_flight=0, admitted_total=10) for at in range(0, 61, 5)}

    assert watched({**samples, 65.0: after}).traffic(65).watched_s == 0


def test_the_traffic_of_an_anvil_is_that_of_all_its_runes() -> None:
    busy = Traffic(running=2, waiting=1, per_minute=9, per_minute_long=4, quiet_s=0, watched_s=900)
    calm = Traffic(running=0, waiting=0, per_minute=0, per_minute_long=1, quiet_s=100, watched_s=300)

    assert combine([busy, calm]) == Traffic(
        running=2, waiting=1, per_minute=9, per_minute_long=5, quiet_s=0, watched_s=300
    )
    assert combine([busy, Traffic()]) == Traffic()
    alone = combine([])
    assert (alone.in_flight, alone.per_minute) == (0, 0) and alone.quiet_s and alone.quiet_s > 86400


samples = st.lists(
    st.tuples(
        st.floats(0, 90), st.none() | st.builds(seen, st.integers(0, 50), st.integers(0, 50), st.integers(0, 10**6))
    ),
    max_size=200,
)


@given(samples)
def test_any_samples_add_up_to_valid_traffic_that_claims_no_more_than_was_watched(
    samples: list[tuple[float, Activity | None]],
) -> None:
    history, now = TrafficHistory(), 0.0
    for later_s, sample in samples:
        now += later_s
        history = history.add(now, sample)
        traffic = Traffic.model_validate(history.traffic(now).model_dump())

        assert traffic.quiet_s is None or traffic.quiet_s <= traffic.watched_s <= now


def test_memory_is_bounded_however_many_samples() -> None:
    history = TrafficHistory()
    for tick in range(20_000):
        history = history.add(tick / 5, seen(finished_total=tick))

    assert len(history.arrivals) <= 121
    assert history.traffic(20_000 / 5).per_minute == pytest.approx(300, rel=0.1)
    assert history.traffic(20_000 / 5).per_minute_long == pytest.approx(300, rel=0.02)
