"""One call of the API: paced, with a deadline, retried where that is safe, its ending classified.

Only a complete JSON body that names the profile asked for counts as done; whatever may have taken
effect without saying so is *unknown*. Nothing of requests or urllib3 leaves this module, because
their errors carry headers (the key) and paths.
"""

from __future__ import annotations

import json
import random as random_module
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol, assert_never

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from reconciler import __version__
from reconciler.plan import Request
from reconciler.values import Json, shown

_BODY_LIMIT = 1 << 20
"""Bytes; a profile takes a few thousand."""
_BACKOFF_BASE = 0.5
_BACKOFF_CAP = 30.0
_RETRY_AFTER_CAP = 60.0
_SLICE = 0.2
"""Seconds between two looks at whether the user wants to stop."""


class Ending(StrEnum):
    """How a call ended."""

    DONE = "done"
    REFUSED = "refused"
    """The API judged it and said no: nothing took effect (assumed, adapty-api 7.36)."""
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProfileData:
    """What a successful answer says (adapty-api 5.1); numbers of custom attributes are floats."""

    app_id: str | None
    profile_id: str
    customer_user_id: str | None
    timestamp: int | None
    custom_attributes: Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Answer:
    """The ending of a call. ``message`` is safe to print and holds neither the key nor our values,
    except as far as the API quotes them."""

    ending: Ending
    status: int | None = None
    data: ProfileData | None = None
    error_code: str | None = None
    message: str = ""
    request_id: str | None = None
    attempts: int = 1
    unknown_before: bool = False
    """Some earlier attempt of the call has an unknown outcome, and may still land."""
    retry_after: float | None = None


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


def wire(body: Mapping[str, Json]) -> bytes:
    """The bytes of a request body; floats keep their point."""
    return json.dumps(body, ensure_ascii=True, allow_nan=False).encode("ascii")


