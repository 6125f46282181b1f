"""The debug endpoint: who may use it, what it shows, and how it changes faults."""

from __future__ import annotations

import pytest

from reconciler.emulator import (
    DEBUG_PATH,
    Emulator,
    parse_fault,
)
from tests.support.wire import (
    Api,
    Serve,
)


def test_the_debug_view_shows_what_was_written_when_switched_on(serve: Serve) -> None:
    api = serve(Emulator(debug=True))
    api.create({"first_name": "Jane"})
    assert api.raw("GET", DEBUG_PATH).json == api.emulator.profiles()
    anonymous = api.raw("POST", DEBUG_PATH).json["profile_id"]
    assert api.send("GET", user=None, profile=anonymous).status == 200
    assert api.raw("DELETE", DEBUG_PATH).headers["Allow"] == "GET, POST"


def test_without_debug_there_is_no_debug_view(api: Api) -> None:
    for place in ("profiles", "log", "rates", "faults"):
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
