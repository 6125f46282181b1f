"""The emulator, over raw HTTP: what adapty-api documents, and the defaults of its section 7."""

from __future__ import annotations

import json
import multiprocessing
import re
import socket
import sqlite3
import stat
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.emulator import (
    DEBUG_PATH,
    PROFILE_PATH,
    Answer,
    Emulator,
    EmulatorServer,
    Switches,
)
from reconciler.errors import ReconcileError, Refused, UsageError
from reconciler.resources import load_schema
from tests.support.wire import KEY, Api

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
NOBODY = "00000000-0000-4000-8000-000000000000"

NOT_AUTHENTICATED = {
    "errors": [
        {
            "source": "non_field_errors",
            "errors": ["Authentication credentials were not provided."],
        }
    ],
    "error_code": "not_authenticated",
    "status_code": 401,
}
NOT_FOUND = {
    "errors": [{"source": None, "errors": ["Profile not found"]}],
    "error_code": "profile_does_not_exist",
    "status_code": 404,
}


@pytest.fixture(params=["guide", "openapi"])
def api(request: pytest.FixtureRequest, serve: Callable[..., Api]) -> Api:
    """The API in each dialect: for whatever they have in common."""
    return serve(Emulator(dialect=request.param))


@pytest.fixture
def guide(serve: Callable[..., Api]) -> Api:
    return serve(Emulator(dialect="guide"))


@pytest.fixture
def openapi(serve: Callable[..., Api]) -> Api:
    return serve(Emulator(dialect="openapi"))


# --- answers -------------------------------------------------------------------------------------


def test_a_new_profile_is_answered_with_the_documented_object_and_nothing_else(api: Api) -> None:
    reply = api.send(
        "POST",
        {
            "first_name": "Jane",
            "email": "jane@example.com",
            "ip_country": "FR",
            "custom_attributes": [{"key": "sport", "value": "yoga"}],
            "installation_meta": {"device_id": DEVICE, "locale": "en"},
        },
    )
    assert set(reply.json) == {"data"}
    data = reply.data
    assert re.fullmatch(r"[0-9a-f]{16}", data.pop("segment_hash"))
    assert isinstance(data.pop("timestamp"), int)
    assert uuid.UUID(data.pop("profile_id"))
    assert data == {
        "app_id": api.emulator.app_id,
        "customer_user_id": "jane",
        "total_revenue_usd": 0.0,
        "custom_attributes": [{"key": "sport", "value": "yoga"}],
        "access_levels": [],
        "subscriptions": [],
        "non_subscriptions": [],
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_success_is_200_with_json(api: Api, method: str) -> None:
    api.create()
    reply = api.send(method, None if method == "GET" else {})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")


def test_a_deletion_is_204_without_a_body(api: Api) -> None:
    api.create()
    reply = api.send("DELETE")
    assert (reply.status, reply.raw) == (204, b"")
    assert api.send("GET").json == NOT_FOUND


def test_a_connection_survives_a_deletion(api: Api) -> None:
    api.create()
    api.send("DELETE")
    before = api.connection.sock
    assert before is not None
    assert api.send("GET").status == 404
    assert api.connection.sock is before


def test_every_answer_has_its_own_request_id(api: Api) -> None:
    api.create()
    replies = [
        api.send("GET"),
        api.send("GET", user="nobody"),
        api.send("PATCH", {"email": 1}),
        api.send("DELETE"),
        api.raw("GET"),
        api.raw("GET", "/nowhere/"),
    ]
    ids = [reply.headers["Request-Id"] for reply in replies]
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == len(ids)


def test_timestamps_rise_even_when_the_clock_stands_still(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(clock=lambda: 1736425645.861))
    stamps = [api.send("POST", {}).data["timestamp"]]
    stamps += [api.send(method, body).data["timestamp"] for method, body in [("GET", None)] * 2]
    stamps.append(api.patch({}).data["timestamp"])
    assert stamps == [1736425645861, 1736425645862, 1736425645863, 1736425645864]


# --- authorization -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer secret_live_a.b", "Api-Key", "Api-Key ", "secret_live_a.b", "Api-Key a b",
     "api-key secret_live_a.b", "Api-Key public_live_a.b"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_without_a_secret_key_nobody_is_let_in(api: Api, method: str, authorization: str) -> None:
    headers = {"adapty-customer-user-id": "jane", "Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    reply = api.raw(method, headers=headers, body=b"{}")
    assert (reply.status, reply.json) == (401, NOT_AUTHENTICATED)
    assert api.emulator.profiles() == []


def test_only_the_given_keys_are_accepted(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(keys=frozenset({"secret_live_other"})))
    assert api.send("GET").json == NOT_AUTHENTICATED
    headers = {"Authorization": "Api-Key secret_live_other", "adapty-customer-user-id": "jane"}
    assert api.raw("GET", headers=headers).json == NOT_FOUND


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_request_without_an_identifier_is_not_authenticated(api: Api, method: str) -> None:
    reply = api.send(method, {} if method in ("POST", "PATCH") else None, user=None)
    assert (reply.status, reply.json) == (401, NOT_AUTHENTICATED)


def test_header_names_are_read_in_any_case(api: Api) -> None:
    api.create()
    headers = {"AUTHORIZATION": f"Api-Key {KEY}", "Adapty-Customer-User-ID": "jane"}
    assert api.raw("GET", headers=headers).status == 200


# --- routes and bodies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [PROFILE_PATH.rstrip("/"), "/", "/api/v2/server-side-api/profiles/", DEBUG_PATH],
)
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    reply = api.raw("GET", path, headers={"Authorization": f"Api-Key {KEY}"})
    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "HEAD", "TRACE"])
