"""What an answer means: the status of a refusal, whatever its body; the reason; the key; a page in place of
a profile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core.endpoints import PATH
from reconciler.core.plan import Request
from reconciler.emulator import Emulator
from reconciler.remote.answers import ApiAnswer, Body, CallResult, judge
from reconciler.remote.client import Client
from tests.support.clock import ManualClock
from tests.support.projects import JANE, Project, remote
from tests.support.wire import Serve, served

KEY = "secret_live_abcdefgh.0123456789abcdef0123456789abcdef"
HEADERS = {"adapty-customer-user-id": "jane"}
MISSING = b'{"errors": ["Profile not found"], "error_code": "profile_does_not_exist"}'
LIMITED = b'{"errors": ["slow down"], "error_code": "rate_limited"}'


def judged(status: int, body: Body | bytes, *, key: str = KEY, method: str = "PATCH") -> ApiAnswer:
    content = body if isinstance(body, Body) else Body(body)
    request = Request(method, PATH, HEADERS, {})
    return judge(request, status, headers={"Retry-After": "7"}, body=content, key=key, now=0.0)


def sent(serve: Serve, *faults: str, method: str = "PATCH", key: str = KEY) -> ApiAnswer:
    """The answer of an emulator with faults to one attempt."""
    api = served(serve, *faults)
    client = Client(base_url=api.server.url, key=key, attempts=1, clock=ManualClock())
    try:
        return client.send(Request(method, PATH, HEADERS, {"first_name": "Jane"}))
    finally:
        client.close()


# --- refusals whose body cannot be read ------------------------------------------------------------

FLAWS = [
    Body(b"", "a body whose encoding cannot be read"),
    Body(MISSING[:20], "an incomplete body"),
    Body(MISSING, "a body without a length"),
    Body(b""),
]


@pytest.mark.parametrize("body", FLAWS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429])
def test_a_refusal_is_one_by_its_status_alone(status: int, body: Body) -> None:
    answer = judged(status, body)
    assert answer.result is CallResult.REFUSED
    assert answer.is_unauthorised == (status in (401, 403))
    assert answer.retry_after == 7
    assert not answer.is_missing
    assert answer.may_be_missing == (status == 404)


@pytest.mark.parametrize("body", FLAWS)
@pytest.mark.parametrize("status", [302, 408, 500, 503, 524])
def test_any_other_status_with_such_a_body_is_unknown(status: int, body: Body) -> None:
    assert judged(status, body).result is CallResult.UNKNOWN


@pytest.mark.parametrize("fault", ["gzip", "brotli", "half", "empty", "utf16", "gzip-bomb"])
@pytest.mark.parametrize("status", [401, 400])
def test_a_refusal_with_a_body_that_cannot_be_read_is_refused(
    serve: Serve, status: int, fault: str
) -> None:
    size = ":size=3000000" if fault == "gzip-bomb" else ""
    answer = sent(serve, f"body={fault}:status={status}:effect=no{size}")
    assert (answer.result, answer.status) == (CallResult.REFUSED, status)


@pytest.mark.parametrize(
    "fault", ["truncate=-1", "truncate=body", "framing=none", "framing=both", "framing=bad-chunk"]
)
def test_a_refusal_with_a_body_of_unclear_length_is_refused(serve: Serve, fault: str) -> None:
    answer = sent(serve, "status=401", fault)
    assert (answer.result, answer.status) == (CallResult.REFUSED, 401)


def test_a_refusal_whose_body_never_ends_is_one_after_two_seconds(serve: Serve) -> None:
    started = time.monotonic()
    answer = sent(serve, "status=400", "truncate=body:end=keep")
    assert (answer.result, answer.status) == (CallResult.REFUSED, 400)
    assert time.monotonic() - started < 5


def test_a_compressed_body_is_read(serve: Serve) -> None:
    answer = sent(serve, "body=gzip")
    assert answer.is_missing
    assert answer.message == "Profile not found"


def test_a_key_that_is_refused_with_a_compressed_body_stops_the_run(
    serve: Serve, tmp_path: Path
) -> None:
    api = served(serve, "body=brotli:status=401:effect=no")
    project = Project(tmp_path, remote(api.server.url))
    for number in range(5):
        project.profile(f"p{number}", JANE.replace("jane", f"jane{number}"))
    out = project.run("apply", "--auto-approve", code=4, SECRET_KEY=KEY)
    assert "The API refused the key" in out
    assert "(the API answered 401 with a body whose encoding cannot be read)" in out
    assert len(api.emulator.log) == 1


# --- the key --------------------------------------------------------------------------------------

WORDS = [
    "x",
    "e",
    "not",
    "Profile",
    "profile",
    "emulator",
    "profile_does_not_exist",
    "rate_limited",
]


@pytest.mark.parametrize("key", WORDS)
def test_a_short_or_wordlike_key_changes_nothing_that_the_program_understands(key: str) -> None:
    answer = judged(404, MISSING, key=key)
    assert answer.is_missing
    assert answer.message == "Profile not found"
    assert judged(429, LIMITED, key=key).error_code == "rate_limited"


@pytest.mark.parametrize("key", [*WORDS, "secret", "a" * 500])
def test_against_the_emulator_any_key_works(serve: Serve, tmp_path: Path, key: str) -> None:
    api = serve(Emulator())
    project = Project(tmp_path, remote(api.server.url), profiles={"jane": JANE})
    project.run("apply", "--auto-approve", SECRET_KEY=key)
    assert [each["customer_user_id"] for each in api.emulator.profiles()] == ["jane"]


ECHOES: dict[str, Callable[[str], bytes]] = {
    "documented": lambda key: json.dumps({"errors": [f"bad key {key}!"], "error_code": key}).encode(),
    "escaped": lambda key: b'{"detail": "%s"}' % "".join(map("\\u{:04x}".format, map(ord, key))).encode(),
    "page": lambda key: f"<html><p>{'<b>' * 2640}{key}</html>".encode(),
    "page at the cut": lambda key: b"<p>" + b"<b>" * 2660 + key.encode() + b"</b>",
    "text": lambda key: b"x " * 140 + key.encode(),
    "UTF-16": lambda key: f"bad key {key}".encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [200, 401, 503])
@pytest.mark.parametrize("key", [KEY, "abc-1234", "correcthorsebattery"])
def test_no_part_of_a_key_is_in_an_answer(status: int, echo: str, key: str) -> None:
    told = repr(judged(status, ECHOES[echo](key), key=key))
    assert not any(key[start : start + 6] in told for start in range(len(key) - 5))


# --- reasons --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("errors-text", "refused by a fault"),
        ("json-api", "/data/attributes/email: Invalid attribute: refused by a fault"),
        ("django", "email: refused by a fault; and again"),
        ("fastapi", "body.email: refused by a fault"),
        ("problem", "Not allowed: refused by a fault"),
        ("html", "502 Bad Gateway"),
        ("text", "OK"),
    ],
)
def test_the_reason_of_a_refusal_reaches_the_user(
    serve: Serve, tmp_path: Path, fault: str, reason: str
) -> None:
    api = served(serve, f"body={fault}:status=409:effect=no")
    project = Project(tmp_path, remote(api.server.url), profiles={"jane": JANE})
    assert f"jane: failed ({reason})" in project.run(
        "apply", "--auto-approve", code=1, SECRET_KEY=KEY
    )


def test_a_reason_is_one_safe_line_of_300_characters() -> None:
    answer = judged(400, json.dumps({"detail": "a\r\n\x1b[2Jb \u202e" + "x" * 1000}).encode())
    assert len(answer.message) == 300
    assert answer.message.startswith("a [2Jb xxx")


# --- a page in place of a profile -------------------------------------------------------------------

PAGES = [
    b"<html><title>Back soon</title></html>",
    b"Maintenance",
    b"",
    b'{"status": "maintenance"}',
    b"null",
    b"[]",
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "DELETE"])
def test_a_page_with_status_200_is_an_outage(method: str, page: bytes) -> None:
    answer = judged(200, page, method=method)
    assert (answer.result, answer.is_outage) == (CallResult.UNKNOWN, True)


@pytest.mark.parametrize("body", [b'{"data": null}', b'{"data": {"profile_id": 5}}'])
def test_a_body_of_the_api_that_is_no_profile_is_no_outage(body: bytes) -> None:
    assert not judged(200, body).is_outage


def test_a_page_says_what_it_is_about() -> None:
    message = judged(200, PAGES[0]).message
    assert message == "status 200 with a page in place of a profile: Back soon"


@pytest.mark.parametrize("fault", ["body=html:effect=no", "body=html:effect=no:after=1"])
def test_a_maintenance_page_ends_a_run_as_a_503_does(
    serve: Serve, tmp_path: Path, fault: str
) -> None:
    """Instead of one uncertain profile after the other."""
    outcomes = []
    for number, tried in enumerate([fault, fault.replace("body=html", "status=503")]):
        api = served(serve, tried)
        settings = remote(api.server.url, api={"rate": "50/s", "timeout": 2})
        project = Project(tmp_path / str(number), settings)
        for name in range(40):
            project.profile(f"p{name:02}", JANE.replace("jane", f"jane{name}"))
        workspace = project.workspace(environ={"SECRET_KEY": KEY}, clock=ManualClock())
        plan = workspace.plan()
        report = workspace.apply(plan)
        outcomes.append((report.halt, report.failed <= 6, sum(report.counts.values())))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1]
