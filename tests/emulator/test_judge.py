"""The verdict on bodies, over raw HTTP: fields, custom attributes, installations, switches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.emulator import (
    PROFILE_PATH,
    Emulator,
    Switches,
)
from tests.support.wire import (
    KEY,
    Api,
    Serve,
    attribute_pairs,
)

DEVICE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


# --- standard fields ------------------------------------------------------------------------------

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
def test_the_guide_accepts_values_that_the_later_dialect_refuses(
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


# --- custom attributes ----------------------------------------------------------------------------


def test_attributes_merge_by_key(api: Api) -> None:
    api.create(attribute_pairs(a="1", b="2"))
    assert api.patch(attribute_pairs(b="3", c="4")).attributes == {"a": "1", "b": "3", "c": "4"}
    assert api.send("GET").attributes == {"a": "1", "b": "3", "c": "4"}


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_delete_an_attribute(api: Api, nothing: Any) -> None:
    api.create(attribute_pairs(a="1", b="2"))
    assert api.patch(attribute_pairs(a=nothing)).attributes == {"b": "2"}
    assert api.patch(attribute_pairs(a=nothing)).attributes == {"b": "2"}


@pytest.mark.parametrize(
    ("value", "spelling"),
    [(5, b"5.0"), (5.0, b"5.0"), (True, b"1.0"), (False, b"0.0"), (0, b"0.0"), (0.5, b"0.5"),
     ("5", b'"5"')],
)  # fmt: skip
def test_numbers_and_booleans_are_stored_as_floats(api: Api, value: Any, spelling: bytes) -> None:
    reply = api.send("POST", attribute_pairs(a=value))
    assert b'"custom_attributes": [{"key": "a", "value": %s}]' % spelling in reply.raw


def test_a_value_has_at_most_30_characters_and_50_in_the_later_dialect(
    guide: Api, openapi: Api
) -> None:
    for api, limit in ((guide, 30), (openapi, 50)):
        assert api.send("POST", attribute_pairs(a="é" * limit)).status == 200
        reply = api.send("POST", attribute_pairs(a="x" * (limit + 1)))
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
    reply = api.send("POST", attribute_pairs(a=value))
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
    api.create(attribute_pairs(**{f"k{i}": i for i in range(30)}))
    reply = api.patch(attribute_pairs(one_more="x"))
    assert (reply.code, reply.sources) == ("value_error", ["custom_attributes"])
    assert reply.json["errors"][0]["errors"] == ["Maximum of 30 attributes for the profile"]
    assert "one_more" not in api.send("GET").attributes
    assert api.patch(attribute_pairs(k3="changed")).status == 200


def test_the_limit_is_checked_after_the_deletions_of_the_same_request(api: Api) -> None:
    api.create(attribute_pairs(**{f"k{i}": i for i in range(30)}))
    after = api.patch(attribute_pairs(new="x", k0=None)).attributes
    assert len(after) == 30
    assert "new" in after


def test_duplicate_keys_are_refused_unless_lenient(serve: Serve) -> None:
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
            "POST",
            PROFILE_PATH,
            headers=headers,
            body=json.dumps(attribute_pairs(**write)).encode(),
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


# --- installation_meta and analytics --------------------------------------------------------------


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


# --- switches -------------------------------------------------------------------------------------


def test_lenient_ignores_unknown_fields_and_stores_empty_text(serve: Serve) -> None:
    api = serve(Emulator(switches=Switches(strict=False)))
    api.create({"typo": 1, "first_name": ""})
    assert api.stored()["fields"] == {"first_name": ""}


def test_null_can_be_refused_for_attributes(serve: Serve) -> None:
    api = serve(Emulator(switches=Switches(null_deletes=False)))
    api.create(attribute_pairs(a="1"))
    assert api.patch(attribute_pairs(a=None)).code == "not_allowed"
    assert api.patch(attribute_pairs(a="")).attributes == {}


def test_installation_meta_can_be_required(serve: Serve) -> None:
    api = serve(Emulator(switches=Switches(installation_required=True)))
    assert api.send("POST", {}).sources == ["installation_meta"]
