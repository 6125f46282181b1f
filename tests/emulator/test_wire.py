"""Answers that faults replace or alter, over a real socket."""

from __future__ import annotations

import email.utils
import gzip
import json
import re
import socket
import time

import pytest

from reconciler.emulator import (
    PROFILE_PATH,
    Fault,
    Sent,
    parse_fault,
)
from tests.support.wire import (
    Serve,
    Transcript,
    closing_request,
    hear,
    last_entry,
    listen,
    request_bytes,
    served,
    transcript_of,
)

# --- answers of faults ----------------------------------------------------------------------------

RETRY_AFTER = ["1", "0", "-5", "1.5", "1e3", "99999999999999999999", "soon", "2, 3"]


@pytest.mark.parametrize("value", RETRY_AFTER)
def test_a_429_carries_any_retry_after(serve: Serve, value: str) -> None:
    api = served(serve, f"429:retry-after={value}:every=2")
    api.create()
    reply = api.patch({"first_name": "Jane"})
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, "rate_limited", value)
    assert api.stored()["fields"] == {}
    assert [each.status for each in api.emulator.log] == [200, 429]
    assert [each.sent for each in api.emulator.log] == [Sent.ANSWER, Sent.ALTERED]
    assert api.patch({"first_name": "Jane"}).status == 200


@pytest.mark.parametrize(("value", "offset"), [("date", 0), ("date+90", 90), ("date-90", -90)])
def test_a_retry_after_can_be_a_date_from_now(serve: Serve, value: str, offset: int) -> None:
    before = time.time()
    reply = served(serve, f"503:retry-after={value}").send("GET")
    at = email.utils.parsedate_to_datetime(reply.headers["Retry-After"])
    assert at.tzname() == "UTC"
    assert -1 <= at.timestamp() - (before + offset) <= 20


def test_a_429_without_the_option_has_no_retry_after(serve: Serve) -> None:
    assert "Retry-After" not in served(serve, "429").send("GET").headers


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 418, 422, 500, 502, 503, 504])
def test_an_injected_status_has_the_error_body_of_the_api(serve: Serve, status: int) -> None:
    api = served(serve, f"status={status}:code=some_code")
    reply = api.send("POST", {})
    assert (reply.status, reply.code, reply.json["status_code"]) == (status, "some_code", status)
    assert api.emulator.profiles() == []


def test_an_injected_status_may_follow_the_effect(serve: Serve) -> None:
    api = served(serve, "502:effect=yes")
    assert api.send("POST", {}).status == 502
    assert len(api.emulator.profiles()) == 1
    assert (last_entry(api).status, last_entry(api).effect) == (502, 1)


@pytest.mark.parametrize(("status", "body"), [(201, True), (202, True), (204, False), (304, False)])
def test_an_injected_success_has_a_body_if_its_status_allows_one(
    serve: Serve, status: int, body: bool
) -> None:
    reply = served(serve, str(status)).send("POST", {})
    assert (reply.status, bool(reply.raw)) == (status, body)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_has_the_location_of_its_fault(serve: Serve, status: int) -> None:
    api = served(serve, f'redirect={status}:to="http://127.0.0.1:9/thief"')
    reply = api.send("POST", {})
    assert (reply.status, reply.headers["Location"]) == (status, "http://127.0.0.1:9/thief")
    assert api.emulator.profiles() == []


def test_a_redirect_without_a_location_is_a_loop(serve: Serve) -> None:
    assert served(serve, "redirect=302").send("GET").headers["Location"] == PROFILE_PATH


# --- altered answers ------------------------------------------------------------------------------


def test_a_changed_id_is_the_same_in_every_answer(serve: Serve) -> None:
    api = served(serve, "profile-id:method=PATCH", "app-id=another-app:method=PATCH")
    true = api.create()
    changed = api.patch({"first_name": "Jane"}).data
    assert changed["profile_id"] != true
    assert changed["app_id"] == "another-app"
    assert api.patch({"first_name": "Joan"}).data["profile_id"] == changed["profile_id"]
    assert api.send("GET").data["profile_id"] == true
    assert [each.sent for each in api.emulator.log][1] == Sent.ALTERED


