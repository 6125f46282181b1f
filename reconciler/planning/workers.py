"""Who does the work of a command: this process and, where there is much to do, others beside it."""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class Told(NamedTuple):
    """How far it is: what is being done, how much of it is done, and of how much if that is known."""

    doing: str
    done: int
    total: int | None = None


def processes() -> Executor:
    """An executor with a process for each processor that we may use but one: whoever hands out work does
    some of it as well."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Not by forking: the index is open, and an embedding program may have threads.
    return ProcessPoolExecutor(
        max(_processors() - 1, 1),
        mp_context=get_context("spawn"),
        initializer=_prepare_process,
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    gc.disable()  # nothing here makes cycles, and looking for them takes a fifth of the time
    with suppress(OSError, ImportError, AttributeError):
        _widen_pipes()


def _widen_pipes() -> None:
    """Has the pipes between us and whoever started us hold what comes of a batch, where the system can do
    that (Linux). Else we wait, a few thousandths of a second for each 64 KiB, for somebody who is busy."""
    import fcntl

    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the one of the listing is gone; and there may be a limit
            if descriptor > 2 and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)


_PIPE = 1 << 20
"""Bytes: the most that a process may ask for."""


_UNDER_WAY = 16
"""Batches that are held at a time: enough to keep some processes busy, few enough for memory."""
_SWITCH = 0.001
"""Seconds after which one thread lets another have the interpreter, while work is shared out."""


class Hands:
    """Does tasks batch by batch, in their order: here, and by an executor once there is enough to do.

    A context manager, which ends with the executor. ``pool`` makes one; without it, and on a single
    processor, all is done here.
    """

    def __init__(self, pool: Callable[[], Executor] | None = None) -> None:
        self._pool = pool if pool is not None and _processors() > 1 else None
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def results(
        self,
        task: Callable[..., _Result],
        batches: Iterable[_Batch],
        given: Callable[[_Batch], tuple[Any, ...]],
        *,
        worth: Callable[[_Batch], float],
        here: Callable[..., _Result] | None = None,
    ) -> Iterator[tuple[_Batch, _Result]]:
        """Batches, each with what a task makes of what is given for it.

        An executor is started, and stays, once batches were met that are ``worth`` 1 together. What is
        done ``here`` may be another form of the task, whose result nobody has to carry.
        """
        here = here or task
        rest = iter(batches)
        if self._executor is None and self._pool is not None:
            few: list[_Batch] = []
            met = 0.0
            while met < 1 and (batch := next(rest, None)) is not None:
                few.append(batch)
                met += worth(batch)
            if met >= 1:
                self._executor = self._pool()
            rest = chain(few, rest)
        if self._executor is None:
            for batch in rest:
                yield batch, here(*given(batch))
            return
        yield from _shared(self._executor, task, here, rest, given)


def _shared(
    executor: Executor,
    task: Callable[..., _Result],
    here: Callable[..., _Result],
    batches: Iterator[_Batch],
    given: Callable[[_Batch], tuple[Any, ...]],
) -> Iterator[tuple[_Batch, _Result]]:
    """The same, done by an executor and, while that has enough to do, here; all of it where the executor
    breaks down, since a process of it was killed, for want of memory perhaps."""
    from concurrent.futures import BrokenExecutor, Future

    enough = 4 * max(_processors() - 1, 1)
    under_way: deque[tuple[_Batch, Future[_Result]]] = deque()

    def begun(batch: _Batch) -> Future[_Result]:
        if sum(not future.done() for _, future in under_way) < enough:
            with suppress(BrokenExecutor):
                return executor.submit(task, *given(batch))
        done: Future[_Result] = Future()
        done.set_result(here(*given(batch)))
        return done

    def ended(batch: _Batch, future: Future[_Result]) -> _Result:
        try:
            return future.result()
        except BrokenExecutor:
            return here(*given(batch))

    # Threads of ours feed the executor. They need the interpreter often, and for little.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        for batch in batches:
            under_way.append((batch, begun(batch)))
            while under_way and (under_way[0][1].done() or len(under_way) >= _UNDER_WAY):
                first, future = under_way.popleft()
                yield first, ended(first, future)
        while under_way:
            first, future = under_way.popleft()
            yield first, ended(first, future)
    finally:
        sys.setswitchinterval(interval)
        for _, future in under_way:
            future.cancel()