def test_another_method_is_405_and_names_those_that_work(api: Api, method: str) -> None:
    reply = api.send(method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST, PATCH, DELETE")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_another_content_type_is_415(api: Api, kind: str) -> None:
    headers = {
        "Authorization": f"Api-Key {KEY}",
        "adapty-customer-user-id": "jane",
        "Content-Type": kind,
    }
    assert api.raw("POST", headers=headers, body=b"{}").status == 415
    assert api.emulator.profiles() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": }', b"\xff", b'{"email": NaN}', b'{"a": Infinity}', b"{} {}",
     b"[" * 100_000, b"1" * 5000, b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_what_is_not_json_is_a_parse_error(api: Api, body: bytes) -> None:
    headers = {
        "Authorization": f"Api-Key {KEY}",
        "adapty-customer-user-id": "jane",
        "Content-Type": "application/json; charset=utf-8",
    }
    reply = api.raw("POST", headers=headers, body=body)
    assert (reply.status, reply.code, reply.sources) == (400, "parse_error", [None])
    assert reply.json["errors"][0]["errors"][0].startswith("JSON parse error - ")


@pytest.mark.parametrize("body", [[], "text", 1, None, True])
def test_a_body_that_is_not_an_object_is_400(api: Api, body: Any) -> None:
    headers = {
        "Authorization": f"Api-Key {KEY}",
        "adapty-customer-user-id": "jane",
        "Content-Type": "application/json",
    }
    reply = api.raw("POST", headers=headers, body=json.dumps(body).encode())
    assert (reply.status, reply.sources) == (400, ["non_field_errors"])


def test_a_body_of_more_than_a_mebibyte_is_413(api: Api) -> None:
    reply = api.send("POST", {"first_name": "x" * (1 << 20)})
    assert reply.status == 413
    assert api.emulator.profiles() == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
)
def test_malformed_http_is_400_and_ends_the_connection(api: Api, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=5) as raw:
        raw.sendall(request_bytes)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["status_code"] == 400


def test_a_request_that_breaks_off_has_no_effect(api: Api) -> None:
    head = (
        f"POST {PROFILE_PATH} HTTP/1.1\r\nAuthorization: Api-Key {KEY}\r\n"
        "adapty-customer-user-id: jane\r\nContent-Type: application/json\r\n"
        "Content-Length: 20\r\n\r\n{}"
    )
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=5) as raw:
        raw.sendall(head.encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65536) == b""
    assert api.emulator.profiles() == []


# --- identifiers (adapty-api 2.2) ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_unknown_profile_is_404(api: Api, method: str) -> None:
    body = {"email": "a@example.com"} if method == "PATCH" else None
    for ids in ({"user": "nobody"}, {"user": None, "profile": NOBODY}):
        reply = api.send(method, body, **ids)
        assert (reply.status, reply.json) == (404, NOT_FOUND)
    assert api.emulator.profiles() == []


