"""The client over its HTTP transport, against a raw server: which bytes count as done, and which never do."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.endpoints import PATH
from reconciler.core.plan import Request
from reconciler.remote import transport
from reconciler.remote.answers import ApiAnswer, CallResult
from reconciler.remote.client import Client
from tests.support.clock import ManualClock

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

    The connection is closed after a script, unless ``keep``. ``greet`` answers without waiting for a
    request; ``below_tls`` answers as if there were no TLS.
    """

    def __init__(
        self,
        *scripts: bytes | Sequence[bytes],
        keep: bool = False,
        gap: float = 0.0,
        greet: bool = False,
        tls: ssl.SSLContext | None = None,
        below_tls: bool = False,
    ):
        self.scripts = list(scripts)
        self.keep = keep
        self.gap = gap
        self.greet = greet
        self.tls = tls
        self.below_tls = below_tls
        self.received: list[bytes] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}"
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
        self.shut()

    def shut(self) -> None:
        """Nobody listens any more."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, suppress(OSError):
                self._talk(connection)

    def _talk(self, plain: socket.socket) -> None:
        connection = plain
        if self.tls is not None:
            connection = self.tls.wrap_socket(plain.dup(), server_side=True)
        with connection:
            while self.scripts:
                request = b"" if self.greet else self._read(connection)
                if not request and not self.greet:
                    break
                self.received.append(request)
                script = self.scripts.pop(0)
                for piece in [script] if isinstance(script, bytes) else script:
                    (plain if self.below_tls else connection).sendall(piece)
                    time.sleep(self.gap)
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


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def send(
    server: Server,
    request: Request = PATCH,
    *,
    may_leave: Callable[[], bool] = lambda: True,
    **options: Any,
) -> ApiAnswer:
    usual: dict[str, Any] = {
        "attempts": 1,
        "timeout": 5.0,
        "clock": ManualClock(),
        "random": lambda: 1.0,
    }
    client = Client(base_url=server.url, key=KEY, **{**usual, **options})
    try:
        return client.send(request, may_leave=may_leave)
    finally:
        client.close()


def test_a_complete_answer_that_names_the_profile_is_done() -> None:
    with Server(reply(Request_Id="0123456789abcdef0123456789abcdef")) as server:
        answer = send(server)
    assert answer.result is CallResult.DONE
    assert answer.data is not None
    assert answer.data.values == {"custom_attributes.level": 5.0}
    assert answer.request_id == "0123456789abcdef0123456789abcdef"


def test_the_request_holds_exactly_the_shown_body_and_the_known_headers() -> None:
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
    with Server(*(whole[:end] for end in range(len(whole)))) as server:
        results = {send(server).result for _ in range(len(whole))}
    assert results == {CallResult.UNKNOWN}


@pytest.mark.parametrize(
    "response",
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
def test_a_malformed_answer_is_unknown(response: bytes) -> None:
    with Server(response) as server:
        assert send(server).result is CallResult.UNKNOWN


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
        assert send(server).result is CallResult.DONE


@pytest.mark.parametrize("part", ["head", "body"])
def test_the_deadline_holds_against_an_answer_that_drips(part: str) -> None:
    whole = reply()
    start = 20 if part == "head" else len(whole) - 40
    pieces = [whole[:start], *(bytes([byte]) for byte in whole[start:])]
    with Server(pieces, gap=0.1) as server:
        started = time.monotonic()
        answer = send(server, timeout=0.5)
    assert answer.result is CallResult.UNKNOWN
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Server(reply()) as other:
        with Server(reply(status, b"", Location=other.url + PATH)) as server:
            assert send(server).result is CallResult.UNKNOWN
        assert other.received == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_retried(status: int) -> None:
    body = b'{"errors": [{"source": "email", "errors": ["wrong"]}], "error_code": "bad"}'
    with Server(reply(status, body), reply()) as server:
        answer = send(server, attempts=4)
    assert (answer.result, answer.status, answer.error_code) == (CallResult.REFUSED, status, "bad")
    assert answer.message == "email: wrong"
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_429_and_server_errors_are_retried(status: int) -> None:
    with Server(reply(status, b""), reply(), keep=True) as server:
        answer = send(server, attempts=4)
    assert (answer.result, answer.attempts) == (CallResult.DONE, 2)


def test_a_call_waits_for_retry_after(clock: ManualClock) -> None:
    with Server(reply(429, b"", Retry_After="7"), reply(), keep=True) as server:
        send(server, attempts=4, clock=clock)
    assert clock.time == pytest.approx(7)


def test_a_broken_patch_is_sent_again_and_marked() -> None:
    with Server(b"", reply()) as server:
        answer = send(server, attempts=4)
    assert (answer.result, answer.unknown_before) == (CallResult.DONE, True)


def test_a_broken_post_is_not_sent_again() -> None:
    with Server(b"", reply()) as server:
        assert send(server, POST, attempts=4).result is CallResult.UNKNOWN
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_post_that_may_have_taken_effect_is_not_sent_again(status: int) -> None:
    with Server(reply(status, b""), reply()) as server:
        assert send(server, POST, attempts=4).result is CallResult.UNKNOWN
    assert len(server.received) == 1


def test_a_repeated_delete_that_finds_no_profile_is_done() -> None:
    missing = b'{"errors": [], "error_code": "profile_does_not_exist", "status_code": 404}'
    with Server(b"", reply(404, missing)) as server:
        assert send(server, DELETE, attempts=4).result is CallResult.DONE


def test_a_delete_is_done_by_an_empty_204() -> None:
    with Server(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        assert send(server, DELETE).result is CallResult.DONE


def test_a_request_to_a_closed_port_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(base_url=f"http://127.0.0.1:{port}", key=KEY, attempts=1)
    assert client.send(PATCH).result is CallResult.NOT_SENT


def test_a_call_that_ends_with_429_after_an_unknown_attempt_is_unknown() -> None:
    with Server(b"", reply(429, b"")) as server:
        assert send(server, attempts=2).result is CallResult.UNKNOWN


def test_the_retries_of_a_run_have_a_budget(clock: ManualClock) -> None:
    with Server(*[reply(503, b""), reply()] * 20, keep=True) as server:
        client = Client(base_url=server.url, key=KEY, clock=clock, random=lambda: 0.0)
        for _ in range(20):
            client.send(PATCH)
        client.close()
    assert len(server.received) == 30


def test_after_a_wish_to_stop_it_sends_nothing() -> None:
    with Server(reply()) as server:
        assert send(server, stop=lambda: True).result is CallResult.NOT_SENT
    assert server.received == []


def test_a_connection_is_used_again() -> None:
    with Server(reply(), reply(), keep=True) as server:
        client = Client(base_url=server.url, key=KEY)
        assert [client.send(PATCH).result for _ in range(2)] == [CallResult.DONE, CallResult.DONE]
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
        assert send(server).result is CallResult.DONE
    assert f"Authorization: Api-Key {KEY}".encode() in server.received[0]


def _hostile() -> Iterator[bytes]:
    yield reply(400, json.dumps({"errors": [f"bad key {KEY}"], "error_code": "x"}).encode())
    yield b""


@pytest.mark.parametrize("response", list(_hostile()))
def test_the_key_is_in_no_message(response: bytes) -> None:
    with Server(response) as server:
        answer = send(server)
    assert KEY not in repr(answer)
    assert KEY not in repr(Client(base_url=server.url, key=KEY))


# --- the edges of an answer -----------------------------------------------------------------------

MISSING = b'{"errors": [], "error_code": "profile_does_not_exist", "status_code": 404}'


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n" % (len(body), body) + end


def results_of_every_cut(whole: bytes, request: Request) -> set[CallResult]:
    cuts = [whole[:end] for end in range(len(whole))]
    with Server(*cuts) as server:
        return {send(server, request).result for _ in cuts}


def test_an_empty_204_cut_at_any_byte_is_never_done() -> None:
    whole = b"HTTP/1.1 204 No Content\r\nRequest-Id: 01\r\n\r\n"
    assert results_of_every_cut(whole, DELETE) == {CallResult.UNKNOWN}


def test_a_chunked_reply_cut_at_any_byte_is_never_done() -> None:
    assert results_of_every_cut(chunked(profile()), PATCH) == {CallResult.UNKNOWN}


def test_a_refusal_that_is_cut_is_one_by_its_status_and_never_says_that_a_profile_is_missing() -> (
    None
):
    whole = reply(404, MISSING)
    cuts = range(len(whole))
    with Server(*(whole[:end] for end in cuts)) as server:
        answers = [send(server) for _ in cuts]
    line = whole.index(b"\r\n") + 2
    assert {answer.result for answer in answers[:line]} == {CallResult.UNKNOWN}
    assert {answer.result for answer in answers[line:]} == {CallResult.REFUSED}
    assert not any(answer.is_missing for answer in answers)
    assert all(answer.may_be_missing for answer in answers[line:])


@pytest.mark.parametrize(
    "response",
    [
        reply(body=profile(custom_attributes=[{"key": "a", "value": 10**400}])),
        reply(body=profile().replace(b"5}", b"1e999}")),
        reply(body=profile(custom_attributes=[{"key": "a", "value": "\ud800"}])),
        reply(body=profile(custom_attributes=[{"key": "a", "value": 1}] * 2)),
        reply(body=profile(custom_attributes={"a": 1})),
        reply(body=profile().replace(b"custom_attributes", b"other")),
        reply(body=profile(profile_id="")),
        reply(200, Content_Encoding="br"),
        reply(200, Content_Encoding="gzip"),
        reply(200, Content_Length="5"),
        reply(200, Transfer_Encoding="chunked"),
        reply(200, Transfer_Encoding="gzip, chunked"),
        chunked(profile(), b"-1\r\n"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
    ids=[
        "integer beyond floats",
        "number beyond floats",
        "half a surrogate pair",
        "attribute twice",
        "attributes as a map",
        "no attributes at all",
        "empty profile id",
        "body of an encoding that we cannot read",
        "body that is not of its encoding",
        "two lengths",
        "length and chunks",
        "other transfer encoding",
        "negative chunk",
        "204 to a PATCH",
    ],
)
def test_a_contradictory_answer_is_unknown(response: bytes) -> None:
    with Server(response) as server:
        assert send(server).result is CallResult.UNKNOWN


def test_a_web_page_is_no_answer_to_a_delete() -> None:
    with Server(reply(200, b"<html>welcome</html>")) as server:
        assert send(server, DELETE).result is CallResult.UNKNOWN


def test_a_web_page_as_404_does_not_say_that_a_repeated_delete_is_done() -> None:
    with Server(b"", reply(404, b"<html>no such page</html>")) as server:
        assert send(server, DELETE, attempts=4).result is CallResult.REFUSED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    status=st.sampled_from([200, 400, 404, 429, 500]),
    body=st.binary(max_size=40)
    | st.builds(
        lambda member, value: profile(**{member: value}),
        st.sampled_from(["app_id", "profile_id", "timestamp", "custom_attributes"]),
        json_values,
    )
    | st.builds(
        lambda errors, code: json.dumps({"errors": errors, "error_code": code}).encode(),
        json_values,
        json_values,
    ),
)
def test_no_answer_raises_or_leaks_the_key(status: int, body: bytes) -> None:
    with Server(reply(status, body)) as server:
        assert KEY not in send(server).message


@pytest.mark.parametrize(
    ("profile_id", "result"),
    [(PROFILE_ID.upper(), CallResult.DONE), (PROFILE_ID.replace("3", "4"), CallResult.UNKNOWN)],
)
def test_a_profile_id_is_compared_without_regard_to_case(
    profile_id: str, result: CallResult
) -> None:
    with Server(reply()) as server:
        assert (
            send(server, Request("GET", PATH, {"adapty-profile-id": profile_id})).result is result
        )


def test_a_stray_reply_is_not_taken_for_the_answer_about_the_next_profile() -> None:
    joe = Request("PATCH", PATH, {"adapty-customer-user-id": "joe"}, {"first_name": "Joe"})
    right = reply(body=profile(customer_user_id="joe"))
    with Server([reply(), reply()], right, right, keep=True, gap=0.1) as server:
        client = Client(base_url=server.url, key=KEY, clock=ManualClock())
        assert client.send(PATCH).result is CallResult.DONE
        answer = client.send(joe)
        client.close()
    assert (answer.result, answer.data and answer.data.customer_user_id) == (CallResult.DONE, "joe")
    assert (answer.unknown_before, server.connections) == (True, 2)


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize("pause", [0.0, 0.3])
@pytest.mark.parametrize("first", [PATCH, DELETE])
def test_a_stray_204_does_not_answer_the_next_delete(first: Request, pause: float) -> None:
    """It may arrive before the DELETE leaves, or while its answer is awaited."""
    answer = NO_CONTENT if first is DELETE else reply()
    with Server([answer, NO_CONTENT], reply(404, MISSING), keep=True, gap=0.1) as server:
        client = Client(base_url=server.url, key=KEY, clock=ManualClock())
        assert client.send(first).result is CallResult.DONE
        time.sleep(pause)
        result = client.send(DELETE)
        client.close()
    assert result.is_missing
    assert server.connections == 2


@pytest.mark.parametrize("stray", [reply(), reply(404, MISSING), reply(401, b""), b"x", NO_CONTENT])
@pytest.mark.parametrize("together", [True, False])
def test_what_arrived_before_a_request_answers_nothing(stray: bytes, together: bool) -> None:
    script = [reply() + stray] if together else [reply(), stray]
    right = reply(body=profile(timestamp=7))
    with Server(script, right, keep=True, gap=0.05) as server:
        client = Client(base_url=server.url, key=KEY, clock=ManualClock())
        client.send(PATCH)
        time.sleep(0.3)
        answer = client.send(PATCH)
        client.close()
    assert answer.data is not None
    assert (answer.data.timestamp, answer.unknown_before, answer.attempts) == (7, False, 1)


@pytest.mark.parametrize("request_", [PATCH, DELETE])
@pytest.mark.parametrize("greeting", [NO_CONTENT, reply(), reply(401, b""), b"220 smtp\r\n"])
def test_a_server_that_speaks_first_gets_no_request(
    request_: Request, greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = transport._WatchedConnection.connect

    def connect_slowly(connection: Any) -> None:
        connect(connection)
        time.sleep(0.1)

    monkeypatch.setattr(transport._WatchedConnection, "connect", connect_slowly)
    with Server([greeting], greet=True, gap=0.2) as server:
        answer = send(server, request_)
    assert (answer.result, answer.status) == (CallResult.NOT_SENT, None)


# --- what leaves, and when ------------------------------------------------------------------------


def test_cookies_of_the_server_are_not_sent_back() -> None:
    with Server(reply(Set_Cookie="a=b; Path=/"), reply(), keep=True) as server:
        client = Client(base_url=server.url, key=KEY)
        client.send(PATCH)
        client.send(PATCH)
        client.close()
    assert b"cookie" not in server.received[1].lower()


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\0", " a", "é", "日本", ""])
def test_a_header_that_cannot_be_sent_is_refused_without_a_request(value: str) -> None:
    with Server(reply()) as server:
        answer = send(server, Request("PATCH", PATH, {"adapty-customer-user-id": value}, {}))
    assert (answer.result, answer.attempts, server.received) == (CallResult.REFUSED, 0, [])


def test_a_key_that_cannot_be_sent_is_not_quoted() -> None:
    client = Client(base_url="http://127.0.0.1:9", key="secret\nkey")
    answer = client.send(PATCH)
    assert answer.result is CallResult.REFUSED
    assert "secret" not in repr(answer)


def test_a_redirect_is_not_sent_again_either() -> None:
    with Server(*[reply(302, b"", Location="/")] * 4, keep=True) as server:
        assert send(server, attempts=4).result is CallResult.UNKNOWN
    assert len(server.received) == 1


@pytest.mark.parametrize("code", [KEY, "\x1b[31m", "a b", "x" * 100, 5])
def test_an_error_code_that_is_no_token_is_dropped(code: Any) -> None:
    with Server(reply(400, json.dumps({"errors": [], "error_code": code}).encode())) as server:
        assert send(server).error_code is None


def test_the_client_asks_before_every_attempt_whether_it_may_leave() -> None:
    requests_so_far: list[int] = []

    def twice() -> bool:
        requests_so_far.append(len(server.received))
        return len(requests_so_far) < 3

    with Server(*[reply(503, b"")] * 2, reply(), keep=True) as server:
        answer = send(server, attempts=4, may_leave=twice)
    assert requests_so_far == [0, 1, 2]
    assert (answer.result, answer.attempts, len(server.received)) == (CallResult.UNKNOWN, 2, 2)


def test_a_request_that_may_not_leave_is_not_sent() -> None:
    with Server(reply()) as server:
        answer = send(server, may_leave=lambda: False)
    assert (answer.result, answer.attempts, server.received) == (CallResult.NOT_SENT, 0, [])


def test_a_call_whose_last_attempt_was_not_sent_after_an_unknown_one_is_unknown() -> None:
    def second_attempt_finds_nobody() -> bool:
        if server.received:
            server.shut()
        return True

    with Server(b"") as server:
        answer = send(server, attempts=2, may_leave=second_attempt_finds_nobody)
    assert (answer.result, answer.attempts) == (CallResult.UNKNOWN, 2)


# --- waiting --------------------------------------------------------------------------------------


def waited(clock: ManualClock, *answers: bytes, **options: Any) -> float:
    with Server(*answers, reply(), keep=True) as server:
        send(server, attempts=4, clock=clock, **options)
    return clock.time


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.5),
        ("7", 7),
        ("61", 60),
        ("9" * 400, 60),
        ("-5", 0.5),
        ("1.5", 0.5),
        ("1e3", 0.5),
        ("soon", 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 60),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 0.5),
    ],
)
def test_retry_after_in_any_form_gives_a_sane_wait(
    clock: ManualClock, header: str, seconds: float
) -> None:
    assert waited(clock, reply(429, b"", Retry_After=header)) == pytest.approx(seconds)


def test_retry_after_as_a_date_is_waited_for(clock: ManualClock) -> None:
    date = formatdate(time.time() + 20, usegmt=True)
    assert 17 < waited(clock, reply(503, b"", Retry_After=date)) <= 20


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_retry_after_date_is_that_of_the_apis_clock_not_of_ours(
    clock: ManualClock, hours: int
) -> None:
    now = time.time() + 3600 * hours
    answer = reply(
        503, b"", Retry_After=formatdate(now + 20, usegmt=True), Date=formatdate(now, usegmt=True)
    )
    assert waited(clock, answer) == pytest.approx(20)


def test_waits_double_from_half_a_second(clock: ManualClock) -> None:
    assert waited(clock, *[reply(503, b"")] * 3) == pytest.approx(0.5 + 1 + 2)


def test_waits_are_fully_random(clock: ManualClock) -> None:
    assert waited(clock, *[reply(503, b"")] * 3, random=lambda: 0.0) == 0


def test_a_wait_ends_soon_after_the_wish_to_stop(clock: ManualClock) -> None:
    with Server(reply(429, b"", Retry_After="60"), reply(), keep=True) as server:
        answer = send(server, attempts=4, clock=clock, stop=lambda: clock.time > 1)
    assert (answer.result, answer.status, answer.attempts) == (CallResult.REFUSED, 429, 1)
    assert clock.time < 1.3


# --- TLS ------------------------------------------------------------------------------------------


def test_a_tls_handshake_that_drips_ends_at_the_deadline_and_nothing_was_sent() -> None:
    pieces = [b"\x16\x03\x03\x40\x00", *[b"\x02"] * 100]
    with Server(pieces, gap=0.1, greet=True) as server:
        started = time.monotonic()
        client = Client(
            base_url=server.url.replace("http:", "https:"), key=KEY, timeout=0.4, attempts=1
        )
        answer = client.send(PATCH)
    assert answer.result is CallResult.NOT_SENT
    assert time.monotonic() - started < 1.5


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file; its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    making = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    making += f" -addext subjectAltName=IP:127.0.0.1 -keyout {path}.key -out {path}"
    subprocess.run(making.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())
    return path


@contextmanager
def tls_server(certificate: Path, response: bytes, *, raw: bool = False) -> Iterator[Server]:
    """Answers over TLS; with ``raw``, below it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(*[response] * 4, tls=context, below_tls=raw) as server:
        yield server


