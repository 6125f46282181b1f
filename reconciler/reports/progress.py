"""The output of an apply while it runs: lines, a bar or heartbeats, or a stream of events.

The applier reports an outcome after it is durable. A stream that fails (a closed pipe, a full disk, a
terminal that is gone) must not stop the apply: nothing more is written to it, and the run ends with code 1.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from reconciler.commands import Command
from reconciler.core.outcomes import ApplyReport, Outcome, Progress, Result
from reconciler.core.plan import Plan
from reconciler.errors import ExitCode, ReconcileError
from reconciler.reports.json import (
    backup_event,
    change_event,
    progress_event,
    start_event,
    summary_event,
    version_event,
)
from reconciler.reports.text import apply_text, backup_text, progress_text, result_line

if TYPE_CHECKING:
    from reconciler.reports.progress_bar import Bar

HEARTBEAT = 10.0
"""Seconds between two progress lines, if there is no bar, and between two progress events."""
_BAR_AFTER = 1.0
"""Seconds until a bar is shown; a shorter apply needs none."""
_ONLY_COUNTED = "… further ones are only counted, unless something is wrong"
_FEW = 20
"""Changes of an apply whose problems are not listed again at its end."""


_PACE_SECONDS = 10.0
"""The time over which the pace of requests is measured."""


class RequestMeter:
    """The requests per second of the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def measure(self, now: float, requests: int) -> float | None:
        """The pace, given how many requests left until now; ``None`` before there is any."""
        self._seen.append((now, requests))
        while len(self._seen) > 2 and now - self._seen[0][0] > _PACE_SECONDS:
            self._seen.popleft()
        began, before = self._seen[0]
        return (requests - before) / (now - began) if now - began >= 1 else None


class ApplyReporter(Protocol):
    """Shows how an apply proceeds."""

    again: str
    """The command that goes on where the apply stops."""

    @property
    def broken(self) -> bool:
        """Whether writing to a stream failed, so that something is missing from it."""
        ...

    def begin(self, plan: Plan) -> None: ...

    def result(self, result: Result) -> None: ...

    def backup(self, words: str) -> None:
        """A backup of the state was made before the first change; ``words`` say where it is."""
        ...

    def progress(self, progress: Progress) -> None: ...

    def end(self, done: ApplyReport, code: ExitCode) -> None: ...

    def fail(self, problem: ReconcileError) -> None:
        """The run ended by an error, which the caller prints next."""
        ...


