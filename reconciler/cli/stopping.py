"""Signals: the first lets the work under way finish, the second ends the program at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from reconciler.cli.app import App
from reconciler.errors import ExitCode
from reconciler.systems import STOP_SIGNALS

_NOTICE = b"stopping: what is under way is finished and saved; once more to leave at once\n"


@contextmanager
def stopping_on_signals(app: App) -> Iterator[None]:
    """Within, the first signal to stop keeps new work from starting, and the second ends the
    program."""

    def handle(number: int, frame: FrameType | None) -> None:
        if app.signals:
            os._exit(ExitCode.INTERRUPTED)
        app.signals.append(number)
        with suppress(OSError):  # not through the stream, which may be in the middle of a write
            os.write(2, _NOTICE)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
