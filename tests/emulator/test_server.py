"""The server: connections, the effects of faults on requests, outages, hooks and headers."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import (
    Answer,
    Emulator,
    EmulatorServer,
    End,
    Fault,
    Faults,
    RateLimit,
    Received,
    Reply,
    Sent,
    parse_fault,
)
from reconciler.emulator.routes import ROUTES, ApiRoute
from reconciler.errors import UsageError
from tests.support.wire import (
    KEY,
    Api,
    ApiReply,
    Serve,
    Transcript,
    attribute_pairs,
    closing_request,
    hear,
    last_entry,
    request_bytes,
    served,
    transcript_of,
    wait_until,
)

# --- connections ----------------------------------------------------------------------------------


def test_many_connections_write_at_once_without_losing_anything(api: Api) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        mine = Api(api.server)
        try:
            for turn in range(15):
                reply = mine.send("POST", attribute_pairs(**{f"w{number}": turn}), user="shared")
                if reply.status != 200:
                    failures.append(reply)
        except Exception as problem:
            failures.append(problem)
        finally:
            mine.connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert api.stored("shared")["custom_attributes"] == {f"w{n}": 14.0 for n in range(8)}


def test_an_emulator_that_waits_delays_no_other_request(serve: Serve) -> None:
    together = threading.Barrier(3)

    class Waiting(Emulator):
        def handle(self, *args: Any, **options: Any) -> Answer:
            together.wait(10)
            return super().handle(*args, **options)

    api = serve(Waiting())
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(Api(api.server).send("POST", {}).status))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200, 200, 200]


def test_leaving_the_server_closes_kept_connections_and_the_port() -> None:
    with EmulatorServer(Emulator()) as server:
        api = Api(server)
        api.create()
        port = server.port
    assert api.connection.sock is not None
    assert api.connection.sock.recv(1) == b""
    api.connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_is_taken_is_a_usage_error(api: Api) -> None:
    with pytest.raises(UsageError, match=f"cannot listen on port {api.server.port}"):
        EmulatorServer(Emulator(), port=api.server.port).start()


def test_serving_prints_nothing(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    api.create()
    api.raw("GET", "/nowhere/")
    with socket.create_connection(("127.0.0.1", api.server.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        raw.recv(65536)
    assert capfd.readouterr() == ("", "")


# --- waits and effects ----------------------------------------------------------------------------


def test_latency_waits_before_and_lag_after_the_effect(serve: Serve) -> None:
    api = served(serve, "latency=0.05", "lag=0.05")
    start = time.monotonic()
    api.create()
    end = time.monotonic()
    entry = last_entry(api)
    assert entry.effect_at is not None
    assert entry.effect_at - entry.at > 0.045
    assert end - entry.effect_at > 0.045
    assert end - start > 0.09


def test_requests_that_wait_do_not_delay_each_other(serve: Serve) -> None:
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


def test_a_request_takes_effect_although_its_client_gave_up_waiting(
    serve: Serve,
) -> None:
    api = served(serve, "latency=0.2")
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(request_bytes())
    wait_until(lambda: bool(api.emulator.profiles()))


@pytest.mark.parametrize(("when", "effect"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(("how", "end"), [("reset", "reset"), ("close", "closed")])
def test_a_connection_ends_before_or_after_the_effect(
    serve: Serve, how: str, end: str, when: str, effect: int
) -> None:
    api = served(serve, f"{how}-{when}:times=1")
    assert hear(api.server.port) == Transcript(b"", end)
    assert len(api.emulator.profiles()) == effect
    entry = last_entry(api)
    assert (entry.status, entry.sent, entry.effect) == (200 * effect, Sent.NOTHING, effect or None)
    assert api.send("POST", {}).status == 200


@pytest.mark.parametrize(("when", "effect"), [("before", 0), ("after", 1)])
def test_a_stalled_request_is_never_answered(serve: Serve, when: str, effect: int) -> None:
    api = served(serve, f"stall-{when}")
    assert hear(api.server.port, first=0.3) == Transcript(b"", "open")
    assert len(api.emulator.profiles()) == effect


def test_a_stall_may_end(serve: Serve) -> None:
    assert transcript_of(serve, "stall-before=0.05") == Transcript(b"", "closed")


# --- late effects ---------------------------------------------------------------------------------


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
    assert (last_entry(api).status, last_entry(api).sent, last_entry(api).late_status) == (
        504,
        Sent.ALTERED,
        200,
    )


def test_a_late_write_may_never_be_answered(serve: Serve) -> None:
    api = served(serve, "late=0.1:answer=none")
    assert hear(api.server.port, first=0.3) == Transcript(b"", "open")
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
    assert landed == {"event": "landed", **last_entry(api).as_json()}
    assert (landed["number"], landed["late_status"], landed["effect"]) == (1, 200, 1)


# --- outages --------------------------------------------------------------------------------------


def is_up(api: Api) -> bool:
    try:
        return hear(api.server.port, closing_request()).raw.startswith(b"HTTP/1.1 ")
    except ConnectionError:  # refused, or reset by an outage that begins just now
        return False


def test_an_outage_without_conditions_begins_with_the_server(serve: Serve) -> None:
    api = served(serve, "outage=1.5")
    assert_refused(api)
    wait_until(lambda: is_up(api))


def assert_refused(api: Api) -> None:
    with pytest.raises(ConnectionRefusedError):
        hear(api.server.port)


def test_an_outage_may_begin_with_a_request(serve: Serve) -> None:
    api = served(serve, "outage=1.5:after=1:times=1")
    assert api.send("POST", {}).status == 200
    assert hear(api.server.port) == Transcript(b"", "reset")
    assert_refused(api)
    wait_until(lambda: is_up(api))
    assert [each.status for each in api.emulator.log][:2] == [200, 0]


def test_an_outage_begins_when_it_is_set(serve: Serve) -> None:
    api = serve()
    assert api.send("POST", {}).status == 200
    api.server.set_fault(parse_fault("outage=1.5"))
    assert_refused(api)
    wait_until(lambda: is_up(api))


def test_an_outage_can_be_set_while_it_runs(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    assert api.raw("POST", "/debug/faults/", body=b"outage=1.5").json == []
    wait_until(lambda: not is_up(api))
    wait_until(lambda: is_up(api))


def test_only_an_outage_needs_a_running_server() -> None:
    server = EmulatorServer(Emulator())
    assert server.set_fault(parse_fault("503")) == 1
    assert server.set_fault(parse_fault("outage=5")) is None
    with pytest.raises(RuntimeError):
        server.outage(5)


# --- faults from Python, and by header ------------------------------------------------------------


def test_a_function_chooses_faults_by_what_arrived(serve: Serve) -> None:
    def choose(received: Received) -> list[Fault]:
        return [parse_fault("503")] if received.body == {"first_name": "Jane"} else []

    api = serve(faults=choose)
    api.create()
    assert api.patch({"first_name": "Jane"}).status == 503
    assert api.patch({"first_name": "Joan"}).status == 200


def test_a_hook_stands_around_the_api_and_may_wait(serve: Serve) -> None:
    may_go_on = threading.Event()

    class Hook:
        def around(self, received: Received, answer: Callable[[], Answer]) -> Answer | Reply | None:
            match received.address:
                case "slow":
                    may_go_on.wait(10)
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
        assert hear(api.server.port, request_bytes(user="none")) == Transcript(b"", "reset")
        assert hear(api.server.port, request_bytes(user="after")) == Transcript(b"", "reset")
        assert hear(api.server.port, request_bytes(user="bytes")) == Transcript(
            b"not HTTP", "closed"
        )
        assert api.send("POST", {}, user="own").status == 418
        may_go_on.set()
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    results = {
        each.address: (each.sent.value, each.status, each.effect) for each in api.emulator.log
    }
    assert results == {
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
    assert hear(api.server.port) == Transcript(b"", "reset")
    assert "LookupError: a mistake" in capfd.readouterr().err


def test_a_server_takes_an_existing_set_of_faults(serve: Serve) -> None:
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
    assert last_entry(api).faults[1] == parse_fault('429:retry-after="1, 2"')
    assert api.send("GET").status == 404
    with pytest.raises(ConnectionError):
        status("reset-after")


@pytest.mark.parametrize("text", ["chaos", "", "503:times=1", "503,", "503:rate=0.5"])
def test_a_bad_fault_in_a_header_is_answered_with_400_and_nothing_takes_effect(
    serve: Serve, text: str
) -> None:
    api = serve(header_faults=True)
    transcript = hear(api.server.port, request_bytes(emulator_fault=text, Connection="close"))
    assert transcript.head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(transcript.body)["error_code"] == "bad_fault"
    assert api.emulator.profiles() == []


def test_the_fault_header_has_no_effect_unless_it_is_allowed(serve: Serve) -> None:
    api = serve()
    transcript = hear(api.server.port, request_bytes(emulator_fault="503", Connection="close"))
    assert transcript.head.startswith(b"HTTP/1.1 200 ")


# --- on every route -------------------------------------------------------------------------------

BODIES: dict[str, Any] = {
    "profile": {"first_name": "Jane"},
    "grant": {"access_level_id": "pro"},
    "revoke": {"access_level_id": "premium"},
    "identifiers": {"branch_id": "b"},
    "refund-saver": {"consent": False},
}
"""A body that each route carries out."""
ON_EVERY_ROUTE = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)


def prepared(serve: Serve, *texts: str) -> Api:
    """An emulator with Jane, who has premium, and Bob; faults strike only afterwards."""
    api = serve(Emulator(access_levels=["pro"]))
    for user in ("bob", "jane"):
        api.create(user=user)
        api.grant(user=user)
    for text in texts:
        api.server.set_fault(parse_fault(text))
    return api


def content_after(api: Api, route: ApiRoute) -> tuple[ApiReply | None, bool]:
    """The answer to a write on a route, None without one; and whether it changed anything."""
    before = api.emulator.content()
    try:
        reply = api.send("POST", BODIES[route.name], path=route.path)
    except (http.client.HTTPException, OSError):
        reply = None
        api.connection.close()
    assert api.server.settle(10)
    return reply, api.emulator.content() != before


@ON_EVERY_ROUTE
@pytest.mark.parametrize(
    ("text", "takes_effect"),
    [
        ("reset-before", False),
        ("reset-after", True),
        ("close-before", False),
        ("close-after", True),
        ("stall-before=0.01", False),
        ("stall-after=0.01", True),
        ("late=0.01", True),
        ("truncate=status", True),
        ("outage=0.01:after=1", False),
    ],
)
def test_a_write_without_an_answer_takes_effect_or_not_on_every_route(
    serve: Serve, route: ApiRoute, text: str, takes_effect: bool
) -> None:
    api = prepared(serve, text)
    if ":after=1" in text:
        api.send("GET")
    reply, changed = content_after(api, route)
    assert reply is None
    assert changed is takes_effect
    events = [each.cause for each in api.emulator.access_events[2:]]
    sends_event = takes_effect and route.name in ("grant", "revoke")
    assert events == ([route.name] if sends_event else [])


@ON_EVERY_ROUTE
@pytest.mark.parametrize(
    ("text", "status", "takes_effect"),
    [
        ("429:retry-after=1", 429, False),
        ("500", 500, False),
        ("503:effect=yes", 503, True),
        ("late=0.01:answer=504", 504, True),
    ],
)
def test_an_injected_error_has_the_shape_of_its_route(
    serve: Serve, route: ApiRoute, text: str, status: int, takes_effect: bool
) -> None:
    reply, changed = content_after(prepared(serve, text), route)
    assert reply is not None
    message = "Injected by the emulator"
    errors = [message] if route.is_flat else [{"source": None, "errors": [message]}]
    code = "rate_limited" if status == 429 else "injected_fault"
    assert reply.json == {"errors": errors, "error_code": code, "status_code": status}
    assert changed is takes_effect


@ON_EVERY_ROUTE
def test_the_rate_counts_requests_of_every_route(serve: Serve, route: ApiRoute) -> None:
    api = serve(Emulator(rate_limits=[RateLimit(1, 60.0)]))
    api.create()
    reply = api.send(route.methods[0], BODIES[route.name], path=route.path)
    assert (reply.status, reply.code) == (429, "rate_limited")
    assert reply.json["errors"][0] == (
        "Too many requests" if route.is_flat else {"source": None, "errors": ["Too many requests"]}
    )


@ON_EVERY_ROUTE
@pytest.mark.parametrize(
    "body", ["html", "null", "half", "nan", "duplicate", "gzip", "errors-text"]
)
def test_a_body_is_replaced_on_every_route(serve: Serve, route: ApiRoute, body: str) -> None:
    plain, _ = content_after(prepared(serve), route)
    altered, changed = content_after(prepared(serve, f"body={body}"), route)
    assert plain is not None
    assert altered is not None
    assert changed
    assert altered.status == 200
    assert plain.raw == b"" or altered.raw != plain.raw


@ON_EVERY_ROUTE
def test_an_answer_about_another_profile_has_the_shape_of_its_route(
    serve: Serve, route: ApiRoute
) -> None:
    api = prepared(serve, f"other-profile:route={route.name}")
    method = "GET" if "GET" in route.methods else "POST"
    body = None if method == "GET" else BODIES[route.name]
    reply = api.send(method, body, path=route.path)
    bob = api.stored("bob")["profile_id"]
    match route.name:
        case "identifiers":
            assert reply.json["branch_id"] is None
        case "refund-saver":
            assert reply.json["profile_id"] == bob
        case _:
            assert reply.data["profile_id"] == bob


def test_a_changed_profile_id_is_changed_wherever_it_is_shown(serve: Serve) -> None:
    api = prepared(serve, "profile-id=other")
    for route in ROUTES:
        reply = api.send("POST", BODIES[route.name], path=route.path)
        assert reply.status == 200
        if route.name == "identifiers":
            assert reply.raw == b""
        else:
            assert reply.json.get("data", reply.json)["profile_id"] == "other"


def test_a_bad_fault_in_a_header_is_flat_where_errors_are(serve: Serve) -> None:
    api = serve(header_faults=True)
    headers = {"Authorization": "Api-Key k", "emulator-fault": "nonsense"}
    for route in ROUTES:
        reply = api.raw(route.methods[0], route.path, headers=headers)
        assert reply.code == "bad_fault"
        assert isinstance(reply.json["errors"][0], str) is route.is_flat


def test_the_server_moves_the_clock_of_its_emulator(serve: Serve) -> None:
    api = serve()
    api.server.advance(days=31)
    assert api.emulator.clock()["skipped"] == 31 * 86_400
