"""Facts, records and the kinds of journal entries."""

from __future__ import annotations

import pytest

from reconciler.core.outcomes import Outcome
from reconciler.core.records import (
    Fact,
    JournalKind,
    Known,
    Presence,
    Record,
    by_address,
    differs,
)

JANE = Record("jane", customer_user_id="jane", facts={"email": Fact.of("jane@example.com")})


def test_a_fact_of_no_value_is_known_to_be_cleared() -> None:
    assert Fact.of(None) == Fact(Known.CLEARED)
    assert Fact.of("", observed=True) == Fact(Known.VALUE, value="", observed=True)


def test_records_that_differ_in_revision_and_time_of_answer_say_the_same() -> None:
    assert not differs(JANE, JANE._replace(revision=3, timestamp=12))


@pytest.mark.parametrize(
    "other",
    [
        None,
        JANE._replace(protect=True),
        JANE._replace(facts={"email": Fact.of("jane@example.com", observed=True)}),
        JANE._replace(presence=Presence.GONE),
    ],
)
def test_records_that_say_something_else_differ(other: Record | None) -> None:
    assert differs(other, JANE)


@pytest.mark.parametrize(
    ("changes", "exists"),
    [
        ({}, True),
        ({"presence": Presence.UNCONFIRMED}, False),
        ({"presence": Presence.GONE}, False),
        ({"deleting": True}, False),
    ],
)
def test_a_profile_exists_only_while_nothing_speaks_against_it(
    changes: dict[str, object], exists: bool
) -> None:
    assert JANE._replace(**changes).exists is exists  # type: ignore[arg-type]


def test_every_outcome_is_a_kind_of_journal_entry() -> None:
    outcomes = {"applied" if each.is_applied else each.value for each in Outcome}
    assert outcomes == {kind.value for kind in JournalKind} - {"intent", "recovered"}


def test_records_by_address() -> None:
    assert by_address([JANE]) == {"jane": JANE}
