"""The emulator's log of requests, and its watch over the rate."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.emulator import DEBUG_PATH, PROFILE_PATH, Emulator, parse_fault
from reconciler.emulator.traffic import RateLimit, RateMode, Sent
from reconciler.errors import ReconcileError, UsageError
from tests.support.wire import KEY, Api


@pytest.fixture
def api(serve: Callable[..., Api]) -> Api:
    return serve()


# --- the log -------------------------------------------------------------------------------------


def test_the_log_holds_requests_but_never_a_key(api: Api) -> None:
    api.create({"first_name": "Jane"})
    api.raw("GET", headers={"Authorization": f"Bearer {KEY}"})
    post, get = api.emulator.log
    assert (post.method, post.path, post.status) == ("POST", PROFILE_PATH, 200)
    assert post.body == {"first_name": "Jane"}
    assert post.headers["adapty-customer-user-id"] == "jane"
    assert (get.status, get.body) == (401, None)
    assert KEY not in repr(api.emulator.log)


def test_the_log_holds_arrivals_and_the_order_of_effects(api: Api) -> None:
    api.create()
    api.send("GET")
    api.patch({"first_name": "Jane"})
    api.patch({"first_name": 5})
    api.send("DELETE")
    entries = list(api.emulator.log)
    assert [each.number for each in entries] == [1, 2, 3, 4, 5]
    assert [each.effect for each in entries] == [1, None, 2, None, 3]
    assert [each.sent for each in entries] == [Sent.ANSWER] * 5
    assert {each.key for each in entries} == {1}
    assert [each.at for each in entries] == sorted(each.at for each in entries)
    assert all(each.effect_at is None or each.effect_at >= each.at for each in entries)
    assert entries[2].address == "jane"
    assert entries[2].answer is not None
    assert json.loads(entries[2].answer.body)["data"]["customer_user_id"] == "jane"


def test_the_debug_view_of_the_log_begins_after_a_number(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(debug=True))
    api.create({"first_name": "Jane"})
    api.patch({"first_name": "Joan"})
    api.raw("GET", DEBUG_PATH)
    whole = api.raw("GET", "/debug/log/").json
    assert [each["body"] for each in whole] == [{"first_name": "Jane"}, {"first_name": "Joan"}]
    assert whole == [each.as_json() for each in api.emulator.log]
    assert api.raw("GET", "/debug/log/?after=1").json == whole[1:]
    assert api.raw("DELETE", "/debug/log/").headers["Allow"] == "GET"
    assert api.raw("GET", "/debug/nothing/").status == 404


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_the_log_file_holds_a_line_before_the_answer_is_there(
    tmp_path: Path, serve: Callable[..., Api]
) -> None:
    path = tmp_path / "log.jsonl"
    api = serve(Emulator(log_file=path))
    for number in range(1, 4):
        api.send("POST", {"first_name": str(number)})
        start, *requests = lines(path)
        assert len(requests) == number
    assert start["event"] == "start"
    assert [each["event"] for each in requests] == ["request"] * 3
    assert [each["effect"] for each in requests] == [1, 2, 3]
    expected = [{"event": "request", **each.as_json()} for each in api.emulator.log]
    assert requests == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_log_file_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        Emulator(log_file=tmp_path / "log.jsonl").handle("GET", "/x/", headers={}, body=b"")
    assert [each["event"] for each in lines(tmp_path / "log.jsonl")] == ["start", "request"] * 2


def test_no_log_holds_a_key_wherever_the_client_put_it(
    tmp_path: Path, serve: Callable[..., Api]
) -> None:
    path = tmp_path / "log.jsonl"
    api = serve(Emulator(log_file=path, debug=True))
    authorization = {"Authorization": f"Api-Key {KEY}", "X-Key": KEY, "Cookie": KEY}
    body = json.dumps({"first_name": KEY}).encode()
    api.raw("POST", f"{PROFILE_PATH}?key={KEY}", headers=authorization, body=body)
    assert KEY not in path.read_text()
    assert KEY.encode() not in api.raw("GET", "/debug/log/").raw
    assert lines(path)[1]["body"] == {"first_name": "(hidden)"}


@pytest.mark.parametrize("body", [b"\xff\xfe", b"NaN", b"[1e999]", b"[" * 100_000, b'"\\ud800"'])
def test_any_body_can_be_logged(tmp_path: Path, body: bytes) -> None:
    emulator = Emulator(log_file=tmp_path / "log.jsonl")
    emulator.handle("POST", PROFILE_PATH, headers={"Authorization": "Api-Key k"}, body=body)
    assert len(lines(tmp_path / "log.jsonl")) == 2


def test_requests_above_the_rate_are_in_the_log_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    emulator = Emulator(log_file=path, rate_limits=[RateLimit(1, 60)], monotonic=lambda: 5.0)
    for _ in range(2):
        emulator.handle("GET", PROFILE_PATH, headers={"Authorization": "Api-Key k"}, body=b"")
    violations = [each for each in lines(path) if each["event"] == "violation"]
    assert violations == [
        {"event": "violation", "number": 2, "at": 5.0, "key": 1, "limit": "1/min", "count": 2}
    ]


def test_a_log_that_cannot_be_opened_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError) as caught:
        Emulator(log_file=tmp_path / "nowhere" / "log.jsonl")
    assert "--log" in caught.value.hint


def test_a_log_that_cannot_be_written_is_reported_and_stops_nothing(
    serve: Callable[..., Api],
) -> None:
    api = serve(Emulator(log_file=Path("/dev/full")))
    assert api.send("POST", {}).status == 200
    assert api.emulator.log_problem is not None
    assert "No space left" in api.emulator.log_problem


# --- the rate ------------------------------------------------------------------------------------


def test_the_rate_limit_answers_429_until_a_minute_has_passed(serve: Callable[..., Api]) -> None:
    now = [1000.0]
    api = serve(Emulator(rate_limits=[RateLimit(2, 60)], monotonic=lambda: now[0]))
    assert [api.send("GET").status for _ in range(3)] == [404, 404, 429]
    now[0] += 50
    reply = api.send("GET")
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, "rate_limited", "10")
    now[0] += 10
    assert api.send("GET").status == 404


def test_a_bare_429_names_no_time(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(rate_limits=[RateLimit(1, 60)], rate_mode=RateMode.BARE))
    assert api.send("GET").status == 404
    reply = api.send("GET")
    assert (reply.status, reply.code) == (429, "rate_limited")
    assert "Retry-After" not in reply.headers


def test_a_window_slides_and_requests_that_were_refused_do_not_count(
    serve: Callable[..., Api],
) -> None:
    now = [1000.0]
    api = serve(Emulator(rate_limits=[RateLimit(2, 1)], monotonic=lambda: now[0]))
    statuses = []
    for at in (0.0, 0.6, 0.9, 1.0, 1.5, 1.6):
        now[0] = 1000 + at
        statuses.append(api.send("GET").status)
    assert statuses == [404, 404, 429, 404, 429, 404]
    assert [(each.number, each.count) for each in api.emulator.violations] == [(3, 3), (5, 3)]


def test_recording_refuses_nothing_and_counts_everything(serve: Callable[..., Api]) -> None:
    now = [1000.0]
    limits = [RateLimit(2, 1), RateLimit(4, 60)]
    api = serve(
        Emulator(
            rate_limits=limits, rate_mode=RateMode.RECORD, monotonic=lambda: now[0], debug=True
        )
    )
    for at in (0.0, 0.5, 0.999, 1.0, 30.0):
        now[0] = 1000 + at
        assert api.send("GET").status == 404
    violations = [(each.number, str(each.limit), each.count) for each in api.emulator.violations]
    assert violations == [(3, "2/s", 3), (4, "2/s", 3), (5, "4/min", 5)]
    rates = api.raw("GET", "/debug/rates/").json
    assert rates == api.emulator.rates()
    assert (rates["mode"], rates["total"]) == ("record", 3)
    assert rates["peaks"] == {"2/s": 3, "4/min": 5}


def test_every_key_has_its_own_window(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(rate_limits=[RateLimit(1, 60)]))

    def status(key: str) -> int:
        headers = {"Authorization": f"Api-Key {key}", "adapty-customer-user-id": "jane"}
        return api.raw("GET", headers=headers).status

    assert [status("one"), status("two"), status("one"), status("two")] == [404, 404, 429, 429]
    assert [each.key for each in api.emulator.violations] == [1, 2]


def test_a_request_with_an_injected_answer_counts(serve: Callable[..., Api]) -> None:
    """Faults must not hide that a client is above the rate."""
    api = serve(
        Emulator(rate_limits=[RateLimit(2, 60)], rate_mode=RateMode.RECORD),
        faults=[parse_fault("503")],
    )
    assert [api.send("GET").status for _ in range(3)] == [503, 503, 503]
    assert [each.number for each in api.emulator.violations] == [3]


@pytest.mark.parametrize("text", ["", "0/s", "5", "5/h", "-1/s", "1.5/s", "5/s "])
def test_a_bad_rate_limit_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rate limit"):
        RateLimit.parse(text)


@pytest.mark.parametrize("text", ["667/s", "300/min"])
def test_a_rate_limit_is_read_and_written(text: str) -> None:
    assert str(RateLimit.parse(text)) == text
