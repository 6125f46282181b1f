"""One call of the API: paced, with a deadline, retried where that is safe, its ending classified.

Only a complete JSON body that names the profile asked for counts as done; whatever may have taken
effect without saying so is *unknown*. Nothing of requests or urllib3 leaves this module, because
their errors carry headers (the key) and paths.
"""

from __future__ import annotations

import http.client
import json
import random as random_module
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol, assert_never

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from reconciler import __version__
from reconciler.plan import Request
from reconciler.values import Json, shown

_BODY_LIMIT = 1 << 20
"""Bytes; a profile takes a few thousand."""
_RETRIED = frozenset({500, 502, 503, 504})
"""Statuses whose outcome is unknown, and for which another try may help. Not 3xx or 501, say."""
_MISSING = frozenset({"profile_does_not_exist", "profile_not_found"})
_BACKOFF_BASE = 0.5
_BACKOFF_CAP = 30.0
_RETRY_AFTER_CAP = 60.0
_SLICE = 0.2
"""Seconds between two looks at whether the user wants to stop."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LATE = "no complete answer within the deadline"


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
    """How many requests left, or tried to; 0 for a call that was stopped, or cannot be sent at all."""
    unknown_before: bool = False
    """Some earlier attempt of the call has an unknown outcome, and may still land."""
    retry_after: float | None = None
    """Seconds that the API asked to wait, as it said them."""


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
    attempt) are arguments so that a test can hold them. ``before_attempt`` is called before every
    request that may leave; what it raises ends the call. Threads may share a client.
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
        before_attempt: Callable[[], None] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._attempts = attempts
        self._clock = clock or SystemClock()
        self._random = random
        self._stop = stop
        self._before_attempt = before_attempt
        self._gap = 1.0 / rate if rate else 0.0
        self._next = self._clock.now()
        self._pacing = threading.Lock()
        self._counting = threading.Lock()
        self._calls = 0
        self._retries = 0
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
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
        named = {name.lower(): value for name, value in request.headers.items()}
        if not all(map(_VISIBLE.fullmatch, (self._key, *named.values()))):
            return Answer(
                Ending.REFUSED, message="a header or the key holds what cannot be sent", attempts=0
            )
        data = None if request.body is None or request.method == "GET" else wire(request.body)
        with self._counting:
            self._calls += 1
        unknown = False
        answer = Answer(Ending.NOT_SENT, message="stopped before it was sent", attempts=0)
        for attempt in range(1, self._attempts + 1):
            if self._stop() or not self._pace():
                break
            if self._before_attempt is not None:
                self._before_attempt()
            answer = replace(self._attempt(request, named, data), attempts=attempt)
            if unknown and request.method == "DELETE" and answer.error_code in _MISSING:
                answer = replace(answer, ending=Ending.DONE, error_code=None, message="")
            unknown = unknown or answer.ending is Ending.UNKNOWN
            if attempt == self._attempts or not (
                _may_be_repeated(request, answer) and self._budget()
            ):
                break
            if not self._wait(attempt, answer.retry_after):
                break
        unprocessed = answer.ending is Ending.NOT_SENT or answer.status == 429
        if unknown and unprocessed:
            answer = replace(answer, ending=Ending.UNKNOWN)
        return replace(answer, unknown_before=unknown and answer.ending is not Ending.UNKNOWN)

    def _budget(self) -> bool:
        """Takes one retry. A tenth of the calls, at least ten, may be retries: an outage must not be
        hammered."""
        with self._counting:
            if self._retries >= max(10, self._calls // 10):
                return False
            self._retries += 1
            return True

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
        """Waits until a gap has passed since the last request of any thread, so there is no burst.

        The lock is held while waiting: a thread that wakes late then delays the next one, instead of
        letting it follow at once.
        """
        if not self._gap:
            return True
        with self._pacing:
            go_on = self._sleep(self._next - self._clock.now())
            if go_on:
                self._next = self._clock.now() + self._gap
        return go_on

    # --- one attempt -------------------------------------------------------------------------

    def _attempt(self, request: Request, named: Mapping[str, str], data: bytes | None) -> Answer:
        headers = {
            **request.headers,
            "Authorization": f"Api-Key {self._key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"reconcile/{__version__}",
        }
        if data is not None:
            headers["Content-Type"] = "application/json"
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
                return Answer(Ending.UNKNOWN, message=_LATE)
        except Exception as problem:  # of requests, urllib3, http.client, ssl, socket: see _failed
            return _failed(problem, deadline)
        finally:
            if response is not None:
                response.close()
        answer = self._judge(request, named, response, body)
        if answer.ending is Ending.UNKNOWN and 200 <= response.status_code < 300:
            # Whose answer it was is open, and so is what else is on its way: start afresh.
            for adapter in self._session.adapters.values():
                adapter.close()
        return answer

    def _judge(
        self, request: Request, named: Mapping[str, str], response: Any, body: bytes | None
    ) -> Answer:
        status = response.status_code
        request_id = self._token(response.headers.get("Request-Id"))
        base = Answer(Ending.UNKNOWN, status=status, request_id=request_id)
        if body is None:
            return replace(base, message=f"status {status} with an incomplete or oversized body")
        if request.method == "DELETE" and status == 204:
            return replace(base, ending=Ending.DONE)
        if 200 <= status < 300:
            data = _profile_data(body)
            if data is None:
                return replace(base, message=f"status {status} with a body that is not a profile")
            if not _names(data, named):
                return replace(base, message="the answer is about another profile")
            return replace(base, ending=Ending.DONE, data=data)
        code, message = _error_body(body)
        code = self._token(code)
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
        return shown(text.replace(self._key, "(key)")[:300])[:300]

    def _token(self, text: str | None) -> str | None:
        """A short name that the API gave (a code, an id); ``None`` where it does not look like one."""
        fits = text is not None and _TOKEN.fullmatch(text) and self._key not in text
        return text if fits else None


def _may_be_repeated(request: Request, answer: Answer) -> bool:
    """Whether another try is safe and may help."""
    match answer.ending:
        case Ending.DONE:
            return False
        case Ending.REFUSED:
            return answer.status == 429
        case Ending.NOT_SENT:
            return True
        case Ending.UNKNOWN:
            status = answer.status
            helps = status is None or status in _RETRIED or status < 300
            return request.method != "POST" and helps
        case _:
            assert_never(answer.ending)


def _failed(problem: Exception, deadline: _Deadline) -> Answer:
    """The ending of an attempt that raised: what counts is whether a byte of the request was written,
    not the class of the error (a TLS error, say, may come before the request or after it)."""
    if isinstance(problem, ValueError) and not deadline.written:
        return Answer(Ending.REFUSED, message="the address cannot be used")
    name = type(_cause(problem)).__name__
    if not deadline.written:
        return Answer(Ending.NOT_SENT, message=f"cannot connect ({name})")
    if deadline.passed or isinstance(problem, requests.exceptions.Timeout):
        return Answer(Ending.UNKNOWN, message=_LATE)
    return Answer(Ending.UNKNOWN, message=f"the connection broke ({name})")


class _Deadline:
    """Shuts the connection of an attempt down when its time is over, however slowly the answer, or a
    TLS handshake, drips. Also knows whether a byte of the request was written.

    Name resolution cannot be cut short: it ends by the limits of the system's resolver.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self.written = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        _CURRENT.deadline = self
        self._timer.start()

    def __exit__(self, *ended: object) -> None:
        self._timer.cancel()
        _CURRENT.deadline = None
        with self._lock:
            self._release()

    def watch(self, sock: socket.socket) -> None:
        """Holds a duplicate: TLS takes the descriptor away from the socket that it wraps, and a closed
        one may be another thread's connection by the time it is shut down."""
        with self._lock:
            self._release()
            self._socket = socket.fromfd(sock.fileno(), sock.family, sock.type)
            if self.passed:
                self._shut()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class _Current(threading.local):
    """The deadline of the attempt that this thread is in."""

    deadline: _Deadline | None = None