class Client:
    """Sends requests to one API with one key.

    ``timeout`` is the deadline of an attempt in seconds, ``rate`` the most requests per second,
    ``attempts`` the most tries of a call. ``clock``, ``random`` and ``stop`` (asked before each
    attempt) are arguments so that a test can hold them.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: str,
        timeout: float = 30.0,
        rate: float | None = None,
        attempts: int = 4,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._attempts = attempts
        self._clock = clock or SystemClock()
        self._random = random
        self._stop = stop
        self._gap = 1.0 / rate if rate else 0.0
        self._next = self._clock.now()
        self._pacing = threading.Lock()
        self._sent = 0
        self._retries = 0
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        if proxy is not None:
            self._session.proxies = {"http": proxy, "https": proxy}
        self._session.verify = ca_bundle if ca_bundle is not None else True
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(max_retries=0, pool_maxsize=32))

    def __repr__(self) -> str:
        return f"Client({self._base_url!r})"

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def send(self, request: Request) -> Answer:
        """One call, retried where that is safe: after 429 and what was not sent always, after an
        unknown outcome for every method but POST, which must be looked up first."""
        unknown = False
        answer = Answer(Ending.NOT_SENT, message="stopped before it was sent", attempts=0)
        for attempt in range(1, self._attempts + 1):
            if self._stop() or not self._pace():
                break
            answer = replace(self._attempt(request), attempts=attempt)
            missing = answer.status == 404 and request.method == "DELETE"
            if missing and unknown:
                answer = replace(answer, ending=Ending.DONE)
            if not _may_be_repeated(request, answer):
                break
            unknown = unknown or answer.ending is Ending.UNKNOWN
            if attempt == self._attempts or not self._budget():
                break
            if not self._wait(attempt, answer.retry_after):
                break
        if unknown and answer.ending is Ending.NOT_SENT:
            answer = replace(answer, ending=Ending.UNKNOWN)
        if unknown and answer.ending is Ending.REFUSED and answer.status == 429:
            answer = replace(answer, ending=Ending.UNKNOWN)
        return replace(answer, unknown_before=unknown and answer.ending is not Ending.UNKNOWN)

    def _budget(self) -> bool:
        """A tenth of the requests, at least ten, may be retries: an outage must not be hammered."""
        self._retries += 1
        return self._retries <= max(10, self._sent // 10)

    def _wait(self, attempt: int, retry_after: float | None) -> bool:
        backoff = min(_BACKOFF_CAP, _BACKOFF_BASE * 2 ** (attempt - 1)) * self._random()
        asked = min(retry_after, _RETRY_AFTER_CAP) if retry_after is not None else 0.0
        return self._sleep(max(backoff, asked))

    def _sleep(self, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while (left := until - self._clock.now()) > 0:
            if self._stop():
                return False
            self._clock.sleep(min(left, _SLICE))
        return not self._stop()

    def _pace(self) -> bool:
        """Waits for the next place in the rate; places are evenly spaced, so there is no burst."""
        if not self._gap:
            return True
        with self._pacing:
            at = max(self._next, self._clock.now())
            self._next = at + self._gap
        return self._sleep(at - self._clock.now())

    # --- one attempt -------------------------------------------------------------------------

    def _attempt(self, request: Request) -> Answer:
        self._sent += 1
        headers = {
            **request.headers,
            "Authorization": f"Api-Key {self._key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"reconcile/{__version__}",
        }
        data = None
        if request.body is not None and request.method != "GET":
            headers["Content-Type"] = "application/json"
            data = wire(request.body)
        deadline = _Deadline(self._timeout)
        response = None
        try:
            with deadline:
                response = self._session.request(
                    request.method,
                    self._base_url + request.path,
                    headers=headers,
                    data=data,
                    timeout=(min(10.0, self._timeout), self._timeout),
                    allow_redirects=False,
                    stream=True,
                )
                body = _whole_body(response)
            if deadline.passed:
                return Answer(Ending.UNKNOWN, message="no complete answer within the deadline")
        except Exception as problem:  # every failure below is one of these two endings
            return self._failed(problem, deadline)
        finally:
            if response is not None:
                response.close()
        return self._judge(request, response, body)

    def _failed(self, problem: Exception, deadline: _Deadline) -> Answer:
        cause = _cause(problem)
        unsent = (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
            urllib3.exceptions.NameResolutionError,
            urllib3.exceptions.SSLError,
            urllib3.exceptions.ProxyError,
        )
        if isinstance(problem, (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL)):
            return Answer(Ending.REFUSED, message="a header or the address cannot be sent")
        if isinstance(cause, unsent):
            return Answer(Ending.NOT_SENT, message=f"cannot connect ({type(cause).__name__})")
        if deadline.passed or isinstance(problem, requests.exceptions.Timeout):
            return Answer(Ending.UNKNOWN, message="no complete answer within the deadline")
        return Answer(Ending.UNKNOWN, message=f"the connection broke ({type(cause).__name__})")

    def _judge(self, request: Request, response: Any, body: bytes | None) -> Answer:
        status = response.status_code
        request_id = _request_id(response.headers.get("Request-Id"))
        base = Answer(Ending.UNKNOWN, status=status, request_id=request_id)
        if body is None:
            return replace(base, message=f"status {status} with an incomplete or oversized body")
        if 200 <= status < 300:
            if request.method == "DELETE":
                complete = status == 204 or response.headers.get("Content-Length") is not None
                ending = Ending.DONE if complete else Ending.UNKNOWN
                return replace(
                    base, ending=ending, message="" if complete else "an incomplete answer"
                )
            data = _profile_data(body)
            if data is None:
                return replace(base, message=f"status {status} with a body that is not a profile")
            if not _names(data, request.headers):
                return replace(base, message="the answer is about another profile")
            return replace(base, ending=Ending.DONE, data=data)
        code, message = _error_body(body)
        message = self._safe(message or f"the API answered {status}")
        retry_after = _retry_after(response.headers.get("Retry-After"))
        if status == 429:
            code = code or "rate_limited"
        if 400 <= status < 500:
            return replace(
                base,
                ending=Ending.REFUSED,
                error_code=code,
                message=message,
                retry_after=retry_after,
            )
        if 300 <= status < 400:
            message = f"the API answered with a redirect ({status}), which is not followed"
        return replace(base, error_code=code, message=message, retry_after=retry_after)

    def _safe(self, text: str) -> str:
        return shown(text.replace(self._key, "(key)"))[:300]


def _may_be_repeated(request: Request, answer: Answer) -> bool:
    match answer.ending:
        case Ending.DONE:
            return False
        case Ending.REFUSED:
            return answer.status == 429
        case Ending.NOT_SENT:
            return True
        case Ending.UNKNOWN:
            return request.method != "POST"
        case _:
            assert_never(answer.ending)


class _Deadline:
    """Shuts the socket of an attempt down when its time is over, however slowly the answer drips."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self.sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        _CURRENT.deadline = self
        self._timer.start()

    def __exit__(self, *ended: object) -> None:
        self._timer.cancel()
        _CURRENT.deadline = None

    def _end(self) -> None:
        self.passed = True
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Current(threading.local):
    """The deadline of the attempt that this thread is in."""

    deadline: _Deadline | None = None


