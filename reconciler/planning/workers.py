"""A pool of workers: this process and, where there is much to do, others beside it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")

_MOST_PENDING = 16
"""Batches that are held at a time: enough to keep some processes busy, few enough for memory."""


def processes() -> Executor:
    """An executor with one process fewer than the processors that we may use: the process that hands out
    the work does some of it as well."""
    from reconciler.planning.processes import ProcessExecutor

    return ProcessExecutor(max(usable_processors() - 1, 1))


def usable_processors() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
                self._executor = self._started()
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

    def _started(self) -> Executor | None:
        """The executor; ``None`` where the system does not give what it needs."""
        assert self._start is not None
        try:
            return self._start()
        except (OSError, ImportError, NotImplementedError, RuntimeError, MemoryError):
            self._start = None
            return None


class _Sharing:
    """Work that an executor does and, while that has enough to do, this process.

    This process also does what the executor fails at, whatever the reason: one of its processes was killed,
    perhaps for want of memory, or what has to be carried there cannot be carried. An error that lies in the
    work itself is raised here then.
    """

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
        from concurrent.futures import Future

        self._new_future = Future[Any]
        self._executor = executor
        self._task = task
        self._local = local
        self._arguments = arguments
        self._enough = enough
        self._has_failed = False
        """Whether the executor failed at something. It gets nothing more then."""
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
        if not self._has_failed and self._under_way() < self._enough:
            try:
                return self._executor.submit(self._task, *self._arguments(batch))
            except Exception:
                self._has_failed = True
        future: Future[Any] = self._new_future()
        future.set_result(self._local(*self._arguments(batch)))
        return future

    def _under_way(self) -> int:
        return sum(not future.done() for _, future in self._pending)

    def _finish(self, batch: Any, future: Future[Any]) -> tuple[Any, Any]:
        try:
            return batch, future.result()
        except Exception:
            self._has_failed = True
            return batch, self._local(*self._arguments(batch))