class _FragileStream:
    """A stream that may break. Characters that it cannot encode are escaped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.broken = False

    def write(self, text: str) -> None:
        if self.broken:
            return
        encoding = self.stream.encoding or "ascii"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: it was closed
            self.broken = True


def open_bar(stream: TextIO, total: int, *, verb: str = "") -> Bar:
    """A progress bar on a terminal. ``verb`` says what is done."""
    from reconciler.reports.progress_bar import Bar

    return Bar(stream, total, verb=verb)


class LineReporter:
    """For people: a line for each outcome on ``out``; on ``err`` a bar if it is a terminal, else a line every
    `HEARTBEAT` seconds. A ``quiet`` one shows only the outcomes that need a look, and the end."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        color: bool,
        bar: bool,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        again: str = Command.of("apply").text(),
        width: int | None = None,
    ) -> None:
        """``again`` is the command that goes on where the apply stops; ``width`` is that of a terminal."""
        self._width = width
        self._out = _FragileStream(out)
        self._err = _FragileStream(err)
        self._color = color
        self._may_show_bar = bar
        self._quiet = quiet
        self._clock = clock
        self._bar: Bar | None = None
        self._is_only_counting = False
        self.again = again
        self._meter = RequestMeter()
        self._total = 0
        self._began = self._last_report = clock()

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, plan: Plan) -> None:
        self._total = plan.count
        self._began = self._last_report = self._clock()
        self._meter.measure(self._began, 0)

    def result(self, result: Result) -> None:
        if result.outcome is Outcome.SKIPPED:
            return  # the end says how many, and why
        if self._quiet and not result.needs_a_look:
            return
        line = result_line(result, color=self._color)
        if self._bar is None or not self._out.stream.isatty():
            self._out.write(line)
            return
        if not (self._is_only_counting or result.needs_a_look):
            self._is_only_counting = True
            self._bar.print_above(_ONLY_COUNTED)
        if result.needs_a_look:
            self._bar.print_above(line)

    def backup(self, words: str) -> None:
        if not self._quiet:
            self._err.write(backup_text(words))

    def progress(self, progress: Progress) -> None:
        if self._quiet:
            return
        now = self._clock()
        pace = self._meter.measure(now, progress.requests)
        if self._bar is None and self._may_show_bar and now - self._began >= _BAR_AFTER:
            self._bar = open_bar(self._err.stream, progress.total)
        if self._bar is not None:
            try:
                self._bar.show(progress, seconds=now - self._began, pace=pace)
            except (OSError, ValueError):
                self._may_show_bar = False
                self._bar = None
        elif not self._may_show_bar and now - self._last_report >= HEARTBEAT:
            self._last_report = now
            self._err.write(progress_text(progress, seconds=now - self._began, pace=pace))

    def end(self, done: ApplyReport, code: ExitCode) -> None:
        self._stop()
        if self._total:
            text = apply_text(
                done,
                color=self._color,
                width=self._width,
                problems=self._total > _FEW,
                again=self.again,
            )
            self._out.write(text.rstrip())

    def fail(self, problem: ReconcileError) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TeeReporter:
    """Several reporters, of which each shows all. More may join before the first change."""

    def __init__(self, *reporters: ApplyReporter) -> None:
        self._reporters = [*reporters]

    def add(self, reporter: ApplyReporter) -> None:
        self._reporters.append(reporter)

    @property
    def again(self) -> str:
        return self._reporters[0].again

    @again.setter
    def again(self, command: str) -> None:
        for each in self._reporters:
            each.again = command

    @property
    def broken(self) -> bool:
        return any(each.broken for each in self._reporters)

    def begin(self, plan: Plan) -> None:
        for each in self._reporters:
            each.begin(plan)

    def result(self, result: Result) -> None:
        for each in self._reporters:
            each.result(result)

    def backup(self, words: str) -> None:
        for each in self._reporters:
            each.backup(words)

    def progress(self, progress: Progress) -> None:
        for each in self._reporters:
            each.progress(progress)

    def end(self, done: ApplyReport, code: ExitCode) -> None:
        for each in self._reporters:
            each.end(done, code)

    def fail(self, problem: ReconcileError) -> None:
        for each in self._reporters:
            each.fail(problem)


class EventReporter:
    """For programs: a stream of events, one JSON object a line. The first event is ``version``; the last is
    ``summary``, also after an error."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.again = ""
        self._out = _FragileStream(out)
        self._clock = clock
        self._counts = dict.fromkeys(Outcome, 0)
        self._began = self._last_report = clock()
        self._out.write(version_event())

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, plan: Plan) -> None:
        self._began = self._last_report = self._clock()
        self._out.write(start_event(plan))

    def result(self, result: Result) -> None:
        self._counts[result.outcome] += 1
        self._out.write(change_event(result))

    def backup(self, words: str) -> None:
        self._out.write(backup_event(words))

    def progress(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._last_report >= HEARTBEAT:
            self._last_report = now
            self._out.write(progress_event(progress, seconds=now - self._began))

    def end(self, done: ApplyReport, code: ExitCode) -> None:
        self._out.write(summary_event(done, code))

    def fail(self, problem: ReconcileError) -> None:
        done = ApplyReport("", self._counts, seconds=self._clock() - self._began)
        self._out.write(summary_event(done, problem.exit_code, problem=problem))
