"""One call of the API: paced, with a deadline, retried where that is safe.

`reconciler.remote.transport` makes the attempts, `reconciler.remote.answers` decides what an answer means,
and `reconciler.remote.pacing` when a request may leave.
"""

from __future__ import annotations

import random as random_module
import re
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol, assert_never

from reconciler.core.options import Rate
from reconciler.core.plan import Request
from reconciler.remote.answers import MISSING, ApiAnswer, CallResult
from reconciler.remote.pacing import Clock, Pace, SystemClock, Verdict
from reconciler.remote.transport import HttpTransport
from reconciler.remote.turns import Turns

_RETRIED = frozenset({408, 500, 502, 503, 504, *range(520, 531)})
"""Statuses whose outcome is unknown, and for which another try may help. Not 3xx or 501, say. Cloudflare,
which is in front of the API (adapty-api 6.5), has those from 520 on."""
_BACKOFF_BASE = 0.5
"""Seconds; the longest wait after the first attempt. It doubles with every attempt."""
_BACKOFF_CAP = 30.0
"""Seconds."""
ATTEMPT_TIMEOUT = 10.0
"""Seconds; the most that an attempt takes by default. It takes a third of the deadline if that is less."""
_STOP_CHECK = 0.2
"""Seconds of waiting after which a call asks again whether the user wants to stop."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Exchange(NamedTuple):
    """One request on the wire, with its answer."""

    request: Request
    answer: ApiAnswer
    seconds: float


class Transport(Protocol):
    """Makes single attempts."""

    def attempt(self, request: Request, *, seconds: float) -> ApiAnswer:
        """Sends a request once, and waits ``seconds`` at most. Tells the pace whether it left."""
        ...

    def close(self) -> None: ...


class Client:
    """Sends requests to one API with one key. Threads may share a client.

    ``timeout`` is the deadline of a whole call in seconds: its attempts and the waits between them,
    but not the time for which the rate, a 429 or a ``Retry-After`` holds it back. An attempt that takes
    longer than ``attempt_timeout`` seconds is abandoned, and its outcome is unknown. ``attempts`` is the
    most tries of a call; a 429, and tries that only ask once a second whether an absent API is back, do not
    count. The API may be away, or answer 429 to everything, for ``patience`` seconds. ``stop`` is asked
    before each attempt, and ``on_exchange`` is given it afterwards, in the thread of the call.

    Raises InputError where ``ca_bundle`` holds no certificates.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: str,
        timeout: float = 30.0,
        attempt_timeout: float | None = None,
        rate: Rate | float | None = None,
        attempts: int = 4,
        patience: float = 300.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        stop: Callable[[], bool] = lambda: False,
        on_exchange: Callable[[Exchange], None] = lambda exchange: None,
        transport: Callable[..., Transport] = HttpTransport,
        turns: Turns | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._attempt_timeout = attempt_timeout or default_attempt_timeout(timeout)
        self._attempts = attempts
        self._clock = clock or SystemClock()
        self._random = random
        self._stop = stop
        self._on_exchange = on_exchange
        self._counting = threading.Lock()
        self._calls = 0
        self._retries = 0
        self.pace = Pace(
            rate if isinstance(rate, Rate) else Rate(rate),
            clock=self._clock,
            stop=stop,
            patience=patience,
            random=random,
            turns=turns,
        )
        self._transport = transport(
            base_url, key, pace=self.pace, stop=stop, proxy=proxy, ca_bundle=ca_bundle
        )

    def __repr__(self) -> str:
        return f"Client({self._url!r})"

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def send(self, request: Request, *, may_leave: Callable[[], bool] = lambda: True) -> ApiAnswer:
        """Makes one call and retries it where that is safe.

        It is always safe after 429 and after an attempt that was not sent. After an unknown outcome it
        is safe for every method but POST, which must be looked up first. ``may_leave`` is asked last of
        all before every attempt, and ends the call by saying no.
        """
        if not all(map(_VISIBLE.fullmatch, (self._key, *request.headers.values()))):
            return ApiAnswer(
                CallResult.REFUSED,
                message="a header or the key holds what cannot be sent",
                attempts=0,
            )
        with self._counting:
            self._calls += 1
        answer, any_unknown = self._try_until_final(request, may_leave)
        if self.pace.given_up and answer.attempts == 0:
            message = "the API answers 429" if self.pace.is_limited else "the API is away"
            answer = answer._replace(message=message)
        return after_unknown(answer) if any_unknown else answer

    def _try_until_final(
        self, request: Request, may_leave: Callable[[], bool]
    ) -> tuple[ApiAnswer, bool]:
        """The last answer, and whether the outcome of any attempt is unknown."""
        answer = ApiAnswer(CallResult.NOT_SENT, message="stopped before it was sent", attempts=0)
        any_unknown = False
        seconds_left = self._timeout
        counted = 0
        while self.pace.enter():
            if not may_leave():
                self.pace.not_sent()
                break
            is_probe = self.pace.is_open
            began = self._clock.now()
            seconds = min(seconds_left, self._attempt_timeout)
            latest = self._transport.attempt(request, seconds=seconds)
            end = self._clock.now()
            self._on_exchange(Exchange(request, latest, end - began))
            self.pace.learn(_verdict(latest), began=began, retry_after=latest.retry_after)
            answer = latest._replace(attempts=answer.attempts + 1) if answer.attempts else latest
            if any_unknown and request.method == "DELETE" and answer.error_code in MISSING:
                answer = answer._replace(result=CallResult.DONE, error_code=None, message="")
            any_unknown = any_unknown or answer.result is CallResult.UNKNOWN
            if answer.status == 429:
                continue  # waits for its turn again, however often
            seconds_left -= end - began
            if not may_be_repeated(request, answer) or seconds_left <= 0:
                break
            if self.pace.is_open:
                continue  # asks again at the pace of the breaker
            counted += not is_probe
            wait = self._backoff(counted)
            if counted >= self._attempts or wait >= seconds_left or not self._take_retry():
                break
            seconds_left -= wait
            if not self._sleep(wait):
                break
        return answer, any_unknown

    def _take_retry(self) -> bool:
        """Takes one retry. A tenth of the calls, at least ten, may be retries: an API in trouble must
        not be hammered. To try again after a 429 is no retry, since the pace already follows it."""
        with self._counting:
            if self._retries >= max(10, self._calls // 10):
                return False
            self._retries += 1
            return True

    def _backoff(self, tries: int) -> float:
        return float(min(_BACKOFF_CAP, _BACKOFF_BASE * 2 ** max(0, tries - 1)) * self._random())

    def _sleep(self, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while (seconds_left := until - self._clock.now()) > 0:
            if self._stop():
                return False
            self._clock.sleep(min(seconds_left, _STOP_CHECK))
        return not self._stop()


def default_attempt_timeout(timeout: float) -> float:
    """The seconds that an attempt may take, in a call with a deadline of ``timeout`` seconds."""
    return min(ATTEMPT_TIMEOUT, timeout / 3)


def _verdict(answer: ApiAnswer) -> Verdict:
    if answer.status is None or answer.is_outage:
        return Verdict.AWAY
    if answer.status == 429:
        return Verdict.LIMITED
    if answer.result is not CallResult.UNKNOWN:
        return Verdict.UP
    return Verdict.UNCLEAR if answer.status == 500 or answer.status < 300 else Verdict.AWAY


def after_unknown(answer: ApiAnswer) -> ApiAnswer:
    """The answer to a call of which an attempt has an unknown outcome, whatever came after that."""
    if answer.result is CallResult.NOT_SENT or answer.status == 429:  # it was not processed
        return answer._replace(result=CallResult.UNKNOWN)
    return answer._replace(unknown_before=answer.result is not CallResult.UNKNOWN)


def may_be_repeated(request: Request, answer: ApiAnswer) -> bool:
    """Whether another try is safe and may help."""
    match answer.result:
        case CallResult.DONE | CallResult.REFUSED:
            return False
        case CallResult.NOT_SENT:
            return True
        case CallResult.UNKNOWN:
            status = answer.status
            helps = status is None or status in _RETRIED or status < 300
            return request.method != "POST" and helps
        case _:
            assert_never(answer.result)