_CURRENT = _Current()


class _Watched(HTTPConnection):
    """Tells the deadline which socket to shut down."""

    def getresponse(self) -> Any:
        if _CURRENT.deadline is not None:
            _CURRENT.deadline.sock = self.sock
        return super().getresponse()


class _WatchedTLS(HTTPSConnection):
    def getresponse(self) -> Any:
        if _CURRENT.deadline is not None:
            _CURRENT.deadline.sock = self.sock
        return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **extra: Any) -> None:
        super().init_poolmanager(*args, **extra)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}


def _cause(problem: BaseException) -> BaseException:
    """The innermost reason: requests wraps urllib3, which wraps the rest."""
    inner: Any = problem.args[0] if problem.args else problem
    while isinstance(getattr(inner, "reason", None), Exception):
        inner = inner.reason
    return inner if isinstance(inner, BaseException) else problem


def _whole_body(response: Any) -> bytes | None:
    """The body, or ``None`` where it cannot be known to be complete (reliability 0.4) or is too long."""
    headers = response.headers
    chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    announced = headers.get("Content-Length")
    if response.status_code == 204:
        return b""
    if announced is None and not chunked:
        return None
    body: bytes = response.raw.read(_BODY_LIMIT + 1, decode_content=True)
    if len(body) > _BODY_LIMIT:
        return None
    if announced is not None and not chunked and announced.strip() != str(len(body)):
        return None
    return body


def _strict(body: bytes) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            raise ValueError
        return out

    def refuse(text: str) -> float:
        raise ValueError(text)

    return json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)


def _profile_data(body: bytes) -> ProfileData | None:
    try:
        data = _strict(body)["data"]
        profile_id, customer = data["profile_id"], data.get("customer_user_id")
        app_id, timestamp = data.get("app_id"), data.get("timestamp")
        attributes = dict(_attributes(data.get("custom_attributes") or ()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts_right = isinstance(profile_id, str) and all(
        value is None or isinstance(value, str) for value in (customer, app_id)
    )
    if not texts_right:
        return None
    return ProfileData(
        app_id=app_id,
        profile_id=profile_id,
        customer_user_id=customer,
        timestamp=timestamp if isinstance(timestamp, int) else None,
        custom_attributes=attributes,
    )


def _attributes(items: Iterable[Any]) -> Iterable[tuple[str, str | float]]:
    for item in items:
        key, value = item["key"], item["value"]
        if not isinstance(key, str):
            raise TypeError
        if value is None or value == "":
            continue
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, (bool, int, float)) and abs(value) < float("inf"):
            yield key, float(value) + 0.0
        else:
            raise TypeError


def _names(data: ProfileData, headers: Mapping[str, str]) -> bool:
    customer = headers.get("adapty-customer-user-id")
    profile = headers.get("adapty-profile-id")
    return (customer is None or data.customer_user_id == customer) and (
        profile is None or data.profile_id.lower() == profile.lower()
    )


def _error_body(body: bytes) -> tuple[str | None, str]:
    """Code and text of an error, in either shape of adapty-api 6.1."""
    try:
        data = _strict(body)
        code, errors = data.get("error_code"), data.get("errors")
        parts = []
        for item in errors if isinstance(errors, list) else ():
            if isinstance(item, str):
                parts.append(item)
            elif isinstance(item, dict):
                said = ", ".join(str(text) for text in item.get("errors") or ())
                source = item.get("source")
                parts.append(f"{source}: {said}" if source else said)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None, ""
    return code if isinstance(code, str) else None, "; ".join(parts)


def _request_id(text: str | None) -> str | None:
    return text if text and re.fullmatch(r"[A-Za-z0-9-]{1,64}", text) else None


def _retry_after(text: str | None) -> float | None:
    """Seconds, of either form of the header."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip(), re.ASCII):
        return float(text)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, at - time.time())
