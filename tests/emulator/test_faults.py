"""The fault menu: how it is read, whom it strikes, and each fault over a real socket."""

from __future__ import annotations

import email.utils
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.emulator import (
    PROFILE_PATH,
    Answer,
    Emulator,
    EmulatorServer,
    End,
    Fault,
    FaultKind,
    Faults,
    Received,
    Reply,
    Sent,
    parse_fault,
)
from reconciler.emulator.active_faults import FaultPlan
from reconciler.emulator.faults import BODIES, CONDITIONS, FAULT_SYNTAX, FRAMINGS
from reconciler.errors import UsageError
from tests.support.wire import KEY, Api, Heard, hear, listen, request_bytes

Serve = Callable[..., Api]
DOCS = (Path(__file__).parent.parent.parent / "docs" / "emulator.md").read_text("utf-8")
MENU = DOCS.partition("### The menu")[2].partition("### From Python")[0]

# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("latency=0.1", Fault(kind=FaultKind.LATENCY, seconds=0.1)),
        ("latency=0.1:jitter=0.05", Fault(kind=FaultKind.LATENCY, seconds=0.1, jitter=0.05)),
        ("status=503:rate=0.1", Fault(kind=FaultKind.STATUS, status=503, rate=0.1)),
        (
            "429:retry-after=1:every=5",
            Fault(kind=FaultKind.STATUS, status=429, retry_after="1", every=5),
        ),
        (
            '429:retry-after="Sun, 06 Nov 1994 08:49:37 GMT"',
            Fault(kind=FaultKind.STATUS, status=429, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        ),
        ("reset-before:times=1", Fault(kind=FaultKind.RESET_BEFORE, times=1)),
        ("reset-after:method=PATCH", Fault(kind=FaultKind.RESET_AFTER, method="PATCH")),
        ("late=5:answer=504", Fault(kind=FaultKind.LATE, seconds=5, text="504")),
        ("stall-after", Fault(kind=FaultKind.STALL_AFTER, seconds=float("inf"))),
        (
            'redirect=307:to="http://127.0.0.1:9/x"',
            Fault(kind=FaultKind.REDIRECT, status=307, text="http://127.0.0.1:9/x"),
        ),
        ("truncate=-1:end=reset", Fault(kind=FaultKind.TRUNCATE, text="-1", end=End.RESET)),
        ("drip=20:part=body", Fault(kind=FaultKind.DRIP, speed=20, part="body")),
        (
            "body=html:status=502:effect=no:address=qa-*:after=3:between=1.5-",
            Fault(
                kind=FaultKind.BODY,
                text="html",
                status=502,
                effect=False,
                address="qa-*",
                after=3,
                between=(1.5, float("inf")),
            ),
        ),
    ],
)
def test_a_fault_is_read_and_written(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no ''"),
        ("chaos", "there is no 'chaos' among latency, lag"),
        ("latncy=1", "there is no 'latncy'; latency?"),
        ("latency", "latency needs a value: seconds"),
        ("latency=-1", "latency must be seconds"),
        ("latency=nan", "latency must be seconds"),
        ("latency=inf", "latency must be seconds"),
        ("status=200", "status must be a status from 201 to 599"),
        ("status=x", "status must be"),
        ("999", "status must be"),
        ("503=1", "there is no '503'"),
        ("503:rate=2", "rate must be a probability"),
        ("503:rate=nan", "rate must be"),
        ("503:every=0", "every must be a whole number"),
        ("503:times=0", "times must be"),
        ("503:times=1:times=2", "times is there twice"),
        ("503:method=PUT", "method must be one of GET"),
        ("503:colour=1", "status has no option 'colour'"),
        ("503:between=5", "between must be seconds, like 5-20"),
        ("503:between=5-5", "between must be"),
        ("503:", "status has no option ''"),
        ("503:retry-after=1\r\nX: y", "retry-after must be text"),
        ("503:retry-after=", "retry-after must be text"),
        ("latency=1:retry-after=1", "latency has no option 'retry-after'"),
        ("reset-before=1", "reset-before takes no value"),
        ("redirect=304", "redirect must be one of 301"),
        ("redirect=302:to=http://x/", "a value with a colon needs double quotes"),
        ("body=htlm", "body must be one of html"),
        ("length=0", "length must be how many bytes"),
        ("truncate=middle", "truncate must be bytes kept"),
        ("truncate=1:end=explode", "end must be keep, close or reset"),
        ("drip=0", "drip must be bytes a second"),
        ("late=1:answer=200", "answer must be a status from 300 to 599, or none"),
        ("503:" + "x" * 3000, "it is too long"),
    ],
)
def test_a_bad_fault_is_a_usage_error_that_says_why(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fault(text)
    assert "is not a fault" in caught.value.message
    assert why in caught.value.message
    assert "docs/emulator.md" in caught.value.hint


@given(st.text(max_size=40))
def test_any_text_is_a_fault_or_a_usage_error(text: str) -> None:
    try:
        fault = parse_fault(text)
    except UsageError:
        return
    assert parse_fault(str(fault)) == fault


def test_the_document_names_every_fault_option_body_and_framing() -> None:
    words = {word for text in re.findall(r"`([^`\n]+)`", MENU) for word in re.split("[=:]", text)}
    options = {each.name for syntax in FAULT_SYNTAX.values() for each in syntax.options}
    conditions = {each.name for each in CONDITIONS}
    names = {*map(str, FaultKind), *options, *conditions, *BODIES, *FRAMINGS}
    assert names - words == set()


def test_every_fault_of_the_document_is_one() -> None:
    first_cells = re.findall(r"^\| (`.+?`) \|", MENU, re.MULTILINE)
    given = [text for cell in first_cells for text in re.findall(r"`([a-z0-9-]+=[^`]+)`", cell)]
    given += re.findall(r"--fault '?([a-z0-9][^' `\n]+)'?", DOCS)
    assert len(given) > 35
    for text in given:
        parse_fault(text)


# --- whom they strike ----------------------------------------------------------------------------


def struck(text: str, count: int, **options: Any) -> list[int]:
    """Which of so many requests a fault strikes, from 1."""
    faults = Faults([parse_fault(text)], **options)
    return [number for number in range(1, count + 1) if faults.strike("PATCH", "jane")]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("503", [1, 2, 3, 4, 5, 6]),
        ("503:every=2", [2, 4, 6]),
        ("503:times=2", [1, 2]),
        ("503:after=3", [4, 5, 6]),
        ("503:after=1:every=2:times=2", [3, 5]),
        ("503:method=GET", []),
        ("503:method=PATCH", [1, 2, 3, 4, 5, 6]),
        ("503:address=j?n*", [1, 2, 3, 4, 5, 6]),
        ("503:address=J*", []),
        ("503:rate=0", []),
    ],
)
def test_conditions_compose(text: str, numbers: list[int]) -> None:
    assert struck(text, 6) == numbers


