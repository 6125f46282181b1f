"""The life of a call, over a transport that plays a script: the number of attempts, their times, and the
result of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.endpoints import PATH
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.client import ATTEMPT_TIMEOUT, Client, default_attempt_timeout
from tests.support.clock import ManualClock

TIMEOUT = 30.0
ATTEMPTS = 4
PATIENCE = 120.0

DONE = ApiAnswer(CallResult.DONE, status=200)
MISSING = ApiAnswer(CallResult.REFUSED, status=404, error_code="profile_does_not_exist")
INVALID = ApiAnswer(CallResult.REFUSED, status=400, error_code="invalid")
NO_KEY = ApiAnswer(CallResult.REFUSED, status=401, error_code="not_authenticated")
LIMITED = ApiAnswer(CallResult.REFUSED, status=429, error_code="rate_limited")
NOT_SENT = ApiAnswer(CallResult.NOT_SENT, message="cannot connect")
LOST = ApiAnswer(CallResult.UNKNOWN, message="no complete answer within the deadline")
BROKEN = ApiAnswer(CallResult.UNKNOWN, status=503)
TROUBLED = ApiAnswer(CallResult.UNKNOWN, status=500)
ODD = ApiAnswer(CallResult.UNKNOWN, status=200)
REDIRECTED = ApiAnswer(CallResult.UNKNOWN, status=302)


@dataclass
class Attempt:
    """One attempt: when it began, how many seconds it might take and took, and its answer."""

    began: float
    allowed: float
    duration: float
    answer: ApiAnswer


@dataclass
class Script:
    """A client and its transport, which plays answers, each with the seconds that it takes."""

    answers: Iterator[tuple[ApiAnswer, float]]
    options: dict[str, Any] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    on_attempt: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        usual: dict[str, Any] = {
            "timeout": TIMEOUT,
            "attempts": ATTEMPTS,
            "patience": PATIENCE,
            "clock": self.clock,
            "random": lambda: 1.0,
        }
        self.client = Client(
            base_url="http://x",
            key="k",
            transport=lambda *_, **__: self,
            **{**usual, **self.options},
        )

    def attempt(self, request: Request, *, seconds: float) -> ApiAnswer:
        answer, duration = next(self.answers)
        self.on_attempt()
        if duration > seconds:
            answer, duration = LOST, seconds
        self.attempts.append(Attempt(self.clock.time, seconds, duration, answer))
        (
            self.client.pace.not_sent
            if answer.result is CallResult.NOT_SENT
            else self.client.pace.sent
        )()
        self.clock.time += duration
        return answer

    def close(self) -> None:
        """A transport without connections has nothing to close."""

    def send(self, method: str = "PATCH") -> ApiAnswer:
        try:
            return self.client.send(Request(method, PATH, {"adapty-customer-user-id": "u"}))
        finally:
            self.client.close()


def endless(*answers: ApiAnswer, duration: float = 0.1) -> Iterator[tuple[ApiAnswer, float]]:
    """The answers, then the last one for ever."""
    for answer in answers:
        yield answer, duration
    while True:
        yield answers[-1], duration


ANSWERS = st.sampled_from(
    [DONE, MISSING, INVALID, NO_KEY, LIMITED, NOT_SENT, LOST, BROKEN, TROUBLED, ODD, REDIRECTED]
)
TAKING = st.sampled_from([0.0, 0.1, 1.0, 7.0, 29.0, 40.0])
CALL = st.lists(st.tuples(ANSWERS, TAKING), min_size=8, max_size=8).map(
    lambda answers: [*answers, *[(DONE, 0.1)] * ATTEMPTS]
)
METHODS = st.sampled_from(["GET", "PATCH", "POST", "DELETE"])


def is_final(answer: ApiAnswer) -> bool:
    """Whether the API has decided, so that no other attempt follows."""
    return answer.result is CallResult.DONE or (
        answer.result is CallResult.REFUSED and answer.status != 429
    )


@settings(max_examples=300, deadline=None)
@given(METHODS, CALL, st.floats(0.0, 1.0))
def test_a_call_is_retried_only_while_that_is_safe_and_reports_unknown_outcomes(
    method: str, script_of_call: list[tuple[ApiAnswer, float]], chance: float
) -> None:
    script = Script(iter(script_of_call), {"random": lambda: chance})
    answer = script.send(method)
    attempts = script.attempts
    assert answer.attempts == len(attempts)
    limited = [attempt for attempt in attempts if attempt.answer.status == 429]
    assert 1 <= len(attempts) <= ATTEMPTS + len(limited)
    assert not any(is_final(attempt.answer) for attempt in attempts[:-1])
    assert attempts[-1].answer.status != 429
    unknown = [attempt.answer.result is CallResult.UNKNOWN for attempt in attempts]
    if method == "POST":
        assert not any(unknown[:-1])
    last = attempts[-1].answer
    if method == "DELETE" and any(unknown[:-1]) and last == MISSING:
        assert answer.result is CallResult.DONE
    elif any(unknown) and not is_final(last):
        assert answer.result is CallResult.UNKNOWN
    else:
        assert answer.result is last.result
    assert answer.unknown_before == (any(unknown) and answer.result is not CallResult.UNKNOWN)


@settings(max_examples=300, deadline=None)
@given(METHODS, CALL, st.floats(0.0, 1.0))
def test_attempts_and_waits_stay_within_the_deadline_of_the_call(
    method: str, script_of_call: list[tuple[ApiAnswer, float]], chance: float
) -> None:
    # Waiting after a 429 does not count.
    script_of_call = [each for each in script_of_call if each[0] is not LIMITED]
    script = Script(iter(script_of_call), {"random": lambda: chance})
    script.send(method)
    seconds_left = TIMEOUT
    for attempt, following in zip(script.attempts, [*script.attempts[1:], None], strict=True):
        assert 0 < attempt.allowed <= min(seconds_left, ATTEMPT_TIMEOUT) + 1e-9
        seconds_left -= attempt.duration
        if following is not None:
            seconds_left -= following.began - (attempt.began + attempt.duration)
    assert seconds_left >= -1e-9


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 1000.0), st.integers(1, 3))
def test_after_429_a_call_waits_as_long_as_the_api_asks_but_a_minute_at_most(
    requested_wait: float, times: int
) -> None:
    answer_429 = LIMITED._replace(retry_after=requested_wait)
    script = Script(endless(*[answer_429] * times, DONE), {"patience": 300.0})
    assert script.send().result is CallResult.DONE
    for before, after in pairwise(script.attempts):
        waited = after.began - (before.began + before.duration)
        assert min(requested_wait, 60.0) - 1e-6 <= waited <= min(requested_wait, 60.0) + 8.2
    assert len(script.attempts) == times + 1


@dataclass
class LimitedApi:
    """An API that takes ``limit`` requests in any second, and answers 429 to all others."""

    script: Script
    limit: int
    retry_after: float | None
    accepted: list[float] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[ApiAnswer, float]]:
        while True:
            now = self.script.clock.time
            if sum(time > now - 1.0 for time in self.accepted[-self.limit :]) < self.limit:
                self.accepted.append(now)
                yield DONE, 0.005
            else:
                yield LIMITED._replace(retry_after=self.retry_after), 0.005


@pytest.mark.parametrize("retry_after", [1.0, None])
@pytest.mark.parametrize("rate", [1000.0, None, 30.0])
def test_an_api_with_a_lower_rate_than_the_configured_one_makes_a_run_slower_and_nothing_else(
    rate: float | None, retry_after: float | None
) -> None:
    script = Script(iter(()), {"rate": rate, "random": lambda: 0.5})
    script.answers = iter(LimitedApi(script, 20, retry_after))
    answers = [script.send() for _ in range(1000)]
    assert {answer.result for answer in answers} == {CallResult.DONE}
    assert script.clock.time <= 1.6 * 1000 / 20
    limited = sum(attempt.answer is not DONE for attempt in script.attempts)
    assert limited <= 50


def test_a_429_takes_neither_tries_nor_the_deadline() -> None:
    limited = [LIMITED._replace(retry_after=1.0)] * 200
    script = Script(endless(*limited, DONE, duration=1.0), {"patience": 500.0})
    answer = script.send()
    assert (answer.result, answer.attempts) == (CallResult.DONE, 201)


@pytest.mark.parametrize("retry_after", [1.0, 3600.0, None])
def test_a_call_fails_by_429_only_once_the_patience_of_the_run_has_ended(
    retry_after: float | None,
) -> None:
    script = Script(endless(DONE, LIMITED._replace(retry_after=retry_after)))
    script.send()
    answer = script.send()
    assert (answer.result, answer.status) == (CallResult.REFUSED, 429)
    assert PATIENCE <= script.clock.time <= PATIENCE + 62
    following = script.send()
    assert (following.attempts, following.message) == (0, "the API answers 429")


@pytest.mark.parametrize(("timeout", "each"), [(30.0, 10.0), (6.0, 2.0), (300.0, 10.0)])
def test_a_hung_attempt_is_abandoned_and_tried_again_within_the_deadline(
    timeout: float, each: float
) -> None:
    assert default_attempt_timeout(timeout) == each
    script = Script(iter([(DONE, 1e9), (DONE, 1e9), (DONE, 0.1)]), {"timeout": timeout})
    answer = script.send()
    assert [attempt.allowed for attempt in script.attempts][:2] == [each, each]
    assert (answer.result, answer.unknown_before) == (CallResult.DONE, True)
    assert script.clock.time <= timeout


def test_the_time_of_an_attempt_can_be_set() -> None:
    script = Script(iter([(DONE, 1e9), (DONE, 1.0)]), {"attempt_timeout": 1.5})
    assert script.send().unknown_before
    assert [attempt.duration for attempt in script.attempts] == [1.5, 1.0]


def test_a_hung_post_is_not_sent_again_before_it_was_looked_up() -> None:
    script = Script(iter([(DONE, 1e9)]))
    answer = script.send("POST")
    assert (answer.result, answer.attempts) == (CallResult.UNKNOWN, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300))
def test_retries_are_at_most_a_tenth_of_the_calls_or_ten(calls: int) -> None:
    script = Script(iter(()))
    retries = 0
    for _ in range(calls):
        script.answers = endless(TROUBLED, TROUBLED, DONE)
        retries += script.send().attempts - 1
    assert retries == min(2 * calls, max(10, calls // 10))


def test_a_client_gives_up_after_five_attempts_if_the_api_never_answered() -> None:
    script = Script(endless(NOT_SENT))
    answers = [script.send() for _ in range(10)]
    assert len(script.attempts) == 5
    assert script.client.pace.given_up
    assert [answer.attempts for answer in answers][2:] == [0] * 8
    assert {answer.result for answer in answers} == {CallResult.NOT_SENT}


@pytest.mark.parametrize("away", [NOT_SENT, LOST, BROKEN])
def test_a_client_asks_once_a_second_whether_an_absent_api_is_back(away: ApiAnswer) -> None:
    script = Script(endless(DONE, *[away] * 30, DONE))
    assert script.send().result is CallResult.DONE
    answers = [script.send() for _ in range(3)]
    assert answers[-1].result is CallResult.DONE
    probes = script.attempts[6:]
    gaps = [b.began - a.began for a, b in pairwise(probes)]
    assert len(gaps) >= 20
    assert all(gap >= 1.0 - 1e-6 for gap in gaps[:20])


def test_a_client_gives_up_when_its_patience_with_an_absent_api_ends() -> None:
    script = Script(endless(DONE, NOT_SENT), {"timeout": 1000.0})
    script.send()
    while not script.client.pace.given_up:
        assert script.send().result is CallResult.NOT_SENT
    assert PATIENCE <= script.clock.time <= PATIENCE + 10
    attempts = len(script.attempts)
    assert script.send().attempts == 0
    assert len(script.attempts) == attempts


def test_a_post_of_unknown_outcome_is_not_repeated_by_the_breaker_either() -> None:
    script = Script(endless(DONE, *[LOST] * 5, DONE))
    script.send()
    attempts = [script.send("POST").attempts for _ in range(6)]
    assert attempts == [1] * 6


def test_the_wish_to_stop_ends_a_call_between_two_attempts() -> None:
    stopped: list[bool] = []
    script = Script(endless(LOST), {"stop": lambda: bool(stopped)})
    script.on_attempt = lambda: stopped.append(True)
    answer = script.send()
    assert (answer.result, answer.attempts) == (CallResult.UNKNOWN, 1)