def test_a_trusted_certificate_is_accepted(certificate: Path) -> None:
    with tls_server(certificate, reply()) as server:
        assert send(server, ca_bundle=str(certificate)).result is CallResult.DONE


def test_a_connection_over_tls_is_used_again_and_a_delete_has_its_own(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(reply(), reply(), NO_CONTENT, reply(), tls=context, keep=True) as server:
        client = Client(base_url=server.url, key=KEY, ca_bundle=str(certificate))
        answers = [client.send(request) for request in (PATCH, PATCH, DELETE, PATCH)]
        client.close()
    assert {answer.result for answer in answers} == {CallResult.DONE}
    assert {answer.attempts for answer in answers} == {1}
    assert server.connections == 3


def test_a_stray_204_over_tls_does_not_answer_the_next_request(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server([reply(), NO_CONTENT], reply(), tls=context, keep=True, gap=0.05) as server:
        client = Client(base_url=server.url, key=KEY, ca_bundle=str(certificate))
        client.send(PATCH)
        time.sleep(0.3)
        answer = client.send(PATCH)
        client.close()
    assert (answer.result, answer.unknown_before) == (CallResult.DONE, False)


def test_an_unknown_certificate_gets_no_request(certificate: Path) -> None:
    with tls_server(certificate, reply()) as server:
        assert send(server).result is CallResult.NOT_SENT
    assert server.received == []


def test_a_tls_error_after_the_request_is_unknown_and_a_post_is_not_repeated(
    certificate: Path,
) -> None:
    with tls_server(certificate, b"this is no TLS record", raw=True) as server:
        answer = send(server, POST, ca_bundle=str(certificate), attempts=4)
    assert answer.result is CallResult.UNKNOWN
    assert len(server.received) == 1


def test_the_deadline_holds_over_tls(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    pieces = [bytes([byte]) for byte in reply()]
    with Server(pieces, gap=0.1, tls=context) as server:
        started = time.monotonic()
        answer = send(server, timeout=0.5, ca_bundle=str(certificate))
    assert answer.result is CallResult.UNKNOWN
    assert time.monotonic() - started < 2


# --- causes ---------------------------------------------------------------------------------------


def server_context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def make_certificate(folder: Path, *options: str) -> Path:
    """A certificate of its own authority, and its key, in one file."""
    path, key = folder / "made.pem", folder / "made.key"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    subprocess.run(
        [*making, "-keyout", str(key), "-out", str(path), *options], check=True, capture_output=True
    )
    path.write_text(path.read_text() + key.read_text())
    return path


def reason(url: str, **options: Any) -> str:
    """The message of a request that cannot be sent."""
    client = Client(base_url=url, key=KEY, attempts=1, timeout=2.0, clock=ManualClock(), **options)
    try:
        answer = client.send(PATCH)
    finally:
        client.close()
    assert answer.result is CallResult.NOT_SENT
    return answer.message


def test_a_certificate_that_is_not_trusted_names_the_setting(
    certificate: Path, tmp_path: Path
) -> None:
    text = "cannot connect: the certificate of 127.0.0.1 is not trusted: "
    other = make_certificate(tmp_path)
    with Server(tls=server_context(certificate)) as server:
        assert reason(server.url) == f"{text}set api.ca_bundle"
        assert reason(server.url, ca_bundle=str(other)) == (
            f"{text}api.ca_bundle does not hold the certificate of its issuer"
        )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-days", "2"], "is for another name: check api.url"),
        (
            ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "-1"],
            "has expired: renew it, or check the clock of this machine",
        ),
    ],
    ids=["another name", "expired"],
)
def test_a_certificate_that_is_wrong_says_how(
    certificate: Path, tmp_path: Path, options: list[str], text: str
) -> None:
    try:
        path = make_certificate(tmp_path, *options)
    except subprocess.CalledProcessError:
        pytest.skip("this openssl makes no expired certificate")
    with Server(tls=server_context(path)) as server:
        message = reason(server.url, ca_bundle=str(path))
    assert message == f"cannot connect: the certificate of 127.0.0.1 {text}"