def test_only_requests_that_match_are_counted() -> None:
    faults = Faults([parse_fault("503:method=PATCH:address=qa-*:every=2")])
    came = [("GET", "qa-1"), ("PATCH", "x"), ("PATCH", "qa-1"), ("GET", "qa-1"), ("PATCH", "qa-2")]
    assert [bool(faults.strike(*each)) for each in came] == [False, False, False, False, True]
    (entry,) = faults.entries()
    assert (entry.matches, entry.strikes) == (2, 1)


def test_between_counts_from_the_start() -> None:
    now = [100.0]
    faults = Faults([parse_fault("503:between=5-10")], clock=lambda: now[0])
    now[0] = 200.0
    faults.start()
    hits = []
    for seconds in (0, 4.9, 5, 9.9, 10, 100):
        now[0] = 200.0 + seconds
        hits.append(bool(faults.strike("GET", "")))
    assert hits == [False, False, True, True, False, False]


def test_chance_repeats_with_the_same_seed_and_is_no_more_than_chance() -> None:
    first = struck("503:rate=0.5", 400, seed=1)
    assert first == struck("503:rate=0.5", 400, seed=1) != struck("503:rate=0.5", 400, seed=2)
    assert 140 < len(first) < 260


def test_the_chance_of_a_fault_does_not_depend_on_the_others() -> None:
    alone = struck("503:rate=0.5", 50, seed=3)
    faults = Faults([parse_fault("503:rate=0.5"), parse_fault("latency=1:rate=0.5")], seed=3)
    kinds = [{each.kind for each in faults.strike("PATCH", "jane")} for _ in range(50)]
    assert [n for n, each in enumerate(kinds, 1) if FaultKind.STATUS in each] == alone


