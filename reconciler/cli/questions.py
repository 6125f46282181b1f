"""Questions to a person at the terminal."""

from __future__ import annotations

import signal
import sys

from reconciler.cli.streams import stderr_line, write
from reconciler.errors import Interrupted
from reconciler.systems import STOP_SIGNALS


def ask(question: str, *, is_stopping: bool) -> str:
    """The answer of a person at the terminal. A signal ends the wait at once.

    Raises Interrupted on a signal, also on one that came before (``is_stopping``).
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOP_SIGNALS}
    try:
        if is_stopping:
            raise KeyboardInterrupt
        write(sys.stderr, question)
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        stderr_line("")
        raise Interrupted("interrupted; nothing was sent") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
