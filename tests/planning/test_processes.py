"""Calls in other processes: answers, errors, and processes that die, are slow to start, or never start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from types import MappingProxyType
from typing import Any

import pytest

from reconciler.planning import processes as processes_module
from reconciler.planning.processes import ProcessExecutor
from reconciler.planning.workers import WorkerPool, processes


def doubled(number: int) -> int:
    return 2 * number


def talkative(number: int) -> int:
    print("this is no answer")
    sys.stderr.write("nor is this\n")
    return number


def large(size: int) -> bytes:
    return bytes(size)


def that_cannot_travel(number: int) -> Any:
    return MappingProxyType({"number": number})


def failing(number: int) -> int:
    raise ValueError(number)


def short_of_memory(number: int, home: int) -> int:
    if os.getpid() != home:
        raise MemoryError
    return number


def asleep(seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def executor() -> Any:
    with ProcessExecutor(2) as opened:
        yield opened


def test_calls_are_answered_whatever_else_is_printed(executor: Executor) -> None:
    futures = [executor.submit(talkative, number) for number in range(20)]
    assert [future.result(60) for future in futures] == [*range(20)]


def test_answers_may_be_larger_than_a_pipe(executor: Executor) -> None:
    sizes = [0, 1, 1 << 16, 5 << 20]
    futures = [executor.submit(large, size) for size in sizes]
    assert [len(future.result(60)) for future in futures] == sizes
    assert executor.submit(len, bytes(5 << 20)).result(60) == 5 << 20


def test_what_cannot_travel_is_an_error_and_the_process_goes_on(executor: Executor) -> None:
    with pytest.raises(TypeError):
        executor.submit(len, MappingProxyType({}))
    with pytest.raises(BrokenExecutor):
        executor.submit(that_cannot_travel, 1).result(60)
    with pytest.raises(BrokenExecutor):
        executor.submit(failing, 1).result(60)
    assert executor.submit(doubled, 2).result(60) == 4


def test_the_death_of_a_process_fails_its_calls(executor: Executor) -> None:
    futures = [executor.submit(os._exit, 3) for _ in range(4)]
    for future in futures:
        with pytest.raises(BrokenExecutor):
            future.result(60)
    assert executor.submit(doubled, 2).result(60) == 4  # in another process


def test_an_end_does_not_wait_for_what_was_given_up() -> None:
    executor = ProcessExecutor(1)
    executor.submit(asleep, 60.0)
    began = time.monotonic()
    executor.shutdown(cancel_futures=True)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("problem", [OSError(11, "again"), RuntimeError("thread"), MemoryError()])
def test_without_processes_all_is_done_here(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def start(*arguments: Any, **options: Any) -> Any:
        raise problem

    monkeypatch.setattr(processes_module.subprocess, "Popen", start)
    assert everything(processes, doubled) == [2 * number for number in range(30)]


@pytest.mark.parametrize("problem", [OSError(38, "none"), ImportError(), NotImplementedError()])
def test_an_executor_that_cannot_be_made_is_done_without(problem: Exception) -> None:
    def start() -> Executor:
        raise problem

    assert everything(start, doubled) == [2 * number for number in range(30)]


def test_what_another_process_fails_at_is_done_here() -> None:
    assert everything(processes, short_of_memory, os.getpid()) == [*range(30)]
    shown = everything(processes, that_cannot_travel)
    assert shown == [{"number": number} for number in range(30)]
    with pytest.raises(ValueError):
        everything(processes, failing)


def everything(start: Callable[[], Executor], task: Callable[..., Any], *more: Any) -> list[Any]:
    """The results of a task for 30 numbers."""
    with WorkerPool(start, processors=2) as workers:
        return [
            result
            for _, result in workers.map_ordered(
                task,
                range(30),
                arguments=lambda number: (number, *more),
                cost=lambda number: 1,
            )
        ]


def test_a_program_that_forgets_to_end_its_processes_ends_and_so_do_they() -> None:
    program = (
        "from reconciler.planning.processes import ProcessExecutor\n"
        "import os\n"
        "executor = ProcessExecutor(1)\n"
        "print(executor.submit(os.getpid).result())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    pid = int(done.stdout)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")