def test_a_profile_answers_to_either_identifier_and_to_both(api: Api) -> None:
    profile = api.create()
    for ids in ({"user": "jane"}, {"user": None, "profile": profile}, {"profile": profile}):
        assert api.send("GET", **ids).data["profile_id"] == profile
    assert api.send("GET", user=None, profile=profile.upper()).data["profile_id"] == profile


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_identifiers_of_different_profiles_are_404(api: Api, method: str) -> None:
    profile = api.create()
    api.create(user="john")
    reply = api.send(method, {} if method == "PATCH" else None, user="john", profile=profile)
    assert reply.json == NOT_FOUND
    assert len(api.emulator.profiles()) == 2


def test_customer_ids_are_case_sensitive(api: Api) -> None:
    api.create(user="jane")
    assert api.send("GET", user="Jane").status == 404


def test_a_profile_id_that_is_no_uuid_is_400(api: Api) -> None:
    reply = api.send("GET", user=None, profile="p-1")
    assert (reply.status, reply.code, reply.sources) == (400, "uuid", ["adapty-profile-id"])


def test_an_unknown_platform_is_400_and_a_known_one_is_accepted(api: Api) -> None:
    api.create()
    for method in ("POST", "PATCH"):
        assert api.send(method, {}, platform="visionOS").status == 200
        assert api.send(method, {}, platform="ios").code == "enum"


def test_post_on_a_known_customer_applies_the_body_to_it(api: Api) -> None:
    profile = api.create({"first_name": "Jane", "last_name": "Doe"})
    assert api.create({"first_name": "Joan"}) == profile
    assert api.stored()["fields"] == {"first_name": "Joan", "last_name": "Doe"}


def test_post_with_an_unknown_profile_id_is_404(api: Api) -> None:
    assert api.send("POST", {}, user=None, profile=NOBODY).json == NOT_FOUND
    assert api.send("POST", {}, profile=NOBODY).json == NOT_FOUND


def test_post_with_both_identifiers_links_and_applies_the_body(api: Api) -> None:
    profile = api.emulator.add_anonymous()
    data = api.send("POST", {"first_name": "Jane"}, profile=profile).data
    assert (data["profile_id"], data["customer_user_id"]) == (profile, "jane")
    assert api.send("POST", {}, profile=profile).data["profile_id"] == profile
    assert api.stored()["fields"] == {"first_name": "Jane"}


def test_patch_with_both_identifiers_never_links(api: Api) -> None:
    profile = api.emulator.add_anonymous()
    assert api.send("PATCH", {}, profile=profile).json == NOT_FOUND
    assert api.send("GET", user=None, profile=profile).data["customer_user_id"] is None


def test_linking_to_another_customer_id_is_a_conflict(api: Api) -> None:
    profile = api.create()
    reply = api.send("POST", {"first_name": "X"}, user="john", profile=profile)
    assert (reply.status, reply.code) == (400, "customer_user_id_conflict")
    assert api.stored()["fields"] == {}


def test_linking_a_customer_id_that_is_taken_is_a_conflict(api: Api) -> None:
    api.create()
    anonymous = api.emulator.add_anonymous()
    assert api.send("POST", {}, profile=anonymous).code == "customer_user_id_conflict"
    assert api.send("GET", user=None, profile=anonymous).data["customer_user_id"] is None


def test_a_profile_created_again_after_deletion_is_a_new_and_empty_one(api: Api) -> None:
    first = api.create({"first_name": "J", "custom_attributes": [{"key": "a", "value": "b"}]})
    api.send("DELETE")
    second = api.send("POST", {})
    assert second.data["profile_id"] != first
    assert (second.attributes, api.stored()["fields"]) == ({}, {})


# --- standard fields -----------------------------------------------------------------------------

VALID = {
    "first_name": "Jane",
    "last_name": "Doe",
    "gender": "f",
    "email": "jane.doe@example.com",
    "phone_number": "+1234567890",
    "birthday": "2000-12-31",
    "ip_country": "FR",
    "store_country": "US",
    "store": "app_store",
    "analytics_disabled": True,
}
NULLABLE = ("first_name", "last_name", "gender", "email", "phone_number", "store_country", "store")