_CURRENT = _Current()


class _Lines:
    """The stream of an answer, in which a line that ends without a line break is an error.

    ``http.client`` takes the end of the stream for the end of the headers or of the chunks, so that
    an answer cut there would look complete (reliability 0.4).
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readline(self, limit: int) -> bytes:
        line: bytes = self._stream.readline(limit)
        if not line.endswith(b"\n") and len(line) < limit:
            raise http.client.IncompleteRead(line)
        return line

    def read(self, amount: int) -> bytes:
        if amount < 0:  # a negative chunk size: would read without bound
            raise http.client.IncompleteRead(b"")
        got: bytes = self._stream.read(amount)
        return got

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp: Any = _Lines(self.fp)


class _Watched(HTTPConnection):
    """Tells the deadline of its attempt which socket to shut down, and what has been written."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if _CURRENT.deadline is not None:
            _CURRENT.deadline.watch(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        if _CURRENT.deadline is not None:
            _CURRENT.deadline.written = False  # a proxy's CONNECT is not the request

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        deadline = _CURRENT.deadline
        if deadline is not None and not deadline.written:
            deadline.watch(self.sock)
            deadline.written = True
        super().send(data)


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


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
    """The body, or ``None`` where it cannot be known to be complete (reliability 0.4), is too long, or
    is encoded although we asked for none."""
    headers = response.headers
    if response.status_code == 204:
        return b""
    encoding, announced = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if (encoding is None) == (announced is None):  # both together are a smuggler's tool
        return None
    if encoding is not None and encoding.strip().lower() != "chunked":
        return None
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        return None
    body: bytes = response.raw.read(_BODY_LIMIT + 1, decode_content=False)
    if len(body) > _BODY_LIMIT:
        return None
    if announced is not None and announced.strip() != str(len(body)):
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
    """The profile of an answer; ``None`` where it is none, or says nothing of its custom attributes
    (silence must not be taken for "there are none")."""
    try:
        data = _strict(body)["data"]
        optional = [data.get(name) for name in ("app_id", "customer_user_id")]
        app_id, customer = [None if text is None else _text(text) for text in optional]
        timestamp = data.get("timestamp")
        return ProfileData(
            app_id=app_id,
            profile_id=_text(data["profile_id"]),
            customer_user_id=customer,
            timestamp=timestamp if type(timestamp) is int else None,
            custom_attributes=_attributes(data["custom_attributes"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _text(value: Any) -> str:
    """A text that is not empty and can be written down; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError
    if not value.encode("utf-8"):  # which also refuses lone surrogates
        raise ValueError
    return value


def _attributes(items: Any) -> dict[str, str | float]:
    """Custom attributes by key; null and ``""`` are absent (adapty-api 4)."""
    if items is None:
        return {}
    if not isinstance(items, list):
        raise TypeError
    out: dict[str, str | float] = {}
    seen: set[str] = set()
    for item in items:
        key, value = _text(item["key"]), item["value"]
        if key in seen:
            raise ValueError
        seen.add(key)
        if value is None or value == "":
            continue
        if isinstance(value, str):
            out[key] = _text(value)
        elif isinstance(value, (bool, int, float)) and abs(value) < float("inf"):
            out[key] = float(value) + 0.0  # no -0.0
        else:
            raise TypeError
    return out


def _names(data: ProfileData, named: Mapping[str, str]) -> bool:
    """Whether an answer is about the profile that the headers (names in lower case) ask for."""
    customer, profile = named.get("adapty-customer-user-id"), named.get("adapty-profile-id")
    if customer is None and profile is None:
        return False
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


def _retry_after(text: str | None) -> float | None:
    """Seconds, of either form of the header; ``None`` for anything else."""
    if text is None:
        return None
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max(0.0, at.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
