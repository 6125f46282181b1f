"""What an apply shows while it runs: lines, a bar or heartbeats, or a stream of events.

The applier tells what is durable already. So nothing that happens to a stream (a closed pipe, a full
disk, a terminal that is gone) may stop it: such a stream is given up, and the run ends with code 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from reconciler.core.outcomes import ApplyReport, Outcome, Progress, Result
from reconciler.core.plan import Plan
from reconciler.errors import ExitCode, ReconcileError
from reconciler.reports.json import (
    change_event,
    progress_event,
    start_event,
    summary_event,
    version_event,
)
from reconciler.reports.text import apply_text, pace_text, progress_text, result_line

HEARTBEAT = 10.0
"""Seconds between two lines that say how far it is, where there is no bar, and between two events."""
_BAR_AFTER = 1.0
"""Seconds until it is worth showing a bar."""
_FEW = 20
"""Changes of which each gets a line beside a bar, and is not listed again at the end."""


class Narrator(Protocol):
    """Tells how an apply goes."""

    @property
    def broken(self) -> bool:
        """Whether a stream could not be written to, so that something was not told."""
        ...

    def begin(self, plan: Plan) -> None: ...

    def result(self, result: Result) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def end(self, done: ApplyReport, code: ExitCode) -> None: ...

    def fail(self, problem: ReconcileError) -> None:
        """The run ended by an error, which will be shown after this."""
        ...


class _Stream:
    """A stream that may break; what it cannot encode is escaped."""

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


class Lines:
    """For people: a line for every outcome on ``out``; on ``err`` a bar if it is a terminal, else a
    line now and then."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        color: bool,
        bar: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = _Stream(out)
        self._err = _Stream(err)
        self._color = color
        self._wants_bar = bar
        self._clock = clock
        self._bar: _Bar | None = None
        self._total = 0
        self._began = self._spoke = clock()

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, plan: Plan) -> None:
        self._total = plan.count
        self._began = self._spoke = self._clock()

    def result(self, result: Result) -> None:
        if result.outcome is Outcome.SKIPPED:
            return  # how many, and why, is said at the end
        line = result_line(result, color=self._color)
        if self._bar is None:
            self._out.write(line)
        elif result.needs_a_look or not self._out.stream.isatty():
            self._bar.above(line, self._out)

    def progress(self, progress: Progress) -> None:
        now = self._clock()
        if self._bar is None and self._wants_bar and now - self._began >= _BAR_AFTER:
            self._bar = _Bar(self._err.stream, progress.total)
        if self._bar is not None:
            try:
                self._bar.show(progress)
            except (OSError, ValueError):
                self._wants_bar = False
                self._bar = None
        elif not self._wants_bar and now - self._spoke >= HEARTBEAT:
            self._spoke = now
            self._err.write(progress_text(progress, seconds=now - self._began))

    def end(self, done: ApplyReport, code: ExitCode) -> None:
        self._stop()
        if self._total:
            listed = self._total > _FEW
            self._out.write(apply_text(done, color=self._color, problems=listed).rstrip())

    def fail(self, problem: ReconcileError) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Events:
    """For programs: a stream of events, one JSON object a line. The first is ``version``, the last
    ``summary``, whatever happens."""

    def __init__(self, out: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = _Stream(out)
        self._clock = clock
        self._counts = dict.fromkeys(Outcome, 0)
        self._began = self._spoke = clock()
        self._out.write(version_event())

    @property
    def broken(self) -> bool:
        return self._out.broken

    def begin(self, plan: Plan) -> None:
        self._began = self._spoke = self._clock()
        self._out.write(start_event(plan))

    def result(self, result: Result) -> None:
        self._counts[result.outcome] += 1
        self._out.write(change_event(result))

    def progress(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._spoke >= HEARTBEAT:
            self._spoke = now
            self._out.write(progress_event(progress, seconds=now - self._began))

    def end(self, done: ApplyReport, code: ExitCode) -> None:
        self._out.write(summary_event(done, code))

    def fail(self, problem: ReconcileError) -> None:
        done = ApplyReport("", self._counts, seconds=self._clock() - self._began)
        self._out.write(summary_event(done, problem.exit_code, problem=problem))


class _Bar:
    """A progress bar, by rich; imported only once it is shown, since that takes a sixth of a second."""

    def __init__(self, stream: TextIO, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._bar = RichProgress(
            TextColumn("applying", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = self._bar.add_task("", total=total, note="")
        self._bar.start()

    def show(self, progress: Progress) -> None:
        note = pace_text(progress)
        self._bar.update(
            self._task, completed=progress.done, total=progress.total, note=note, refresh=True
        )

    def above(self, line: str, out: _Stream) -> None:
        """Writes a line; above the bar where both share a terminal."""
        if not out.stream.isatty():
            out.write(line)
            return
        from rich.text import Text

        self._console.print(Text.from_ansi(line))

    def close(self) -> None:
        self._bar.stop()