def test_fields_are_stored_and_kept_when_a_patch_does_not_mention_them(api: Api) -> None:
    api.create(VALID)
    api.patch({"first_name": "Joan"})
    assert api.stored()["fields"] == {**VALID, "first_name": "Joan"}


@pytest.mark.parametrize("name", NULLABLE)
def test_null_clears_a_nullable_field(api: Api, name: str) -> None:
    api.create(VALID)
    assert api.patch({name: None}).status == 200
    assert api.stored()["fields"] == {key: VALID[key] for key in VALID if key != name}


@pytest.mark.parametrize("name", ["birthday", "ip_country", "analytics_disabled"])
def test_three_fields_can_be_cleared_in_the_later_dialect_only(
    guide: Api, openapi: Api, name: str
) -> None:
    for api in (guide, openapi):
        api.create(VALID)
    refused = guide.patch({name: None})
    assert (refused.status, refused.json) == (
        400,
        {
            "errors": [{"source": name, "errors": ["none is not an allowed value"]}],
            "error_code": "not_allowed",
            "status_code": 400,
        },
    )
    assert guide.stored()["fields"] == VALID
    assert openapi.patch({name: None}).status == 200
    assert name not in openapi.stored()["fields"]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *[(name, "", None) for name in VALID if name != "analytics_disabled"],
        *[(name, 5, "str") for name in VALID if name != "analytics_disabled"],
        ("first_name", True, "str"),
        ("last_name", ["Doe"], "str"),
        ("birthday", "2000-13-01", "date"),
        ("birthday", "2001-02-29", "date"),
        ("birthday", "20001231", "date"),
        ("birthday", "2000-12-31T00:00:00", "date"),
        ("birthday", "2000-12-31\n", "date"),
        ("birthday", "٢٠٠٠-12-31", "date"),
        ("ip_country", "fr", "regex"),
        ("ip_country", "FRA", "regex"),
        ("ip_country", "FR\n", "regex"),
        ("store", "amazon", "enum"),
        ("analytics_disabled", "true", "bool"),
        ("analytics_disabled", 1, "bool"),
        ("custom_attributes", None, "not_allowed"),
        ("custom_attributes", {"a": "b"}, "list"),
        ("custom_attributes", [], "min_items"),
        ("installation_meta", None, "not_allowed"),
        ("installation_meta", [{"device_id": DEVICE}], "dict"),
        ("frist_name", "Jane", "extra"),
        ("customer_user_id", "jane", "extra"),
        ("access_levels", [], "extra"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_changes_nothing(
    api: Api, name: str, value: Any, code: str | None
) -> None:
    api.create({"first_name": "Jane"})
    reply = api.patch({"last_name": "Doe", name: value})
    assert (reply.status, reply.sources) == (400, [name])
    assert reply.json["status_code"] == 400
    if code:
        assert reply.code == code
    assert api.stored()["fields"] == {"first_name": "Jane"}


def test_all_violations_are_reported_under_the_code_of_the_first(api: Api) -> None:
    reply = api.send(
        "POST",
        {
            "birthday": "yesterday",
            "store": "amazon",
            "typo": 1,
            "installation_meta": {"locale": 5},
            "custom_attributes": [{"key": "a b", "value": "c"}, {"key": "d"}],
        },
    )
    assert (reply.status, reply.code) == (400, "date")
    assert reply.sources == [
        "birthday",
        "store",
        "typo",
        "installation_meta.device_id",
        "installation_meta.locale",
        "custom_attributes.0.key",
        "custom_attributes.1.value",
    ]
    assert api.emulator.profiles() == []


def test_an_enumeration_names_what_it_permits(guide: Api) -> None:
    reply = guide.send("POST", {"store": "amazon"})
    assert reply.json["errors"][0]["errors"] == [
        "value is not a valid enumeration member; permitted: 'app_store', 'play_store', 'stripe'"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("gender", "x"), ("email", "not an address"), ("store_country", "Norway")],
)
def test_the_guide_is_free_where_the_later_dialect_is_strict(
    guide: Api, openapi: Api, name: str, value: str
) -> None:
    assert guide.send("POST", {name: value}).status == 200
    assert openapi.send("POST", {name: value}).status == 400


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("store", "paddle", "amazon"),
        ("ip_v4_address", "10.0.0.1", "10.0.0.256"),
        ("store_account_token", DEVICE, "token"),
        ("att_status", 3, 4),
        ("att_status", 0, True),
        ("att_status", 1, "1"),
    ],
)
def test_some_fields_and_values_exist_in_the_later_dialect_only(
    guide: Api, openapi: Api, name: str, good: Any, bad: Any
) -> None:
    assert guide.send("POST", {name: good}).status == 400
    assert openapi.send("POST", {name: good}).status == 200
    assert openapi.send("POST", {name: bad}).status == 400
    assert openapi.stored()["fields"] == {name: good}


