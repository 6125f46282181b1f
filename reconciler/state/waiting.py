"""Waiting for a lock that somebody else holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from reconciler.state.store import Locked, OnWait

T = TypeVar("T")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
"""Seconds. A store may be on another machine, where each look is a request."""


def _random_share() -> float:
    """A number from 0 to 1. Jobs that began to wait at the same time must not look at the same times."""
    return os.urandom(1)[0] / 255


def acquired(
    take: Callable[[], T],
    *,
    wait: float,
    on_wait: OnWait | None = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    random_share: Callable[[], float] = _random_share,
) -> T:
    """The result of ``take``, which raises `Locked` while somebody else holds the lock. It is tried for
    ``wait`` seconds; ``on_wait`` is given the lock that is held, before each pause.

    Raises the last `Locked`, and whatever ``on_wait`` raises.
    """
    until, pause = None, _FIRST_PAUSE
    while True:
        try:
            return take()
        except Locked as locked:
            if until is None:  # a look may take long, and does not count as waiting
                until = monotonic() + wait
            left = until - monotonic()
            if left <= 0:
                raise
            if on_wait is not None:
                on_wait(locked.lock)
            sleep(min(left, pause * (0.5 + random_share())))
            pause = min(2 * pause, _LONGEST_PAUSE)
