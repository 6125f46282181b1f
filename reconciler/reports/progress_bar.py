"""The progress bar of a long apply. A module of its own, since importing rich takes a sixth of a second."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from reconciler.core.outcomes import Progress
from reconciler.reports.text import pace_text


class Bar:
    """A progress bar below the lines of an apply. ``verb`` says what is done."""

    def __init__(self, stream: TextIO, total: int, *, verb: str) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._bar = RichProgress(
            TextColumn(verb, markup=False),
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

    def print_above(self, line: str) -> None:
        """Prints a line on the terminal of the bar, above it."""
        self._console.print(Text.from_ansi(line))

    def close(self) -> None:
        self._bar.stop()
