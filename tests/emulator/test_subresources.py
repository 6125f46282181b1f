"""Integration identifiers and refund preferences: bodies, flat errors, and members that are left out."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator import IDENTIFIERS_PATH, REFUND_SAVER_PATH, Emulator, Switches
from reconciler.resources import load_schema
from tests.support.wire import Api, ApiReply, Serve

IDENTIFIERS = [
    *("adjust_device_id", "airbridge_device_id", "amplitude_device_id", "amplitude_user_id"),
    *("appmetrica_device_id", "appmetrica_profile_id", "appsflyer_id", "branch_id"),
    *("facebook_anonymous_id", "firebase_app_instance_id", "mixpanel_user_id"),
    *("one_signal_player_id", "one_signal_subscription_id", "posthog_distinct_user_id"),
    *("pushwoosh_hwid", "tenjin_analytics_installation_id"),
]
"""adapty-api 1.2."""
PATHS = [IDENTIFIERS_PATH, REFUND_SAVER_PATH]


@pytest.fixture
def jane(api: Api) -> Api:
    api.create()
    return api


def flat(*messages: str, code: str = "validation_error", status: int = 400) -> dict[str, Any]:
    """The second shape of adapty-api 6.1."""
    return {"errors": list(messages), "error_code": code, "status_code": status}


def identifiers(api: Api) -> Any:
    return api.send("GET", path=IDENTIFIERS_PATH).json


def write(api: Api, body: Any, path: str = IDENTIFIERS_PATH) -> ApiReply:
    return api.send("POST", body, path=path)


# --- integration identifiers ----------------------------------------------------------------------


def test_all_identifiers_are_answered_without_a_wrapper(jane: Api) -> None:
    reply = jane.send("GET", path=IDENTIFIERS_PATH)
    assert (reply.status, reply.json) == (200, dict.fromkeys(IDENTIFIERS))


def test_a_write_of_identifiers_is_answered_with_an_empty_body(jane: Api) -> None:
    reply = write(jane, {"amplitude_user_id": "u-17", "branch_id": "b"})
    assert (reply.status, reply.raw) == (200, b"")
    assert reply.headers["Content-Length"] == "0"
    assert "Content-Type" not in reply.headers
    expected = dict.fromkeys(IDENTIFIERS) | {"amplitude_user_id": "u-17", "branch_id": "b"}
    assert identifiers(jane) == expected


def test_each_identifier_is_kept_until_null_clears_it(jane: Api) -> None:
    for name in IDENTIFIERS:
        assert write(jane, {name: f"value of {name}"}).status == 200
    assert identifiers(jane) == {name: f"value of {name}" for name in IDENTIFIERS}
    assert write(jane, {"branch_id": None}).status == 200
    assert identifiers(jane)["branch_id"] is None
    assert identifiers(jane)["appsflyer_id"] == "value of appsflyer_id"


def test_where_the_contract_says_that_null_does_not_clear_it_is_refused(serve: Serve) -> None:
    contract = {**load_schema("contract")}
    facets = contract["facets"]
    fields = facets["integrations"]["fields"]
    branch = {**fields["branch_id"], "clear": "never"}
    group = {**facets["integrations"], "fields": {**fields, "branch_id": branch}}
    contract["facets"] = {**facets, "integrations": group}
    api = serve(Emulator(contract=contract))
    api.create()
    message = "branch_id: none is not an allowed value"
    assert write(api, {"branch_id": None}).json == flat(message)


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ({}, ["At least one integration identifier must be provided."]),
        ([], ["value is not a valid dict"]),
        ({"amplitude_user_id": 17}, ["amplitude_user_id: str type expected"]),
        (
            {"amplitude_user": "u", "branch_id": ""},
            [
                "amplitude_user: extra fields not permitted",
                "branch_id: ensure this value has at least 1 characters",
            ],
        ),
    ],
)
def test_bad_identifiers_are_refused_and_change_nothing(
    jane: Api, body: Any, messages: list[str]
) -> None:
    write(jane, {"branch_id": "before"})
    reply = write(jane, body)
    assert (reply.status, reply.json) == (400, flat(*messages))
    assert identifiers(jane) == dict.fromkeys(IDENTIFIERS) | {"branch_id": "before"}


def test_a_lenient_emulator_ignores_unknown_identifiers_but_wants_one_that_it_knows(
    serve: Serve,
) -> None:
    api = serve(Emulator(switches=Switches(strict=False)))
    api.create()
    assert write(api, {"unknown": "x", "branch_id": ""}).status == 200
    assert identifiers(api)["branch_id"] == ""
    assert write(api, {"unknown": "x"}).code == "validation_error"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_identifiers_of_an_unknown_profile_are_a_flat_404(api: Api, method: str) -> None:
    reply = api.send(method, {"branch_id": "b"}, user="nobody", path=IDENTIFIERS_PATH)
    assert reply.status == 404
    assert reply.json == flat("Profile not found", code="profile_not_found", status=404)


# --- refund preferences ---------------------------------------------------------------------------


def settings_of(reply: ApiReply) -> Any:
    return reply.json["settings"]


@pytest.mark.parametrize("preference", ["grant", "no_preference", "decline"])
@pytest.mark.parametrize("consent", [True, False])
def test_refund_preferences_are_answered_without_a_wrapper(
    jane: Api, consent: bool, preference: str
) -> None:
    body = {"consent": consent, "custom_preference": preference}
    reply = write(jane, body, REFUND_SAVER_PATH)
    assert reply.status == 200
    assert reply.json == {"profile_id": jane.stored()["profile_id"], "settings": body}
    assert jane.send("GET", path=REFUND_SAVER_PATH).json == reply.json


def test_a_preference_that_is_left_out_stays(jane: Api) -> None:
    write(jane, {"consent": False}, REFUND_SAVER_PATH)
    reply = write(jane, {"custom_preference": "grant"}, REFUND_SAVER_PATH)
    assert settings_of(reply) == {"consent": False, "custom_preference": "grant"}


def test_a_preference_that_is_not_set_shows_the_default_of_the_app(serve: Serve) -> None:
    api = serve(Emulator(switches=Switches(default_consent=None, default_preference="prorated")))
    api.create()
    default = {"consent": None, "custom_preference": "prorated"}
    assert settings_of(api.send("GET", path=REFUND_SAVER_PATH)) == default
    write(api, {"consent": True, "custom_preference": "grant"}, REFUND_SAVER_PATH)
    reply = write(api, {"consent": None, "custom_preference": None}, REFUND_SAVER_PATH)
    assert settings_of(reply) == default


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (
            {},
            ["Profile refund saver settings must have either consent or custom_preference or both"],
        ),
        ({"consent": "yes"}, ["consent: value could not be parsed to a boolean"]),
        (
            {"custom_preference": "prorated"},
            [
                "custom_preference: value is not a valid enumeration member; permitted: "
                "'grant', 'no_preference', 'decline'"
            ],
        ),
        ({"preference": "grant"}, ["preference: extra fields not permitted"]),
    ],
)
def test_bad_refund_preferences_are_refused_and_change_nothing(
    jane: Api, body: Any, messages: list[str]
) -> None:
    before = jane.send("GET", path=REFUND_SAVER_PATH).json
    reply = write(jane, body, REFUND_SAVER_PATH)
    assert (reply.status, reply.json) == (400, flat(*messages))
    assert jane.send("GET", path=REFUND_SAVER_PATH).json == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refund_preferences_of_an_unknown_profile_are_a_flat_400(api: Api, method: str) -> None:
    reply = api.send(method, {"consent": True}, user="nobody", path=REFUND_SAVER_PATH)
    assert reply.status == 400
    assert reply.json == flat("Profile does not exist", code="profile_does_not_exist")


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_only_a_write_counts_as_an_effect_and_none_is_an_event(jane: Api, path: str) -> None:
    body = {"branch_id": "b"} if path == IDENTIFIERS_PATH else {"consent": True}
    write(jane, body, path)
    jane.send("GET", path=path)
    write(jane, {}, path)
    assert [each.effect for each in jane.emulator.log] == [1, 2, None, None]
    assert jane.emulator.access_events == []


@pytest.mark.parametrize("path", PATHS)
def test_no_answer_about_a_profile_shows_them(jane: Api, path: str) -> None:
    before = set(jane.send("GET").data)
    write(jane, {"branch_id": "secret-b"}, IDENTIFIERS_PATH)
    write(jane, {"consent": True}, REFUND_SAVER_PATH)
    reply = jane.send("GET")
    assert set(reply.data) == before
    assert b"secret-b" not in reply.raw


def test_a_profile_that_is_created_again_has_none_of_them(jane: Api) -> None:
    write(jane, {"branch_id": "b"})
    jane.grant()
    jane.send("DELETE")
    jane.create()
    assert identifiers(jane)["branch_id"] is None
    assert jane.send("GET").data["access_levels"] == []
