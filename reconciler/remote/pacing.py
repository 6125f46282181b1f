"""When a request may leave: the rate, the API's wish to wait, and whether the API is there at all.

One `Pace` is shared by all threads of a client. Its rules (reliability 2, P19 and P20):

- Never more requests in any second than the rate allows, retries included. What counts is when a
  request was written, not when it was allowed to: a thread may be paused in between.
- ``Retry-After`` holds everybody back, since the limit is one of the key (adapty-api 6.3).
- A learning rate grows while it is the bottleneck and the API agrees, and halves on 429.
- A *breaker* opens when the API seems to be away: then one request a second asks whether it is back.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from reconciler.core.transitions import Rate

MARGIN = 1.015
"""A second is stretched by this much: what lies between a request's departure and its arrival differs
from one to the next, and the API counts arrivals."""
FASTEST = 40_000 / 60
"""Requests per second beyond which a learning rate does not grow (adapty-api 6.3)."""
RETRY_AFTER_CAP = 60.0
"""Seconds; the longest that an answer can make us wait."""
UNLIMITED_WINDOW = 16
"""Calls in flight where no rate limits them, and writing takes no time: more only compete for the
interpreter."""
_PER_SECOND = 2_000
"""About as many calls a second as one process can make."""
MOST_IN_FLIGHT = 128
_CATCH_UP = 0.05
"""Seconds of lost time, such as by waking late, that may be made up for."""
_SOON = 0.005
_STOP_CHECK = 0.2
"""Seconds between two looks at whether the user wants to stop."""
_FAILURES = 5
"""So many attempts in a row without an answer of the API open the breaker."""
_PROBE = 1.0
"""Seconds between two requests while the breaker is open."""


class Clock(Protocol):
    """Monotonic seconds, and waiting."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Verdict(StrEnum):
    """What an attempt says about the API's health."""

    UP = "up"
    AWAY = "away"
    LIMITED = "limited"
    """429."""
    UNCLEAR = "unclear"
    """It answered, but with an error of its own: 500 may be about this one profile."""


