"""Calls in threads: through any executor, with errors of workers, in as few threads as are needed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.threads import DaemonExecutor, ExecutorCalls

DONE = ApiAnswer(CallResult.DONE)
REQUEST = Request("PATCH", "/", {"adapty-customer-user-id": "a"})


@pytest.mark.parametrize("make", [DaemonExecutor, ThreadPoolExecutor])
def test_any_executor_carries_calls(make: type[Executor]) -> None:
    with make(4) as executor:  # type: ignore[call-arg]
        calls = ExecutorCalls(executor, lambda request: DONE)
        for ticket in range(10):
            calls.begin(ticket, REQUEST)
        tickets: set[int] = set()
        while len(tickets) < 10:
            tickets |= {ticket for ticket, _ in calls.poll(5.0)}
    assert tickets == set(range(10))


def test_a_call_is_unknown_if_its_worker_raises() -> None:
    def send(request: Request) -> ApiAnswer:
        raise RuntimeError("secret_live_abc")

    with DaemonExecutor(1) as executor:
        calls = ExecutorCalls(executor, send)
        calls.begin(1, REQUEST)
        [(_, answer)] = calls.poll(5.0)
    assert (answer.result, answer.message) == (CallResult.UNKNOWN, "the call failed (RuntimeError)")


def test_threads_start_when_they_are_needed_and_are_used_again() -> None:
    names: set[str] = set()
    with DaemonExecutor(8) as executor:
        for _ in range(20):
            executor.submit(lambda: names.add(threading.current_thread().name)).result(5)
            time.sleep(0.001)
        first = set(names)
        barrier = threading.Barrier(8)
        futures = [executor.submit(barrier.wait) for _ in range(8)]
        assert sorted(future.result(5) for future in futures) == list(range(8))
    assert len(first) <= 2


@pytest.mark.parametrize("possible", [0, 1, 3])
def test_where_no_more_threads_can_be_started_fewer_do_the_work(
    possible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("call-"):
            if len(started) >= possible:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    names: set[str] = set()

    def task(number: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        return number

    with DaemonExecutor(8) as executor:
        futures = [executor.submit(task, number) for number in range(20)]
        assert [future.result(5) for future in futures] == list(range(20))
    assert len(names) == max(1, possible)