def test_a_server_without_tls_names_the_address() -> None:
    with Server(b"HTTP/1.1 400 Bad Request\r\n\r\n", greet=True) as server:
        url = server.url.replace("http:", "https:")
        message = reason(url)
    assert message in (
        f"cannot connect: {url[8:]} does not speak TLS: check the port, and https://, in api.url",
        f"cannot connect: {url[8:]} hung up at once: check api.url",
    )


def test_a_closed_port_and_an_unknown_name_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"127.0.0.1:{port}"
    assert reason(f"http://{url}") == f"cannot connect: nothing listens at {url}: check api.url"
    assert reason("https://nowhere.invalid") == (
        "cannot connect: the name nowhere.invalid cannot be resolved: check api.url and the network"
    )
    assert reason("https://api.example", proxy=f"http://me:word@{url}") == (
        f"cannot connect: nothing listens at the proxy {url}: check api.proxy"
    )


def test_a_handshake_without_an_answer_names_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"127.0.0.1:{listener.getsockname()[1]}"
        message = reason(f"https://{url}")
    assert message.startswith(f"cannot connect: {url} does not answer")


IS_PUBLIC = transport._is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "2001:4860:4860::8888%eth0"])
def test_no_request_goes_in_clear_to_a_public_address(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a private name leads there."""
    with Server(reply()) as server:
        monkeypatch.setattr(transport, "_is_public", lambda _: IS_PUBLIC(address))
        message = reason(server.url)
    assert message == (
        "cannot connect: 127.0.0.1 is a public address, where http:// would send the key in clear: "
        "use https://"
    )
    assert server.received == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.17.0.2", "::1", "fd00::1", "fe80::1%2"]
)
def test_a_private_address_is_none_of_the_public_network(address: str) -> None:
    assert not transport._is_public(address)


# --- proxies --------------------------------------------------------------------------------------


class Proxy:
    """A proxy with a login that tunnels, and answers ``status`` to whoever does not log in."""

    def __init__(
        self, *, login: str | None = None, status: int = 407, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.heads: list[bytes] = []
        self._expected = None if login is None else b"Basic " + b64encode(login.encode())
        self._status = status
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with suppress(OSError):
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with connection:
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        self.heads.append(head)
        if self._expected is None or self._expected not in head:
            connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self._status)
            return
        target = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((target[0], int(target[2]))) as there:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=self._copy, args=(there, connection), daemon=True)
            back.start()
            self._copy(connection, there)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("written", "login"),
    [("me:word", "me:word"), ("me:p%40ss%3A%2F", "me:p@ss:/"), ("m%C5%82:%F0%9F%94%91", "mł:🔑")],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_with_a_login_works_and_only_the_proxy_is_given_it(
    certificate: Path, written: str, login: str, scheme: str
) -> None:
    context = server_context(certificate)
    with (
        Proxy(login=login, tls=context if scheme == "https" else None) as proxy,
        Server(reply(), reply(), tls=context, keep=True) as server,
    ):
        client = Client(
            base_url=server.url,
            key=KEY,
            proxy=f"{scheme}://{written}@127.0.0.1:{proxy.port}",
            ca_bundle=str(certificate),
            attempts=1,
        )
        answers = [client.send(PATCH) for _ in range(2)]
        client.close()
    assert [answer.result for answer in answers] == [CallResult.DONE] * 2, answers
    assert len(proxy.heads) == 1
    assert KEY.encode() not in proxy.heads[0]
    assert b"proxy-authorization" not in server.received[0].lower()


@pytest.mark.parametrize("login", ["", "me:wrong@"])
def test_a_proxy_that_asks_for_a_login_names_the_setting(login: str) -> None:
    with Proxy(login="me:word") as proxy:
        place = f"127.0.0.1:{proxy.port}"
        message = reason("https://api.example", proxy=f"http://{login}{place}")
    assert message == (
        f"cannot connect: the proxy {place} asks for a login, or refuses the given one: "
        "set api.proxy_env"
    )


def test_a_407_in_place_of_an_answer_says_that_nothing_was_processed() -> None:
    with Proxy() as proxy:
        message = reason("http://127.0.0.1:9", proxy=f"http://127.0.0.1:{proxy.port}")
    assert message.endswith("asks for a login, or refuses the given one: set api.proxy_env")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, "refuses to connect to api.example:443 (403): check api.proxy"),
        (502, "does not reach api.example:443 (502): check api.url and api.proxy"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_says_why(status: int, text: str) -> None:
    with Proxy(status=status) as proxy:
        place = f"127.0.0.1:{proxy.port}"
        message = reason("https://api.example", proxy=f"http://{place}")
    assert message == f"cannot connect: the proxy {place} {text}"


def test_an_untrusted_certificate_behind_a_proxy_is_the_apis(certificate: Path) -> None:
    with Proxy(login="a:b") as proxy, Server(tls=server_context(certificate)) as server:
        message = reason(server.url, proxy=f"http://a:b@127.0.0.1:{proxy.port}")
    assert message == (
        "cannot connect: the certificate of 127.0.0.1 is not trusted: set api.ca_bundle"
    )
