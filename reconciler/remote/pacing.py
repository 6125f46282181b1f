"""Decides when a request may leave: by the rate, by the API's wish to wait, and by whether the API answers.

All threads of a client share one `Pace`. Its rules (reliability 2, P19 and P20):

- No second holds more requests than the rate allows, retries included: see `reconciler.remote.turns`.
- ``Retry-After`` holds all requests back, since the API limits the key (adapty-api 6.3).
- A 429 halves the rate, whether it is fixed, learning or unlimited, and holds all requests back for a while.
  A slower rate grows again while it is the bottleneck and the API agrees: up to the configured one, or
  beyond it if it learns.
- A *breaker* opens when the API seems to be away: then one request a second asks whether it is back.
"""

from __future__ import annotations

import math
import random as random_module
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from reconciler.core.options import Rate
from reconciler.remote.turns import OwnTurns, Turns

RETRY_AFTER_CAP = 60.0
"""Seconds; the longest wait that an answer can ask for."""
UNLIMITED_WINDOW = 16
"""Calls in flight if no rate limits them, and writes of the state take no time. More calls would only
compete for the interpreter."""
_PER_SECOND = 2_000
"""Roughly the calls that one process can make in a second."""
USUAL_IN_FLIGHT = 128
"""Calls at most, where a write of the state takes no longer than `QUICK_WRITE`."""
MOST_IN_FLIGHT = 512
"""Calls at most, however long a write takes. Each has a thread and a connection, and after a crash each is
uncertain."""
QUICK_WRITE = 0.005
"""Seconds; a file on a local disk is written in half of that."""
_PER_SLOW_SECOND = 16_000
"""Calls more for each second that a write takes longer: at 30 ms, `MOST_IN_FLIGHT` is reached. A rate of
40,000 a minute needs 350 at 100 ms (state-backends 4)."""
_STOP_CHECK = 0.2
"""Seconds of waiting after which a thread asks again whether the user wants to stop."""
_HOLD_BASE = 0.5
"""Seconds; the longest wait after a 429 that asks for none. It doubles with every further one in a row."""
_HOLD_CAP = 30.0
"""Seconds."""
_IDLE = 2 * RETRY_AFTER_CAP
"""Seconds between two 429s after which they do not belong together: no wait after a 429 takes as long."""
_FAILURES = 5
"""Attempts in a row without an answer of the API that open the breaker."""
_PROBE = 1.0
"""Seconds between two requests while the breaker is open."""


