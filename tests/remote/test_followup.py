"""Requests that follow from an answer: after the look-up of a POST, and for undeclared attributes."""

from __future__ import annotations

import pytest

from reconciler.core.contract import Clear
from reconciler.core.plan import Change, Request
from reconciler.core.records import Record
from reconciler.core.requests import CUSTOMER_HEADER, PATH, PROFILE_HEADER
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.remote.followup import after_look_up, look_up, removal_of_undeclared
from tests.support.worlds import World

PROFILE_ID = "3286abd3-48b0-4e9c-a5f6-ac0a006804a6"
CREATE = Request("POST", PATH, {CUSTOMER_HEADER: "jane"}, {"first_name": "Jane"})
LINK = CREATE._replace(headers={CUSTOMER_HEADER: "jane", PROFILE_HEADER: PROFILE_ID})
MISSING = ApiAnswer(CallResult.REFUSED, status=404, error_code="profile_does_not_exist")


def answer(profile_id: str) -> ApiAnswer:
    return ApiAnswer(CallResult.DONE, data=ProfileData("app", profile_id, "jane", 1, {}))


def test_a_post_is_looked_up_by_its_customer_id() -> None:
    assert look_up(LINK) == Request("GET", PATH, {CUSTOMER_HEADER: "jane"})


def test_a_post_without_effect_is_sent_again() -> None:
    assert after_look_up(CREATE, MISSING) == CREATE
    assert after_look_up(LINK, answer("another")) == LINK


def test_a_post_with_effect_is_completed_by_a_patch_of_its_body() -> None:
    patch = Request("PATCH", PATH, {CUSTOMER_HEADER: "jane"}, {"first_name": "Jane"})
    assert after_look_up(LINK, answer(PROFILE_ID.upper())) == patch
    assert after_look_up(LINK._replace(body={}), answer(PROFILE_ID)) is None


@pytest.mark.parametrize(("clear", "value"), [(Clear.NULL, None), (Clear.EMPTY, "")])
def test_undeclared_attributes_of_an_exclusive_profile_are_removed(
    clear: Clear, value: str | None
) -> None:
    (change,) = World().plan({"customer_user_id": "jane", "custom_attributes": {"a": 1}}).changes
    record = Record("jane", unmanaged=("a", "b"))

    def removal(change: Change) -> Change | None:
        return removal_of_undeclared(change, record, delete_attribute_with=clear)

    assert removal(change._replace(exclusive=None)) is None
    assert removal(change._replace(exclusive=frozenset("ab"))) is None
    follow_up = removal(change._replace(exclusive=frozenset("a")))
    assert follow_up is not None
    assert [request.body for request in follow_up.requests] == [
        {"custom_attributes": [{"key": "b", "value": value}]}
    ]


def test_the_country_goes_along_when_undeclared_attributes_are_removed() -> None:
    (change,) = World().plan({"customer_user_id": "jane", "ip_country": "FR"}).changes

    follow_up = removal_of_undeclared(
        change._replace(exclusive=()),
        Record("jane", unmanaged=("b",)),
        delete_attribute_with=Clear.NULL,
    )

    assert follow_up is not None
    (request,) = follow_up.requests
    assert request.body is not None
    assert request.body["ip_country"] == "FR"
