"""The view model: what it tells of a plan as a whole."""

from __future__ import annotations

from dataclasses import replace

from reconciler.core.plan import Action, Change, Hazard, HazardKind, HazardScope, HazardSeverity
from reconciler.core.plan_format import from_lines, to_lines
from reconciler.reports.view import PlanView, severity_rank
from tests.support.plans import EVERYTHING


def test_a_hazard_of_a_kind_that_this_program_does_not_know_is_shown_and_summed_up() -> None:
    change = Change("jane", Action.UPDATE, "declared", hazards=(Hazard("from_the_future", "m"),))
    plan = replace(EVERYTHING, changes=(change,), hazards=(Hazard("also_new", "n"),), totals=None)
    view = PlanView.of(from_lines(to_lines(plan)))
    assert [
        (hazard.kind, hazard.scope, hazard.is_summed, hazard.refused) for hazard in view.hazards
    ] == [
        ("also_new", HazardScope.PLAN, False, False),
        ("from_the_future", HazardScope.CHANGE, True, False),
    ]
    assert severity_rank(change) == 4


def test_the_kinds_that_a_plan_as_a_whole_has_are_named_or_refused() -> None:
    of_plans = [kind for kind in HazardKind if kind.scope is HazardScope.PLAN]
    assert all(kind.severity is not HazardSeverity.SUMMED for kind in of_plans)
    refused = [kind for kind in HazardKind if kind.severity is HazardSeverity.REFUSED]
    assert all(kind.scope is HazardScope.PLAN for kind in refused)
