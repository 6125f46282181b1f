"""The API over raw HTTP: the documented behaviour, and the defaults of adapty-api 7."""

from __future__ import annotations

import json
import re
import socket
import uuid
from typing import Any

import pytest

from reconciler.emulator import (
    DEBUG_PATH,
    PROFILE_PATH,
    Emulator,
    Switches,
)
from reconciler.errors import UsageError
from reconciler.resources import load_schema
from tests.support.wire import (
    KEY,
    Api,
    Serve,
)

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


# --- answers --------------------------------------------------------------------------------------


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


def test_timestamps_rise_even_when_the_clock_stands_still(serve: Serve) -> None:
    api = serve(Emulator(clock=lambda: 1736425645.861))
    stamps = [api.send("POST", {}).data["timestamp"]]
    stamps += [api.send(method, body).data["timestamp"] for method, body in [("GET", None)] * 2]
    stamps.append(api.patch({}).data["timestamp"])
    assert stamps == [1736425645861, 1736425645862, 1736425645863, 1736425645864]


def test_lists_can_be_null(serve: Serve) -> None:
    data = serve(Emulator(switches=Switches(null_lists=True))).send("POST", {}).data
    assert (data["access_levels"], data["custom_attributes"]) == (None, [])


# --- authorization --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer secret_live_a.b", "Api-Key", "Api-Key ", "secret_live_a.b", "Api-Key a b",
     "api-key secret_live_a.b", "Api-Key public_live_a.b"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_request_without_a_secret_key_is_not_authenticated(
    api: Api, method: str, authorization: str
) -> None:
    headers = {"adapty-customer-user-id": "jane", "Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    reply = api.raw(method, headers=headers, body=b"{}")
    assert (reply.status, reply.json) == (401, NOT_AUTHENTICATED)
    assert api.emulator.profiles() == []


def test_only_the_given_keys_are_accepted(serve: Serve) -> None:
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


# --- routes and bodies ----------------------------------------------------------------------------


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
def test_a_body_that_is_not_json_is_a_parse_error(api: Api, body: bytes) -> None:
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


# --- identifiers (adapty-api 2.2) -----------------------------------------------------------------


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


# --- the country (adapty-api 3.2) -----------------------------------------------------------------


def test_a_write_without_ip_country_takes_the_country_from_the_sender(
    serve: Serve,
) -> None:
    api = serve(Emulator(locate={"127.0.0.1": "NL"}.__getitem__))
    api.create({"ip_country": "FR"})
    assert (api.stored()["country"], api.stored()["country_source"]) == ("FR", "explicit")
    api.send("GET")
    assert api.stored()["country"] == "FR"
    api.patch({"first_name": "Jane"})
    assert (api.stored()["country"], api.stored()["country_source"]) == ("NL", "request_ip")
    assert api.stored()["fields"]["ip_country"] == "FR"


def test_the_country_side_effect_can_be_switched_off(serve: Serve) -> None:
    api = serve(Emulator(switches=Switches(country_from_request=False)))
    api.create({"ip_country": "FR"})
    api.patch({"first_name": "Jane"})
    assert api.stored()["country"] == "FR"


# --- contract and content -------------------------------------------------------------------------


def test_an_unknown_dialect_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no dialect klingon"):
        Emulator(dialect="klingon")


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
