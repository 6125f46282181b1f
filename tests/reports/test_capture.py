"""The text of a plan that is gathered while the plan is made."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given

from reconciler.core.plan import Action, Change, FieldChange, Plan, Totals
from reconciler.errors import ReconcileError, Source
from reconciler.planning.planfile import Spool
from reconciler.reports.capture import PlanCapture
from reconciler.reports.plan_text import plan_text, plan_text_parts
from reconciler.reports.style import Pen
from reconciler.reports.view import PlanView
from tests.support.plans import EVERYTHING, FIELDS, plan_with

PENS = [Pen(False), Pen(True), Pen(False, ascii=True)]


class _Full:
    """A buffer on a disk that is full."""

    def write(self, text: bytes) -> None:
        raise ReconcileError("cannot write the text: No space left on device")

    def parts(self) -> Iterable[bytes]:
        return []


def captured(plan: Plan, pen: Pen, *, folder: Path, held: int = 1 << 20) -> PlanCapture:
    """What is gathered by two processes of which each plans every other change."""
    whole = PlanCapture(pen, partial(Spool, "the text", folder, held=held))
    for change in plan.changes:
        part = pickle.loads(pickle.dumps(whole.empty()))
        part.add(change)
        whole.merge(pickle.loads(pickle.dumps(part)))
    return whole


def test_captures_without_merging_hold_the_text_too(tmp_path: Path) -> None:
    capture = PlanCapture(Pen(False), partial(Spool, "the text", tmp_path, held=0))
    for change in EVERYTHING.changes:
        capture.add(change)
    whole = capture.empty()
    whole.merge(capture)
    assert [*(whole.texts() or ())] == ["".join(capture.texts() or ())]


def printed(plan: Plan, capture: PlanCapture, pen: Pen) -> str:
    """The plan as it is printed without another look at its changes."""
    texts = capture.texts()
    assert texts is not None
    unread = replace(plan, changes=(), totals=Totals(plan.summary, plan.digest))
    view = PlanView.of(unread, tally=capture.tally)
    view = view._replace(plan=replace(unread, changes=plan.changes))
    return "".join(plan_text_parts(view, pen, captured=texts))


@pytest.mark.parametrize("pen", PENS)
@pytest.mark.parametrize("held", [0, 1 << 20], ids=["in a file", "in memory"])
def test_the_text_is_the_one_that_is_written_from_the_plan(
    pen: Pen, held: int, tmp_path: Path
) -> None:
    capture = captured(EVERYTHING, pen, folder=tmp_path, held=held)
    expected = plan_text(PlanView.of(EVERYTHING), color=pen.color, ascii=pen.ascii)
    assert printed(EVERYTHING, capture, pen) == expected
    assert "".join(capture.texts() or ()) in expected  # as often as it is asked for


@given(FIELDS)
def test_so_it_is_for_fields_that_no_planner_makes(fields: list[FieldChange]) -> None:
    change = Change("jane", Action.UPDATE, "why", tuple(fields), source=Source("a.yaml", 3))
    plan = plan_with([change])
    for pen in PENS:
        capture = captured(plan, pen, folder=Path())
        expected = plan_text(PlanView.of(plan), color=pen.color, ascii=pen.ascii)
        assert printed(plan, capture, pen) == expected


def test_changes_of_a_template_are_no_text_of_their_own(tmp_path: Path) -> None:
    first, *others = EVERYTHING.changes
    plan = plan_with([first, *others, first._replace(address="z", template="z-{n}")])
    capture = captured(plan, Pen(False), folder=tmp_path)
    assert capture.texts() is None
    assert capture.tally.hazards == captured(plan, Pen(True), folder=tmp_path).tally.hazards


def test_text_that_cannot_be_kept_is_written_from_the_plan_instead() -> None:
    capture = PlanCapture(Pen(False), _Full)
    for change in EVERYTHING.changes:
        part = capture.empty()
        part.add(change)
        capture.merge(part)
    assert capture.texts() is None


def test_without_a_pen_there_is_no_text(tmp_path: Path) -> None:
    capture = PlanCapture(None, partial(Spool, "the text", tmp_path, held=0))
    for change in EVERYTHING.changes:
        capture.add(change)
    assert capture.texts() is None
