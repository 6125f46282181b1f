"""Signals to stop. Most commands end at once; those that send requests finish what is under way first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

import click

from reconciler.errors import ExitCode
from reconciler.systems import STOP_SIGNALS

_Handler = Callable[[int, FrameType | None], None]
_NOTICE = "\nstopping: what is under way is finished and saved; once more to leave at once\n"
_SHOW_CURSOR = "\x1b[?25h"
"""ECMA-48, as terminals extend it: a progress bar hides the cursor."""


class Stoppable(Protocol):
    """Remembers the signals that asked it to stop."""

    signals: list[int]


@contextmanager
def ending_on_signals(left_undone: str) -> Iterator[None]:
    """Within, a signal to stop ends the program at once, and says what was not done."""

    def handle(number: int, frame: FrameType | None) -> None:
        _write(f"\ninterrupted; {left_undone}\n")
        os._exit(ExitCode.INTERRUPTED)

    with _handled_by(handle):
        yield


@contextmanager
def stopping_on_signals(app: Stoppable) -> Iterator[None]:
    """Within, the first signal to stop keeps new work from starting, and the second ends the
    program."""

    context = click.get_current_context(silent=True)
    name = context.info_name if context is not None else "it"

    def handle(number: int, frame: FrameType | None) -> None:
        if app.signals:
            _write(f"\nLeft at once; run {name} again.\n{_SHOW_CURSOR if os.isatty(2) else ''}")
            os._exit(ExitCode.INTERRUPTED)
        app.signals.append(number)
        _write(_NOTICE)

    with _handled_by(handle):
        yield


@contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    before = {}
    with suppress(ValueError):  # Python allows no handler outside of the main thread
        before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _write(text: str) -> None:
    """Writes to stderr, not through the stream: it may be in the middle of a write."""
    with suppress(OSError):
        os.write(2, text.encode("ascii"))