def test_an_empty_patch_changes_nothing_but_the_timestamp(api: Api) -> None:
    api.create({"first_name": "Jane"})
    before, stored = api.send("GET").data, api.stored()
    after = api.patch({}).data
    assert after.pop("timestamp") > before.pop("timestamp")
    assert (after, api.stored()) == (before, stored)


def test_a_field_added_to_the_contract_data_is_known() -> None:
    data = json.loads(json.dumps(load_schema("contract")))
    data["fields"]["shoe_size"] = {"schema": {"type": "integer"}, "clear": "null"}
    emulator = Emulator(contract=data)
    headers = {
        "authorization": "Api-Key k",
        "adapty-customer-user-id": "jane",
        "content-type": "application/json",
    }
    assert (
        emulator.handle("POST", PROFILE_PATH, headers=headers, body=b'{"shoe_size": 40}').status
        == 200
    )
    assert emulator.content()[0]["fields"] == {"shoe_size": 40}


# --- custom attributes ---------------------------------------------------------------------------


def pairs(**attributes: Any) -> dict[str, Any]:
    return {"custom_attributes": [{"key": k, "value": v} for k, v in attributes.items()]}


def test_attributes_merge_by_key(api: Api) -> None:
    api.create(pairs(a="1", b="2"))
    assert api.patch(pairs(b="3", c="4")).attributes == {"a": "1", "b": "3", "c": "4"}
    assert api.send("GET").attributes == {"a": "1", "b": "3", "c": "4"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_delete_an_attribute(api: Api, nothing: Any) -> None:
    api.create(pairs(a="1", b="2"))
    assert api.patch(pairs(a=nothing)).attributes == {"b": "2"}
    assert api.patch(pairs(a=nothing)).attributes == {"b": "2"}


@pytest.mark.parametrize(
    ("value", "spelling"),
    [(5, b"5.0"), (5.0, b"5.0"), (True, b"1.0"), (False, b"0.0"), (0, b"0.0"), (0.5, b"0.5"),
     ("5", b'"5"')],
)  # fmt: skip
def test_numbers_and_booleans_are_stored_as_floats(api: Api, value: Any, spelling: bytes) -> None:
    reply = api.send("POST", pairs(a=value))
    assert b'"custom_attributes": [{"key": "a", "value": %s}]' % spelling in reply.raw


def test_a_value_has_at_most_30_characters_and_50_in_the_later_dialect(
    guide: Api, openapi: Api
) -> None:
    for api, limit in ((guide, 30), (openapi, 50)):
        assert api.send("POST", pairs(a="é" * limit)).status == 200
        reply = api.send("POST", pairs(a="x" * (limit + 1)))
        assert (reply.code, reply.sources) == ("max_length", ["custom_attributes.0.value"])
        assert reply.json["errors"][0]["errors"] == [
            f"ensure this value has at most {limit} characters"
        ]


@pytest.mark.parametrize("key", ["", "a b", "é", "a" * 31, "a\n", "a:b", None, 5])
def test_a_bad_key_is_refused(api: Api, key: Any) -> None:
    reply = api.send("POST", {"custom_attributes": [{"key": key, "value": "x"}]})
    assert (reply.status, reply.sources) == (400, ["custom_attributes.0.key"])


@pytest.mark.parametrize("value", [[], {}, ["a"], 10**400])
def test_a_value_is_text_or_a_number(api: Api, value: Any) -> None:
    reply = api.send("POST", pairs(a=value))
    assert (reply.status, reply.sources) == (400, ["custom_attributes.0.value"])


def test_a_number_beyond_a_double_is_refused(api: Api) -> None:
    headers = {
        "Authorization": f"Api-Key {KEY}",
        "adapty-customer-user-id": "jane",
        "Content-Type": "application/json",
    }
    body = b'{"custom_attributes": [{"key": "a", "value": 1e999}]}'
    assert api.raw("POST", headers=headers, body=body).code == "float"


@pytest.mark.parametrize("item", ["a", None, ["a", "b"]])
def test_an_item_that_is_not_an_object_is_refused(api: Api, item: Any) -> None:
    reply = api.send("POST", {"custom_attributes": [item]})
    assert reply.sources == ["custom_attributes.0"]


def test_a_profile_holds_30_attributes_counted_after_the_merge(api: Api) -> None:
    api.create(pairs(**{f"k{i}": i for i in range(30)}))
    reply = api.patch(pairs(one_more="x"))
    assert (reply.code, reply.sources) == ("value_error", ["custom_attributes"])
    assert reply.json["errors"][0]["errors"] == ["Maximum of 30 attributes for the profile"]
    assert "one_more" not in api.send("GET").attributes
    assert api.patch(pairs(k3="changed")).status == 200


def test_the_limit_is_checked_after_the_deletions_of_the_same_request(api: Api) -> None:
    api.create(pairs(**{f"k{i}": i for i in range(30)}))
    after = api.patch(pairs(new="x", k0=None)).attributes
    assert len(after) == 30
    assert "new" in after


def test_duplicate_keys_are_refused_unless_lenient(serve: Callable[..., Api]) -> None:
    body = {"custom_attributes": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}
    assert serve(Emulator()).send("POST", body).sources == ["custom_attributes.1.key"]
    lenient = serve(Emulator(switches=Switches(strict=False)))
    assert lenient.send("POST", body).attributes == {"a": "2"}


_KEYS = st.text("abcAB._-09", min_size=1, max_size=3)
_VALUES = st.none() | st.booleans() | st.text(max_size=5) | st.integers(-9, 9) | st.floats(-9, 9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=5), max_size=5))
def test_any_sequence_of_writes_ends_as_a_dictionary_merge_would(
    writes: list[dict[str, Any]],
) -> None:
    emulator = Emulator()
    headers = {
        "authorization": "Api-Key k",
        "adapty-customer-user-id": "jane",
        "content-type": "application/json",
    }
    expected: dict[str, Any] = {}
    for write in writes:
        answer = emulator.handle(
            "POST", PROFILE_PATH, headers=headers, body=json.dumps(pairs(**write)).encode()
        )
        assert answer.status == 200
        for key, value in write.items():
            expected[key] = value if isinstance(value, str | None) else float(value)
        expected = {key: value for key, value in expected.items() if value not in (None, "")}
        assert json.loads(answer.body)["data"]["custom_attributes"] == [
            {"key": key, "value": expected[key]} for key in _order(answer.body)
        ]
        assert set(_order(answer.body)) == set(expected)


