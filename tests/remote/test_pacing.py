"""The pace: rates, waits, learning, outages."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.options import Rate
from reconciler.remote.pacing import (
    MOST_IN_FLIGHT,
    UNLIMITED_WINDOW,
    Pace,
    Verdict,
    most_in_flight,
)
from reconciler.remote.turns import FASTEST, MARGIN
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


def departures(
    pace: Pace, clock: ManualClock, *, number: int = 1, delay: float = 0.0
) -> list[float]:
    """The times at which so many requests leave, each written ``delay`` seconds after `Pace.enter`."""
    times = []
    for _ in range(number):
        assert pace.enter()
        clock.time += delay
        pace.sent()
        times.append(clock.time)
    return times


def most_in(times: list[float], window: float) -> int:
    return max(sum(start <= time < start + window for time in times) for start in times)


@given(
    st.sampled_from([1 / 2, 1.0, 5.0, 7.0, 50.0, 300.0, 40_000 / 60]),
    st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.3, 2.0]), min_size=1, max_size=60),
)
def test_no_second_holds_more_than_the_rate_however_threads_are_delayed(
    rate: float, delays: list[float]
) -> None:
    clock = ManualClock(100.0)
    pace = Pace(Rate(rate), clock=clock)
    times = []
    for delay in itertools.islice(itertools.cycle(delays), max(60, int(rate * 2.5))):
        times += departures(pace, clock, delay=delay)
    assert most_in(times, 1.0) <= max(1, int(rate))


@pytest.mark.parametrize("rate", [1.0, 5.0, 300.0, 40_000 / 60])
def test_nearly_all_of_the_rate_is_used(clock: ManualClock, rate: float) -> None:
    number = int(rate * 20)
    times = departures(Pace(Rate(rate), clock=clock), clock, number=number)
    assert (number - 1) / (times[-1] - times[0]) >= 0.97 * rate


def test_a_request_that_may_leave_keeps_its_place_until_it_is_written(clock: ManualClock) -> None:
    pace = Pace(Rate(5.0), clock=clock)
    assert all(pace.enter() for _ in range(5))
    has_left = threading.Event()

    def sixth() -> None:
        pace.enter()
        has_left.set()

    threading.Thread(target=sixth, daemon=True).start()
    assert not has_left.wait(0.05)
    pace.not_sent()
    assert has_left.wait(5)


def test_without_a_rate_no_request_waits(clock: ManualClock) -> None:
    departures(Pace(Rate(None), clock=clock), clock, number=1000)
    assert clock.time == 100.0


def test_retry_after_holds_all_requests_back(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    pace.learn(Verdict.LIMITED, began=clock.time, retry_after=7.0)
    assert pace.waiting_for() == "the API asked to wait 7 s"
    departures(pace, clock)
    assert clock.time == pytest.approx(107.0)


def test_an_answer_makes_us_wait_a_minute_at_most(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    pace.learn(Verdict.LIMITED, began=clock.time, retry_after=1e400)
    departures(pace, clock)
    assert clock.time == pytest.approx(160.0)


def test_after_a_wish_to_stop_nothing_leaves(clock: ManualClock) -> None:
    pace = Pace(Rate(1.0), clock=clock, stop=lambda: clock.time > 100.3)
    assert pace.enter()
    pace.sent()
    assert not pace.enter()
    assert clock.time < 100.6


# --- learning ------------------------------------------------------------------------------------


def answer(pace: Pace, clock: ManualClock, *, number: int, latency: float = 0.05) -> None:
    """Lets so many requests leave, and has the API answer each after ``latency`` seconds."""
    for _ in range(number):
        assert pace.enter()
        pace.sent()
        pace.learn(Verdict.UP, began=clock.time - latency)


def test_a_learning_rate_grows_while_it_is_the_bottleneck(clock: ManualClock) -> None:
    pace = Pace(Rate(5.0, auto=True), clock=clock)
    answer(pace, clock, number=200)
    assert pace.rate is not None
    assert 50 < pace.rate <= FASTEST
    answer(pace, clock, number=10_000)
    assert pace.rate == FASTEST


def test_a_learning_rate_does_not_grow_while_no_request_waits_for_it(clock: ManualClock) -> None:
    pace = Pace(Rate(5.0, auto=True), clock=clock)
    for _ in range(50):
        answer(pace, clock, number=1)
        clock.time += 1.0
    assert pace.rate == 5.0


def test_a_learning_rate_halves_once_for_all_requests_under_way(clock: ManualClock) -> None:
    pace = Pace(Rate(80.0, auto=True), clock=clock)
    for _ in range(10):
        pace.learn(Verdict.LIMITED, began=clock.time - 0.1)
    clock.time += 0.2
    assert pace.rate == 40.0
    pace.learn(Verdict.LIMITED, began=clock.time)
    assert pace.rate == 20.0


def test_a_429_halves_a_fixed_rate_which_comes_back_to_what_is_configured(
    clock: ManualClock,
) -> None:
    pace = Pace(Rate(80.0), clock=clock)
    pace.learn(Verdict.LIMITED, began=clock.time)
    assert pace.rate == 40.0
    answer(pace, clock, number=100)
    assert pace.rate is not None
    assert 64 <= pace.rate < 70
    answer(pace, clock, number=5_000)
    assert pace.rate == 80.0
    assert pace.waiting_for() == ""


def test_a_429_slows_down_a_run_without_a_rate_until_the_api_has_agreed_for_a_while(
    clock: ManualClock,
) -> None:
    pace = Pace(Rate(None), clock=clock)
    departures(pace, clock, number=30)
    pace.learn(Verdict.LIMITED, began=clock.time)
    assert pace.rate == 15.0
    answer(pace, clock, number=20)
    assert pace.waiting_for() == "slowed down, since the API answered 429"
    answer(pace, clock, number=30_000)
    assert pace.rate is None


def test_a_429_never_takes_a_rate_below_one_a_second_or_what_is_configured(
    clock: ManualClock,
) -> None:
    for configured, least in ((80.0, 1.0), (0.5, 0.5)):
        pace = Pace(Rate(configured), clock=clock)
        for _ in range(20):
            clock.time += 1.0
            pace.learn(Verdict.LIMITED, began=clock.time)
        assert pace.rate == least


def test_429s_that_name_no_time_hold_all_requests_back_for_longer_and_longer(
    clock: ManualClock,
) -> None:
    pace = Pace(Rate(None), clock=clock, random=lambda: 1.0)
    waits = []
    for _ in range(9):
        began = clock.time
        departures(pace, clock)
        waits.append(clock.time - began)
        pace.learn(Verdict.LIMITED, began=clock.time)
    assert waits == pytest.approx([0, 0.5, 1, 2, 4, 8, 16, 30, 30])
    assert pace.waiting_for() == "the API answered 429: waiting 30 s"


def test_a_run_gives_up_when_its_patience_with_429s_ends(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock, patience=100.0)
    answer(pace, clock, number=1)
    while pace.enter():
        pace.sent()
        pace.learn(Verdict.LIMITED, began=clock.time, retry_after=7.0)
    assert pace.given_up
    assert pace.is_limited
    assert 200 <= clock.time < 210


def test_one_answer_renews_the_patience_with_429s(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock, patience=30.0)
    for _ in range(20):
        for _ in range(3):
            assert pace.enter()
            pace.sent()
            pace.learn(Verdict.LIMITED, began=clock.time, retry_after=7.0)
        answer(pace, clock, number=1)
    assert not pace.is_limited


def test_429s_with_hours_between_them_are_no_standstill(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock, patience=30.0)
    for _ in range(5):
        pace.learn(Verdict.LIMITED, began=clock.time)
        clock.time += 3600.0
        assert pace.enter()
        pace.sent()
    assert not pace.given_up


def test_a_429_ends_an_outage_and_is_no_failure(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    answer(pace, clock, number=1)
    for _ in range(5):
        pace.learn(Verdict.AWAY, began=clock.time)
    assert pace.is_open
    pace.learn(Verdict.LIMITED, began=clock.time)
    assert not pace.is_open
    for _ in range(20):
        clock.time += 0.1
        pace.learn(Verdict.LIMITED, began=clock.time)
    assert not pace.is_open


# --- how many at a time --------------------------------------------------------------------------


def test_until_the_first_answer_one_call_is_under_way(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    assert pace.in_flight(None) == 1
    answer(pace, clock, number=1)
    assert pace.in_flight(None) == UNLIMITED_WINDOW
    assert pace.in_flight(3) == 3


@pytest.mark.parametrize(("rate", "latency", "calls"), [(5.0, 0.1, 3), (40_000 / 60, 0.1, 102)])
def test_calls_under_way_follow_rate_and_latency(
    clock: ManualClock, rate: float, latency: float, calls: int
) -> None:
    pace = Pace(Rate(rate), clock=clock)
    answer(pace, clock, number=1, latency=latency)
    assert pace.in_flight(None) == calls


def test_slow_writes_of_the_state_raise_the_number_of_calls_under_way(clock: ManualClock) -> None:
    pace = Pace(Rate(100.0), clock=clock)
    free = Pace(Rate(None), clock=clock)
    for each in (pace, free):
        answer(each, clock, number=1, latency=0.1)
        for _ in range(200):
            each.learn_write_time(0.02)
    assert pace.in_flight(None) == 23
    assert free.in_flight(None) == UNLIMITED_WINDOW + 80
    assert free.in_flight(8) == 8


@pytest.mark.parametrize(
    ("milliseconds", "calls"),
    [(0, 128), (2, 128), (5, 128), (10, 208), (20, 368), (29, 512), (100, 512), (60_000, 512)],
)
def test_the_most_calls_follow_the_time_of_a_write(milliseconds: int, calls: int) -> None:
    assert most_in_flight(milliseconds / 1000) == calls
    assert MOST_IN_FLIGHT == 512


@pytest.mark.parametrize(("milliseconds", "calls"), [(2, 128), (30, 213), (60, 273), (100, 353)])
def test_calls_under_way_follow_the_first_write_of_a_distant_state(
    clock: ManualClock, milliseconds: int, calls: int
) -> None:
    """At 40,000 requests a minute and 150 ms an answer."""
    pace = Pace(Rate(40_000 / 60), clock=clock)
    answer(pace, clock, number=1, latency=0.15)
    pace.learn_write_time(milliseconds / 1000)
    assert pace.in_flight(None) == calls


# --- outages -------------------------------------------------------------------------------------


def test_a_run_gives_up_soon_if_the_api_never_answered(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    for _ in range(5):
        assert pace.enter()
        pace.not_sent()
        pace.learn(Verdict.AWAY, began=clock.time)
    assert pace.given_up
    assert not pace.enter()


def test_in_an_outage_one_request_a_second_asks_whether_it_is_over(clock: ManualClock) -> None:
    pace = Pace(Rate(100.0), clock=clock)
    answer(pace, clock, number=1)
    for _ in range(5):
        pace.learn(Verdict.AWAY, began=clock.time)
    assert pace.is_open
    assert pace.in_flight(None) == 1
    probes = []
    for _ in range(30):
        probes += departures(pace, clock)
        pace.learn(Verdict.AWAY, began=clock.time)
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(probes))
    answer(pace, clock, number=1)
    assert not pace.is_open
    start = clock.time
    departures(pace, clock, number=2)
    assert clock.time - start < 2 * MARGIN / 100 + 0.01


def test_a_run_gives_up_when_its_patience_ends(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock, patience=10.0)
    answer(pace, clock, number=1)
    for _ in range(5):
        pace.learn(Verdict.AWAY, began=clock.time)
    while pace.enter():
        pace.not_sent()
        pace.learn(Verdict.AWAY, began=clock.time)
    assert pace.given_up
    assert 110 <= clock.time < 112


def test_an_error_500_is_no_outage(clock: ManualClock) -> None:
    pace = Pace(Rate(None), clock=clock)
    for _ in range(20):
        pace.learn(Verdict.UNCLEAR, began=clock.time)
    assert not pace.is_open
