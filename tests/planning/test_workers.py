"""Work that is shared out comes back whole and in order, whoever does it and whatever becomes of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import pytest

from reconciler.planning import workers as hands
from reconciler.planning.workers import Hands, processes


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "_processors", lambda: 2)


def doubled(number: int) -> int:
    return 2 * number


def doubled_unless_elsewhere(number: int, home: int) -> int:
    if os.getpid() != home and number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def given(number: int) -> tuple[int]:
    return (number,)


def results(team: Hands, *, worth: float = 1.0) -> list[tuple[int, int]]:
    return [*team.results(doubled, range(50), given, worth=lambda number: worth)]


EXPECTED = [(number, 2 * number) for number in range(50)]


class Counting:
    """A pool of threads that says how many were made."""

    def __init__(self) -> None:
        self.made: list[ThreadPoolExecutor] = []

    def __call__(self) -> Executor:
        self.made.append(ThreadPoolExecutor(1))
        return self.made[-1]


def test_results_come_in_the_order_of_their_batches() -> None:
    with Hands(lambda: ThreadPoolExecutor(3)) as team:
        assert results(team) == EXPECTED


def test_an_executor_is_made_once_there_is_enough_to_do_and_stays() -> None:
    pool = Counting()
    with Hands(pool) as team:
        assert results(team, worth=0.0199) == EXPECTED
        assert not pool.made
        assert results(team, worth=0.02) == EXPECTED
        assert results(team, worth=0) == EXPECTED
    (executor,) = pool.made
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(doubled, 1)


def test_on_one_processor_nobody_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "_processors", lambda: 1)
    pool = Counting()
    with Hands(pool) as team:
        assert results(team) == EXPECTED
    assert not pool.made


class Broken(Executor):
    """Carries some tasks out, and breaks down then."""

    def __init__(self, after: int) -> None:
        self.left = after

    def submit(  # type: ignore[override]
        self, task: Callable[[int], int], /, number: int
    ) -> Future[int]:
        self.left -= 1
        future: Future[int] = Future()
        if self.left > 0:
            future.set_result(task(number))
        elif self.left > -3:
            future.set_exception(BrokenExecutor("killed"))
        else:
            raise BrokenExecutor("broken")
        return future


@pytest.mark.parametrize("after", [0, 1, 20])
def test_what_a_broken_executor_leaves_undone_is_done_here(after: int) -> None:
    with Hands(lambda: Broken(after)) as team:
        assert results(team) == EXPECTED


def test_a_process_that_is_killed_takes_nothing_along() -> None:
    with Hands(processes) as team:
        found = team.results(
            doubled_unless_elsewhere,
            range(50),
            lambda number: (number, os.getpid()),
            worth=lambda number: 1,
        )
        assert [*found] == EXPECTED


def test_an_error_of_a_task_is_raised_and_the_rest_is_not_begun() -> None:
    begun: list[int] = []

    def failing(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    def batches() -> Iterator[int]:
        yield from range(1000)

    with (
        Hands(lambda: ThreadPoolExecutor(1)) as team,
        pytest.raises(ValueError, match="three"),
    ):
        [*team.results(failing, batches(), given, worth=lambda number: 1)]
    assert len(begun) < 100


def test_what_is_done_here_may_be_done_in_another_way() -> None:
    done = Hands().results(
        doubled, range(3), given, worth=lambda number: 1, here=lambda number: -number
    )
    assert [*done] == [(0, 0), (1, -1), (2, -2)]
