"""Refund preferences: the app's default, which answers show for what is not set, and unknown values."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.core.facets.refund_saver import REFUND_SAVER
from reconciler.core.plan import Request
from reconciler.core.records import Fact
from reconciler.core.transitions import observed_own
from tests.support.worlds import World

GET = Request("GET", REFUND_SAVER.address, {"adapty-profile-id": "p1"})
SETTINGS = {"consent": True, "custom_preference": "decline"}


def answer(**settings: Any) -> dict[str, Any]:
    return {"profile_id": "p1", "settings": {**SETTINGS, **settings}}


def test_a_member_has_the_name_of_files() -> None:
    assert REFUND_SAVER.own_answer(GET, answer()) == {
        "refund_saver.consent": True,
        "refund_saver.preference": "decline",
    }


def test_a_preference_that_no_document_knows_is_a_value() -> None:
    shown = REFUND_SAVER.own_answer(GET, answer(custom_preference="grant_prorated"))
    assert shown is not None
    assert shown["refund_saver.preference"] == "grant_prorated"


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"settings": None},
        {"settings": {"consent": True}},
        answer(consent=1),
        answer(custom_preference={}),
        {**answer(), "profile_id": "p2"},
    ],
)
def test_what_shows_no_settings_of_the_profile_is_no_answer(content: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        REFUND_SAVER.own_answer(GET, content)


def test_the_default_that_shows_after_a_cleared_member_is_no_drift() -> None:
    world = World()
    world.reach({"customer_user_id": "jane", "refund_saver": {"consent": None}})
    (record,) = world.store.records()
    after, differences = observed_own(record, REFUND_SAVER, values={"refund_saver.consent": True})
    assert differences == []
    assert after.facts["refund_saver.consent"] == Fact.of(None, observed=True)


def test_another_value_than_the_one_that_was_written_is_drift() -> None:
    world = World()
    world.reach({"customer_user_id": "jane", "refund_saver": {"preference": "decline"}})
    (record,) = world.store.records()
    after, (difference,) = observed_own(
        record, REFUND_SAVER, values={"refund_saver.preference": "grant_prorated"}
    )
    assert (difference.before, difference.after) == ("decline", "grant_prorated")
    assert after.facts["refund_saver.preference"].value == "grant_prorated"
