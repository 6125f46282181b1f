"""What is told while a command waits for the lock of the state: who holds it, once, and then now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

REPEATED_AFTER = 60.0
"""Seconds after which a notice is repeated."""


class LockNotice:
    """Writes a line at the first look at the lock, at each other holder, and now and then."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``seconds`` is the longest wait."""
        self._write = write
        self._seconds = seconds
        self._monotonic = monotonic
        self._last = ""
        self._next = 0.0

    def __call__(self, held: str) -> None:
        """``held`` says who holds the lock, at a look at it."""
        now = self._monotonic()
        if held == self._last and now < self._next:
            return
        self._last, self._next = held, now + REPEATED_AFTER
        self._write(f"{held}; waiting for up to {self._seconds:g} s")