def _order(body: bytes) -> list[str]:
    return [each["key"] for each in json.loads(body)["data"]["custom_attributes"]]


# --- installation_meta, analytics, country -------------------------------------------------------


def test_installations_are_kept_by_device_and_members_merge(api: Api) -> None:
    api.create({"installation_meta": {"device_id": "d1", "locale": "en", "os": "17"}})
    api.patch({"installation_meta": {"device_id": "d1", "locale": "fr"}})
    api.patch({"installation_meta": {"device_id": "d2"}})
    assert api.stored()["installations"] == {"d1": {"locale": "fr", "os": "17"}, "d2": {}}


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("member", ["locale", "android_id", "platform"])
def test_null_and_empty_clear_a_member(api: Api, member: str, nothing: Any) -> None:
    api.create({"installation_meta": {"device_id": "d1", "os": "17", member: "iOS"}})
    api.patch({"installation_meta": {"device_id": "d1", member: nothing}})
    assert api.stored()["installations"] == {"d1": {"os": "17"}}


@pytest.mark.parametrize(
    ("meta", "source", "code"),
    [
        ({}, "device_id", "missing"),
        ({"device_id": None}, "device_id", "not_allowed"),
        ({"device_id": ""}, "device_id", "min_length"),
        ({"device_id": 5}, "device_id", "str"),
        ({"device_id": "d", "locale": 5}, "locale", "str"),
        ({"device_id": "d", "colour": "red"}, "colour", "extra"),
    ],
)
def test_a_bad_installation_is_refused(
    api: Api, meta: dict[str, Any], source: str, code: str
) -> None:
    reply = api.send("POST", {"installation_meta": meta})
    assert (reply.sources, reply.code) == ([f"installation_meta.{source}"], code)


