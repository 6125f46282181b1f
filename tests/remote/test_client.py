"""The life of a call, with attempts whose endings are written down: how many there are, when, and what
they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.plan import Request
from reconciler.core.transitions import PATH
from reconciler.remote.answers import Answer, CallResult
from reconciler.remote.client import Client

TIMEOUT = 30.0
ATTEMPTS = 4
PATIENCE = 120.0

DONE = Answer(CallResult.DONE, status=200)
MISSING = Answer(CallResult.REFUSED, status=404, error_code="profile_does_not_exist")
INVALID = Answer(CallResult.REFUSED, status=400, error_code="invalid")
NO_KEY = Answer(CallResult.REFUSED, status=401, error_code="not_authenticated")
LIMITED = Answer(CallResult.REFUSED, status=429, error_code="rate_limited")
NOT_SENT = Answer(CallResult.NOT_SENT, message="cannot connect")
LOST = Answer(CallResult.UNKNOWN, message="no complete answer within the deadline")
BROKEN = Answer(CallResult.UNKNOWN, status=503)
TROUBLED = Answer(CallResult.UNKNOWN, status=500)
ODD = Answer(CallResult.UNKNOWN, status=200)
REDIRECTED = Answer(CallResult.UNKNOWN, status=302)


@dataclass
class Attempt:
    """An attempt that was made: when it began, for how many seconds it was allowed to go on, and how
    it ended."""

    began: float
    allowed: float
    took: float
    answer: Answer


@dataclass
class Clock:
    """A clock that only waiting and attempts move."""

    time: float = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Script:
    """A client whose attempts end as they are told to: by answers, and the seconds that each takes."""

    answers: Iterator[tuple[Answer, float]]
    options: dict[str, Any] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
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

    def attempt(self, request: Request, *, seconds: float) -> Answer:
        answer, took = next(self.answers)
        self.on_attempt()
        if took > seconds:
            answer, took = LOST, seconds
        self.attempts.append(Attempt(self.clock.time, seconds, took, answer))
        (
            self.client.pace.not_sent
            if answer.result is CallResult.NOT_SENT
            else self.client.pace.sent
        )()
        self.clock.time += took
        return answer

    def close(self) -> None:
        """A transport without connections has nothing to close."""

    def send(self, method: str = "PATCH") -> Answer:
        try:
            return self.client.send(Request(method, PATH, {"adapty-customer-user-id": "u"}))
        finally:
            self.client.close()


def endless(*answers: Answer, took: float = 0.1) -> Iterator[tuple[Answer, float]]:
    """The last answer goes on for ever."""
    for answer in answers:
        yield answer, took
    while True:
        yield answers[-1], took


ANSWERS = st.sampled_from(
    [DONE, MISSING, INVALID, NO_KEY, LIMITED, NOT_SENT, LOST, BROKEN, TROUBLED, ODD, REDIRECTED]
)
TAKING = st.sampled_from([0.0, 0.1, 1.0, 7.0, 29.0, 40.0])
CALL = st.lists(st.tuples(ANSWERS, TAKING), min_size=8, max_size=8)
METHODS = st.sampled_from(["GET", "PATCH", "POST", "DELETE"])


def final(answer: Answer) -> bool:
    """Whether the API has spoken: nobody asks again."""
    return answer.result is CallResult.DONE or (
        answer.result is CallResult.REFUSED and answer.status != 429
    )


@settings(max_examples=300, deadline=None)
@given(METHODS, CALL, st.floats(0.0, 1.0))
def test_a_call_goes_on_as_far_as_that_is_safe_and_says_what_is_known(
    method: str, endings: list[tuple[Answer, float]], chance: float
) -> None:
    script = Script(iter(endings), {"random": lambda: chance})
    answer = script.send(method)
    made = script.attempts
    assert answer.attempts == len(made)
    assert 1 <= len(made) <= ATTEMPTS
    assert not any(final(attempt.answer) for attempt in made[:-1])
    unknown = [attempt.answer.result is CallResult.UNKNOWN for attempt in made]
    if method == "POST":
        assert not any(unknown[:-1])
    last = made[-1].answer
    if method == "DELETE" and any(unknown[:-1]) and last == MISSING:
        assert answer.result is CallResult.DONE
    elif any(unknown) and not final(last):
        assert answer.result is CallResult.UNKNOWN
    else:
        assert answer.result is last.result
    assert answer.unknown_before == (any(unknown) and answer.result is not CallResult.UNKNOWN)


@settings(max_examples=300, deadline=None)
@given(METHODS, CALL, st.floats(0.0, 1.0))
def test_attempts_and_waits_stay_within_the_deadline_of_the_call(
    method: str, endings: list[tuple[Answer, float]], chance: float
) -> None:
    script = Script(iter(endings), {"random": lambda: chance})
    script.send(method)
    left = TIMEOUT
    for attempt, after in zip(script.attempts, [*script.attempts[1:], None], strict=True):
        assert 0 < attempt.allowed <= left + 1e-9
        left -= attempt.took
        if after is not None:
            left -= after.began - (attempt.began + attempt.took)
    assert left >= -1e-9


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 1000.0), st.integers(1, 3))
def test_whoever_is_limited_waits_as_long_as_was_asked_for_but_a_minute_at_most(
    asked: float, times: int
) -> None:
    limited = LIMITED._replace(retry_after=asked)
    script = Script(endless(*[limited] * times, DONE))
    assert script.send().result is CallResult.DONE
    for before, after in pairwise(script.attempts):
        waited = after.began - (before.began + before.took)
        assert min(asked, 60.0) - 1e-6 <= waited <= min(asked, 60.0) + 8.2
    assert len(script.attempts) == times + 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300))
def test_a_tenth_of_the_calls_may_be_retries_and_ten_always(calls: int) -> None:
    script = Script(iter(()))
    retries = 0
    for _ in range(calls):
        script.answers = endless(TROUBLED, TROUBLED, DONE)
        retries += script.send().attempts - 1
    assert retries == min(2 * calls, max(10, calls // 10))


def test_an_api_that_never_answered_is_given_up_after_five_attempts_of_all_calls() -> None:
    script = Script(endless(NOT_SENT))
    answers = [script.send() for _ in range(10)]
    assert len(script.attempts) == 5
    assert script.client.pace.given_up
    assert [answer.attempts for answer in answers][2:] == [0] * 8
    assert {answer.result for answer in answers} == {CallResult.NOT_SENT}


@pytest.mark.parametrize("away", [NOT_SENT, LOST, BROKEN])
def test_an_api_that_went_away_is_asked_once_a_second_until_it_is_back(away: Answer) -> None:
    script = Script(endless(DONE, *[away] * 30, DONE))
    assert script.send().result is CallResult.DONE
    answers = [script.send() for _ in range(3)]
    assert answers[-1].result is CallResult.DONE
    probes = script.attempts[6:]
    gaps = [b.began - a.began for a, b in pairwise(probes)]
    assert len(gaps) >= 20
    assert all(gap >= 1.0 - 1e-6 for gap in gaps[:20])


def test_an_api_that_stays_away_is_given_up_when_patience_ends() -> None:
    script = Script(endless(DONE, NOT_SENT), {"timeout": 1000.0})
    script.send()
    while not script.client.pace.given_up:
        assert script.send().result is CallResult.NOT_SENT
    assert PATIENCE <= script.clock.time <= PATIENCE + 10
    made = len(script.attempts)
    assert script.send().attempts == 0
    assert len(script.attempts) == made


def test_a_post_of_unknown_outcome_is_not_repeated_by_the_breaker_either() -> None:
    script = Script(endless(DONE, *[LOST] * 5, DONE))
    script.send()
    sent = [script.send("POST").attempts for _ in range(6)]
    assert sent == [1] * 6


def test_the_wish_to_stop_ends_a_call_between_two_attempts() -> None:
    stopped: list[bool] = []
    script = Script(endless(LOST), {"stop": lambda: bool(stopped)})
    script.on_attempt = lambda: stopped.append(True)
    answer = script.send()
    assert (answer.result, answer.attempts) == (CallResult.UNKNOWN, 1)
