"""One attempt of a request over HTTP: sockets, TLS, connection pools, and the watchdog over deadlines.

Errors of requests and urllib3 carry headers (the key) and paths, so none of them leaves this module. The
meaning of a complete response is decided in `reconciler.remote.answers`.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.wait import wait_for_read

from reconciler import __version__
from reconciler.core.plan import Request
from reconciler.errors import InputError
from reconciler.remote.answers import ApiAnswer, Body, CallResult, judge
from reconciler.remote.causes import EarlyAnswer, PublicAddress, Route, asks_for_login, cause_of
from reconciler.remote.encodings import decoded
from reconciler.remote.pacing import MOST_IN_FLIGHT, Pace
from reconciler.values import Json

STOP_GRACE = 5.0
"""Seconds that requests under way still have once the user wants to stop."""
_BODY_LIMIT = 1 << 20
"""Bytes; a profile takes a few thousand."""
_CONNECT_TIMEOUT = 5.0
"""Seconds."""
_REFUSAL_SECONDS = 2.0
"""Seconds for the body of an error. It only gives the reason, and the status is known before it."""
_PIECE = 1 << 16
"""Bytes that are read of a body at a time."""
_INCOMPLETE = "an incomplete body"
_BAD_HEAD = "a head that cannot be read"
_PROXY_LOGIN = 407
_LATE = "no complete answer within the deadline"


def encode_body(body: Mapping[str, Json]) -> bytes:
    """The bytes of a request body; floats keep their point."""
    return json.dumps(body, ensure_ascii=True, allow_nan=False).encode("ascii")


def has_own_connection(request: Request) -> bool:
    """Whether a request needs a connection of its own, because the answer to an earlier one could be taken
    for its own: the answer to a DELETE names no profile."""
    return request.method == "DELETE"


class HttpTransport:
    """Makes attempts at one API with one key. Threads may share it.

    It tells ``pace`` of every attempt whether and when the request left. ``STOP_GRACE`` seconds after
    ``stop`` first says yes, it ends all attempts under way.

    Raises InputError where ``ca_bundle`` holds no certificates.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        pace: Pace,
        stop: Callable[[], bool],
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        self._url = base_url.rstrip("/")
        self._key = key
        self._pace = pace
        address, login = (None, None) if proxy is None else _without_login(proxy)
        self._proxies = None if address is None else {"http": address, "https": address}
        self._route = Route(self._url, address, ca_bundle)
        self._needs_private_peer = proxy is None and base_url.startswith("http:")
        # An adapter alone, without a session: no cookies, no redirects, nothing of the environment
        # (proxies, .netrc), and less than half of the time.
        secure = any(url.startswith("https:") for url in (base_url, proxy or ""))
        self._adapter = _Adapter(_tls_context(ca_bundle) if secure else None, login=login)
        self._watchdog = _Watchdog(stop)

    def close(self) -> None:
        """Closes the connections."""
        self._watchdog.close()
        self._adapter.close()

    def attempt(self, request: Request, *, seconds: float) -> ApiAnswer:
        """Sends a request once and waits for its answer, ``seconds`` at most."""
        prepared = self._prepare(request)
        attempt = _Attempt(
            seconds,
            self._pace,
            has_body=prepared.body is not None,
            needs_fresh_connection=has_own_connection(request),
            needs_private_peer=self._needs_private_peer,
        )
        response = None
        try:
            with self._watchdog.watching(attempt):
                response = self._adapter.send(
                    prepared,
                    stream=True,
                    timeout=(min(_CONNECT_TIMEOUT, seconds), seconds),
                    proxies=self._proxies,
                )
                is_error = response.status_code >= 400
                if is_error:
                    attempt.shorten(_REFUSAL_SECONDS)
                body = _read_body(response, is_error=is_error)
            if attempt.is_over and not is_error:
                return ApiAnswer(CallResult.UNKNOWN, message=_LATE)
        except Exception as problem:  # of requests, urllib3, http.client, ssl, socket
            if attempt.status is not None and 400 <= attempt.status < 500:
                return self._judge(request, attempt.status, headers={}, body=Body(b"", _BAD_HEAD))
            return _failure(problem, attempt, route=self._route)
        finally:
            if response is not None:
                response.close()
        if response.status_code == _PROXY_LOGIN and self._proxies is not None:
            return ApiAnswer(CallResult.NOT_SENT, message=_unreachable(asks_for_login(self._route)))
        answer = self._judge(request, response.status_code, headers=response.headers, body=body)
        if answer.result is CallResult.UNKNOWN and 200 <= response.status_code < 300:
            # The answer may belong to another request, and more of its kind may follow on the
            # connection: start afresh.
            self._adapter.close()
        return answer

    def _judge(
        self, request: Request, status: int, *, headers: Mapping[str, str], body: Body
    ) -> ApiAnswer:
        return judge(request, status, headers=headers, body=body, key=self._key, now=time.time())

    def _prepare(self, request: Request) -> requests.PreparedRequest:
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
            prepared.body = encode_body(request.body)
            prepared.headers["Content-Type"] = "application/json"
            prepared.headers["Content-Length"] = str(len(prepared.body))
        elif request.method != "GET":
            prepared.headers["Content-Length"] = "0"
        return prepared


