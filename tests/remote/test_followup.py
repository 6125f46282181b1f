"""Requests that follow from an answer: after the look-up of a POST."""

from __future__ import annotations

from reconciler.core.endpoints import CUSTOMER_HEADER, PATH, PROFILE_HEADER
from reconciler.core.plan import Request
from reconciler.remote.answers import ApiAnswer, CallResult, ProfileData
from reconciler.remote.followup import after_look_up, look_up

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
