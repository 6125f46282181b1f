"""The standard streams: what they cannot encode is escaped, a broken pipe ends nothing early, and a
stream that lost something turns success into failure at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol, TextIO

from reconciler.errors import ExitCode, InputError, ReconcileError
from reconciler.values import shown, spelled

if TYPE_CHECKING:
    from reconciler.planning.limits import ProgressEvent

_NARROWEST = 40
"""Columns; a narrower terminal breaks lines itself."""
_HEARTBEAT = 10.0
"""Seconds between two lines of progress where there is no terminal."""
_BROKEN: set[TextIO] = set()
"""Streams that could not take everything that was written to them."""


def open_closed_streams() -> None:
    """Opens the null device in place of closed standard streams. Otherwise the next file that is opened
    takes their descriptors, and text for the user lands in the state."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def exit_with(code: int) -> NoReturn:
    """Ends the program; a stream that could not take everything turns success into failure."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _BROKEN.add(stream)
    if not _BROKEN.isdisjoint((sys.stdout, sys.stderr)):
        code = code or ExitCode.FAILED
    sys.exit(code)


def print_error(problem: ReconcileError) -> None:
    """Prints an error to stderr: its findings, its message, its hint."""
    if isinstance(problem, InputError) and problem.diagnostics:
        plain = (
            f"{each.source}: {each.severity}: {each.message} [{each.rule}]"
            for each in problem.diagnostics
        )
        stderr_line(problem.rendered.rstrip("\n") or "\n".join(map(shown, plain)))
    stderr_line(f"error: {shown(problem.message)}")
    if problem.hint:
        stderr_line(f"  {shown(problem.hint)}")


def stderr_line(text: str) -> None:
    """Prints to stderr; characters that it cannot encode are escaped."""
    write(sys.stderr, text + "\n")


def print_result(text: str) -> None:
    """Prints a result to stdout, ending in one line break at least."""
    write(sys.stdout, text if text.endswith("\n") else text + "\n")


def print_json(value: Any) -> None:
    """Prints a JSON value to stdout, indented."""
    print_result(json_text(value))


def json_text(value: Any) -> str:
    """A JSON value, indented, with a line break at the end."""
    return spelled(value, indent=2) + "\n"


def print_document(parts: Iterable[str], *, stream: TextIO | None = None) -> None:
    """Prints a document of a format that is UTF-8 whatever the terminal is; by default to stdout."""
    stream = stream or sys.stdout
    try:
        stream.flush()
        for part in parts:
            stream.buffer.write(part.encode("utf-8", "backslashreplace"))
        stream.buffer.flush()
    except (OSError, ValueError):
        _BROKEN.add(stream)


def write(stream: TextIO, text: str) -> None:
    """Writes a text; characters that the stream cannot encode are escaped. A failure raises nothing:
    `exit_with` turns it into the exit code."""
    data = text.encode(stream.encoding or "ascii", "backslashreplace")
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except (OSError, ValueError):  # ValueError: it was closed
        _BROKEN.add(stream)


def can_encode(stream: TextIO, text: str) -> bool:
    """Whether a stream's encoding has all characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def columns(stream: TextIO) -> int | None:
    """The width of a terminal; ``None`` for another stream."""
    if not stream.isatty():
        return None
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return max(width, _NARROWEST) if width else None


def is_smart_terminal(stream: IO[Any]) -> bool:
    """Whether a stream is a terminal that can move its cursor and show colours."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class EventBar(Protocol):
    """A progress bar on a terminal."""

    def show(self, event: ProgressEvent) -> None: ...

    def close(self) -> None: ...


class StatusLine:
    """Shows on a terminal how far the work before a plan is, once it takes longer than a second. Elsewhere,
    reading the API prints a line now and then."""

    def __init__(
        self,
        stream: TextIO,
        *,
        delay: float = 1,
        interval: float = 0.1,
        heartbeat: float = _HEARTBEAT,
    ) -> None:
        """``delay``: seconds until it first appears; ``interval``: seconds between two updates;
        ``heartbeat``: seconds between two lines where there is no terminal."""
        self._stream = stream
        self._heartbeat = heartbeat
        self._next_line = monotonic() + heartbeat
        self._next = monotonic() + delay
        self._interval = interval
        self._is_shown = False
        self._is_enabled = is_smart_terminal(stream)
        self.is_quiet = False
        """Whether nothing is to be shown."""
        self.make_bar: Callable[[TextIO, int], EventBar] | None = None
        """Makes the bar by which a terminal shows how far the reading of the API is."""
        self._bar: EventBar | None = None

    def update(self, event: ProgressEvent) -> None:
        """Shows the progress of a phase."""
        if self.is_quiet:
            return
        now = monotonic()
        if self._is_enabled and self.make_bar and event.asks_api and event.total:
            self._update_bar(event, now)
            return
        of = "" if event.total is None else f" of {event.total:,}"
        reason = f"; {event.waiting_for}" if event.waiting_for else ""
        text = f"{event.phase}: {event.done:,}{of}{reason}"
        if self._is_enabled and now >= self._next:
            self._next = now + self._interval
            self._is_shown = True
            write(self._stream, f"\r\x1b[K{text}")
        elif not self._is_enabled and event.asks_api and now >= self._next_line:
            self._next_line = now + self._heartbeat
            write(self._stream, f"{text}\n")

    def _update_bar(self, event: ProgressEvent, now: float) -> None:
        if now < self._next or self.make_bar is None:
            return
        self._next = now + self._interval
        with suppress(OSError, ValueError):  # the terminal is gone
            if self._bar is None:
                self._bar = self.make_bar(self._stream, event.total or 0)
            self._bar.show(event)

    def clear(self) -> None:
        """Removes the line, or the bar, from the terminal."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            with suppress(OSError, ValueError):
                bar.close()
        if self._is_shown:
            self._is_shown = False
            write(self._stream, "\r\x1b[K")
