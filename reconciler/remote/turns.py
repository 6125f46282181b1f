"""Turns: the moments at which requests may leave, by the rate.

`reconciler.remote.pacing` asks for them. Here are those of a rate that one process keeps to by itself; a rate
that several processes share gives its own (`Turns`).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from reconciler.core.options import Rate

MARGIN = 1.015
"""Our second is longer by this factor. The time between departure and arrival differs from one request to
the next, and the API counts arrivals."""
FASTEST = 40_000 / 60
"""Requests per second beyond which a learning rate does not grow (adapty-api 6.3)."""
SLOWEST = 1.0
"""Requests per second below which a 429 does not slow down a rate. From there on, longer waits do."""
_CATCH_UP = 0.05
"""Seconds of delay, such as by waking late, that later requests may make up for."""
_SOON = 0.005
"""Seconds until another look, if the requests that fill the window are not written yet."""
_FIRST_GUESS = 10.0
"""Requests per second; the least that a 429 takes for the rate at which it came, if no rate is configured.
One that comes after two requests says little."""
_NEAR_LIMIT = 0.8
"""The share of the rate at which the last 429 came up to which a rate grows fast again."""
_FAST_GROWTH = 0.5
"""Requests per second by which an answer raises a rate far below a limit: it doubles in under two seconds."""
_SLOW_GROWTH = 0.02
"""The same near a limit: 2 % a second. It doubles every `_GROWTH_DOUBLES` seconds without a 429."""
_GROWTH_DOUBLES = 10.0


class Turns(Protocol):
    """The turns of one rate. Whoever asks holds a lock, and passes the time by its monotonic clock."""

    @property
    def rate(self) -> float | None:
        """Requests per second that may leave at present; ``None`` for no limit."""
        ...

    @property
    def is_slowed_down(self) -> bool:
        """Whether a fixed rate is below the configured one since a 429."""
        ...

    def wait(self, now: float, *, waiting: int) -> float | None:
        """The seconds until the next turn, 0 or less if it has come; ``None`` where none is needed.
        ``waiting`` is how many requests wait."""
        ...

    def take(self, now: float) -> None:
        """A request leaves: uses the turn that has come, if one has."""
        ...

    def sent(self, now: float) -> None:
        """The first byte of a request left."""
        ...

    def not_sent(self) -> None:
        """A request that had taken its turn does not leave."""
        ...

    def grow(self, now: float) -> None:
        """The API answered a request that had waited for its turn: raises a rate that is below what it may
        come to."""
        ...

    def slow_down(self, now: float, *, began: float, is_first: bool) -> None:
        """The API answered 429 to a request that left at ``began``. ``is_first`` says that the answer before
        was of another kind."""
        ...

    def hold(self, seconds: float) -> None:
        """Nothing may leave for some seconds, and nothing of anybody else with the same rate."""
        ...


class OwnTurns:
    """The turns of a rate that this process keeps to by itself. No second holds more requests than the rate
    allows. A request counts from the moment when it is written."""

    def __init__(self, rate: Rate, *, now: float) -> None:
        self._auto = rate.auto
        self._configured = rate.per_second
        self._earliest = now
        self._departures: deque[float] = deque()
        self._last_second: deque[float] = deque()
        self._leaving = 0
        self._limit_time = -math.inf
        self._limit: float | None = None
        """Requests per second at which a 429 came last; ``None`` before the first one."""
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
        return self._rate

    @property
    def is_slowed_down(self) -> bool:
        return self._limit is not None and self._rate != self._configured and not self._auto

    def wait(self, now: float, *, waiting: int) -> float | None:
        if self._rate is None:
            return None
        while self._departures and self._departures[0] + self._window <= now:
            self._departures.popleft()
        if len(self._departures) + self._leaving >= self._window_size:
            # A request that is not written yet counts from the moment when it will be.
            return self._departures[0] + self._window - now if self._departures else _SOON
        return self._earliest - now

    def take(self, now: float) -> None:
        self._leaving += 1
        if self._rate is not None:
            self._earliest = max(self._earliest, now - _CATCH_UP) + self._gap

    def sent(self, now: float) -> None:
        self._leaving -= 1
        if self._rate is not None:
            self._departures.append(now)
        self._last_second.append(now)
        while self._last_second[0] < now - 1.0:
            self._last_second.popleft()

    def not_sent(self) -> None:
        self._leaving -= 1

    def grow(self, now: float) -> None:
        rate, most = self._rate, FASTEST if self._auto else self._configured
        if rate is None or (most is not None and rate >= most):
            return
        if self._limit is None or rate < _NEAR_LIMIT * self._limit:
            step = _FAST_GROWTH
        else:
            quiet = (now - self._limit_time) / _GROWTH_DOUBLES
            step = min(_FAST_GROWTH, _SLOW_GROWTH * 2 ** min(quiet, 16.0))
        if most is None and rate + step >= FASTEST:
            self._set_rate(None)
        else:
            self._set_rate(min(FASTEST if most is None else most, rate + step))

    def slow_down(self, now: float, *, began: float, is_first: bool) -> None:
        self._limit_time = now
        rate = math.inf if self._rate is None else self._rate
        if rate == math.inf:
            rate = max(_FIRST_GUESS, len(self._last_second))
        if is_first:
            self._limit = rate
        self._set_rate(max(min(SLOWEST, rate), rate / 2))

    def hold(self, seconds: float) -> None:
        """The wait of `reconciler.remote.pacing` is enough for one process."""