def test_three_members_and_a_platform_check_belong_to_the_later_dialect(
    guide: Api, openapi: Api
) -> None:
    version = {"installation_meta": {"device_id": "d", "app_version": "1.2"}}
    odd = {"installation_meta": {"device_id": "d", "platform": "Symbian"}}
    assert (guide.send("POST", version).status, openapi.send("POST", version).status) == (400, 200)
    assert (guide.send("POST", odd).status, openapi.send("POST", odd).status) == (200, 400)


def test_disabling_analytics_clears_the_advertising_identifiers_and_keeps_them_clear(
    api: Api,
) -> None:
    device = {"device_id": "d", "idfa": "a", "idfv": "b", "advertising_id": "c", "os": "17"}
    api.create({"installation_meta": device})
    api.patch({"analytics_disabled": True})
    assert api.stored()["installations"] == {"d": {"os": "17"}}
    api.patch({"installation_meta": device})
    assert api.stored()["installations"] == {"d": {"os": "17"}}
    api.patch({"analytics_disabled": False, "installation_meta": device})
    kept = {key: value for key, value in device.items() if key != "device_id"}
    assert api.stored()["installations"] == {"d": kept}


def test_a_write_without_ip_country_takes_the_country_from_the_sender(
    serve: Callable[..., Api],
) -> None:
    api = serve(Emulator(locate={"127.0.0.1": "NL"}.__getitem__))
    api.create({"ip_country": "FR"})
    assert (api.stored()["country"], api.stored()["country_source"]) == ("FR", "explicit")
    api.send("GET")
    assert api.stored()["country"] == "FR"
    api.patch({"first_name": "Jane"})
    assert (api.stored()["country"], api.stored()["country_source"]) == ("NL", "request_ip")
    assert api.stored()["fields"]["ip_country"] == "FR"


def test_the_country_side_effect_can_be_switched_off(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(switches=Switches(country_from_request=False)))
    api.create({"ip_country": "FR"})
    api.patch({"first_name": "Jane"})
    assert api.stored()["country"] == "FR"


# --- switches ------------------------------------------------------------------------------------


def test_lenient_ignores_unknown_fields_and_stores_empty_text(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(switches=Switches(strict=False)))
    api.create({"typo": 1, "first_name": ""})
    assert api.stored()["fields"] == {"first_name": ""}


def test_null_can_be_refused_for_attributes(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(switches=Switches(null_deletes=False)))
    api.create(pairs(a="1"))
    assert api.patch(pairs(a=None)).code == "not_allowed"
    assert api.patch(pairs(a="")).attributes == {}


def test_installation_meta_can_be_required(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(switches=Switches(installation_required=True)))
    assert api.send("POST", {}).sources == ["installation_meta"]


def test_lists_can_be_null(serve: Callable[..., Api]) -> None:
    data = serve(Emulator(switches=Switches(null_lists=True))).send("POST", {}).data
    assert (data["access_levels"], data["custom_attributes"]) == (None, [])


def test_an_unknown_dialect_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no dialect klingon"):
        Emulator(dialect="klingon")


# --- looking inside ------------------------------------------------------------------------------


def test_the_debug_view_shows_what_was_written_when_switched_on(serve: Callable[..., Api]) -> None:
    api = serve(Emulator(debug=True))
    api.create({"first_name": "Jane"})
    assert api.raw("GET", DEBUG_PATH).json == api.emulator.profiles()
    anonymous = api.raw("POST", DEBUG_PATH).json["profile_id"]
    assert api.send("GET", user=None, profile=anonymous).status == 200
    assert api.raw("DELETE", DEBUG_PATH).headers["Allow"] == "GET, POST"


def test_content_is_equal_for_equal_writes_in_another_order() -> None:
    def written(*users: str) -> list[dict[str, Any]]:
        emulator = Emulator()
        for user in users:
            headers = {
                "authorization": "Api-Key k",
                "adapty-customer-user-id": user,
                "content-type": "application/json",
            }
            body = json.dumps({"first_name": user}).encode()
            assert emulator.handle("POST", PROFILE_PATH, headers=headers, body=body).status == 200
        return emulator.content()

    assert written("a", "b", "c") == written("c", "a", "b")
    assert written("a") != written("b")


