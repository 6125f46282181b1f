"""A worker pool gives every result, in order, even when a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import pytest

from reconciler.planning.workers import WorkerPool, processes


def doubled(number: int) -> int:
    return 2 * number


def doubled_unless_elsewhere(number: int, home: int) -> int:
    if os.getpid() != home and number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def arguments(number: int) -> tuple[int]:
    return (number,)


def results(workers: WorkerPool, *, cost: float = 1.0) -> list[tuple[int, int]]:
    return [*workers.map_ordered(doubled, range(50), arguments=arguments, cost=lambda number: cost)]


EXPECTED = [(number, 2 * number) for number in range(50)]


class Counting:
    """A pool of threads that says how many were made."""

    def __init__(self) -> None:
        self.made: list[ThreadPoolExecutor] = []

    def __call__(self) -> Executor:
        self.made.append(ThreadPoolExecutor(1))
        return self.made[-1]


def test_results_come_in_the_order_of_their_batches() -> None:
    with WorkerPool(lambda: ThreadPoolExecutor(3), processors=2) as workers:
        assert results(workers) == EXPECTED


def test_an_executor_is_made_once_there_is_enough_to_do_and_stays() -> None:
    pool = Counting()
    with WorkerPool(pool, processors=2) as workers:
        assert results(workers, cost=0.0199) == EXPECTED
        assert not pool.made
        assert results(workers, cost=0.02) == EXPECTED
        assert results(workers, cost=0) == EXPECTED
    (executor,) = pool.made
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(doubled, 1)


def test_on_one_processor_no_executor_is_started() -> None:
    pool = Counting()
    with WorkerPool(pool, processors=1) as workers:
        assert results(workers) == EXPECTED
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
def test_this_process_does_the_work_of_a_broken_executor(after: int) -> None:
    with WorkerPool(lambda: Broken(after), processors=2) as workers:
        assert results(workers) == EXPECTED


def test_no_result_is_lost_with_a_killed_process() -> None:
    with WorkerPool(processes, processors=2) as workers:
        pairs = workers.map_ordered(
            doubled_unless_elsewhere,
            range(50),
            arguments=lambda number: (number, os.getpid()),
            cost=lambda number: 1,
        )
        assert [*pairs] == EXPECTED


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
        WorkerPool(lambda: ThreadPoolExecutor(1), processors=2) as workers,
        pytest.raises(ValueError, match="three"),
    ):
        [*workers.map_ordered(failing, batches(), arguments=arguments, cost=lambda number: 1)]
    assert len(begun) < 100


def test_this_process_may_run_another_form_of_the_task() -> None:
    done = WorkerPool().map_ordered(
        doubled,
        range(3),
        arguments=arguments,
        cost=lambda number: 1,
        local=lambda number: -number,
    )
    assert [*done] == [(0, 0), (1, -1), (2, -2)]
