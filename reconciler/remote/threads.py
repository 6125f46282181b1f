"""Calls in threads that do not keep the process alive, or through any other executor."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult

_LINGER = 0.005
"""Seconds that `ExecutorCalls.poll` waits for more answers once it has one."""


class ExecutorCalls:
    """Calls through an executor: a pool of threads, or any other."""

    def __init__(self, executor: Executor, send: Callable[[Request], ApiAnswer]) -> None:
        self._executor = executor
        self._send = send
        self._under_way = 0
        self._answers: queue.SimpleQueue[tuple[int, ApiAnswer]] = queue.SimpleQueue()

    def begin(self, ticket: int, request: Request) -> None:
        self._under_way += 1
        future = self._executor.submit(self._send, request)
        future.add_done_callback(lambda call: self._answers.put((ticket, _answer(call))))

    def poll(self, timeout: float) -> Sequence[tuple[int, ApiAnswer]]:
        """The calls that ended: waits up to ``timeout`` seconds for one, then `_LINGER` for half of the rest.

        Among many threads that send, the one that records gets the interpreter seldom. To record each
        answer by itself would hold up all others.
        """
        answers = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._answers.get(timeout=timeout))
            until = time.monotonic() + _LINGER
            while len(answers) < self._under_way // 2:
                answers.append(self._answers.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                answers.append(self._answers.get_nowait())
        self._under_way -= len(answers)
        return answers


def _answer(call: Future[ApiAnswer]) -> ApiAnswer:
    """The answer of a call. If its worker raised, the outcome is unknown, and the run goes on."""
    problem = call.exception()
    if problem is None:
        return call.result()
    return ApiAnswer(CallResult.UNKNOWN, message=f"the call failed ({type(problem).__name__})")


class DaemonExecutor(Executor):
    """Starts threads when they are needed, and lets the interpreter end without them.

    The interpreter waits for the threads of the standard library's pool, even if the user wants to stop
    (reliability 0.7). Where no more threads can be started, those that run do all of the work; where none
    can, the caller does it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._tasks = queue.SimpleQueue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put((future, lambda: fn(*args, **options)))
        if not self._idle.acquire(blocking=False):
            with self._lock:
                if self._threads < self._most and not self._start():
                    self._most = self._threads
            if self._most == 0:
                self._carry(self._tasks.get())
        return future

    def _start(self) -> bool:
        """Starts one more thread; whether that was possible."""
        name = f"call-{self._threads + 1}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except (RuntimeError, MemoryError):  # a limit on memory or on threads
            return False
        self._threads += 1
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets threads end after their task; does not wait for them."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._carry(task)
            self._idle.release()

    @staticmethod
    def _carry(task: tuple[Future[Any], Callable[[], Any]] | None) -> None:
        if task is None:
            return
        future, run = task
        try:
            result = run()
        except BaseException as problem:  # the future carries it to its reader
            future.set_exception(problem)
        else:
            future.set_result(result)