def test_an_answer_can_bear_the_time_of_another_clock(serve: Serve) -> None:
    api = served(serve, "clock=+86400:method=PATCH")
    api.create()
    true = api.send("GET").data["timestamp"]
    ahead = api.patch({"first_name": "Jane"}).data["timestamp"] - true
    assert 86_400_000 <= ahead < 86_500_000


def test_a_changed_id_leaves_an_error_as_it_is(serve: Serve) -> None:
    assert served(serve, "profile-id").send("GET").code == "profile_does_not_exist"


def test_an_answer_can_be_about_another_profile(serve: Serve) -> None:
    api = served(serve, "other-profile:method=PATCH")
    api.create(user="jane")
    assert api.patch({}).data["customer_user_id"] == "somebody-else"
    joan = api.create(user="joan")
    data = api.patch({"first_name": "Jane"}).data
    assert (data["customer_user_id"], data["profile_id"]) == ("joan", joan)
    assert api.stored("jane")["fields"] == {"first_name": "Jane"}


def body_of(serve: Serve, text: str) -> tuple[dict[str, str], bytes]:
    api = served(serve, text)
    reply = api.send("POST", {})
    assert reply.status == 200
    assert len(api.emulator.profiles()) == 1
    return reply.headers, reply.raw


def refuse(name: str) -> None:
    raise ValueError(name)


def test_bodies_that_are_no_profile(serve: Serve) -> None:
    headers, page = body_of(serve, "body=html")
    assert headers["Content-Type"].startswith("text/html")
    assert page.startswith(b"<!DOCTYPE html>")
    assert body_of(serve, "body=text")[1] == b"OK"
    assert body_of(serve, "body=empty")[1] == b""
    assert json.loads(body_of(serve, "body=null")[1]) is None
    assert json.loads(body_of(serve, "body=list")[1])[0]["data"]["customer_user_id"] == "jane"


def test_bodies_that_are_bad_json(serve: Serve) -> None:
    for name in ("half", "utf8", "utf16"):
        with pytest.raises(ValueError):
            json.loads(body_of(serve, f"body={name}")[1].decode("utf-8"))
    body = body_of(serve, "body=nan")[1]
    assert json.loads(body)["data"]["customer_user_id"] == "jane"
    with pytest.raises(ValueError, match="NaN"):
        json.loads(body, parse_constant=refuse)
    assert json.loads(body_of(serve, "body=infinity")[1])["data"]["score"] == float("inf")
    assert body_of(serve, "body=duplicate")[1].count(b'"profile_id"') == 2
    assert json.loads(body_of(serve, "body=surrogate")[1])["data"]["note"] == "\ud800"
    assert body_of(serve, "body=bom")[1].startswith(b"\xef\xbb\xbf{")
    with pytest.raises(RecursionError):
        json.loads(body_of(serve, "body=nested")[1])
    assert body_of(serve, "body=nested:size=3")[1].count(b"[[[]]]") == 1


def test_bodies_that_are_large(serve: Serve) -> None:
    body = body_of(serve, "body=huge")[1]
    assert len(body) > 50 << 20
    assert json.loads(body)["data"]["customer_user_id"] == "jane"
    assert 1000 < len(body_of(serve, "body=huge:size=1000")[1]) < 2000


