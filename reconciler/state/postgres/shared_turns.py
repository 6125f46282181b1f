"""Turns of a rate that several processes share: one row of a schema is their common timeline.

A statement takes the next turns of the timeline for one process, by the server's clock. The process lets its
requests leave at these turns by its own clock. A turn that it sleeps through is lost and not made up for, so
no second holds more requests than the rate allows. Turns are fetched in a thread of their own, before they
are needed.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable

from reconciler.errors import ReconcileError
from reconciler.state.postgres.failures import NoTable
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.statements import BEGIN_PACE, HOLD_PACE, SLOW_PACE, TAKE_TURNS

LATE = 0.010
"""Seconds after which a turn is lost. The margin of the rate stretches a second by 15 ms, so a window of a
second never holds a turn too many."""
_BATCH_SECONDS = 0.05
"""As many turns are fetched at once as the whole rate has in this time, if so many requests wait."""
_SOON = 0.002
"""Seconds until another look, while turns are fetched."""
_RETRY = 1.0
"""Seconds until turns are asked for again, after the database did not answer."""
_PATIENCE = 2.0
"""Seconds to wait for the thread at the end."""
_SAMPLE_SECONDS = 60.0
"""How long a comparison of the clocks counts: clocks drift apart."""


class SharedTurns:
    """A `reconciler.remote.turns.Turns` that other processes share under the same ``name``.

    In requests per second, ``rate`` is where the first process begins, ``most`` what the rate may grow to,
    and ``least`` below which a 429 does not slow it down. ``margin`` stretches a second. ``clock`` gives
    monotonic seconds.
    """

    def __init__(
        self,
        session: Session,
        *,
        name: str,
        rate: float,
        most: float,
        least: float,
        margin: float,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._name = name
        self._rate = rate
        self._most = most
        self._least = least
        self._margin = margin
        self._clock = clock
        self._limited = 0.0
        self._guard = threading.Lock()
        self._turns: deque[float] = deque()
        self._is_fetching = False
        self._not_before = -math.inf
        self._offsets: deque[tuple[float, float]] = deque()
        """Comparisons of our clock with the server's: when, and by how much ours is ahead at most."""
        self._rates: deque[tuple[float, float]] = deque([(-math.inf, rate)], maxlen=1000)
        """When we learned of which rate."""
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self) -> bool:
        """Takes part in the rate; says whether there is a state in which it can be kept.

        Raises ReconcileError where the database refuses.
        """
        arguments = {"name": self._name, "rate": self._rate, "most": self._most}
        try:
            rows = self._session.rows(BEGIN_PACE, arguments)
        except NoTable:
            return False
        for rate, limited in rows:
            self._learn(rate, limited)
        return True

    def close(self) -> None:
        """Ends the thread, once it has told the database of every 429, and the connection."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(_PATIENCE)
        self._session.close()

    # What the pace asks, with its lock held: nothing here may wait

    @property
    def rate(self) -> float | None:
        return self._rate

    @property
    def is_slowed_down(self) -> bool:
        return self._limited > 0 and self._rate < self._most

    def wait(self, now: float, *, waiting: int) -> float | None:
        with self._guard:
            while self._turns and now - self._turns[0] > LATE:
                self._turns.popleft()
            number = max(1, min(int(self._rate * _BATCH_SECONDS), waiting))
            if (
                len(self._turns) <= number // 2
                and not self._is_fetching
                and now >= self._not_before
            ):
                self._is_fetching = True
                self._do(lambda: self._fetch(number))
            return self._turns[0] - now if self._turns else _SOON

    def take(self, now: float) -> None:
        with self._guard:
            if self._turns and self._turns[0] <= now:
                self._turns.popleft()

    def sent(self, now: float) -> None:
        """A turn counts when it is taken."""

    def not_sent(self) -> None:
        """The turn is lost."""

    def grow(self, now: float) -> None:
        """The rate grows with its use, in the database."""

    def slow_down(self, now: float, *, began: float, is_first: bool) -> None:
        seen = next(rate for since, rate in reversed(self._rates) if since <= began)
        arguments = {"name": self._name, "least": self._least, "seen": seen}
        self._do(lambda: self._tell(SLOW_PACE, arguments))

    def hold(self, seconds: float) -> None:
        with self._guard:
            self._turns.clear()
        arguments = {"name": self._name, "seconds": seconds}
        self._do(lambda: self._tell(HOLD_PACE, arguments))

    # In the thread

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _tell(self, text: str, arguments: dict[str, object]) -> None:
        try:
            self._session.rows(text, arguments)
        except ReconcileError:
            self._pause()  # the pace slows this process down by itself

    def _fetch(self, number: int) -> None:
        arguments = {
            "name": self._name,
            "turns": number,
            "most": self._most,
            "margin": self._margin,
        }
        try:
            ((start, rate, limited, at),) = self._session.rows(TAKE_TURNS, arguments)
        except (ReconcileError, ValueError):  # ValueError: somebody removed the row
            self._pause()
            return
        now = self._clock()
        offset = self._offset(now, now - at)
        gap = self._margin / rate
        with self._guard:
            self._learn(rate, limited)
            self._turns.extend(start + offset + place * gap for place in range(number))
            self._is_fetching = False

    def _pause(self) -> None:
        with self._guard:
            self._is_fetching = False
            self._not_before = self._clock() + _RETRY

    def _learn(self, rate: float, limited: float) -> None:
        if rate != self._rate:
            self._rates.append((self._clock(), rate))
        self._rate, self._limited = rate, limited

    def _offset(self, now: float, offset: float) -> float:
        """The smallest of the last comparisons. Each is too large by the time that the answer took, so turns
        come late rather than early, and by the shortest of these times only."""
        while self._offsets and self._offsets[0][0] < now - _SAMPLE_SECONDS:
            self._offsets.popleft()
        self._offsets.append((now, offset))
        return min(each for _, each in self._offsets)