def _failure(problem: Exception, attempt: _Attempt, *, route: Route) -> ApiAnswer:
    """The answer of an attempt that raised. It depends on whether a byte of the request was written, not
    on the class of the error: a TLS error, say, may come before the request or after it."""
    if isinstance(problem, ValueError) and not attempt.any_byte_written:
        return ApiAnswer(CallResult.REFUSED, message="the address cannot be used")
    cause = cause_of(problem, route)
    if not attempt.any_byte_written:
        if attempt.is_over:
            cause = f"{route.target} does not answer in time"
        text = cause or f"an error of the kind {type(_innermost_cause(problem)).__name__}"
        return ApiAnswer(CallResult.NOT_SENT, message=_unreachable(text))
    if attempt.is_over or isinstance(problem, requests.exceptions.Timeout):
        return ApiAnswer(CallResult.UNKNOWN, message=_LATE)
    if not isinstance(_innermost_cause(problem), ssl.SSLError):
        cause = ""  # a connection that broke was reached: no setting mends that
    name = type(_innermost_cause(problem)).__name__
    return ApiAnswer(CallResult.UNKNOWN, message=f"the connection broke ({cause or name})")


def _unreachable(cause: str) -> str:
    return f"cannot connect: {cause}"


def _without_login(proxy: str) -> tuple[str, str | None]:
    """The address of a proxy without its login, and the header that logs in."""
    parts = urlsplit(proxy)
    login, at, place = parts.netloc.rpartition("@")
    if not at:
        return proxy, None
    user, _, password = login.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return f"{parts.scheme}://{place}", f"Basic {b64encode(pair).decode('ascii')}"


def _innermost_cause(problem: BaseException) -> BaseException:
    """The error below the wrappers of requests and urllib3."""
    inner: Any = problem.args[0] if problem.args else problem
    while isinstance(getattr(inner, "reason", None), Exception):
        inner = inner.reason
    return inner if isinstance(inner, BaseException) else problem


def _read_body(response: Any, *, is_error: bool) -> Body:
    """The body, with the reason why it may not be what was sent (reliability 0.4).

    The body of an error is read as far as it goes, because it may give a reason. For any other body,
    errors of the connection are raised.
    """
    headers = response.headers
    if response.status_code in (204, 304):
        return Body(b"")
    encoding, announced = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if encoding is not None and announced is not None:  # a smuggler's tool
        return Body(b"", "a body of two lengths")
    if encoding is not None and encoding.strip().lower() != "chunked":
        return Body(b"", "a body of an unknown transfer encoding")
    if encoding is None and announced is None and not is_error:
        return Body(b"", "a body without a length")
    pieces: list[bytes] = []
    length, flaw = 0, ""
    try:
        while length <= _BODY_LIMIT:
            piece = response.raw.read(_PIECE, decode_content=False)
            if not piece:
                break
            pieces.append(piece)
            length += len(piece)
    except Exception:  # of urllib3, http.client, ssl, socket
        if not is_error:
            raise
        flaw = _INCOMPLETE
    content = b"".join(pieces)
    if length > _BODY_LIMIT:
        flaw = "an oversized body"
    elif announced is not None and announced.strip() != str(length):
        flaw = _INCOMPLETE
    elif encoding is None and announced is None:
        flaw = "a body without a length"
    codings = headers.get("Content-Encoding", "identity")
    plain = decoded(content, codings, limit=_BODY_LIMIT)
    if plain is None:
        return Body(b"", flaw or "a body whose encoding cannot be read")
    return Body(plain[:_BODY_LIMIT], flaw)


