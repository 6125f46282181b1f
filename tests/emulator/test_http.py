"""The loopback server reads requests strictly, and sends exactly the bytes of its handler."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from reconciler.emulator.http import MAX_BODY, Answer, End, HttpRequest, Loopback, Reply, in_thread
from tests.support.wire import hear, listen


class Echo:
    """Answers with the request that it read, or with the reply that a test prepared."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.reply: Callable[[], Awaitable[Reply]] | None = None

    def serve(self, request: HttpRequest) -> bytes | Callable[[], Awaitable[Reply]]:
        self.requests.append(request)
        if self.reply is not None:
            return self.reply
        body = f"{request.method} {request.path} {request.body.decode('latin-1')}".encode("latin-1")
        return Answer(200, {"Content-Length": str(len(body))}, b"").head() + body

    def malformed(self, status: int, message: str) -> bytes:
        return Answer(status, {"Content-Length": "0", "Why": message}, b"").head()


@pytest.fixture
def echo() -> Iterator[tuple[Echo, Loopback]]:
    handler = Echo()
    server = Loopback(handler)
    server.start()
    yield handler, server
    server.stop()


def sending(
    *steps: bytes | float, end: End = End.KEEP, idle: float | None = None
) -> Callable[[], Awaitable[Reply]]:
    async def reply() -> Reply:
        return Reply(steps, end, idle)

    return reply


LAST = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"


def test_requests_sent_at_once_are_answered_in_their_order(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    two = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" * 2
    transcript = hear(server.port, two + LAST)
    assert transcript.end == "closed"
    assert transcript.raw.count(b"POST /a hi") == 2
    assert transcript.raw.endswith(b"GET /last ")
    assert len(handler.requests) == 3


def test_a_request_may_arrive_byte_by_byte(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for (
            byte
        ) in b"POST /a HTTP/1.1\r\nX: y\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc":
            connection.sendall(bytes([byte]))
        assert listen(connection).body == b"POST /a abc"
    assert handler.requests[0].headers["x"] == "y"


def test_a_header_sent_twice_has_both_values(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    hear(server.port, b"GET / HTTP/1.1\r\nX-One: a\r\nx-one: b\r\nConnection: close\r\n\r\n")
    assert handler.requests[0].headers["x-one"] == "a,b"


@pytest.mark.parametrize(
    "last",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n",
        b"GET / HTTP/1.0\n\n",
    ],
)
def test_the_connection_of_a_client_that_wants_no_more_is_closed(
    echo: tuple[Echo, Loopback], last: bytes
) -> None:
    assert hear(echo[1].port, last).end == "closed"


def test_a_client_that_closes_its_half_gets_its_answer(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    handler.reply = sending(0.05, b"answer")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert listen(connection).raw == b"answer"


def test_a_client_that_expects_100_continue_gets_it(echo: tuple[Echo, Loopback]) -> None:
    _, server = echo
    head = (
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hi")
        assert listen(connection).body == b"POST / hi"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: y\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /" + b"x" * 70_000, 414),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 140_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 140_000 + b"\r\n\r\n", 431),
    ],
)
def test_malformed_requests_are_refused(
    echo: tuple[Echo, Loopback], sent: bytes, status: int
) -> None:
    handler, server = echo
    transcript = hear(server.port, sent)
    assert transcript.raw.startswith(b"HTTP/1.1 %d " % status)
    assert handler.requests == []


def test_a_body_that_is_too_long_is_read_to_its_end_before_it_is_refused(
    echo: tuple[Echo, Loopback],
) -> None:
    handler, server = echo
    length = 3 * MAX_BODY
    sent = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length
    transcript = hear(server.port, sent)
    assert transcript.raw.startswith(b"HTTP/1.1 413 ")
    assert handler.requests == []


# --- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "connection_end"), [(End.KEEP, "open"), (End.CLOSE, "closed"), (End.RESET, "reset")]
)
def test_a_reply_says_how_the_connection_ends(
    echo: tuple[Echo, Loopback], end: End, connection_end: str
) -> None:
    handler, server = echo
    handler.reply = sending(b"some ", 0.01, b"bytes", end=end)
    transcript = hear(
        server.port, b"GET / HTTP/1.1\r\n\r\n", patience=0.2 if end is End.KEEP else 10
    )
    assert (transcript.raw, transcript.end) == (b"some bytes", connection_end)


def test_an_idle_connection_is_closed_at_its_limit_but_not_a_busy_one(
    echo: tuple[Echo, Loopback],
) -> None:
    handler, server = echo
    handler.reply = sending(b"answer", idle=1.0)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for _ in range(5):
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(100) == b"answer"
            time.sleep(0.3)
        assert listen(connection).end == "closed"


def test_an_endless_wait_ends_when_the_client_goes(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    client_left = threading.Event()

    def steps() -> Iterator[bytes | float]:
        yield float("inf")
        client_left.set()

    async def reply() -> Reply:
        return Reply(steps())

    handler.reply = reply
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert client_left.wait(10)


def test_a_large_reply_waits_for_a_client_that_reads_slowly(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    handed_out = []

    def steps() -> Iterator[bytes | float]:
        for number in range(200):
            handed_out.append(number)
            yield b"x" * 100_000

    async def reply() -> Reply:
        return Reply(steps(), End.CLOSE)

    handler.reply = reply
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(1)
        time.sleep(0.1)
        assert len(handed_out) < 150
        assert len(listen(connection).raw) == 20_000_000 - 1


def test_an_exception_of_the_handler_is_printed_and_breaks_one_connection_only(
    echo: tuple[Echo, Loopback], capfd: pytest.CaptureFixture[str]
) -> None:
    handler, server = echo

    async def reply() -> Reply:
        raise LookupError("a mistake")

    handler.reply = reply
    assert hear(server.port, b"GET / HTTP/1.1\r\n\r\n").end == "reset"
    handler.reply = None
    assert hear(server.port, LAST).end == "closed"
    assert "LookupError: a mistake" in capfd.readouterr().err


def test_a_call_that_blocks_in_a_thread_delays_no_other_connection(
    echo: tuple[Echo, Loopback],
) -> None:
    handler, server = echo
    may_go_on = threading.Event()

    async def reply() -> Reply:
        return Reply(
            (b"late" if await in_thread(lambda: may_go_on.wait(10)) else b"never",), End.CLOSE
        )

    handler.reply = reply
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while not handler.requests:
            time.sleep(0.001)
        handler.reply = None
        assert hear(server.port, LAST).end == "closed"
        may_go_on.set()
        assert listen(connection).raw == b"late"


def test_during_an_outage_connections_are_reset_and_refused(echo: tuple[Echo, Loopback]) -> None:
    _, server = echo
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(100)
        server.cut_off(1.5)
        assert listen(connection).end == "reset"
    with pytest.raises(ConnectionRefusedError):
        hear(server.port, LAST)
    for _ in range(200):
        try:
            assert hear(server.port, LAST).body == b"GET /last "
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    else:
        pytest.fail("the server did not come back")


def test_stopping_ends_connections_that_wait(echo: tuple[Echo, Loopback]) -> None:
    handler, server = echo
    handler.reply = sending(3600.0, b"never")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while not handler.requests:
            time.sleep(0.001)
        server.stop()
        assert listen(connection).raw == b""
