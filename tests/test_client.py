"""The client against a raw server: what counts as done, and what never does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from reconciler.client import Answer, Client, Ending
from reconciler.plan import Request
from reconciler.protocol import PATH

KEY = "secret_live_abcdefgh.0123456789abcdef0123456789abcdef"
PROFILE_ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
HEADERS = {"adapty-customer-user-id": "jane"}
PATCH = Request("PATCH", PATH, HEADERS, {"first_name": "Jane"})
POST = Request("POST", PATH, HEADERS, {"first_name": "Jane"}, None)
DELETE = Request("DELETE", PATH, HEADERS)


def profile(**changes: Any) -> bytes:
    data = {"app_id": "a", "profile_id": PROFILE_ID, "customer_user_id": "jane", "timestamp": 1}
    data["custom_attributes"] = [{"key": "level", "value": 5}]
    return json.dumps({"data": {**data, **changes}}).encode()


def reply(status: int = 200, body: bytes | None = None, **headers: str) -> bytes:
    content = profile() if body is None else body
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Server:
    """Answers each request with the next script: bytes, or pieces with pauses between them.

    The connection is closed after a script, unless it is the whole of a well-formed reply.
    """

    def __init__(self, *scripts: bytes | Sequence[bytes], keep: bool = False, gap: float = 0.0):
        self.scripts = list(scripts)
        self.keep = keep
        self.gap = gap
        self.received: list[bytes] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                while (request := self._read(connection)) and self.scripts:
                    self.received.append(request)
                    script = self.scripts.pop(0)
                    try:
                        for piece in [script] if isinstance(script, bytes) else script:
                            connection.sendall(piece)
                            time.sleep(self.gap)
                    except OSError:
                        break
                    if not self.keep:
                        break

    def _read(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        return head + b"\r\n\r\n" + body


class StillClock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.append(seconds)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def send(server: Server, request: Request = PATCH, **options: Any) -> Answer:
    settings: dict[str, Any] = {"attempts": 1, "timeout": 5.0, "clock": StillClock()}
    client = Client(base_url=server.url, key=KEY, random=lambda: 1.0, **{**settings, **options})
    try:
        return client.send(request)
    finally:
        client.close()


def test_a_complete_answer_that_names_the_profile_is_done() -> None:
    with Server(reply(Request_Id="0123456789abcdef0123456789abcdef")) as server:
        answer = send(server)
    assert answer.ending is Ending.DONE
    assert answer.data is not None
    assert answer.data.custom_attributes == {"level": 5.0}
    assert answer.request_id == "0123456789abcdef0123456789abcdef"


def test_the_request_is_exactly_what_was_shown() -> None:
    request = Request("PATCH", PATH, HEADERS, {"custom_attributes": [{"key": "a", "value": 5.0}]})
    with Server(reply()) as server:
        send(server, request)
    head, _, body = server.received[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"PATCH {PATH} HTTP/1.1"
    names = {line.split(":")[0].lower() for line in lines[1:]}
    assert names == {
        "host", "adapty-customer-user-id", "authorization", "accept", "accept-encoding",
        "user-agent", "content-type", "content-length",
    }  # fmt: skip
    assert f"Authorization: Api-Key {KEY}" in lines
    assert body == b'{"custom_attributes": [{"key": "a", "value": 5.0}]}'


def test_a_reply_cut_at_any_byte_is_never_done() -> None:
    whole = reply()
    with Server(*(whole[:cut] for cut in range(len(whole)))) as server:
        endings = {send(server).ending for _ in range(len(whole))}
    assert endings == {Ending.UNKNOWN}


@pytest.mark.parametrize(
    "answered",
    [
        reply(body=b"<html>ok</html>"),
        reply(body=b""),
        reply(body=b"{}"),
        reply(body=b'{"data": null}'),
        reply(body=b"[" * 100_000),
        reply(body=profile().replace(b'"jane"', b'"joe"')),
        reply(body=b'{"data": {"profile_id": 5}}'),
        reply(body=profile()[:-2] + b', "app_id": "b"}}'),
        reply(body=profile(custom_attributes=[{"key": "a", "value": float("nan")}])),
        reply(body=profile(custom_attributes=5)),
        reply(body=b"\xff" + profile()),
        b"HTTP/1.1 200 OK\r\n\r\n" + profile(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + profile(),
        reply(body=b'"' + b"x" * (1 << 21) + b'"'),
        b"garbage\r\n\r\n",
        b"",
    ],
)
def test_a_malformed_answer_is_unknown(answered: bytes) -> None:
    with Server(answered) as server:
        assert send(server).ending is Ending.UNKNOWN


def test_a_chunked_answer_is_read() -> None:
    body = profile()
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n"
        % (
            len(body),
            body,
        )
    )
    with Server(chunked) as server:
        assert send(server).ending is Ending.DONE


@pytest.mark.parametrize("part", ["head", "body"])
def test_the_deadline_holds_against_an_answer_that_drips(part: str) -> None:
    whole = reply()
    start = 20 if part == "head" else len(whole) - 40
    pieces = [whole[:start], *(bytes([byte]) for byte in whole[start:])]
    with Server(pieces, gap=0.1) as server:
        started = time.monotonic()
        answer = send(server, timeout=0.5)
    assert answer.ending is Ending.UNKNOWN
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Server(reply()) as other:
        with Server(reply(status, b"", Location=other.url + PATH)) as server:
            assert send(server).ending is Ending.UNKNOWN
        assert other.received == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_retried(status: int) -> None:
    body = b'{"errors": [{"source": "email", "errors": ["wrong"]}], "error_code": "bad"}'
    with Server(reply(status, body), reply()) as server:
        answer = send(server, attempts=4)
    assert (answer.ending, answer.status, answer.error_code) == (Ending.REFUSED, status, "bad")
    assert answer.message == "email: wrong"
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_trouble_is_retried(status: int) -> None:
    with Server(reply(status, b""), reply()) as server:
        answer = send(server, attempts=4)
    assert (answer.ending, answer.attempts) == (Ending.DONE, 2)


def test_retry_after_is_waited_for(clock: StillClock) -> None:
    with Server(reply(429, b"", Retry_After="7"), reply()) as server:
        send(server, attempts=4, clock=clock)
    assert clock.time == pytest.approx(7)


def test_a_broken_patch_is_sent_again_and_marked() -> None:
    with Server(b"", reply()) as server:
        answer = send(server, attempts=4)
    assert (answer.ending, answer.unknown_before) == (Ending.DONE, True)


def test_a_broken_post_is_not_sent_again() -> None:
    with Server(b"", reply()) as server:
        assert send(server, POST, attempts=4).ending is Ending.UNKNOWN
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_post_that_may_have_taken_effect_is_not_sent_again(status: int) -> None:
    with Server(reply(status, b""), reply()) as server:
        assert send(server, POST, attempts=4).ending is Ending.UNKNOWN
    assert len(server.received) == 1


def test_a_delete_that_is_repeated_and_then_missing_is_done() -> None:
    missing = b'{"errors": [], "error_code": "profile_does_not_exist", "status_code": 404}'
    with Server(b"", reply(404, missing)) as server:
        assert send(server, DELETE, attempts=4).ending is Ending.DONE


def test_a_delete_is_done_by_an_empty_204() -> None:
    with Server(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        assert send(server, DELETE).ending is Ending.DONE


def test_nobody_listening_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(base_url=f"http://127.0.0.1:{port}", key=KEY, attempts=1)
    assert client.send(PATCH).ending is Ending.NOT_SENT


def test_an_unknown_attempt_makes_a_call_unknown_that_ends_with_429() -> None:
    with Server(b"", reply(429, b"")) as server:
        assert send(server, attempts=2).ending is Ending.UNKNOWN


def test_the_retries_of_a_run_have_a_budget(clock: StillClock) -> None:
    with Server(*[reply(503, b"")] * 100, keep=True) as server:
        client = Client(base_url=server.url, key=KEY, clock=clock, random=lambda: 0.0)
        for _ in range(20):
            client.send(PATCH)
        client.close()
    assert len(server.received) == 30


def test_the_rate_is_never_exceeded(clock: StillClock) -> None:
    with Server(*[reply()] * 10, keep=True) as server:
        client = Client(base_url=server.url, key=KEY, clock=clock, rate=2.0)
        for _ in range(10):
            client.send(PATCH)
        client.close()
    assert clock.time == pytest.approx(4.5)


def test_asked_to_stop_it_sends_nothing() -> None:
    with Server(reply()) as server:
        assert send(server, stop=lambda: True).ending is Ending.NOT_SENT
    assert server.received == []


def test_a_connection_is_used_again() -> None:
    with Server(reply(), reply(), keep=True) as server:
        client = Client(base_url=server.url, key=KEY)
        assert [client.send(PATCH).ending for _ in range(2)] == [Ending.DONE, Ending.DONE]
        client.close()
    assert server.connections == 1


def test_netrc_and_proxies_of_the_machine_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Server(reply()) as server:
        assert send(server).ending is Ending.DONE
    assert f"Authorization: Api-Key {KEY}".encode() in server.received[0]


def _hostile() -> Iterator[bytes]:
    yield reply(400, json.dumps({"errors": [f"bad key {KEY}"], "error_code": "x"}).encode())
    yield reply(400, b'{"errors": ["\\u001b[31mred\\u202e"], "error_code": "x"}')
    yield b""


@pytest.mark.parametrize("answered", list(_hostile()))
def test_a_message_holds_neither_the_key_nor_escapes(answered: bytes) -> None:
    with Server(answered) as server:
        answer = send(server)
    assert KEY not in repr(answer)
    assert answer.message.isprintable()
    assert KEY not in repr(Client(base_url=server.url, key=KEY))
