"""A pool of workers: this process and, where there is much to do, others beside it."""

from __future__ import annotations

import gc
import os
import signal
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

_PIPE_BYTES = 1 << 20
"""The most that a process may ask for."""
_MOST_PENDING = 16
"""Batches that are held at a time: enough to keep some processes busy, few enough for memory."""


def processes() -> Executor:
    """An executor with one process fewer than the processors that we may use: the process that hands out
    the work does some of it as well."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Not by forking: the index is open, and an embedding program may have threads.
    return ProcessPoolExecutor(
        max(usable_processors() - 1, 1),
        mp_context=get_context("spawn"),
        initializer=_prepare_process,
    )


def usable_processors() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started us ends us
    gc.disable()  # nothing here makes cycles, and looking for them takes a fifth of the time
    with suppress(OSError, ImportError, AttributeError):
        _widen_pipes()


def _widen_pipes() -> None:
    """Makes the pipes to the starting process hold the result of a batch, where the system can do that
    (Linux). Otherwise this process waits some thousandths of a second for each 64 KiB until the other
    one, which is busy, has read them."""
    import fcntl

    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own descriptor is closed; and there may be a limit
            if descriptor > 2 and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class WorkerPool:
    """Runs a task over batches and gives the results in their order: in this process, and in an executor
    once there is enough to do.

    A context manager, which ends with the executor. ``start`` makes the executor; without it, and on a
    single processor, all is done in this process.
    """

    def __init__(
        self, start: Callable[[], Executor] | None = None, *, processors: int | None = None
    ) -> None:
        self._processors = usable_processors() if processors is None else processors
        self._start = start if start is not None and self._processors > 1 else None
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def map_ordered(
        self,
        task: Callable[..., _Result],
        batches: Iterable[_Batch],
        *,
        arguments: Callable[[_Batch], tuple[Any, ...]],
        cost: Callable[[_Batch], float],
        local: Callable[..., _Result] | None = None,
    ) -> Iterator[tuple[_Batch, _Result]]:
        """Each batch with the result of the task for its ``arguments``, in the order of the batches.

        The executor is started, and stays, once the ``cost`` of the batches so far adds up to 1.
        ``local`` is the form of the task for this process, whose result nobody has to carry.
        """
        local = local or task
        rest = iter(batches)
        if self._executor is None and self._start is not None:
            first: list[_Batch] = []
            total = 0.0
            while total < 1 and (batch := next(rest, None)) is not None:
                first.append(batch)
                total += cost(batch)
            if total >= 1:
                self._executor = self._start()
            rest = chain(first, rest)
        if self._executor is None:
            for batch in rest:
                yield batch, local(*arguments(batch))
            return
        sharing = _Sharing(
            self._executor,
            task=task,
            local=local,
            arguments=arguments,
            enough=4 * max(self._processors - 1, 1),
        )
        yield from sharing.run(rest)


class _Sharing:
    """Work that an executor does and, while that has enough to do, this process. This process does all
    of it where the executor breaks down, since one of its processes was killed, perhaps for want of
    memory."""

    def __init__(
        self,
        executor: Executor,
        *,
        task: Callable[..., Any],
        local: Callable[..., Any],
        arguments: Callable[[Any], tuple[Any, ...]],
        enough: int,
    ) -> None:
        # Imported only where there is an executor: a plan of a few files needs none of it.
        from concurrent.futures import BrokenExecutor, Future

        self._new_future, self._broken = Future[Any], BrokenExecutor
        self._executor = executor
        self._task = task
        self._local = local
        self._arguments = arguments
        self._enough = enough
        self._pending: deque[tuple[Any, Future[Any]]] = deque()

    def run(self, batches: Iterator[_Batch]) -> Iterator[tuple[_Batch, Any]]:
        pending = self._pending
        try:
            for batch in batches:
                pending.append((batch, self._begin(batch)))
                while pending and (pending[0][1].done() or len(pending) >= _MOST_PENDING):
                    yield self._finish(*pending.popleft())
            while pending:
                yield self._finish(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()

    def _begin(self, batch: Any) -> Future[Any]:
        if sum(not future.done() for _, future in self._pending) < self._enough:
            with suppress(self._broken):
                return self._executor.submit(self._task, *self._arguments(batch))
        future: Future[Any] = self._new_future()
        future.set_result(self._local(*self._arguments(batch)))
        return future

    def _finish(self, batch: Any, future: Future[Any]) -> tuple[Any, Any]:
        try:
            return batch, future.result()
        except self._broken:
            return batch, self._local(*self._arguments(batch))
