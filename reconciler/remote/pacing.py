"""Decides when a request may leave: by the rate, by the API's wish to wait, and by whether the API answers.

All threads of a client share one `Pace`. Its rules (reliability 2, P19 and P20):

- No second holds more requests than the rate allows, retries included. A request counts from the moment
  when it is written, not when it may leave: the system may pause a thread in between.
- ``Retry-After`` holds all requests back, since the API limits the key (adapty-api 6.3).
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

from reconciler.core.options import Rate

MARGIN = 1.015
"""Our second is longer by this factor. The time between departure and arrival differs from one request to
the next, and the API counts arrivals."""
FASTEST = 40_000 / 60
"""Requests per second beyond which a learning rate does not grow (adapty-api 6.3)."""
RETRY_AFTER_CAP = 60.0
"""Seconds; the longest wait that an answer can ask for."""
UNLIMITED_WINDOW = 16
"""Calls in flight if no rate limits them, and writes of the state take no time. More calls would only
compete for the interpreter."""
_PER_SECOND = 2_000
"""Roughly the calls that one process can make in a second."""
MOST_IN_FLIGHT = 128
"""Calls."""
_CATCH_UP = 0.05
"""Seconds of delay, such as by waking late, that later requests may make up for."""
_SOON = 0.005
"""Seconds until another look, if the requests that fill the window are not written yet."""
_STOP_CHECK = 0.2
"""Seconds of waiting after which a thread asks again whether the user wants to stop."""
_FAILURES = 5
"""Attempts in a row without an answer of the API that open the breaker."""
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
    """The health of the API as one attempt shows it."""

    UP = "up"
    AWAY = "away"
    LIMITED = "limited"
    """429."""
    UNCLEAR = "unclear"
    """It answered with an error of its own. A 500 may be about this one profile."""


class Pace:
    """Lets requests leave. A thread calls `enter` before an attempt, `sent` when the first byte leaves or
    `not_sent` if none does, and `learn` after the attempt.

    After an outage of ``patience`` seconds, nothing leaves any more. If the API has never answered, this
    is so as soon as the breaker opens.
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
        self._queue_lock = threading.Lock()
        self._lock = threading.Lock()
        self._earliest = clock.now()
        self._hold_until = clock.now()
        self._departures: deque[float] = deque()
        self._leaving = 0
        self._failures = 0
        self._outage_since: float | None = None
        self._has_answered = False
        self._slow_start = True
        self._limit_time = -math.inf
        self._is_bottleneck = False
        """Whether a request waited for our own rate since the last answer."""
        self._mean_latency: float | None = None
        self._write_seconds = 0.0
        self.given_up = False
        """Whether the API was away for longer than ``patience``. Nothing leaves any more."""
        self._set_rate(rate.per_second)

    def _set_rate(self, per_second: float | None) -> None:
        self._rate = per_second
        if per_second is None:
            return
        # A window of a second holds a whole number of requests. Below 50 a second, rounding down
        # would cost more than the few percent that a rate may be missed by.
        whole = math.floor(per_second) if per_second >= 50 else math.ceil(per_second)
        self._window_size = max(1, whole)
        self._window = MARGIN * max(1.0, self._window_size / per_second if per_second < 50 else 1.0)
        self._gap = MARGIN / per_second

    @property
    def rate(self) -> float | None:
        """Requests per second that may leave at present; ``None`` for no limit."""
        return self._rate

    @property
    def is_open(self) -> bool:
        """Whether the API seems to be away."""
        return self._outage_since is not None

    def waiting_for(self) -> str:
        """The reason why all requests wait, for people; "" if they do not."""
        if self._outage_since is not None:
            return "the API does not answer; asking once a second"
        seconds = self._hold_until - self._clock.now()
        return f"the API asked to wait {seconds:.0f} s" if seconds >= 1 else ""

    def in_flight(self, most: int | None) -> int:
        """The number of calls that are worth having under way, ``most`` at most. It follows from the rate,
        from the latency of answers, and from the time that writes of the state take.

        It is one until the first answer of the API, so that a wrong key costs one request.
        """
        if not self._has_answered or self.is_open:
            return 1
        if self._rate is None:
            # While the state takes some outcomes, as many other calls are under way.
            needed = UNLIMITED_WINDOW + int(2 * _PER_SECOND * self._write_seconds)
        else:
            seconds = (self._mean_latency or 0.0) + 2 * self._write_seconds
            needed = math.ceil(self._rate * seconds * 1.5) + 2
        return max(1, min(needed, most or MOST_IN_FLIGHT))

    def learn_write_time(self, seconds: float) -> None:
        """Takes account of the seconds that a write of the state took."""
        self._write_seconds += (seconds - self._write_seconds) / 16

    # --- before an attempt -------------------------------------------------------------------

    def enter(self) -> bool:
        """Waits until a request may leave. False if nothing may leave any more.

        One thread waits for the rate, the others wait for that thread.
        """
        with self._queue_lock:
            while not (self._stop() or self.given_up):
                with self._lock:
                    wait, is_paced = self._wait()
                    if wait <= 0:
                        self._let_leave()
                        return True
                if is_paced:
                    self._is_bottleneck = True
                self._clock.sleep(min(wait, _STOP_CHECK))
        return False

    def _wait(self) -> tuple[float, bool]:
        """The seconds until the next request may leave, as far as they are known, and whether the request
        waits for our own rate."""
        now = self._clock.now()
        if self._outage_since is not None:
            if now - self._outage_since > self._patience:
                self.given_up = True
            return self._earliest - now, False
        if self._hold_until > now:
            return self._hold_until - now, False
        if self._rate is None:
            return 0.0, False
        while self._departures and self._departures[0] + self._window <= now:
            self._departures.popleft()
        if len(self._departures) + self._leaving >= self._window_size:
            # A request that is not written yet counts from the moment when it will be.
            return (self._departures[0] + self._window - now if self._departures else _SOON), True
        return self._earliest - now, True

    def _let_leave(self) -> None:
        now = self._clock.now()
        self._leaving += 1
        if self._outage_since is not None:
            self._earliest = now + _PROBE
        elif self._rate is not None:
            self._earliest = max(self._earliest, now - _CATCH_UP) + self._gap

    # --- after it ----------------------------------------------------------------------------

    def sent(self) -> None:
        """The first byte of the request left."""
        with self._lock:
            self._leaving -= 1
            if self._rate is not None:
                self._departures.append(self._clock.now())

    def not_sent(self) -> None:
        """No byte of the request left."""
        with self._lock:
            self._leaving -= 1

    def learn(self, verdict: Verdict, *, began: float, retry_after: float | None = None) -> None:
        """Takes account of an attempt that ended. ``began`` is its start by the clock."""
        now = self._clock.now()
        with self._lock:
            if verdict is Verdict.UP:
                self._up(now - began)
            elif verdict is Verdict.UNCLEAR:
                self._has_answered = True
            elif verdict is Verdict.AWAY:
                self._down(now)
            elif began > self._limit_time:
                # Requests from before the first 429 cannot tell whether the slower rate is slow enough.
                self._limit_time = now
                self._down(now)
                if self._auto:
                    self._slow_start = False
                    self._set_rate(max(1 / 60, (self._rate or FASTEST) / 2))
            if retry_after is not None:
                self._hold_until = max(self._hold_until, now + min(retry_after, RETRY_AFTER_CAP))

    def _up(self, latency: float) -> None:
        self._has_answered = True
        self._failures = 0
        if self._outage_since is not None:
            self._outage_since = None
            self._earliest = self._clock.now()
        mean = self._mean_latency
        self._mean_latency = latency if mean is None else mean + (latency - mean) / 16
        if self._auto and self._is_bottleneck and self._rate is not None:
            # Doubles in under two seconds until the first 429, and grows by 2 % a second after it.
            step = 0.5 if self._slow_start else 0.02
            self._is_bottleneck = False
            self._set_rate(min(FASTEST, self._rate + step))

    def _down(self, now: float) -> None:
        self._failures += 1
        if self._failures < _FAILURES or self._outage_since is not None:
            return
        self._outage_since = now
        self._earliest = now + _PROBE
        self.given_up = self.given_up or not self._has_answered
