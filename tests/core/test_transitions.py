"""Answers and marks: their times order nothing, and no clock that jumped hides anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.endpoints import CUSTOMER_HEADER, PATH, PROFILE_HEADER
from reconciler.core.plan import Action, Change, Request
from reconciler.core.records import Fact, Known, Origin, Presence, Record
from reconciler.core.transitions import (
    Observed,
    Staleness,
    attempted,
    is_creation,
    is_dated_before,
    observed,
    put_back,
    staleness,
    without_expired_mark,
)
from reconciler.values import Scalar

YEAR = 365 * 24 * 3_600_000
NOW = 1_700_000_000_000
TIMES = st.none() | st.sampled_from([0, -1, NOW, NOW - 1, NOW + YEAR, 10**30, -(10**30)])


def record(timestamp: int | None, tier: str = "gold") -> Record:
    facts = {"custom_attributes.tier": Fact.of(tier, observed=True)}
    return Record("jane", "jane", "p", facts=facts, timestamp=timestamp)


@given(TIMES, TIMES)
def test_an_answer_is_believed_whatever_time_it_bears(before: int | None, now: int | None) -> None:
    after, differences = observed(
        record(before), Observed("p", "jane", {"custom_attributes.tier": "lead"}, now)
    )
    assert after.facts["custom_attributes.tier"].value == "lead"
    assert [(each.before, each.after) for each in differences] == [("gold", "lead")]
    following, _ = observed(after, Observed("p", "jane", {"custom_attributes.tier": "gold"}, NOW))
    assert following.facts["custom_attributes.tier"].value == "gold"
    assert following.timestamp == NOW


LEVEL = "access_levels.premium"
SOON, LATER = "until 2023-11-14T23:00:00Z", "until 2023-11-15T23:00:00Z"
"""After `NOW`, which is 22:13:20 of the first day."""
OVER = "until 2023-11-14T22:00:00Z"


@given(TIMES)
@pytest.mark.parametrize(
    ("late", "shown", "may_land"),
    [
        (LATER, SOON, True),  # a grant, and others shortened the access before it landed
        (LATER, LATER, False),
        (LATER, None, True),
        (None, SOON, True),  # a revoke
        (None, OVER, False),
        (OVER, SOON, True),
    ],
)
def test_whether_a_late_write_of_access_has_landed_does_not_depend_on_the_time_of_an_answer(
    late: str | None, shown: str | None, may_land: bool, time: int | None
) -> None:
    facts = {LEVEL: Fact(Known.UNCERTAIN, attempt=late)}
    marked = Record(
        "jane", "jane", "p", facts=facts, unknown_at=NOW / 1000, unknown_write={LEVEL: late}
    )
    values = {} if shown is None else {LEVEL: shown}
    after, _ = observed(marked, Observed("p", "jane", values, time), now=NOW / 1000)
    doubt = Fact(Known.UNCERTAIN, shown, attempt=late)
    assert after.facts[LEVEL] == (doubt if may_land else Fact.of(shown, observed=True))


@given(TIMES)
def test_a_time_that_no_state_can_hold_is_not_recorded(time: int | None) -> None:
    after, _ = observed(record(None), Observed("p", "jane", {}, time))
    assert abs(after.timestamp or 0) <= 1 << 53


@pytest.mark.parametrize(
    ("before", "now", "jumped"),
    [
        (NOW + YEAR, NOW, True),
        (NOW, NOW - 60_001, True),
        (NOW, NOW - 60_000, False),
        (NOW, NOW + YEAR, False),
        (NOW, None, False),
        (None, NOW, False),
    ],
)
def test_a_clock_that_went_back_is_noticed(
    before: int | None, now: int | None, jumped: bool
) -> None:
    assert is_dated_before(record(before), Observed("p", "jane", {}, now)) is jumped


def test_another_profile_may_be_older() -> None:
    assert not is_dated_before(record(NOW), Observed("q", "jane", {}, 1))


@pytest.mark.parametrize("ahead", [1.0, 1e6, 1e9])
def test_a_mark_from_a_clock_that_was_set_back_since_ends_with_a_quiet_period_from_now(
    ahead: float,
) -> None:
    marked = record(None)._replace(unknown_at=1000.0 + ahead, unknown_write={"first_name": "A"})
    unmarked = without_expired_mark(marked, now=1000.0, quiet_period=60.0)
    assert unmarked.unknown_at == 1000.0
    assert without_expired_mark(unmarked, now=1059.0, quiet_period=60.0).unknown_at == 1000.0
    assert without_expired_mark(unmarked, now=1060.0, quiet_period=60.0).unknown_at is None


def test_a_write_that_may_still_land_stays_uncertain_whatever_the_answer_bears() -> None:
    marked = record(NOW)._replace(
        unknown_at=1.0, unknown_write={"custom_attributes.tier": "silver"}
    )
    after, _ = observed(marked, Observed("p", "jane", {"custom_attributes.tier": "gold"}, 1))
    assert after.facts["custom_attributes.tier"] == Fact(
        Known.UNCERTAIN, value="gold", attempt="silver"
    )


UNPROVEN = Record(
    "jane",
    customer_user_id="jane",
    presence=Presence.UNCONFIRMED,
    facts={"custom_attributes.tier": Fact(Known.UNCERTAIN, attempt="gold")},
    unknown_at=1.0,
    unknown_write={"custom_attributes.tier": "gold"},
    origin=Origin.CREATED,
    created_at=1.0,
)
"""The record of a creation of which nothing was heard."""


@pytest.mark.parametrize(
    ("seen", "origin"),
    [
        ({"custom_attributes.tier": "gold"}, Origin.CREATED),
        ({"custom_attributes.tier": "silver"}, Origin.ADOPTED),
        ({}, Origin.ADOPTED),
        ({"custom_attributes.tier": "gold", "custom_attributes.theirs": 1.0}, Origin.ADOPTED),
    ],
)
def test_a_creation_is_proven_by_what_was_sent_and_nothing_else(
    seen: dict[str, Scalar], origin: Origin
) -> None:
    after, _ = observed(UNPROVEN, Observed("p", "jane", seen))
    assert after.origin is origin
    assert (after.created_at is None) is (origin is Origin.ADOPTED)


@pytest.mark.parametrize(
    ("seen", "is_ours"),
    [
        ({"custom_attributes.tier": "gold"}, True),  # of an earlier write that landed late
        ({"custom_attributes.tier": "silver"}, False),
        ({"custom_attributes.level": 5.0}, True),  # of this one
        ({"custom_attributes.level": 6.0}, False),
        ({"custom_attributes.theirs": 1.0}, False),
        ({}, True),
    ],
)
def test_a_confirmed_post_made_only_a_profile_with_values_that_we_sent(
    seen: dict[str, Scalar], is_ours: bool
) -> None:
    body = {"custom_attributes": [{"key": "level", "value": 5.0}]}
    request = Request("POST", PATH, {CUSTOMER_HEADER: "jane"}, body)
    assert is_creation(UNPROVEN, Observed("p", "jane", seen), request=request) is is_ours


def test_in_a_state_that_was_put_back_a_creation_of_unknown_outcome_proves_nothing() -> None:
    assert put_back(UNPROVEN).origin is Origin.ADOPTED
    known = UNPROVEN._replace(presence=Presence.PRESENT, profile_id="p")
    assert put_back(known) is known


def test_in_a_state_that_was_put_back_no_earlier_plan_repeats_its_deletion() -> None:
    known = Record("jane", "jane", "p", origin=Origin.CREATED, created_at=1.0, revision=1)
    request = Request("DELETE", PATH, {PROFILE_HEADER: "p"})
    change = Change("jane", Action.DELETE, "", requests=(request,), revision=1)
    deleting = attempted(known, change, request=request, at=2.0)._replace(revision=2)
    assert staleness(change, deleting)[0] is Staleness.CURRENT  # it was cut off, and is sent again
    restored = put_back(deleting)._replace(revision=1_000)
    assert staleness(change, restored)[0] is Staleness.STALE


@pytest.mark.parametrize("presence", [Presence.GONE, Presence.UNCONFIRMED])
def test_what_is_found_there_and_was_not_created_is_adopted(presence: Presence) -> None:
    unknown = UNPROVEN._replace(presence=presence, origin=Origin.UNKNOWN, created_at=None)
    after, _ = observed(unknown, Observed("p", "jane", {"custom_attributes.tier": "gold"}))
    assert after.origin is Origin.ADOPTED


def test_a_profile_that_is_linked_is_not_the_one_whose_creation_is_unknown() -> None:
    request = Request(
        "POST", PATH, {CUSTOMER_HEADER: "jane", PROFILE_HEADER: "p"}, {"first_name": "Jane"}
    )
    change = Change("jane", Action.LINK, "", (), (request,))
    after = attempted(UNPROVEN, change, request=request, at=2.0)
    assert (after.origin, after.created_at) == (Origin.ADOPTED, None)