def test_jitter_is_drawn_within_its_bounds_and_repeats() -> None:
    def drawn(seed: int) -> list[float]:
        faults = Faults([parse_fault("latency=1:jitter=0.5")], seed=seed)
        return [faults.strike("GET", "")[0].seconds for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert all(1 <= seconds <= 1.5 for seconds in drawn(1))
    assert max(drawn(1)) - min(drawn(1)) > 0.3


def test_faults_can_be_changed_while_they_strike() -> None:
    faults = Faults()
    assert not faults
    first, second = faults.add(parse_fault("503")), faults.add(parse_fault("429"))
    assert [each.status for each in faults.strike("GET", "")] == [503, 429]
    assert faults.remove(first)
    assert not faults.remove(first)
    assert [each.status for each in faults.strike("GET", "")] == [429]
    assert faults.add(parse_fault("502")) not in (first, second)
    faults.clear()
    assert faults.strike("GET", "") == ()


# --- what becomes of a request -------------------------------------------------------------------


def fault_plan(*texts: str) -> FaultPlan:
    return FaultPlan.of([parse_fault(text) for text in texts])


def test_delays_add_up_and_the_first_that_ends_a_request_wins() -> None:
    plan = fault_plan(
        "latency=1", "drip=5", "latency=2", "lag=3", "503", "reset-after", "truncate=5"
    )
    assert (plan.latency, plan.lag) == (3, 3)
    assert plan.ending == parse_fault("503")
    assert [each.kind for each in plan.alterations] == [FaultKind.TRUNCATE, FaultKind.DRIP]
    assert not plan.takes_effect


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("503", False), ("503:effect=yes", True), ("204", True), ("202:effect=no", False),
        ("redirect=302", False), ("redirect=302:effect=yes", True),
        ("reset-before", False), ("reset-after", True), ("close-before", False),
        ("close-after", True), ("stall-before", False), ("stall-after", True),
        ("late=1", False), ("outage=1:times=1", False), ("body=html", True),
        ("body=html:effect=no", False), ("truncate=5", True), ("latency=1", True),
    ],
)  # fmt: skip
def test_a_fault_decides_whether_the_request_takes_effect(
    serve: Serve, text: str, effect: bool
) -> None:
    assert fault_plan(text).takes_effect is effect


# --- over a socket -------------------------------------------------------------------------------


def served(serve: Serve, *texts: str, **options: Any) -> Api:
    return serve(faults=[parse_fault(text) for text in texts], **options)


def heard(serve: Serve, *texts: str, patience: float = 10.0) -> Heard:
    """What a client hears of a POST."""
    return hear(served(serve, *texts).server.port, patience=patience)


def closing() -> bytes:
    return request_bytes(Connection="close")


def entry(api: Api) -> Received:
    return api.emulator.log[-1]


def test_latency_waits_before_and_lag_after_the_effect(serve: Serve) -> None:
    api = served(serve, "latency=0.05", "lag=0.05")
    start = time.monotonic()
    api.create()
    end = time.monotonic()
    found = entry(api)
    assert found.effect_at is not None
    assert found.effect_at - found.at > 0.045
    assert end - found.effect_at > 0.045
    assert end - start > 0.09


