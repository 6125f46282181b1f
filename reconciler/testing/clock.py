"""A clock by which waiting takes no time."""

from __future__ import annotations

import threading
import time


class InstantClock:
    """A clock for tests: to sleep moves the clock, and returns at once.

    Each thread has a clock of its own, so that no deadline of one thread passes while another one sleeps.
    """

    def __init__(self) -> None:
        self._skipped = threading.local()

    def now(self) -> float:
        return time.monotonic() + float(getattr(self._skipped, "seconds", 0.0))

    def sleep(self, seconds: float) -> None:
        self._skipped.seconds = getattr(self._skipped, "seconds", 0.0) + seconds