class Pace:
    """Lets requests go. Threads call `enter` before an attempt, `sent` when its first byte leaves,
    and `learn` when it has ended.

    ``patience`` is how many seconds an outage may last before the run is given up; if the API never
    answered at all, the run is given up as soon as the breaker opens.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        clock: Clock,
        stop: Callable[[], bool] = lambda: False,
        patience: float = 120.0,
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._patience = patience
        self._auto = rate.auto
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._next = clock.now()
        self._held = clock.now()
        self._written: deque[float] = deque()
        self._leaving = 0
        self._failures = 0
        self._opened: float | None = None
        self._answered = False
        self._slow_start = True
        self._limited = -math.inf
        self._slow = False  # whether a request waited for our own rate since the last answer
        self._latency: float | None = None
        self._writing = 0.0
        self.given_up = False
        """Whether the API was away for longer than patience allows: nothing leaves any more."""
        self._limit(rate.per_second)

    def _limit(self, per_second: float | None) -> None:
        self._rate = per_second
        if per_second is None:
            return
        # A window of a second holds a whole number of requests. Below 50 a second, rounding down
        # would cost more than the few percent that a rate may be missed by.
        whole = math.floor(per_second) if per_second >= 50 else math.ceil(per_second)
        self._most = max(1, whole)
        self._window = MARGIN * max(1.0, self._most / per_second if per_second < 50 else 1.0)
        self._gap = MARGIN / per_second

    @property
    def rate(self) -> float | None:
        """Requests per second as they are allowed now."""
        return self._rate

    @property
    def is_open(self) -> bool:
        """Whether the API seems to be away."""
        return self._opened is not None

    def waiting_for(self) -> str:
        """What everybody waits for, for people to read; "" in the normal course of things."""
        if self._opened is not None:
            return "the API does not answer; asking once a second"
        left = self._held - self._clock.now()
        return f"the API asked to wait {left:.0f} s" if left >= 1 else ""

    def in_flight(self, most: int | None) -> int:
        """How many calls are worth having under way, at most ``most``: what the rate needs at the time
        that answers take, and the writing before and after them.

        One until the API has answered for the first time, so that a wrong key costs one request.
        """
        if not self._answered or self.is_open:
            return 1
        if self._rate is None:
            # While some are being written down, as many others are to be under way.
            needed = UNLIMITED_WINDOW + int(2 * _PER_SECOND * self._writing)
        else:
            takes = (self._latency or 0.0) + 2 * self._writing
            needed = math.ceil(self._rate * takes * 1.5) + 2
        return max(1, min(needed, most or MOST_IN_FLIGHT))

    def learn_write_time(self, seconds: float) -> None:
        """Takes account of how long it took to make intents and outcomes durable."""
        self._writing += (seconds - self._writing) / 16

    # --- before an attempt -------------------------------------------------------------------

    def enter(self) -> bool:
        """Waits until a request may leave; False where nothing may leave any more.

        One thread waits at a time, the others for their turn.
        """
        with self._turn:
            while not (self._stop() or self.given_up):
                with self._lock:
                    wait, paced = self._wait()
                    if wait <= 0:
                        self._go()
                        return True
                if paced:
                    self._slow = True
                self._clock.sleep(min(wait, _STOP_CHECK))
        return False

    def _wait(self) -> tuple[float, bool]:
        """Seconds until the next request may leave, as far as it can be told, and whether it is our
        own rate that it waits for."""
        now = self._clock.now()
        if self._opened is not None:
            if now - self._opened > self._patience:
                self.given_up = True
            return self._next - now, False
        if self._held > now:
            return self._held - now, False
        if self._rate is None:
            return 0.0, False
        while self._written and self._written[0] + self._window <= now:
            self._written.popleft()
        if len(self._written) + self._leaving >= self._most:
            # One that is about to be written counts from when it will be.
            return (self._written[0] + self._window - now if self._written else _SOON), True
        return self._next - now, True

    def _go(self) -> None:
        now = self._clock.now()
        self._leaving += 1
        if self._opened is not None:
            self._next = now + _PROBE
        elif self._rate is not None:
            self._next = max(self._next, now - _CATCH_UP) + self._gap

    # --- after it ----------------------------------------------------------------------------

    def sent(self) -> None:
        """The request left."""
        with self._lock:
            self._leaving -= 1
            if self._rate is not None:
                self._written.append(self._clock.now())

    def not_sent(self) -> None:
        """The request did not leave after all."""
        with self._lock:
            self._leaving -= 1

    def learn(self, verdict: Verdict, *, began: float, retry_after: float | None = None) -> None:
        """Takes account of how an attempt ended that began at ``began`` (of the clock)."""
        now = self._clock.now()
        with self._lock:
            if verdict is Verdict.UP:
                self._up(now - began)
            elif verdict is Verdict.UNCLEAR:
                self._answered = True
            elif verdict is Verdict.AWAY:
                self._down(now)
            elif began > self._limited:
                # What was sent before the API first said so says nothing of what came of it.
                self._limited = now
                self._down(now)
                if self._auto:
                    self._slow_start = False
                    self._limit(max(1 / 60, (self._rate or FASTEST) / 2))
            if retry_after is not None:
                self._held = max(self._held, now + min(retry_after, RETRY_AFTER_CAP))

    def _up(self, latency: float) -> None:
        self._answered = True
        self._failures = 0
        if self._opened is not None:
            self._opened = None
            self._next = self._clock.now()
        known = self._latency
        self._latency = latency if known is None else known + (latency - known) / 16
        if self._auto and self._slow and self._rate is not None:
            # Doubles in under two seconds until the API objects; 2 % a second after that.
            step = 0.5 if self._slow_start else 0.02
            self._slow = False
            self._limit(min(FASTEST, self._rate + step))

    def _down(self, now: float) -> None:
        self._failures += 1
        if self._failures < _FAILURES or self._opened is not None:
            return
        self._opened = now
        self._next = now + _PROBE
        self.given_up = self.given_up or not self._answered