def test_requests_that_wait_do_not_wait_for_each_other(serve: Serve) -> None:
    api = served(serve, "latency=1")
    connections = [socket.create_connection(("127.0.0.1", api.server.port)) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(request_bytes(user=f"u{number}"))
    for connection in connections:
        connection.settimeout(120)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        connection.close()
    first_effect = min(each.effect_at or 0.0 for each in api.emulator.log)
    assert sum(each.at < first_effect for each in api.emulator.log) > 10
    assert len(api.emulator.profiles()) == 100


def test_a_client_that_gives_up_while_its_request_waits_has_written_all_the_same(
    serve: Serve,
) -> None:
    api = served(serve, "latency=0.2")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(request_bytes())
    wait_until(lambda: bool(api.emulator.profiles()))


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(2000):
        if done():
            return
        time.sleep(0.005)
    pytest.fail("it did not happen")


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


def test_a_429_may_carry_none(serve: Serve) -> None:
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
    assert (entry(api).status, entry(api).effect) == (502, 1)


@pytest.mark.parametrize(("status", "body"), [(201, True), (202, True), (204, False), (304, False)])
def test_another_success_has_the_body_that_it_may_have(
    serve: Serve, status: int, body: bool
) -> None:
    reply = served(serve, str(status)).send("POST", {})
    assert (reply.status, bool(reply.raw)) == (status, body)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_where_it_is_told(serve: Serve, status: int) -> None:
    api = served(serve, f'redirect={status}:to="http://127.0.0.1:9/thief"')
    reply = api.send("POST", {})
    assert (reply.status, reply.headers["Location"]) == (status, "http://127.0.0.1:9/thief")
    assert api.emulator.profiles() == []


def test_a_redirect_to_nowhere_is_a_loop(serve: Serve) -> None:
    assert served(serve, "redirect=302").send("GET").headers["Location"] == PROFILE_PATH


@pytest.mark.parametrize(("when", "effect"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(("how", "seen"), [("reset", "reset"), ("close", "closed")])
def test_a_connection_ends_before_or_after_the_effect(
    serve: Serve, how: str, seen: str, when: str, effect: int
) -> None:
    api = served(serve, f"{how}-{when}:times=1")
    assert hear(api.server.port) == Heard(b"", seen)
    assert len(api.emulator.profiles()) == effect
    found = entry(api)
    assert (found.status, found.sent, found.effect) == (200 * effect, Sent.NOTHING, effect or None)
    assert api.send("POST", {}).status == 200


@pytest.mark.parametrize(("when", "effect"), [("before", 0), ("after", 1)])
def test_a_stalled_request_is_never_answered(serve: Serve, when: str, effect: int) -> None:
    api = served(serve, f"stall-{when}")
    assert hear(api.server.port, first=0.3) == Heard(b"", "open")
    assert len(api.emulator.profiles()) == effect


def test_a_stall_may_end(serve: Serve) -> None:
    assert heard(serve, "stall-before=0.05") == Heard(b"", "closed")


def test_a_late_write_lands_over_a_newer_one(serve: Serve) -> None:
    api = served(serve, "late=0.3:times=1:method=PATCH")
    api.create()
    with pytest.raises(ConnectionError):
        api.patch({"first_name": "old"})
    api.connection.close()
    assert api.patch({"first_name": "new"}).status == 200
    assert api.stored()["fields"] == {"first_name": "new"}
    assert api.server.settle(20)
    assert api.stored()["fields"] == {"first_name": "old"}
    _, late, newer = api.emulator.log
    assert (late.status, late.sent, late.late_status) == (0, Sent.NOTHING, 200)
    assert (newer.effect, late.effect) == (2, 3)
    assert late.effect_at is not None
    assert late.effect_at - late.at > 0.29


def test_a_late_write_may_be_answered_with_an_error(serve: Serve) -> None:
    api = served(serve, "late=0.1:answer=504")
    assert api.send("POST", {}).status == 504
    assert api.emulator.profiles() == []
    assert api.server.settle(20)
    assert len(api.emulator.profiles()) == 1
    assert (entry(api).status, entry(api).sent, entry(api).late_status) == (504, Sent.ALTERED, 200)


def test_a_late_write_may_never_be_answered(serve: Serve) -> None:
    api = served(serve, "late=0.1:answer=none")
    assert hear(api.server.port, first=0.3) == Heard(b"", "open")
    wait_until(lambda: len(api.emulator.profiles()) == 1)


def test_a_late_request_is_judged_when_it_lands(serve: Serve) -> None:
    api = served(serve, "late=0.2:method=PATCH")
    api.create()
    with pytest.raises(ConnectionError):
        api.patch({"first_name": "Jane"})
    api.connection.close()
    api.send("DELETE")
    assert api.server.settle(20)
    assert [each.late_status for each in api.emulator.log] == [None, 404, None]
    assert api.emulator.log[1].effect is None


def test_the_log_file_says_when_a_late_write_landed(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "log.jsonl"
    api = served(serve, "late=0.05:answer=502", emulator=Emulator(log_file=path))
    api.send("POST", {})
    assert api.server.settle(20)
    _, request, landed = [json.loads(line) for line in path.read_text().splitlines()]
    assert (request["event"], request["status"], request["effect"]) == ("request", 502, None)
    assert request["faults"] == ["late=0.05:answer=502"]
    assert landed == {"event": "landed", **entry(api).as_json()}
    assert (landed["number"], landed["late_status"], landed["effect"]) == (1, 200, 1)


# --- outages ---


def is_up(api: Api) -> bool:
    try:
        return hear(api.server.port, closing()).raw.startswith(b"HTTP/1.1 ")
    except ConnectionError:  # refused, or reset by an outage that begins just now
        return False


def test_an_outage_without_conditions_begins_with_the_server(serve: Serve) -> None:
    api = served(serve, "outage=1.5")
    refused(api)
    wait_until(lambda: is_up(api))


def refused(api: Api) -> None:
    with pytest.raises(ConnectionRefusedError):
        hear(api.server.port)


def test_an_outage_may_begin_with_a_request(serve: Serve) -> None:
    api = served(serve, "outage=1.5:after=1:times=1")
    assert api.send("POST", {}).status == 200
    assert hear(api.server.port) == Heard(b"", "reset")
    refused(api)
    wait_until(lambda: is_up(api))
    assert [each.status for each in api.emulator.log][:2] == [200, 0]


def test_an_outage_begins_when_it_is_set(serve: Serve) -> None:
    api = serve()
    assert api.send("POST", {}).status == 200
    api.server.set_fault(parse_fault("outage=1.5"))
    refused(api)
    wait_until(lambda: is_up(api))


# --- altered answers ---


def test_ids_can_be_changed_and_stay_changed_alike(serve: Serve) -> None:
    api = served(serve, "profile-id:method=PATCH", "app-id=another-app:method=PATCH")
    true = api.create()
    changed = api.patch({"first_name": "Jane"}).data
    assert changed["profile_id"] != true
    assert changed["app_id"] == "another-app"
    assert api.patch({"first_name": "Joan"}).data["profile_id"] == changed["profile_id"]
    assert api.send("GET").data["profile_id"] == true
    assert [each.sent for each in api.emulator.log][1] == Sent.ALTERED


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


def test_bodies_that_are_compressed_unasked(serve: Serve) -> None:
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
    many = heard(serve, "headers=200", patience=0.3)
    assert many.head.count(b"\r\nX-Filler-") == 200
    long = heard(serve, "big-header=100000", patience=0.3)
    assert len(long.head) > 100_000


# --- the end of a body ---


def test_a_content_length_may_be_too_long(serve: Serve) -> None:
    found = heard(serve, "length=+5")
    assert found.end == "closed"
    assert announced(found) == len(found.body) + 5
    assert heard(serve, "length=+5:end=keep", patience=0.2).end == "open"
    assert heard(serve, "length=+5:end=reset").end == "reset"


def announced(found: Heard) -> int:
    (length,) = re.findall(rb"Content-Length: (\d+)", found.head)
    return int(length)


def test_a_content_length_may_be_too_short_and_leave_bytes_behind(serve: Serve) -> None:
    api = served(serve, "length=-5:times=1")
    found = hear(api.server.port, request_bytes() + closing())
    (length, _) = map(int, re.findall(rb"Content-Length: (\d+)", found.raw))
    assert found.body[length:].startswith(b": []}}HTTP/1.1 200 OK"[1:])


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
def test_the_end_of_a_body_can_be_told_wrongly(serve: Serve, name: str) -> None:
    lines, end = HEADERS_AND_END[name]
    found = heard(serve, f"framing={name}", patience=0.2)
    said = [
        line
        for line in found.head.split(b"\r\n")
        if line.startswith((b"Content-Length", b"Transfer-Encoding"))
    ]
    assert (said, found.end) == (lines, end)
    assert b'"customer_user_id": "jane"' in found.body


def test_chunks_are_broken_as_their_name_says(serve: Serve) -> None:
    first = {
        name: heard(serve, f"framing={name}", patience=0.2).body.split(b"\r\n")
        for name in ("chunked", "bad-chunk", "negative-chunk", "long-chunk", "short-chunk")
    }
    assert first["chunked"][2:] == [b"0", b"", b""]
    length = len(first["chunked"][1])
    assert int(first["chunked"][0], 16) == length
    assert first["bad-chunk"][0] == b"zz"
    assert first["negative-chunk"][0] == b"-5"
    assert int(first["long-chunk"][0], 16) == length + 5
    assert int(first["short-chunk"][0], 16) == length - 5
    assert not heard(serve, "framing=no-last-chunk").body.endswith(b"0\r\n\r\n")


def test_correct_chunks_are_a_correct_answer(serve: Serve) -> None:
    api = served(serve, "framing=chunked")
    assert api.send("POST", {}).data["customer_user_id"] == "jane"
    assert api.send("GET").status == 200


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_answer_comes_first(serve: Serve, status: int) -> None:
    found = heard(serve, f"interim={status}", patience=0.2)
    assert found.raw.startswith(b"HTTP/1.1 %d " % status)
    assert found.body.startswith(b"HTTP/1.1 200 OK\r\n")


# --- cut, slow and stray ---


def test_an_answer_can_be_cut_at_every_byte(serve: Serve) -> None:
    emulator = Emulator(new_id=iter_ids())
    api = serve(emulator, faults=lambda received: [cut[0]] if cut else [])
    cut: list[Fault] = []
    api.create()
    whole = hear(api.server.port, request_bytes("GET", b"", Connection="close")).raw
    length = len(whole) - len("Connection: close\r\n")
    for kept in range(0, length + 1, 7):
        cut[:] = [parse_fault(f"truncate={kept}")]
        found = hear(api.server.port, request_bytes("GET", b""))
        assert (len(found.raw), found.end) == (kept, "closed")
        assert found.raw[:15] == whole[: min(kept, 15)]


def iter_ids() -> Callable[[], Any]:
    import uuid

    return uuid.uuid4


def test_an_answer_can_be_cut_inside_each_of_its_parts(serve: Serve) -> None:
    assert re.fullmatch(rb"HTTP/1[^\r]*", heard(serve, "truncate=status").raw)
    headers = heard(serve, "truncate=headers").raw
    assert headers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in headers
    body = heard(serve, "truncate=body")
    assert 0 < len(body.body) < announced(body)
    last = heard(serve, "truncate=-1")
    assert len(last.body) == announced(last) - 1


def test_a_cut_answer_ends_as_it_is_told(serve: Serve) -> None:
    found = heard(serve, "truncate=20:end=reset")
    assert (len(found.raw), found.end) == (20, "reset")
    found = heard(serve, "truncate=20:end=keep", patience=0.2)
    assert (len(found.raw), found.end) == (20, "open")


def test_a_huge_answer_can_be_cut(serve: Serve) -> None:
    assert len(heard(serve, "body=huge", "truncate=3000000").raw) == 3_000_000


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_part_of_an_answer_can_drip(serve: Serve, part: str) -> None:
    api = served(serve, f"drip=1000:part={part}")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        start = time.monotonic()
        connection.sendall(closing())
        first = connection.recv(1 << 16)
        rest = listen(connection)
        slow = time.monotonic() - start
    whole = Heard(first + rest.raw, rest.end)
    dripped = whole.body if part == "body" else whole.head
    assert json.loads(whole.body)["data"]["customer_user_id"] == "jane"
    assert slow > 0.8 * len(dripped) / 1000


def test_a_drip_is_a_byte_at_a_time_when_it_is_slow(serve: Serve) -> None:
    api = served(serve, "drip=20")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(closing())
        assert [connection.recv(100) for _ in range(5)] == [b"H", b"T", b"T", b"P", b"/"]


@pytest.mark.parametrize("text", ["stray=0", "stray"])
def test_a_stray_answer_is_taken_for_the_next_one(serve: Serve, text: str) -> None:
    api = served(serve, f"{text}:times=1")
    api.create(user="jane")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        first = request_bytes("GET", b"", user="jane", Connection="keep-alive")
        second = request_bytes("GET", b"", user="joan", Connection="close")
        api.server.set_fault(parse_fault("stray=0.01:times=1"))
        connection.sendall(first + second)
        found = listen(connection)
    assert found.raw.count(b"HTTP/1.1 200 OK") == 2
    assert found.raw.count(b"HTTP/1.1 404 Not Found") == 1
    assert found.raw.index(b"404 Not Found") > found.raw.rindex(b"200 OK")


def test_an_idle_connection_is_closed_without_a_word(serve: Serve) -> None:
    found = heard(serve, "idle-close=0.05")
    assert found.end == "closed"
    assert b"Connection: close" not in found.head
    assert announced(found) == len(found.body)


# --- from Python, by header, at run time ---------------------------------------------------------


def test_a_function_chooses_faults_by_what_arrived(serve: Serve) -> None:
    def choose(received: Received) -> list[Fault]:
        return [parse_fault("503")] if received.body == {"first_name": "Jane"} else []

    api = serve(faults=choose)
    api.create()
    assert api.patch({"first_name": "Jane"}).status == 503
    assert api.patch({"first_name": "Joan"}).status == 200


def test_a_hook_stands_around_the_api_and_may_wait(serve: Serve) -> None:
    go_on = threading.Event()

    class Hook:
        def around(self, received: Received, answer: Callable[[], Answer]) -> Answer | Reply | None:
            match received.address:
                case "slow":
                    go_on.wait(10)
                    return answer()
                case "none":
                    return None
                case "after":
                    answer()
                    return None
                case "own":
                    return Answer(418, {"Content-Length": "0"}, b"")
                case "bytes":
                    return Reply((b"not HTTP",), End.CLOSE)
                case _:
                    return answer()

    api = serve(faults=Hook())
    with socket.create_connection(("127.0.0.1", api.server.port)) as slow:
        slow.sendall(request_bytes(user="slow"))
        assert api.send("POST", {}, user="quick").status == 200
        assert hear(api.server.port, request_bytes(user="none")) == Heard(b"", "reset")
        assert hear(api.server.port, request_bytes(user="after")) == Heard(b"", "reset")
        assert hear(api.server.port, request_bytes(user="bytes")) == Heard(b"not HTTP", "closed")
        assert api.send("POST", {}, user="own").status == 418
        go_on.set()
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    found = {each.address: (each.sent.value, each.status, each.effect) for each in api.emulator.log}
    assert found == {
        "slow": ("answer", 200, 3),
        "quick": ("answer", 200, 1),
        "none": ("nothing", 0, None),
        "after": ("nothing", 200, 2),
        "bytes": ("altered", 0, None),
        "own": ("altered", 418, None),
    }


def test_a_hook_that_raises_breaks_one_connection(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    class Hook:
        def around(self, received: Received, answer: Callable[[], Answer]) -> Answer | Reply | None:
            raise LookupError("a mistake")

    api = serve(faults=Hook())
    assert hear(api.server.port) == Heard(b"", "reset")
    assert "LookupError: a mistake" in capfd.readouterr().err


def test_a_set_of_faults_may_be_handed_over(serve: Serve) -> None:
    faults = Faults([parse_fault("503")])
    api = serve(faults=faults)
    assert api.send("GET").status == 503
    faults.clear()
    assert api.send("GET").status == 404


def test_a_request_may_bring_its_fault_if_that_is_allowed(serve: Serve) -> None:
    api = serve(header_faults=True)

    def status(fault: str) -> int:
        headers = {
            "Authorization": f"Api-Key {KEY}",
            "adapty-customer-user-id": "jane",
            "Emulator-Fault": fault,
        }
        return api.raw("GET", headers=headers).status

    assert status("503") == 503
    assert status('latency=0.01, 429:retry-after="1, 2", drip=100000') == 429
    assert entry(api).faults[1] == parse_fault('429:retry-after="1, 2"')
    assert api.send("GET").status == 404
    with pytest.raises(ConnectionError):
        status("reset-after")


@pytest.mark.parametrize("text", ["chaos", "", "503:times=1", "503,", "503:rate=0.5"])
def test_a_bad_fault_in_a_header_is_told_and_nothing_takes_effect(serve: Serve, text: str) -> None:
    api = serve(header_faults=True)
    found = hear(api.server.port, request_bytes(emulator_fault=text, Connection="close"))
    assert found.head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(found.body)["error_code"] == "bad_fault"
    assert api.emulator.profiles() == []


def test_the_header_is_nothing_special_unless_it_is_allowed(serve: Serve) -> None:
    api = serve()
    found = hear(api.server.port, request_bytes(emulator_fault="503", Connection="close"))
    assert found.head.startswith(b"HTTP/1.1 200 ")


def test_faults_are_set_listed_and_cleared_while_it_runs(serve: Serve) -> None:
    api = serve(Emulator(debug=True), faults=[parse_fault("latency=0:method=GET")])
    place = "/debug/faults/"
    shown = api.raw("POST", place, body=b"429:times=1\n\n reset-before:method=PUT:after=1 \n")
    assert shown.status == 400
    assert "method must be" in shown.json["errors"][0]["errors"][0]
    shown = api.raw("POST", place, body=b"429:times=1\n\n 503:method=PATCH \n")
    assert [each["fault"] for each in shown.json] == [
        "latency=0:method=GET",
        "status=429:times=1",
        "status=503:method=PATCH",
    ]
    assert [api.send("GET").status, api.send("PATCH", {}).status] == [429, 503]
    counted = [(each["id"], each["seen"], each["struck"]) for each in api.raw("GET", place).json]
    assert counted == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert [each["id"] for each in api.raw("DELETE", place + "3/").json] == [1, 2]
    assert api.raw("DELETE", place + "3").status == 404
    assert api.send("PATCH", {}).status == 404
    assert api.raw("DELETE", place).json == []
    assert api.raw("PUT", place).headers["Allow"] == "GET, POST, DELETE"
    assert api.raw("GET", place + "1/").headers["Allow"] == "DELETE"


def test_an_outage_can_be_set_while_it_runs(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    assert api.raw("POST", "/debug/faults/", body=b"outage=1.5").json == []
    wait_until(lambda: not is_up(api))
    wait_until(lambda: is_up(api))


def test_the_debug_view_is_spared_from_faults(serve: Serve) -> None:
    api = serve(Emulator(debug=True), faults=[parse_fault("reset-before")])
    assert api.raw("GET", "/debug/faults/").status == 200
    assert list(api.emulator.log) == []


def test_faults_need_a_server_that_runs_for_an_outage_only() -> None:
    server = EmulatorServer(Emulator())
    assert server.set_fault(parse_fault("503")) == 1
    assert server.set_fault(parse_fault("outage=5")) is None
    with pytest.raises(RuntimeError):
        server.outage(5)
