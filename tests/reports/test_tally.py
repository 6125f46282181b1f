"""Sums over the changes of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from reconciler.core.plan import Change, Plan, Totals
from reconciler.reports.tally import MOST_NAMED, Tally
from reconciler.reports.view import PlanView
from tests.support.plans import EVERYTHING

GENERATED = [
    change._replace(
        address=f"made-{number}-{change.address}",
        template="made-{n}",
        fields=tuple(
            item._replace(after=f"{item.after} {number}") if isinstance(item.after, str) else item
            for item in change.fields
        ),
    )
    for number in range(4)
    for change in EVERYTHING.changes
]
"""Changes of templates: one group for each change of `EVERYTHING`."""
PLAN = replace(EVERYTHING, changes=(*GENERATED, *tuple(EVERYTHING.changes) * (MOST_NAMED + 1)))


def tally_of(changes: Iterable[Change]) -> Tally:
    tally = Tally()
    for change in changes:
        tally.add(change)
    return tally


def assert_same_view(view: PlanView, expected: PlanView, *, plan: Plan) -> None:
    assert view.hazards == expected.hazards
    assert (view.basis, view.unverifiable) == (expected.basis, expected.unverifiable)
    assert [*map(view.group, plan.changes)] == [*map(expected.group, plan.changes)]


def test_a_view_with_a_tally_does_not_go_through_the_changes() -> None:
    without_changes = replace(PLAN, changes=(), totals=Totals(PLAN.summary, PLAN.digest))
    view = PlanView.of(without_changes, tally=tally_of(PLAN.changes))
    assert_same_view(view, PlanView.of(PLAN), plan=PLAN)


@pytest.mark.parametrize("at", [0, 1, 7, len(GENERATED), 600, PLAN.count])
def test_the_sums_of_two_parts_merge_into_those_of_the_whole(at: int) -> None:
    changes = [*PLAN.changes]
    tally = tally_of(changes[:at])
    other = tally.empty()
    for change in changes[at:]:
        other.add(change)
    tally.merge(other)
    assert_same_view(PlanView.of(PLAN, tally=tally), PlanView.of(PLAN), plan=PLAN)
