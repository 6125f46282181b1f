"""One call of the API over HTTP: paced, with a deadline, retried where that is safe.

Nothing of requests or urllib3 leaves this module, because their errors carry headers (the key) and
paths. What an answer means is decided in `reconciler.remote.answers`, when a request may leave in
`reconciler.remote.pacing`.
"""

from __future__ import annotations

import http.client
import json
import random as random_module
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, assert_never

import requests
from certifi import where
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from reconciler import __version__
from reconciler.core.plan import Request
from reconciler.core.transitions import Rate
from reconciler.errors import InputError
from reconciler.remote.answers import MISSING, Answer, CallResult, judge
from reconciler.remote.pacing import MOST_IN_FLIGHT, Clock, Pace, SystemClock, Verdict
from reconciler.values import Json

GRACE = 5.0
"""Seconds that requests under way still have once the user wants to stop."""
_BODY_LIMIT = 1 << 20
"""Bytes; a profile takes a few thousand."""
_CONNECT_TIMEOUT = 5.0
_RETRIED = frozenset({500, 502, 503, 504})
"""Statuses whose outcome is unknown, and for which another try may help. Not 3xx or 501, say."""
_BACKOFF_BASE = 0.5
_BACKOFF_CAP = 30.0
_SLICE = 0.2
"""Seconds between two looks at whether the user wants to stop."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_LATE = "no complete answer within the deadline"


def wire(body: Mapping[str, Json]) -> bytes:
    """The bytes of a request body; floats keep their point."""
    return json.dumps(body, ensure_ascii=True, allow_nan=False).encode("ascii")


class Client:
    """Sends requests to one API with one key. Threads may share a client.

    ``timeout`` is the deadline of a whole call in seconds: its attempts and the waits between them,
    but not the time for which the rate, or a ``Retry-After``, holds it back. ``attempts`` is the most
    tries of a call, those not counted that ask once a second whether an API that was away is back;
    it may be away for ``patience`` seconds. ``clock``, ``random`` and ``stop`` (asked before each
    attempt) are arguments so that a test can hold them.

    Raises InputError where ``ca_bundle`` holds no certificates.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key: str,
        timeout: float = 30.0,
        rate: Rate | float | None = None,
        attempts: int = 4,
        patience: float = 120.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._attempts = attempts
        self._clock = clock or SystemClock()
        self._random = random
        self._stop = stop
        self._counting = threading.Lock()
        self._calls = 0
        self._retries = 0
        self._proxies = None if proxy is None else {"http": proxy, "https": proxy}
        # An adapter alone, without a session: no cookies, no redirects, nothing of the environment
        # (proxies, .netrc), and less than half of the time.
        secure = any(url.startswith("https:") for url in (base_url, proxy or ""))
        self._adapter = _Adapter(_tls(ca_bundle) if secure else None)
        self._watchdog = _Watchdog(stop)
        self.pace = Pace(
            rate if isinstance(rate, Rate) else Rate(rate),
            clock=self._clock,
            stop=stop,
            patience=patience,
        )

    def __repr__(self) -> str:
        return f"Client({self._url!r})"

    def close(self) -> None:
        """Closes the connections."""
        self._watchdog.close()
        self._adapter.close()

    def send(self, request: Request, *, may_leave: Callable[[], bool] = lambda: True) -> Answer:
        """One call, retried where that is safe: after 429 and what was not sent always, after an
        unknown outcome for every method but POST, which must be looked up first. ``may_leave`` is
        asked last of all before every attempt, and ends the call by saying no."""
        if not all(map(_VISIBLE.fullmatch, (self._key, *request.headers.values()))):
            return Answer(
                CallResult.REFUSED,
                message="a header or the key holds what cannot be sent",
                attempts=0,
            )
        prepared = self._prepared(request)
        with self._counting:
            self._calls += 1
        answer = Answer(CallResult.NOT_SENT, message="stopped before it was sent", attempts=0)
        unknown = False
        left = self._timeout
        counted = 0
        while self.pace.enter():
            if not may_leave():
                self.pace.kept()
                break
            probing = self.pace.is_open
            began = self._clock.now()
            made = self._attempt(request, prepared, left)
            ended = self._clock.now()
            self.pace.learn(_verdict(made), began=began, retry_after=made.retry_after)
            answer = made._replace(attempts=answer.attempts + 1) if answer.attempts else made
            if unknown and request.method == "DELETE" and answer.error_code in MISSING:
                answer = answer._replace(result=CallResult.DONE, error_code=None, message="")
            unknown = unknown or answer.result is CallResult.UNKNOWN
            left -= ended - began
            if not _may_be_repeated(request, answer) or left <= 0:
                break
            if self.pace.is_open:
                continue  # asks again at the pace of the breaker
            counted += not probing
            wait = self._backoff(counted)
            if counted >= self._attempts or wait >= left or not self._budget(answer):
                break
            left -= wait
            if not self._sleep(wait):
                break
        if self.pace.given_up and answer.attempts == 0:
            answer = answer._replace(message="the API is away")
        if not unknown:
            return answer
        if answer.result is CallResult.NOT_SENT or answer.status == 429:  # it was not processed
            return answer._replace(result=CallResult.UNKNOWN)
        return answer._replace(unknown_before=answer.result is not CallResult.UNKNOWN)

    def _budget(self, answer: Answer) -> bool:
        """Takes one retry. A tenth of the calls, at least ten, may be retries: an API in trouble must
        not be hammered. A 429 costs nothing, since the pace already follows it."""
        with self._counting:
            if answer.status == 429:
                return True
            if self._retries >= max(10, self._calls // 10):
                return False
            self._retries += 1
            return True

    def _backoff(self, tries: int) -> float:
        return float(min(_BACKOFF_CAP, _BACKOFF_BASE * 2 ** max(0, tries - 1)) * self._random())

    def _sleep(self, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while (left := until - self._clock.now()) > 0:
            if self._stop():
                return False
            self._clock.sleep(min(left, _SLICE))
        return not self._stop()

    # --- one attempt -------------------------------------------------------------------------

    def _prepared(self, request: Request) -> requests.PreparedRequest:
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = self._url + request.path
        prepared.headers = CaseInsensitiveDict(
            {
                **request.headers,
                "Authorization": f"Api-Key {self._key}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"reconcile/{__version__}",
            }
        )
        if request.body is not None and request.method != "GET":
            prepared.body = wire(request.body)
            prepared.headers["Content-Type"] = "application/json"
            prepared.headers["Content-Length"] = str(len(prepared.body))
        elif request.method != "GET":
            prepared.headers["Content-Length"] = "0"
        return prepared

    def _attempt(
        self, request: Request, prepared: requests.PreparedRequest, seconds: float
    ) -> Answer:
        attempt = _Attempt(seconds, self.pace, has_body=prepared.body is not None)
        response = None
        try:
            with self._watchdog.watching(attempt):
                response = self._adapter.send(
                    prepared,
                    stream=True,
                    timeout=(min(_CONNECT_TIMEOUT, seconds), seconds),
                    proxies=self._proxies,
                )
                body = _whole_body(response)
            if attempt.passed:
                return Answer(CallResult.UNKNOWN, message=_LATE)
        except Exception as problem:  # of requests, urllib3, http.client, ssl, socket: see _failed
            return _failed(problem, attempt)
        finally:
            if response is not None:
                response.close()
        answer = judge(
            request,
            response.status_code,
            response.headers,
            body,
            key=self._key,
            now=time.time(),
        )
        if answer.result is CallResult.UNKNOWN and 200 <= response.status_code < 300:
            # Whose answer it was is open, and so is what else is on its way: start afresh.
            self._adapter.close()
        return answer


def _verdict(answer: Answer) -> Verdict:
    if answer.status is None:
        return Verdict.AWAY
    if answer.status == 429:
        return Verdict.LIMITED
    if answer.result is not CallResult.UNKNOWN:
        return Verdict.UP
    return Verdict.UNCLEAR if answer.status == 500 or answer.status < 300 else Verdict.AWAY


def _may_be_repeated(request: Request, answer: Answer) -> bool:
    """Whether another try is safe and may help."""
    match answer.result:
        case CallResult.DONE:
            return False
        case CallResult.REFUSED:
            return answer.status == 429
        case CallResult.NOT_SENT:
            return True
        case CallResult.UNKNOWN:
            status = answer.status
            helps = status is None or status in _RETRIED or status < 300
            return request.method != "POST" and helps
        case _:
            assert_never(answer.result)


def _failed(problem: Exception, attempt: _Attempt) -> Answer:
    """The ending of an attempt that raised: what counts is whether a byte of the request was written,
    not the class of the error (a TLS error, say, may come before the request or after it)."""
    if isinstance(problem, ValueError) and not attempt.written:
        return Answer(CallResult.REFUSED, message="the address cannot be used")
    name = type(_cause(problem)).__name__
    if not attempt.written:
        return Answer(CallResult.NOT_SENT, message=f"cannot connect ({name})")
    if attempt.passed or isinstance(problem, requests.exceptions.Timeout):
        return Answer(CallResult.UNKNOWN, message=_LATE)
    return Answer(CallResult.UNKNOWN, message=f"the connection broke ({name})")


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


# --- the deadline --------------------------------------------------------------------------------


class _Attempt:
    """An attempt under way: its connection, and whether a byte of its request was written.

    ``requests`` has no deadline of its own (reliability 0.5): the watchdog shuts the connection down,
    however slowly an answer, or a TLS handshake, drips. Name resolution cannot be cut short: it ends
    by the limits of the system's resolver.
    """

    def __init__(self, seconds: float, pace: Pace, *, has_body: bool) -> None:
        self.ends = time.monotonic() + seconds
        self.passed = False
        self.written = False
        self._head: bytes | None = None
        self._has_body = has_body
        self._pace = pace
        self._left = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def watch(self, sock: socket.socket) -> None:
        """Holds a duplicate: TLS takes the descriptor away from the socket that it wraps, and a closed
        one may be another thread's connection by the time it is shut down."""
        with self._lock:
            self._release()
            self._socket = socket.fromfd(sock.fileno(), sock.family, sock.type)
            if self.passed:
                self._shut()

    def write(self, data: bytes, sock: socket.socket, send: Callable[[bytes], None]) -> None:
        """Writes the request, its head and body together: so that it leaves at one moment, which the
        pace is told of, and in one packet."""
        if self._has_body and self._head is None:
            self._head = data
            return
        if not self.written:
            self.watch(sock)
            self.written = True
            data = (self._head or b"") + data
        send(data)
        if not self._left:
            self._left = True
            self._pace.wrote()

    def shut(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def close(self) -> None:
        with self._lock:
            self._release()
        if not self._left:
            self._pace.kept()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Current(threading.local):
    """The attempt that this thread is in."""

    attempt: _Attempt | None = None


_CURRENT = _Current()


class _Watchdog:
    """One thread that ends every attempt whose time is over; `GRACE` seconds after the wish to stop
    that is all of them."""

    _TICK = 0.05

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._attempts: set[_Attempt] = set()
        self._some = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def watching(self, attempt: _Attempt) -> _Watching:
        return _Watching(self, attempt)

    def add(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.add(attempt)
            self._some.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def remove(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.discard(attempt)

    def close(self) -> None:
        self._closed = True
        self._some.set()

    def _run(self) -> None:
        last = float("inf")
        while not self._closed:
            time.sleep(self._TICK)
            now = time.monotonic()
            if last == float("inf") and self._stop():
                last = now + GRACE
            with self._lock:
                over = [attempt for attempt in self._attempts if min(attempt.ends, last) <= now]
                if not self._attempts:
                    self._some.clear()
            for attempt in over:
                attempt.shut()
            self._some.wait()


class _Watching:
    """The time for which an attempt is watched, and is the current one of its thread."""

    def __init__(self, watchdog: _Watchdog, attempt: _Attempt) -> None:
        self._watchdog = watchdog
        self._attempt = attempt

    def __enter__(self) -> None:
        _CURRENT.attempt = self._attempt
        self._watchdog.add(self._attempt)

    def __exit__(self, *ended: object) -> None:
        self._watchdog.remove(self._attempt)
        _CURRENT.attempt = None
        self._attempt.close()


# --- connections ---------------------------------------------------------------------------------


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
    """Tells the attempt which socket to shut down, and has it write the request."""

    response_class = _Response
    _connecting = False

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if _CURRENT.attempt is not None:
            _CURRENT.attempt.watch(sock)
        return sock

    def connect(self) -> None:
        self._connecting = True  # what is sent meanwhile is a proxy's CONNECT
        try:
            super().connect()
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        attempt = _CURRENT.attempt
        if attempt is None or self._connecting:
            super().send(data)
        else:
            attempt.write(data, self.sock, super().send)


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


_POOLS = {"http": _Pool, "https": _PoolTLS}


class _Adapter(HTTPAdapter):
    """Watched connections, straight or through a proxy, over one TLS context."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(max_retries=0, pool_maxsize=MOST_IN_FLIGHT)

    def init_poolmanager(self, *args: Any, **extra: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **extra)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **extra: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **extra)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context has the certificates: loading them for every connection takes longer than the
        handshake."""


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """Certificates and names are checked. Unlike those of ``ssl.create_default_context``, such a
    context writes no session keys to the file that ``SSLKEYLOGFILE`` names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_bundle or where())
    except OSError as problem:
        raise InputError(
            f"the certificates in {ca_bundle} cannot be read: {problem.strerror or 'not PEM'}",
            hint="api.ca_bundle names a file of certificates in PEM form.",
        ) from None
    return context
