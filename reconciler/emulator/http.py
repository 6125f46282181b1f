"""A small HTTP/1.1 server on 127.0.0.1 that sends the bytes and keeps the pauses that its handler gives.

It reads requests strictly and leaves every byte of an answer to its handler. Frameworks and
``http.server`` would repair, or refuse to send, exactly the answers that the emulator has to send. All
connections share one event loop in a thread of its own, so a connection that waits costs nothing and
delays no other one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol, TypeVar, assert_never

MAX_BODY = 1 << 20
"""Bytes of a request body; more is answered with 413."""
_MAX_LINE = 1 << 16
"""Bytes of a request line; more is answered with 414."""
_MAX_HEAD = 1 << 17
"""Bytes of a request line and its headers; more is answered with 431."""
_MAX_DRAINED = 64 * MAX_BODY
"""Bytes of a body that is too long that are read before its answer."""
_BACKLOG = 512
_CALL_CHECK = 0.5
"""Seconds between two checks whether the server's thread still lives."""
_PORT_RETRY = 0.05
"""Seconds between two attempts to get the port back."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request."""

    method: str
    path: str
    headers: dict[str, str]
    """Names are in lower case. A header that was sent twice has both values, joined by a comma."""
    body: bytes
    peer_ip: str
    keep_alive: bool
    """Whether the client may send another request over the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before it is sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def head(self, *extra: str) -> bytes:
        """The status line and the headers, ended by an empty line; ``extra`` are more lines."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join([*lines, *extra]) + "\r\n\r\n").encode("latin-1", "replace")


class End(StrEnum):
    """The state of a connection after a reply."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Reply:
    """The reaction to one request, byte by byte."""

    steps: Iterable[bytes | float]
    """Bytes to send and seconds to wait, in their order. An infinite wait lasts until the client goes."""
    end: End = End.KEEP
    idle_limit: float | None = None
    """A kept connection is closed after so many idle seconds; None keeps it."""


class Handler(Protocol):
    """Answers requests. The server calls it in its own thread, so it must not block."""

    def serve(self, request: HttpRequest) -> bytes | Callable[[], Awaitable[Reply]]:
        """All bytes of the answer, or a function that arrives at a reply later."""

    def malformed(self, status: int, message: str) -> bytes:
        """The answer to bytes that are no request. The connection is closed after it."""


class _Malformed(Exception):
    """The bytes are no request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Loopback:
    """The server on a port of 127.0.0.1; 0 takes a free one. Raises OSError if the port is taken."""

    def __init__(self, handler: Handler, *, port: int = 0) -> None:
        self._handler = handler
        self._socket = _listen(port)
        self.port = int(self._socket.getsockname()[1])
        self._connections: set[_ClientConnection] = set()
        self._initial_outage = 0.0
        self._outage_end = 0.0
        self._return: asyncio.Task[None] | None = None
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopback", daemon=True)

    def start(self, *, outage: float = 0.0) -> None:
        """Start to answer, after an outage of so many seconds."""
        self._initial_outage = outage
        self._thread.start()
        self._running.wait()

    def stop(self) -> None:
        """Close the port and every connection. Bytes that wait to be sent are dropped."""
        self._call(self._stopping.set)
        self._thread.join()

    def cut_off(self, seconds: float) -> None:
        """Reset every connection and refuse new ones for so many seconds.

        The outage has begun when this returns. A call from the server's own thread returns at once, and
        the outage begins after the answer that is being sent.
        """
        self._call(self._cut_off, seconds)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if threading.current_thread() is self._thread:
            self._loop.call_soon(function, *arguments)
            return
        done = threading.Event()

        def call() -> None:
            function(*arguments)
            done.set()

        with contextlib.suppress(RuntimeError):  # it has stopped
            self._loop.call_soon_threadsafe(call)
            while not done.wait(_CALL_CHECK) and self._thread.is_alive():
                pass

    # --- the thread ---

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self._open(self._socket)
        if self._initial_outage:
            self._cut_off(self._initial_outage)
        self._running.set()
        await self._stopping.wait()
        self._listener.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the tasks of the closed connections need a turn to be cancelled

    async def _open(self, listening: socket.socket) -> None:
        self._listener = await self._loop.create_server(
            lambda: _ClientConnection(self._loop, self._handler, connections=self._connections),
            sock=listening,
            backlog=_BACKLOG,
        )

    def _cut_off(self, seconds: float) -> None:
        self._outage_end = max(self._outage_end, self._loop.time() + seconds)
        self._listener.close()
        for connection in tuple(self._connections):
            connection.reset()
        if self._return is None:
            self._return = self._loop.create_task(self._come_back())

    async def _come_back(self) -> None:
        while (left := self._outage_end - self._loop.time()) > 0:
            await asyncio.sleep(left)
        while True:
            try:
                listening = _listen(self.port)
                break
            except OSError:  # another program has the port
                await asyncio.sleep(_PORT_RETRY)
        await self._open(listening)
        self._return = None


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