def test_bodies_can_be_compressed_although_nobody_asked(serve: Serve) -> None:
    headers, body = body_of(serve, "body=gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["data"]["customer_user_id"] == "jane"
    headers, bomb = body_of(serve, "body=gzip-bomb")
    assert headers["Content-Encoding"] == "gzip"
    assert len(bomb) < 1 << 20
    plain = gzip.decompress(bomb)
    assert len(plain) > 200 << 20
    assert json.loads(plain[:1000])["data"]["customer_user_id"] == "jane"


def test_a_body_may_come_with_a_status_and_without_an_effect(serve: Serve) -> None:
    api = served(serve, "body=html:status=502:effect=no")
    reply = api.send("POST", {})
    assert (reply.status, reply.raw[:15]) == (502, b"<!DOCTYPE html>")
    assert api.emulator.profiles() == []


def test_headers_can_be_many_and_long(serve: Serve) -> None:
    many = transcript_of(serve, "headers=200", patience=0.3)
    assert many.head.count(b"\r\nX-Filler-") == 200
    long = transcript_of(serve, "big-header=100000", patience=0.3)
    assert len(long.head) > 100_000


# --- the end of a body ----------------------------------------------------------------------------


def test_a_content_length_may_be_too_long(serve: Serve) -> None:
    transcript = transcript_of(serve, "length=+5")
    assert transcript.end == "closed"
    assert announced(transcript) == len(transcript.body) + 5
    assert transcript_of(serve, "length=+5:end=keep", patience=0.2).end == "open"
    assert transcript_of(serve, "length=+5:end=reset").end == "reset"


def announced(transcript: Transcript) -> int:
    (length,) = re.findall(rb"Content-Length: (\d+)", transcript.head)
    return int(length)


def test_a_content_length_may_be_too_short_and_leave_bytes_behind(serve: Serve) -> None:
    api = served(serve, "length=-5:times=1")
    transcript = hear(api.server.port, request_bytes() + closing_request())
    (length, _) = map(int, re.findall(rb"Content-Length: (\d+)", transcript.raw))
    assert transcript.body[length:].startswith(b": []}}HTTP/1.1 200 OK"[1:])


HEADERS_AND_END = {
    "none": ([], "closed"),
    "two-lengths": ([b"Content-Length: 324", b"Content-Length: 325"], "open"),
    "bad-length": ([b"Content-Length: many"], "open"),
    "negative-length": ([b"Content-Length: -1"], "open"),
    "chunked": ([b"Transfer-Encoding: chunked"], "open"),
    "both": ([b"Transfer-Encoding: chunked", b"Content-Length: 324"], "open"),
    "bad-chunk": ([b"Transfer-Encoding: chunked"], "open"),
    "negative-chunk": ([b"Transfer-Encoding: chunked"], "open"),
    "long-chunk": ([b"Transfer-Encoding: chunked"], "closed"),
    "short-chunk": ([b"Transfer-Encoding: chunked"], "open"),
    "no-last-chunk": ([b"Transfer-Encoding: chunked"], "closed"),
}


@pytest.mark.parametrize("name", HEADERS_AND_END)
def test_an_answer_can_announce_a_wrong_end_of_its_body(serve: Serve, name: str) -> None:
    lines, end = HEADERS_AND_END[name]
    transcript = transcript_of(serve, f"framing={name}", patience=0.2)
    framing_lines = [
        line
        for line in transcript.head.split(b"\r\n")
        if line.startswith((b"Content-Length", b"Transfer-Encoding"))
    ]
    assert (framing_lines, transcript.end) == (lines, end)
    assert b'"customer_user_id": "jane"' in transcript.body


def test_chunks_are_broken_as_their_name_says(serve: Serve) -> None:
    first = {
        name: transcript_of(serve, f"framing={name}", patience=0.2).body.split(b"\r\n")
        for name in ("chunked", "bad-chunk", "negative-chunk", "long-chunk", "short-chunk")
    }
    assert first["chunked"][2:] == [b"0", b"", b""]
    length = len(first["chunked"][1])
    assert int(first["chunked"][0], 16) == length
    assert first["bad-chunk"][0] == b"zz"
    assert first["negative-chunk"][0] == b"-5"
    assert int(first["long-chunk"][0], 16) == length + 5
    assert int(first["short-chunk"][0], 16) == length - 5
    assert not transcript_of(serve, "framing=no-last-chunk").body.endswith(b"0\r\n\r\n")


def test_correct_chunks_are_a_correct_answer(serve: Serve) -> None:
    api = served(serve, "framing=chunked")
    assert api.send("POST", {}).data["customer_user_id"] == "jane"
    assert api.send("GET").status == 200


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_answer_comes_first(serve: Serve, status: int) -> None:
    transcript = transcript_of(serve, f"interim={status}", patience=0.2)
    assert transcript.raw.startswith(b"HTTP/1.1 %d " % status)
    assert transcript.body.startswith(b"HTTP/1.1 200 OK\r\n")


# --- truncated, slow and stray answers ------------------------------------------------------------


def test_an_answer_can_be_cut_at_every_byte(serve: Serve) -> None:
    api = serve(faults=lambda received: [cut[0]] if cut else [])
    cut: list[Fault] = []
    api.create()
    whole = hear(api.server.port, request_bytes("GET", b"", Connection="close")).raw
    length = len(whole) - len("Connection: close\r\n")
    for kept in range(0, length + 1, 7):
        cut[:] = [parse_fault(f"truncate={kept}")]
        transcript = hear(api.server.port, request_bytes("GET", b""))
        assert (len(transcript.raw), transcript.end) == (kept, "closed")
        assert transcript.raw[:15] == whole[: min(kept, 15)]


def test_an_answer_can_be_cut_inside_each_of_its_parts(serve: Serve) -> None:
    assert re.fullmatch(rb"HTTP/1[^\r]*", transcript_of(serve, "truncate=status").raw)
    headers = transcript_of(serve, "truncate=headers").raw
    assert headers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in headers
    body = transcript_of(serve, "truncate=body")
    assert 0 < len(body.body) < announced(body)
    last = transcript_of(serve, "truncate=-1")
    assert len(last.body) == announced(last) - 1


def test_the_end_of_a_truncated_answer_follows_its_option(serve: Serve) -> None:
    transcript = transcript_of(serve, "truncate=20:end=reset")
    assert (len(transcript.raw), transcript.end) == (20, "reset")
    transcript = transcript_of(serve, "truncate=20:end=keep", patience=0.2)
    assert (len(transcript.raw), transcript.end) == (20, "open")


def test_a_huge_answer_can_be_cut(serve: Serve) -> None:
    assert len(transcript_of(serve, "body=huge", "truncate=3000000").raw) == 3_000_000


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_part_of_an_answer_can_drip(serve: Serve, part: str) -> None:
    api = served(serve, f"drip=1000:part={part}")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        start = time.monotonic()
        connection.sendall(closing_request())
        first = connection.recv(1 << 16)
        rest = listen(connection)
        slow = time.monotonic() - start
    whole = Transcript(first + rest.raw, rest.end)
    dripped = whole.body if part == "body" else whole.head
    assert json.loads(whole.body)["data"]["customer_user_id"] == "jane"
    assert slow > 0.8 * len(dripped) / 1000


def test_a_drip_is_a_byte_at_a_time_when_it_is_slow(serve: Serve) -> None:
    api = served(serve, "drip=20")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(closing_request())
        assert [connection.recv(100) for _ in range(5)] == [b"H", b"T", b"T", b"P", b"/"]


@pytest.mark.parametrize("text", ["stray=0", "stray"])
def test_a_stray_answer_arrives_before_the_answer_of_the_next_request(
    serve: Serve, text: str
) -> None:
    api = served(serve, f"{text}:times=1")
    api.create(user="jane")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        first = request_bytes("GET", b"", user="jane", Connection="keep-alive")
        second = request_bytes("GET", b"", user="joan", Connection="close")
        api.server.set_fault(parse_fault("stray=0.01:times=1"))
        connection.sendall(first + second)
        transcript = listen(connection)
    assert transcript.raw.count(b"HTTP/1.1 200 OK") == 2
    assert transcript.raw.count(b"HTTP/1.1 404 Not Found") == 1
    assert transcript.raw.index(b"404 Not Found") > transcript.raw.rindex(b"200 OK")


def test_an_idle_connection_is_closed_without_notice(serve: Serve) -> None:
    transcript = transcript_of(serve, "idle-close=0.05")
    assert transcript.end == "closed"
    assert b"Connection: close" not in transcript.head
    assert announced(transcript) == len(transcript.body)
