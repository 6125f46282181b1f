"""A plan as text: in full, and what changes from plan to plan."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.options import Rate
from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Op, Plan, Request
from reconciler.errors import Source
from reconciler.reports.plan_text import plan_text, plan_text_parts
from reconciler.reports.view import PlanView
from tests.support.plans import EVERYTHING, FIELDS, PATH, plan_with


def plan_of(*changes: Change, **settings: Any) -> Plan:
    return plan_with(changes, **settings)


def changed(*fields: FieldChange, action: Action = Action.UPDATE, **extra: Any) -> Change:
    request = Request("PATCH", PATH, {"adapty-customer-user-id": "jane"}, {"first_name": "Janet"})
    settings: dict[str, Any] = {
        "requests": (request,),
        "source": Source("profiles/jane.yaml", 2),
    }
    return Change("jane", action, "because", fields, **{**settings, **extra})


def test_a_plan_in_full() -> None:
    plan = plan_of(
        changed(
            FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED, 3),
            FieldChange("last_name", Op.SET, None, "Doe", Basis.NONE, 4),
            FieldChange("email", Op.CLEAR, "a@example.com", None, Basis.UNCERTAIN),
            FieldChange("birthday", Op.FORGET, "2000-12-31", None, Basis.RECORDED),
            FieldChange("custom_attributes.level", Op.SET, 4.0, 5.0, Basis.OBSERVED, 6),
            hazards=(
                Hazard("new_device_id", "makes an installation"),
                Hazard("ip_country_from_sender", "sent without ip_country"),
            ),
        ),
        Change("old", Action.DELETE, "in no file", hazards=(Hazard("delete", "no undo"),)),
        orphans=("left",),
        unchanged=98,
        hazards=(Hazard("max_delete", "1 deletion of 2 recorded, above max_delete"),),
    )
    text = plan_text(PlanView.of(plan, rate=Rate(5.0)), color=False)
    assert re.sub("sha256:[0-9a-f]{64}", "DIGEST", text) == (
        "! 1 deletion of 2 recorded, above max_delete\n"
        "! old: no undo\n"
        "! jane: makes an installation\n"
        "! 1 change sent without ip_country\n"
        "\n"
        "~ jane  (update)  profiles/jane.yaml:2\n"
        "    # because\n"
        '    ~ first_name               "Jane" → "Janet"\n'
        '    + last_name                "Doe"  (never known)\n'
        '    - email                    "a@example.com" → cleared  (uncertain)\n'
        '    x birthday                 "2000-12-31"  no longer managed; stays as it is at the API\n'
        "    ~ custom_attributes.level  4.0 → 5.0  (observed)\n"
        "\n"
        "- old  (delete)\n"
        "    # in no file\n"
        "\n"
        "1 orphan, recorded but in no file, left alone:\n"
        "    left\n"
        "  Plan their deletion with `reconcile plan --prune`, or stop recording them with "
        "`reconcile state rm left`.\n"
        "\n"
        "3 fields are write-only: the API never returns them, so what was there is what this tool "
        "last wrote.\n"
        "Plan: 1 to update, 1 to delete; 98 unchanged; "
        "environment local, mode additive.\n"
        "1 request, about 1 s at 300/min. DIGEST\n"
    )


def test_an_empty_plan_says_so() -> None:
    text = plan_text(PlanView.of(plan_of(unchanged=3)), color=False)
    assert text.startswith(
        "No changes. 3 profiles as recorded; environment local, mode additive.\n"
    )


def test_requests_are_shown_whole() -> None:
    field = FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED)
    text = plan_text(PlanView.of(plan_of(changed(field))), color=False, show_requests=True)
    assert (
        f"    PATCH {PATH}\n"
        "      adapty-customer-user-id: jane\n"
        "      {\n"
        '        "first_name": "Janet"\n'
        "      }\n"
    ) in text


@pytest.mark.parametrize(
    ("number", "rate", "expected"),
    [
        (1, 5.0, "1 request, about 1 s at 300/min."),
        (3000, 5.0, "3,000 requests, about 10 min at 300/min."),
        (2, None, "2 requests, no rate limit."),
    ],
)
def test_the_last_line_says_how_long_it_takes(
    number: int, rate: float | None, expected: str
) -> None:
    request = Request("PATCH", PATH, {}, {})
    plan = plan_of(changed(requests=(request,) * number))
    last = plan_text(PlanView.of(plan, rate=Rate(rate)), color=False).splitlines()[-1]
    assert last.startswith(expected)


def test_a_create_takes_one_or_two_requests() -> None:
    create = Request("PATCH", PATH, {}, {}, "POST")
    for number, expected in (
        (1, "1 to 2 requests, about 1 s at 300/min."),
        (2000, "2,000 to 4,000 requests, about 7 to 14 min at 300/min."),
        (500, "500 to 1,000 requests, about 100 s to 4 min at 300/min."),
    ):
        plan = plan_of(changed(action=Action.CREATE, requests=(create,) * number))
        last = plan_text(PlanView.of(plan, rate=Rate(5.0)), color=False).splitlines()[-1]
        assert last.startswith(expected)
        assert (plan.summary["requests"], plan.summary["requests_max"]) == (number, 2 * number)


def test_without_unicode_the_arrow_is_ascii() -> None:
    field = FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED)
    assert plan_text(PlanView.of(plan_of(changed(field))), color=False, ascii=True).isascii()


def test_beyond_200_hazards_of_a_kind_the_rest_is_summed_up() -> None:
    change = next(
        change
        for change in EVERYTHING.changes
        if any(hazard.kind == "new_device_id" for hazard in change.hazards)
    )
    many = tuple(change._replace(address=f"u{number}") for number in range(1_203))
    view = PlanView.of(replace(EVERYTHING, changes=many))
    named = [hazard for hazard in view.hazards if hazard.kind == "new_device_id"]
    assert len([hazard for hazard in named if hazard.address]) == 200
    assert "! 1,003 changes more have the hazard new_device_id" in plan_text(view, color=False)
    assert "1,203 new installations" in view.undo


@given(FIELDS, st.booleans())
def test_every_field_is_one_line(fields: list[FieldChange], color: bool) -> None:
    change = Change("jane", Action.UPDATE, "because", tuple(fields), source=Source("a.yaml", 3))
    text = next(plan_text_parts(PlanView.of(plan_of(change)), color=color))
    assert text.count("\n") == 2 + len(fields) + 1
