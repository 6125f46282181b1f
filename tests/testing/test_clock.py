"""The clock of tests: sleeping takes no time, and moves the clock of one thread only."""

from __future__ import annotations

import time
from threading import Thread

from reconciler.testing.clock import InstantClock


def test_sleeping_moves_the_clock_and_returns_at_once() -> None:
    clock = InstantClock()
    before, started = clock.now(), time.monotonic()
    clock.sleep(3600.0)
    assert clock.now() >= before + 3600.0
    assert time.monotonic() - started < 60.0


def test_each_thread_has_a_clock_of_its_own() -> None:
    clock = InstantClock()
    thread = Thread(target=lambda: clock.sleep(3600.0))
    before = clock.now()
    thread.start()
    thread.join()
    assert clock.now() < before + 3600.0
