"""Answers and marks: their times order nothing, and no clock that jumped hides anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.records import Fact, Known, Record
from reconciler.core.transitions import (
    Observed,
    is_dated_before,
    observed,
    without_expired_mark,
)

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
