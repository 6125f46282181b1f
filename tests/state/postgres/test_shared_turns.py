"""A rate that several processes share."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.core.options import Rate
from reconciler.remote.pacing import Pace, SystemClock, Verdict
from reconciler.remote.turns import MARGIN
from reconciler.state.postgres.shared_turns import LATE, SharedTurns
from tests.support.clock import ManualClock
from tests.support.postgres_stores import postgres_session, postgres_store
from tests.support.states import US

OpenTurns = Callable[..., SharedTurns]


@pytest.fixture
def open_turns(url: str) -> Iterator[OpenTurns]:
    store = postgres_store(url)
    with store.lock(US):
        pass  # makes the tables
    store.close()
    opened = []

    def open_(rate: float, **options: Any) -> SharedTurns:
        arguments = {"most": rate, "least": 1.0, "clock": time.monotonic, **options}
        turns = SharedTurns(
            postgres_session(url), name="test", rate=rate, margin=MARGIN, **arguments
        )
        assert turns.begin()
        opened.append(turns)
        return turns

    yield open_
    for turns in opened:
        turns.close()


def settled(turns: SharedTurns) -> None:
    """Waits until the thread has done what it was asked for."""
    done = threading.Event()
    turns._do(done.set)
    assert done.wait(30)


def fetched(turns: SharedTurns, number: int) -> list[float]:
    """The turns that one look fetches."""
    turns.wait(time.monotonic(), waiting=number)
    settled(turns)
    return list(turns._turns)


def test_two_processes_never_get_the_same_turn(open_turns: OpenTurns) -> None:
    one, other = open_turns(100.0), open_turns(100.0)
    places = sorted(fetched(one, 5) + fetched(other, 5))
    gaps = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert len(places) == 10
    assert min(gaps) > 0.5 * MARGIN / 100.0  # clocks compared at two times differ a little
    assert places[-1] - places[0] == pytest.approx(9 * MARGIN / 100.0, abs=0.01)


def test_a_turn_that_was_slept_through_is_lost(open_turns: OpenTurns) -> None:
    turns = open_turns(100.0)
    places = fetched(turns, 5)
    wait = turns.wait(places[2] + LATE + 0.001, waiting=1)
    assert wait is not None
    assert turns._turns[0] == places[3]


_PROCESS = """
import sys, time
from reconciler.core.options import Rate
from reconciler.remote.pacing import Pace, SystemClock
from reconciler.remote.turns import MARGIN
from reconciler.state.postgres.shared_turns import SharedTurns
from tests.support.postgres_stores import postgres_session
rate, number = float(sys.argv[2]), int(sys.argv[3])
turns = SharedTurns(postgres_session(sys.argv[1]), name="test", rate=rate, most=rate, least=1.0,
    margin=MARGIN, clock=time.monotonic)
turns.begin()
pace = Pace(Rate(rate), clock=SystemClock(), turns=turns)
pace._waiting = 50
for _ in range(number):
    pace.enter()
    print(time.monotonic())
    pace.sent()
"""


def together(url: str, *, rate: float, processes: int, number: int) -> list[float]:
    """When so many requests of each of several processes leave, by the clock that they have in common."""
    command = [sys.executable, "-c", _PROCESS, url, str(rate), str(number)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return sorted(float(line) for each in running for line in each.communicate()[0].split())


def most_in_a_second(times: list[float]) -> int:
    first = most = 0
    for index, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, index - first + 1)
    return most


def test_no_second_of_all_processes_holds_more_than_the_rate(
    open_turns: OpenTurns, url: str
) -> None:
    open_turns(50.0)
    times = together(url, rate=50.0, processes=2, number=40)
    assert len(times) == 80
    assert most_in_a_second(times) <= 50


def test_a_429_halves_the_rate_once_for_all(open_turns: OpenTurns) -> None:
    clock = ManualClock(time.monotonic())
    one, other = (open_turns(80.0, clock=clock) for _ in range(2))
    fetched(one, 1)
    fetched(other, 1)
    began = clock.time
    clock.time += 1
    one.slow_down(clock.time, began=began, is_first=True)
    settled(one)
    fetched(other, 100)  # learns of the slower rate
    other.slow_down(clock.time, began=began, is_first=True)
    settled(other)
    assert open_turns(80.0).rate == pytest.approx(40.0, rel=0.1)
    clock.time += 1
    other.slow_down(clock.time, began=clock.time, is_first=False)
    settled(other)
    assert open_turns(80.0).rate == pytest.approx(20.0, rel=0.1)


def test_a_halved_rate_comes_back_to_the_configured_one_with_its_use(
    open_turns: OpenTurns,
) -> None:
    turns = open_turns(100.0)
    turns.slow_down(time.monotonic(), began=time.monotonic(), is_first=True)
    settled(turns)
    rates = []
    for _ in range(30):
        turns._fetch(50)
        rates.append(turns.rate)
    assert rates == sorted(rates)  # type: ignore[type-var]
    assert turns.rate == 100.0


def test_a_wish_to_wait_holds_every_process_back(open_turns: OpenTurns) -> None:
    one, other = open_turns(100.0), open_turns(100.0)
    pace = Pace(Rate(100.0), clock=SystemClock(), turns=one)
    now = time.monotonic()
    pace.learn(Verdict.LIMITED, began=now, retry_after=7.0)
    settled(one)
    assert min(fetched(other, 5)) == pytest.approx(now + 7.0, abs=1.0)


def test_the_slowest_configuration_counts(open_turns: OpenTurns) -> None:
    assert open_turns(100.0).rate == 100.0
    assert open_turns(50.0).rate == 50.0


def test_a_rate_that_learns_grows_with_its_use(open_turns: OpenTurns) -> None:
    turns = open_turns(5.0, most=600.0)
    for _ in range(20):
        turns._fetch(100)
    assert turns.rate == 600.0


def test_where_there_is_no_state_there_is_no_rate_to_share(url: str) -> None:
    turns = SharedTurns(
        postgres_session(url),
        name="test",
        rate=5.0,
        most=5.0,
        least=1.0,
        margin=MARGIN,
        clock=time.monotonic,
    )
    assert not turns.begin()
    turns.close()


def test_without_an_answer_of_the_database_nothing_leaves(open_turns: OpenTurns) -> None:
    turns = open_turns(100.0)
    turns._name = "removed"
    assert fetched(turns, 5) == []
    assert turns.wait(time.monotonic(), waiting=5) is not None
