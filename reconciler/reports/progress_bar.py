"""The progress bar of a long apply. A module of its own, since importing rich takes a sixth of a second."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from reconciler.core.outcomes import Progress
from reconciler.reports.text import bar_text

_WIDTH = 18
"""Characters of the bar. The text beside it fits into the rest of 80 columns."""


class Bar:
    """A progress bar below the lines of an apply, or of what ``verb`` says. It is green until something
    fails."""

    def __init__(self, stream: TextIO, total: int, *, verb: str = "") -> None:
        self._encoding = stream.encoding or "utf-8"
        self._console = Console(file=stream, highlight=False, markup=False, soft_wrap=True)
        self._blocks = BarColumn(_WIDTH, complete_style="green", finished_style="green")
        self._bar = RichProgress(
            *([TextColumn(verb, markup=False)] if verb else []),
            self._blocks,
            TextColumn(
                "{task.fields[text]}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = self._bar.add_task("", total=total, text="")
        self._bar.start()

    def show(self, progress: Progress, *, seconds: float, pace: float | None) -> None:
        """Shows how far an apply is after so many seconds, at ``pace`` requests per second."""
        if progress.failed:
            self._blocks.complete_style = self._blocks.finished_style = "red"
        self._bar.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            text=self._encodable(bar_text(progress, seconds=seconds, pace=pace)),
            refresh=True,
        )

    def print_above(self, line: str) -> None:
        """Prints a line on the terminal of the bar, above it."""
        self._console.print(Text.from_ansi(self._encodable(line)))

    def _encodable(self, text: str) -> str:
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def close(self) -> None:
        self._bar.stop()