# --- the deadline --------------------------------------------------------------------------------


class _Attempt:
    """An attempt under way: its connection, and whether a byte of its request was written.

    ``requests`` has no deadline of its own (reliability 0.5), so the watchdog shuts the connection down,
    however slowly an answer or a TLS handshake drips. Nothing can cut name resolution short: it ends by
    the limits of the system's resolver.
    """

    def __init__(
        self,
        seconds: float,
        pace: Pace,
        *,
        has_body: bool,
        needs_fresh_connection: bool,
        needs_private_peer: bool,
    ) -> None:
        self.needs_private_peer = needs_private_peer
        """Whether the request travels in clear, so that it may go to no public address."""
        self.needs_fresh_connection = needs_fresh_connection
        """See `has_own_connection`."""
        self.ends = time.monotonic() + seconds
        self.is_over = False
        self.any_byte_written = False
        self.status: int | None = None
        """That of the answer, once its status line was read."""
        self._head: bytes | None = None
        self._has_body = has_body
        self._pace = pace
        self._has_left = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def watch(self, sock: Any) -> None:
        """Keeps a duplicate of the socket, for the watchdog to shut down. TLS takes the descriptor away from
        the socket that it wraps, and a closed descriptor may be another thread's connection by then."""
        with self._lock:
            self._release()
            below = getattr(sock, "socket", sock)  # TLS through a proxy of TLS wraps a socket
            self._socket = socket.fromfd(below.fileno(), below.family, below.type)
            if self.is_over:
                self._shut()

    def write(self, data: bytes, sock: socket.socket, *, send: Callable[[bytes], None]) -> None:
        """Writes head and body of the request together, so that it leaves in one packet and at one moment.
        The pace learns that moment."""
        if self._has_body and self._head is None:
            self._head = data
            return
        if not self.any_byte_written:
            if _has_spoken(sock):
                raise EarlyAnswer
            self.watch(sock)
            self.any_byte_written = True
            data = (self._head or b"") + data
        send(data)
        if not self._has_left:
            self._has_left = True
            self._pace.sent()

    def shorten(self, seconds: float) -> None:
        """Leaves the attempt at most so many seconds from now on."""
        self.ends = min(self.ends, time.monotonic() + seconds)

    def shut(self) -> None:
        with self._lock:
            self.is_over = True
            self._shut()

    def close(self) -> None:
        with self._lock:
            self._release()
        if not self._has_left:
            self._pace.not_sent()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _ThreadState(threading.local):
    """The attempt that the current thread makes."""

    attempt: _Attempt | None = None


_THREAD = _ThreadState()


