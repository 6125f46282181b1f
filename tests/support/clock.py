"""The clock of the tests."""

from __future__ import annotations


class ManualClock:
    """A clock that stands still: only waiting, and a test that sets `time`, move it.

    It is a `reconciler.remote.pacing.Clock`, and a function that returns seconds.
    """

    def __init__(self, time: float = 0.0) -> None:
        self.time = time
        """Seconds."""
        self.waits: list[float] = []
        """How long each wait took, in seconds."""

    def __call__(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.waits.append(seconds)
