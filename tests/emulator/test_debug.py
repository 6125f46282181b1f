"""The debug endpoint: who may use it, what it shows, and how it changes faults."""

from __future__ import annotations

import json

import pytest

from reconciler.emulator import (
    DEBUG_PATH,
    IDENTIFIERS_PATH,
    REFUND_SAVER_PATH,
    Emulator,
    parse_fault,
)
from tests.support.wire import (
    Api,
    Serve,
)

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_the_debug_view_shows_what_was_written_when_switched_on(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    api.create({"first_name": "Jane"})
    assert api.raw("GET", DEBUG_PATH).json == api.emulator.profiles()
    anonymous = api.raw("POST", DEBUG_PATH).json["profile_id"]
    assert api.send("GET", user=None, profile=anonymous).status == 200
    assert api.raw("DELETE", DEBUG_PATH).headers["Allow"] == "GET, POST"


def test_without_debug_there_is_no_debug_view(api: Api) -> None:
    for place in ("profiles", "log", "rates", "faults", "seed", "advance", "events"):
        assert api.raw("GET", f"/debug/{place}/").status == 404


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_the_debug_view_is_not_for_pages_in_a_browser(
    serve: Serve, headers: dict[str, str]
) -> None:
    api = serve(Emulator(debug=True))
    assert api.raw("GET", DEBUG_PATH, headers=headers).status == 403


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


def test_no_fault_strikes_the_debug_endpoint(serve: Serve) -> None:
    api = serve(Emulator(debug=True), faults=[parse_fault("reset-before")])
    assert api.raw("GET", "/debug/faults/").status == 200
    assert list(api.emulator.log) == []


def test_a_seed_is_planted_and_a_bad_one_is_told(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    seed = {"profiles": [{"customer_user_id": "jane", "access_levels": {"pro": "lifetime"}}]}
    planted = api.raw("POST", "/debug/seed/", body=json.dumps(seed).encode()).json
    assert planted == [
        {"customer_user_id": "jane", "profile_id": api.stored()["profile_id"]},
    ]
    assert api.level("pro")["store_product_id"] == "adapty_dashboard_product"
    bad = api.raw("POST", "/debug/seed/", body=b'{"profiles": [{}]}')
    assert (bad.status, bad.code, bad.sources) == (400, "bad_seed", ["profiles[0]"])
    assert api.raw("POST", "/debug/seed/", body=b"{").code == "parse_error"
    conflict = {"profiles": [{"customer_user_id": "jane", "profile_id": NOBODY}]}
    refused = api.raw("POST", "/debug/seed/", body=json.dumps(conflict).encode())
    assert (refused.status, refused.code) == (400, "bad_request")
    assert api.raw("GET", "/debug/seed/").headers["Allow"] == "POST"


def test_the_clock_is_shown_and_moved(serve: Serve) -> None:
    api = serve(Emulator(debug=True, clock=lambda: 1_800_000_000.0))
    place = "/debug/advance/"
    assert api.raw("GET", place).json == {"now": "2027-01-15T08:00:00+00:00", "skipped": 0.0}
    moved = api.raw("POST", place, body=b'{"days": 31, "hours": 0.5}').json
    assert moved == {"now": "2027-02-15T08:30:00+00:00", "skipped": 2_680_200.0}
    assert api.raw("DELETE", place).headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "names no duration"),
        (b"{}", "names no duration"),
        (b'{"days": "31"}', "days is not a number"),
        (b'{"days": true}', "days is not a number"),
        (b'{"months": 1}', "months"),
        (b'{"days": -1}', "forward only"),
        (b'{"days": 1e999}', "9999"),
    ],
)
def test_a_bad_duration_is_refused(serve: Serve, body: bytes, reason: str) -> None:
    api = serve(Emulator(debug=True))
    reply = api.raw("POST", "/debug/advance/", body=body)
    assert (reply.status, reply.code) == (400, "bad_request")
    assert reason in reply.json["errors"][0]["errors"][0]
    assert api.emulator.clock()["skipped"] == 0


def test_events_are_shown_from_a_number_on(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    api.create()
    api.grant()
    api.revoke()
    assert [each["cause"] for each in api.raw("GET", "/debug/events/").json] == ["grant", "revoke"]
    (last,) = api.raw("GET", "/debug/events/?after=1").json
    assert (last["event"], last["number"]) == ("access_level_updated", 2)
    assert api.raw("POST", "/debug/events/").headers["Allow"] == "GET"


def test_the_debug_view_shows_access_identifiers_and_refund_preferences(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    api.create()
    api.grant()
    api.send("POST", {"branch_id": "b"}, path=IDENTIFIERS_PATH)
    api.send("POST", {"consent": False}, path=REFUND_SAVER_PATH)
    (shown,) = api.raw("GET", DEBUG_PATH).json
    assert [each["access_level_id"] for each in shown["access_levels"]] == ["premium"]
    assert shown["integration_identifiers"] == {"branch_id": "b"}
    assert shown["refund_saver"] == {"consent": False}