class _Watchdog:
    """One thread that ends every attempt whose deadline has passed, and all of them `STOP_GRACE` seconds
    after the user wants to stop."""

    _TICK = 0.05

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._attempts: set[_Attempt] = set()
        self._any_attempts = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def watching(self, attempt: _Attempt) -> _WatchedAttempt:
        return _WatchedAttempt(self, attempt)

    def add(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.add(attempt)
            self._any_attempts.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def remove(self, attempt: _Attempt) -> None:
        with self._lock:
            self._attempts.discard(attempt)

    def close(self) -> None:
        self._closed = True
        self._any_attempts.set()

    def _run(self) -> None:
        last = float("inf")
        while not self._closed:
            time.sleep(self._TICK)
            now = time.monotonic()
            if last == float("inf") and self._stop():
                last = now + STOP_GRACE
            with self._lock:
                overdue = [attempt for attempt in self._attempts if min(attempt.ends, last) <= now]
                if not self._attempts:
                    self._any_attempts.clear()
            for attempt in overdue:
                attempt.shut()
            self._any_attempts.wait()


class _WatchedAttempt:
    """While entered, the watchdog watches an attempt, and the attempt is the current one of its thread."""

    def __init__(self, watchdog: _Watchdog, attempt: _Attempt) -> None:
        self._watchdog = watchdog
        self._attempt = attempt

    def __enter__(self) -> None:
        _THREAD.attempt = self._attempt
        self._watchdog.add(self._attempt)

    def __exit__(self, *error: object) -> None:
        self._watchdog.remove(self._attempt)
        _THREAD.attempt = None
        self._attempt.close()


# --- connections ---------------------------------------------------------------------------------


def _is_public(address: str) -> bool:
    """Whether an IP address is one of the public network."""
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_global


def _has_spoken(sock: Any) -> bool:
    """Whether something arrived, or the connection was closed, since the last answer was read. Over TLS this
    takes what arrived: a session ticket may have, which is nothing that the server said."""
    is_plain = not hasattr(sock, "cipher")
    if not is_plain and hasattr(sock, "pending") and sock.pending():
        return True
    if not wait_for_read(sock, timeout=0):
        return False
    if is_plain:
        return True
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0)
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        with suppress(OSError):
            sock.settimeout(timeout)
    return True


class _CompleteLines:
    """The stream of a response. A line without a line break at its end is an error.

    ``http.client`` takes the end of the stream for the end of the headers or of the chunks, so a response
    that was cut there would look complete (reliability 0.4).
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
        data: bytes = self._stream.read(amount)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp: Any = _CompleteLines(self.fp)

    def begin(self) -> None:
        attempt = _THREAD.attempt
        try:
            super().begin()
        finally:  # the status is known before the headers are, which may be damaged
            if attempt is not None and attempt.any_byte_written and isinstance(self.status, int):
                attempt.status = self.status


class _WatchedConnection(HTTPConnection):
    """Hands its socket to the attempt of the thread, which writes the request."""

    response_class = _Response
    _connecting = False

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if _THREAD.attempt is not None:
            if _THREAD.attempt.needs_private_peer and _is_public(sock.getpeername()[0]):
                sock.close()
                raise PublicAddress
            _THREAD.attempt.watch(sock)
        return sock

    def connect(self) -> None:
        self._connecting = True  # a proxy's CONNECT is no request of ours
        try:
            super().connect()
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        attempt = _THREAD.attempt
        if attempt is None or self._connecting:
            super().send(data)
        else:
            attempt.write(data, self.sock, send=super().send)


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    pass


class _ChoosyPool(HTTPConnectionPool):
    """Closes a pooled connection on which the next answer might be that of an earlier request."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        attempt = _THREAD.attempt
        if connection.sock is not None and (
            (attempt is not None and attempt.needs_fresh_connection) or _has_spoken(connection.sock)
        ):
            connection.close()
        return connection


class _Pool(_ChoosyPool):
    ConnectionCls = _WatchedConnection


class _PoolTLS(_ChoosyPool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


_POOLS = {"http": _Pool, "https": _PoolTLS}


class _Adapter(HTTPAdapter):
    """Watched connections, straight or through a proxy, over one TLS context."""

    def __init__(self, context: ssl.SSLContext | None, *, login: str | None) -> None:
        self._context = context
        self._login = login
        super().__init__(max_retries=0, pool_maxsize=MOST_IN_FLIGHT)

    def init_poolmanager(self, *args: Any, **extra: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **extra)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **extra: Any) -> Any:
        contexts = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        manager = super().proxy_manager_for(proxy, **contexts, **extra)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """The headers that only the proxy is given. Unlike those of the base class, a login may have any
        letters."""
        return {} if self._login is None else {"Proxy-Authorization": self._login}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Does nothing: the context has the certificates. To load them for every connection would take longer
        than the handshake."""


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A context that checks certificates and host names. Unlike that of ``ssl.create_default_context``, it
    writes no session keys to the file that ``SSLKEYLOGFILE`` names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    except OSError as problem:
        raise InputError(
            f"the certificates in {ca_bundle} cannot be read: {problem.strerror or 'not PEM'}",
            hint="api.ca_bundle names a file of certificates in PEM form.",
        ) from None
    return context