def test_without_debug_there_is_no_debug_view(api: Api) -> None:
    for place in ("profiles", "log", "rates", "faults"):
        assert api.raw("GET", f"/debug/{place}/").status == 404


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_the_debug_view_is_not_for_pages_in_a_browser(
    serve: Callable[..., Api], headers: dict[str, str]
) -> None:
    api = serve(Emulator(debug=True))
    assert api.raw("GET", DEBUG_PATH, headers=headers).status == 403


# --- persistence ---------------------------------------------------------------------------------


def test_what_was_written_outlives_the_emulator(tmp_path: Path, serve: Callable[..., Api]) -> None:
    db = tmp_path / "deep" / "emulator.db"
    first = serve(Emulator(db=db))
    profile = first.create({"first_name": "Jane", **pairs(level=5)})
    stamp = first.send("GET").data["timestamp"]
    app = first.emulator.app_id
    first.server.stop()
    first.emulator.close()

    second = serve(Emulator(db=db))
    reply = second.send("GET")
    assert (reply.data["profile_id"], reply.attributes) == (profile, {"level": 5.0})
    assert reply.data["app_id"] == app
    assert reply.data["timestamp"] > stamp
    assert second.stored()["fields"] == {"first_name": "Jane"}


def test_the_database_is_for_its_owner_only(tmp_path: Path) -> None:
    db = tmp_path / "folder" / "emulator.db"
    Emulator(db=db).add_anonymous()
    assert {stat.S_IMODE(each.stat().st_mode) for each in db.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(db.parent.stat().st_mode) == 0o700


def test_a_write_is_committed_before_it_is_answered(
    tmp_path: Path, serve: Callable[..., Api]
) -> None:
    api = serve(Emulator(db=tmp_path / "e.db"))
    api.create({"first_name": "Jane"})
    with closing(Emulator(db=tmp_path / "e.db")) as other:
        assert other.content() == api.emulator.content() != []


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    db.write_text("not a database, but long enough to look like a file with something in it" * 20)
    before = db.read_bytes()
    with pytest.raises(ReconcileError, match="cannot use its database"):
        Emulator(db=db)
    assert db.read_bytes() == before


def test_another_programs_database_is_refused_untouched(tmp_path: Path) -> None:
    db = tmp_path / "state.db"
    other = sqlite3.connect(db)
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    before = db.read_bytes()
    with pytest.raises(Refused, match="not an emulator's database"):
        Emulator(db=db)
    assert db.read_bytes() == before


def test_a_database_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReconcileError) as caught:
        Emulator(db=tmp_path / "file" / "e.db")
    assert "--db" in caught.value.hint


def _write_many(db: Path, worker: int, count: int, ready: Barrier) -> None:
    ready.wait(30)
    emulator = Emulator(db=db)
    for number in range(count):
        headers = {
            "authorization": "Api-Key k",
            "adapty-customer-user-id": "shared",
            "content-type": "application/json",
        }
        body = json.dumps(pairs(**{f"w{worker}": number, f"w{worker}.{number % 5}": "x"})).encode()
        assert emulator.handle("POST", PROFILE_PATH, headers=headers, body=body).status == 200
    emulator.close()


def test_two_processes_share_a_database_without_losing_a_write(tmp_path: Path) -> None:
    db = tmp_path / "e.db"
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    workers = [context.Process(target=_write_many, args=(db, n, 400, ready)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with closing(Emulator(db=db)) as emulator:
        (only,) = emulator.content()
    expected = {f"w{w}.{n}": "x" for w in range(2) for n in range(5)} | {"w0": 399.0, "w1": 399.0}
    assert only["custom_attributes"] == expected


# --- the server ----------------------------------------------------------------------------------


def test_many_connections_write_at_once_without_losing_anything(api: Api) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        mine = Api(api.server)
        try:
            for turn in range(15):
                reply = mine.send("POST", pairs(**{f"w{number}": turn}), user="shared")
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


def test_an_emulator_that_waits_holds_nobody_else_up(serve: Callable[..., Api]) -> None:
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
