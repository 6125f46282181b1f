"""What is told while a command waits for the lock of the state."""

from __future__ import annotations

from reconciler.cli.lock_notice import REPEATED_AFTER, LockNotice
from tests.support.clock import ManualClock


def test_a_holder_is_told_once_and_then_rarely() -> None:
    clock, lines = ManualClock(5.0), list[str]()
    notice = LockNotice(lines.append, seconds=90.0, monotonic=clock)
    for _ in range(3):
        notice("locked by ann")
        clock.time += 1
    notice("locked by bob")
    clock.time += REPEATED_AFTER
    notice("locked by bob")
    assert lines == [f"locked by {name}; waiting for up to 90 s" for name in ("ann", "bob", "bob")]
