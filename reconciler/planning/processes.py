"""Other processes of this program that do work: an executor that needs pipes and nothing else.

The executor of the standard library needs semaphores (``/dev/shm``), prints the errors of a process that
cannot start, and may wait for it for ever. Here a process that fails is a broken executor, whose work the
caller does.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from typing import Any

_PIPE_BYTES = 1 << 20
"""The most that a process may ask for."""
_LENGTH = 8
"""Bytes of the number before a message: how many bytes follow."""
_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
"""The variables that a process gets. None of them is a key: reading and planning need none."""
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from reconciler.planning.processes import serve; serve()"
)


class ProcessExecutor(Executor):
    """Calls functions in other processes, each of which does its calls in their order.

    A process is started with the first call that finds all others busy. `submit` raises whatever keeps a
    call from being sent, and BrokenExecutor once no process is left; so does a future whose process died.
    """

    def __init__(self, processes: int) -> None:
        """``processes`` is how many there may be."""
        self._most = processes
        self._processes: list[_Process] = []
        self._is_broken = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        call = pickle.dumps((fn, args, kwargs), pickle.HIGHEST_PROTOCOL)
        self._processes = [process for process in self._processes if process.is_alive]
        process = min(self._processes, key=_Process.pending, default=None)
        if (process is None or process.pending()) and len(self._processes) < self._most:
            process = self._started() or process
        if process is None:
            raise BrokenExecutor("no process could be started")
        return process.send(call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes: at once with ``cancel_futures``, otherwise once they have done their calls."""
        self._is_broken = True
        for process in self._processes:
            process.end(at_once=cancel_futures)
        if wait:
            for process in self._processes:
                process.wait()

    def _started(self) -> _Process | None:
        """Another process; ``None`` where the system gives none, which is not tried again."""
        if self._is_broken:
            return None
        try:
            process = _Process()
        except (OSError, RuntimeError, MemoryError, ValueError):
            self._is_broken = True
            return None
        self._processes.append(process)
        return process


class _Process:
    """A process, and the thread that takes its answers."""

    def __init__(self) -> None:
        """Raises OSError, RuntimeError or MemoryError where it cannot be started."""
        process = subprocess.Popen(
            # Isolated: neither the working directory nor a variable adds to where modules come from.
            [sys.executable, "-I", "-c", _PROGRAM, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in _VARIABLES if name in os.environ},
            stderr=subprocess.DEVNULL,  # whatever goes wrong there, this process does the work
            bufsize=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._calls: Any = process.stdin
        self._answers: Any = process.stdout
        self._futures: deque[Future[Any]] = deque()
        self._guard = threading.Lock()
        self.is_alive = True
        for pipe in (self._calls, self._answers):
            _widen(pipe.fileno())
        self._thread = threading.Thread(target=self._take_answers, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            process.kill()
            process.wait()
            self._close()
            raise

    def pending(self) -> int:
        """Calls that are not answered."""
        return len(self._futures)

    def send(self, call: bytes) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._guard:
            if not self.is_alive:
                raise BrokenExecutor("the process has ended")
            self._futures.append(future)
        try:
            _write(self._calls, call)
        except (OSError, ValueError):
            self._process.kill()  # the thread sees the end, and fails all futures
        return future

    def end(self, *, at_once: bool) -> None:
        if at_once:
            self._process.kill()
        else:
            with suppress(OSError):
                self._calls.close()

    def wait(self) -> None:
        self._thread.join()

    def _take_answers(self) -> None:
        try:
            while (answer := _read(self._answers)) is not None:
                is_error, value = pickle.loads(answer)
                future = self._futures[0]
                if is_error:
                    future.set_exception(value)
                else:
                    future.set_result(value)
                self._futures.popleft()
        except Exception:
            self._process.kill()  # an answer that cannot be read
        finally:
            with self._guard:
                self.is_alive = False
                futures = [*self._futures]
            for future in futures:
                if not future.done():
                    future.set_exception(BrokenExecutor("the process died"))
            self._process.wait()
            self._close()

    def _close(self) -> None:
        for pipe in (self._calls, self._answers):
            with suppress(OSError):
                pipe.close()


def serve() -> None:
    """Answers the calls that come from the standard input, until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started us ends us
    gc.disable()  # nothing here makes cycles, and looking for them takes a fifth of the time
    with (
        open(os.dup(0), "rb", 0) as calls,
        open(os.dup(1), "wb", 0) as answers,
        open(os.devnull, "wb") as nothing,
    ):
        os.dup2(nothing.fileno(), 1)  # what is printed here is no answer
        with suppress(OSError):
            while (call := _read(calls)) is not None:
                _write(answers, _answer(call))


def _answer(call: bytearray) -> bytes:
    try:
        function, args, kwargs = pickle.loads(call)
        return pickle.dumps((False, function(*args, **kwargs)), pickle.HIGHEST_PROTOCOL)
    except Exception as problem:
        # Only that it failed is told: whoever sent the call makes it himself, and raises what that raises.
        return pickle.dumps((True, BrokenExecutor(type(problem).__name__)))


def _write(pipe: Any, message: bytes) -> None:
    for part in (len(message).to_bytes(_LENGTH, "big"), message):
        view = memoryview(part)
        while view:
            view = view[pipe.write(view) :]


def _read(pipe: Any) -> bytearray | None:
    """A message; ``None`` at the end, even in the middle of a message."""
    head = _read_exactly(pipe, _LENGTH)
    return None if head is None else _read_exactly(pipe, int.from_bytes(head, "big"))


def _read_exactly(pipe: Any, size: int) -> bytearray | None:
    message = bytearray(size)
    view = memoryview(message)
    while view:
        count = pipe.readinto(view)
        if not count:
            return None
        view = view[count:]
    return message


def _widen(descriptor: int) -> None:
    """Makes a pipe hold the result of a batch, where the system can do that (Linux). Otherwise a process
    waits some thousandths of a second for each 64 KiB until the other one, which is busy, has read them."""
    with suppress(OSError, ImportError, AttributeError):
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