def most_in_flight(write_seconds: float) -> int:
    """The most calls that are worth having under way, where a write of the state takes so long.

    A call waits for two writes, its intent's and its outcome's. While one of them is under way no call
    begins, and none that ended makes room for another.
    """
    slower = max(0.0, write_seconds - QUICK_WRITE)
    return min(MOST_IN_FLIGHT, USUAL_IN_FLIGHT + int(slower * _PER_SLOW_SECOND))


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

    ``turns`` are those of a rate that other processes share; by default, this process keeps to ``rate`` by
    itself.

    After an outage of ``patience`` seconds, or as long a time in which the API answered 429 and nothing else,
    nothing leaves any more. If the API has never answered, this is so as soon as the breaker opens.
    ``random`` spreads the waits after a 429 over time.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        clock: Clock,
        stop: Callable[[], bool] = lambda: False,
        patience: float = 300.0,
        random: Callable[[], float] = random_module.random,
        turns: Turns | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._stop = stop
        self._patience = patience
        self._turns = turns or OwnTurns(rate, now=clock.now())
        self._queue_lock = threading.Lock()
        self._lock = threading.Lock()
        self._waiting = 0
        self._next_probe = clock.now()
        self._hold_until = clock.now()
        self._asked_to_wait = False
        """Whether the API asked for the present wait, rather than that we chose it."""
        self._failures = 0
        self._outage_since: float | None = None
        self._has_answered = False
        self._limit_time = -math.inf
        self._limited_since: float | None = None
        """The time of the first 429 since the last answer of another kind."""
        self._refusals = 0
        """429s since that answer that slowed us down."""
        self._is_bottleneck = False
        """Whether a request waited for our own rate since the last answer."""
        self._mean_latency: float | None = None
        self._write_seconds: float | None = None
        """Seconds that a write of the state takes; ``None`` before the first one."""
        self.given_up = False
        """Whether the API was away, or limited us, for longer than ``patience``. Nothing leaves any more."""

    @property
    def rate(self) -> float | None:
        """Requests per second that may leave at present; ``None`` for no limit."""
        return self._turns.rate

    @property
    def is_open(self) -> bool:
        """Whether the API seems to be away."""
        return self._outage_since is not None

    @property
    def is_limited(self) -> bool:
        """Whether the API answers 429 and nothing else at present."""
        return self._limited_since is not None

    def waiting_for(self) -> str:
        """The reason why all requests wait, for people; "" if they do not."""
        if self._outage_since is not None:
            return "the API does not answer; asking once a second"
        seconds = self._hold_until - self._clock.now()
        if seconds >= 1:
            who = (
                "the API asked to wait" if self._asked_to_wait else "the API answered 429: waiting"
            )
            return f"{who} {seconds:.0f} s"
        is_slower = self._turns.is_slowed_down or self.is_limited
        return "slowed down, since the API answered 429" if is_slower else ""

    def in_flight(self, most: int | None) -> int:
        """The number of calls that are worth having under way, ``most`` at most. It follows from the rate,
        from the latency of answers, and from the time that writes of the state take.

        It is one until the first answer of the API, so that a wrong key costs one request.
        """
        if not self._has_answered or self.is_open:
            return 1
        write_seconds = self._write_seconds or 0.0
        if self.rate is None:
            # While the state takes some outcomes, as many other calls are under way.
            needed = UNLIMITED_WINDOW + int(2 * _PER_SECOND * write_seconds)
        else:
            seconds = (self._mean_latency or 0.0) + 2 * write_seconds
            needed = math.ceil(self.rate * seconds * 1.5) + 2
        return max(1, min(needed, most or most_in_flight(write_seconds)))

    def learn_write_time(self, seconds: float) -> None:
        """Takes account of the seconds that a write of the state took."""
        mean = self._write_seconds
        self._write_seconds = seconds if mean is None else mean + (seconds - mean) / 16

    # --- before an attempt -------------------------------------------------------------------

    def enter(self) -> bool:
        """Waits until a request may leave. False if nothing may leave any more.

        One thread waits for the rate, the others wait for that thread.
        """
        with self._lock:
            self._waiting += 1
        try:
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
        finally:
            with self._lock:
                self._waiting -= 1
        return False

    def _wait(self) -> tuple[float, bool]:
        """The seconds until the next request may leave, as far as they are known, and whether the request
        waits for our own rate."""
        now = self._clock.now()
        if self._outage_since is not None:
            if now - self._outage_since > self._patience:
                self.given_up = True
            return self._next_probe - now, False
        if self._hold_until > now:
            return self._hold_until - now, False
        wait = self._turns.wait(now, waiting=self._waiting)
        return (0.0, False) if wait is None else (wait, True)

    def _let_leave(self) -> None:
        now = self._clock.now()
        self._turns.take(now)
        if self._outage_since is not None:
            self._next_probe = now + _PROBE

    # --- after it ----------------------------------------------------------------------------

    def sent(self) -> None:
        """The first byte of the request left."""
        with self._lock:
            self._turns.sent(self._clock.now())

    def not_sent(self) -> None:
        """No byte of the request left."""
        with self._lock:
            self._turns.not_sent()

    def learn(self, verdict: Verdict, *, began: float, retry_after: float | None = None) -> None:
        """Takes account of an attempt that ended. ``began`` is its start by the clock."""
        now = self._clock.now()
        with self._lock:
            if verdict is Verdict.UP:
                self._up(now, latency=now - began)
            elif verdict is Verdict.UNCLEAR:
                self._has_answered = True
            elif verdict is Verdict.AWAY:
                self._down(now)
            else:
                self._limited(now, began=began, chooses_wait=not retry_after)
            if retry_after is not None:
                self._hold(now, min(retry_after, RETRY_AFTER_CAP), asked=True)

    def _hold(self, now: float, seconds: float, *, asked: bool) -> None:
        if now + seconds > self._hold_until:
            self._hold_until = now + seconds
            self._asked_to_wait = asked
            self._turns.hold(seconds)

    def _up(self, now: float, *, latency: float) -> None:
        self._has_answered = True
        self._failures = self._refusals = 0
        self._limited_since = None
        self._close_breaker(now)
        mean = self._mean_latency
        self._mean_latency = latency if mean is None else mean + (latency - mean) / 16
        if self._is_bottleneck:
            self._is_bottleneck = False
            self._turns.grow(now)

    def _limited(self, now: float, *, began: float, chooses_wait: bool) -> None:
        """Slows down after a 429. It says that the API is there, so it is no failure for the breaker.
        ``chooses_wait`` says that the API named no time to wait."""
        self._failures = 0
        self._close_breaker(now)
        if self._limited_since is None or now - self._limit_time > _IDLE:
            self._limited_since = now
        self.given_up = self.given_up or now - self._limited_since > self._patience
        if began <= self._limit_time:
            return  # it left before the first 429, so it cannot tell whether the slower rate is slow enough
        self._limit_time = now
        if chooses_wait:
            longest = min(_HOLD_CAP, _HOLD_BASE * 2**self._refusals)
            self._hold(now, longest * self._random(), asked=False)
        self._refusals = min(self._refusals + 1, 16)
        self._turns.slow_down(now, began=began, is_first=self._refusals == 1)

    def _close_breaker(self, now: float) -> None:
        if self._outage_since is not None:
            self._outage_since = None

    def _down(self, now: float) -> None:
        self._failures += 1
        if self._failures < _FAILURES or self._outage_since is not None:
            return
        self._outage_since = now
        self._next_probe = now + _PROBE
        self.given_up = self.given_up or not self._has_answered
