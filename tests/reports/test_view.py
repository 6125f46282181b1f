"""The view model: what it tells of a plan as a whole."""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.plan import Totals
from reconciler.reports.view import MOST_NAMED, PlanView, Tally
from tests.support.plans import EVERYTHING


def test_a_tally_that_was_given_every_change_spares_going_through_them() -> None:
    plan = replace(EVERYTHING, changes=tuple(EVERYTHING.changes) * (MOST_NAMED + 1))
    tally = Tally()
    for change in plan.changes:
        tally.add(change)
    away = replace(plan, changes=(), totals=Totals(plan.summary, plan.digest))
    view, told = PlanView.of(plan), PlanView.of(away, tally=tally)
    assert told.hazards == view.hazards
    assert (told.basis, told.write_only) == (view.basis, view.write_only)
    assert [*map(told.group, plan.changes)] == [*map(view.group, plan.changes)]