async def in_thread(function: Callable[[], _Result]) -> _Result:
    """The result of a function that may block; raises its exception.

    Each call has a thread of its own: a hundred calls that wait would exhaust a pool.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def finish(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not done.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome: Any = function()
            set_outcome: Callable[[Any], None] = done.set_result
        except Exception as problem:
            outcome, set_outcome = problem, done.set_exception
        with contextlib.suppress(RuntimeError):  # the server was stopped meanwhile
            loop.call_soon_threadsafe(finish, set_outcome, outcome)

    threading.Thread(target=run, name="loopback call", daemon=True).start()
    return await done


@dataclass(frozen=True, slots=True)
class _RequestHead:
    method: str
    path: str
    headers: dict[str, str]
    length: int
    keep_alive: bool


class _ClientConnection(asyncio.Protocol):
    """One connection. Its requests are answered one after the other, in their order."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        *,
        connections: set[_ClientConnection],
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._connections = connections
        self._buffer = b""
        self._head: _RequestHead | None = None
        self._to_drain = 0
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._half_closed = False
        self._client_gone = loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what the event loop calls ---

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._peer_ip = transport.get_extra_info("peername")[0]
        self._connections.add(self)

    def connection_lost(self, problem: Exception | None) -> None:
        self._connections.discard(self)
        self._writable.set()
        self._note_client_gone()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._task is None:
            self._advance()
        elif len(self._buffer) > 2 * MAX_BODY:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection while a request is answered: the client may have closed its half only."""
        self._half_closed = True
        self._note_client_gone()
        return self._task is not None

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- requests ---

    def _advance(self) -> None:
        """Answer the requests that have arrived completely."""
        while self._task is None and not self._transport.is_closing():
            try:
                request = self._next_request()
                if request is None:
                    if self._half_closed:
                        self._transport.close()
                    return
                response = self._handler.serve(request)
            except _Malformed as problem:
                self._transport.write(self._handler.malformed(problem.status, str(problem)))
                self._transport.close()
                return
            except Exception:
                self._fail()
                return
            if isinstance(response, bytes):
                self._transport.write(response)
                if not request.keep_alive:
                    self._transport.close()
            else:
                self._task = self._loop.create_task(self._play(response, request.keep_alive))

    def _next_request(self) -> HttpRequest | None:
        """The next request, if it has arrived completely; raises _Malformed."""
        head = self._head
        if head is None:
            head = self._head = self._next_head()
            if head is None:
                return None
            if "transfer-encoding" in head.headers:
                raise _Malformed(411, "Content-Length is required")
            if head.length > MAX_BODY:
                self._to_drain = min(head.length, _MAX_DRAINED)
            elif len(self._buffer) < head.length and "expect" in head.headers:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._to_drain:
            self._drain()
            return None
        if len(self._buffer) < head.length:
            return None
        body, self._buffer = self._buffer[: head.length], self._buffer[head.length :]
        self._head = None
        return HttpRequest(
            head.method, head.path, head.headers, body, self._peer_ip, head.keep_alive
        )

    def _next_head(self) -> _RequestHead | None:
        buffer = self._buffer.lstrip(b"\r\n") if self._buffer[:1] in b"\r\n" else self._buffer
        end, gap = buffer.find(b"\r\n\r\n"), 4
        if end < 0:
            end, gap = buffer.find(b"\n\n"), 2
        if end < 0:
            line = buffer.find(b"\n")
            if (line if line >= 0 else len(buffer)) > _MAX_LINE:
                raise _Malformed(414, "the request line is too long")
            if len(buffer) > _MAX_HEAD:
                raise _Malformed(431, "the headers are too long")
            return None
        if end > _MAX_HEAD:
            raise _Malformed(431, "the headers are too long")
        self._buffer = buffer[end + gap :]
        return _parse_head(buffer[:end])

    def _drain(self) -> None:
        """Read the rest of a body that is too long, then raise _Malformed. A client that is still sending
        would not see an earlier answer."""
        self._to_drain -= min(self._to_drain, len(self._buffer))
        self._buffer = b""
        if not self._to_drain:
            raise _Malformed(413, f"a request body has at most {MAX_BODY} bytes")

    # --- replies ---

    async def _play(self, response: Callable[[], Awaitable[Reply]], keep_alive: bool) -> None:
        try:
            reply = await response()
            for step in reply.steps:
                if isinstance(step, bytes):
                    self._transport.write(step)
                    await self._writable.wait()
                elif step == float("inf"):
                    await self._client_gone
                else:
                    await asyncio.sleep(step)
                if self._transport.is_closing():
                    break
        except Exception:
            self._fail()
            return
        finally:
            self._task = None
        self._finish(reply, keep_alive)

    def _finish(self, reply: Reply, keep_alive: bool) -> None:
        match reply.end:
            case End.KEEP if keep_alive:
                self._transport.resume_reading()
                if reply.idle_limit is not None and not self._buffer:
                    self._idle = self._loop.call_later(reply.idle_limit, self._transport.close)
                self._advance()
            case End.KEEP | End.CLOSE:
                self._transport.close()
            case End.RESET:
                self.reset()
            case _:
                assert_never(reply.end)

    def reset(self) -> None:
        """End the connection with a reset instead of an orderly end. Bytes that were sent before arrive."""
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        self._transport.abort()

    def abort(self) -> None:
        """End the connection at once, without a reset."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    def _fail(self) -> None:
        """Print an exception of the handler to stderr and reset the connection."""
        traceback.print_exc()
        self.reset()

    def _note_client_gone(self) -> None:
        if not self._client_gone.done():
            self._client_gone.set_result(None)


def _parse_head(head: bytes) -> _RequestHead:
    text = head.decode("latin-1").replace("\r\n", "\n")
    first, *lines = text.split("\n")
    try:
        method, path, version = first.split(" ")
    except ValueError:
        raise _Malformed(400, "bad request line") from None
    if len(first) > _MAX_LINE:
        raise _Malformed(414, "the request line is too long")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not _TOKEN(method) or not path:
        raise _Malformed(400, "bad request line")
    if "\r" in text or "\0" in text:
        raise _Malformed(400, "bad character in the headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN(name):
            raise _Malformed(400, "bad header line")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    length = headers.get("content-length", "0")
    if not _LENGTH(length):
        raise _Malformed(400, "bad Content-Length")
    keep_alive = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    return _RequestHead(method, path, headers, int(length), keep_alive)
