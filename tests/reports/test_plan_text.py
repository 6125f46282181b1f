"""A plan as text: in full, and what changes from plan to plan."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.options import Rate
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    Mode,
    Op,
    Plan,
    Request,
)
from reconciler.errors import Source
from reconciler.reports.plan_text import plan_text, plan_text_parts
from reconciler.reports.style import Pen
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
        hazards=(Hazard("max_delete", "environments.local.limits.max_delete is 25%"),),
    )
    text = plan_text(PlanView.of(plan, rate=Rate(5.0)), color=False)
    assert re.sub("sha256:[0-9a-f]{64}", "DIGEST", text) == (
        "! apply will refuse this: environments.local.limits.max_delete is 25%\n"
        "! old: no undo\n"
        "! jane: makes an installation\n"
        "! jane: sent without ip_country\n"
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
        "The API never returns birthday, email and first_name: what was there is what this tool last "
        "wrote.\n"
        "Plan for local: 1 to update, 1 to delete, 98 unchanged.\n"
        "1 request.\n"
        "Digest DIGEST\n"
        "apply will refuse this plan, as said at the top.\n"
    )


def test_an_empty_plan_says_so() -> None:
    text = plan_text(PlanView.of(plan_of(unchanged=3)), color=False)
    assert text.startswith("No changes. Plan for local: 3 unchanged.\nDigest sha256:")


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
        (1, 5.0, "1 request."),
        (3000, 5.0, "3,000 requests, 10 min at 300/min."),
        (2, None, "2 requests."),
    ],
)
def test_the_last_line_says_how_long_it_takes(
    number: int, rate: float | None, expected: str
) -> None:
    request = Request("PATCH", PATH, {}, {})
    plan = plan_of(changed(requests=(request,) * number))
    line = plan_text(PlanView.of(plan, rate=Rate(rate)), color=False).splitlines()[-2]
    assert line == expected


def test_a_create_takes_one_or_two_requests() -> None:
    create = Request("PATCH", PATH, {}, {}, "POST")
    for number, expected in (
        (1, "1 to 2 requests."),
        (2000, "2,000 to 4,000 requests, 7 to 14 min at 300/min."),
        (500, "500 to 1,000 requests, 100 s to 4 min at 300/min."),
    ):
        plan = plan_of(changed(action=Action.CREATE, requests=(create,) * number))
        line = plan_text(PlanView.of(plan, rate=Rate(5.0)), color=False).splitlines()[-2]
        assert line == expected
        assert (plan.summary["requests"], plan.summary["requests_max"]) == (number, 2 * number)


def test_without_unicode_the_arrow_is_ascii() -> None:
    field = FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED)
    assert plan_text(PlanView.of(plan_of(changed(field))), color=False, ascii=True).isascii()


def test_a_hazard_in_the_same_words_is_said_once_with_its_number() -> None:
    gone = Hazard("delete", "will be deleted with all related data; there is no undo")
    for number, subject in (
        (1, "u0"),
        (3, "3 profiles (u0, u1, u2)"),
        (2_000, "2,000 profiles (u0, u1, u2, …)"),
    ):
        changes = [
            Change(f"u{index}", Action.DELETE, "in no file", hazards=(gone,))
            for index in range(number)
        ]
        view = PlanView.of(replace(EVERYTHING, changes=tuple(changes), hazards=()))
        lines = [line for line in plan_text(view, color=False).splitlines() if line[:1] == "!"]
        assert lines == [f"! {subject}: will be deleted with all related data; there is no undo"]
        assert view.undo.split("take back ")[1].startswith(f"{number:,} deletion")


def test_beyond_200_sentences_of_a_kind_the_rest_is_summed_up() -> None:
    many = tuple(
        Change(f"u{number}", Action.LINK, "linked", hazards=(Hazard("link", f"links {number}"),))
        for number in range(1_203)
    )
    view = PlanView.of(replace(EVERYTHING, changes=many))
    named = [hazard for hazard in view.hazards if hazard.kind == "link"]
    assert len([hazard for hazard in named if hazard.addresses]) == 200
    assert "! 1,003 profiles: link as well, each in its own words" in plan_text(view, color=False)
    assert "1,203 links" in view.undo


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Zo\u00e9", "Zoe\u0301", '"Zo\u00e9" (composed) → "Zoe\u0301" (decomposed)'),
        ("Zoe\u0301", "Zo\u00e9", '"Zoe\u0301" (decomposed) → "Zo\u00e9" (composed)'),
        ("Pa\u0443l", "Payl", '"Pa\u0443l" (U+0443) → "Payl" (U+0079)'),
        ("a\u00a0b", "a b", '"a\\xa0b" → "a b"'),
        ("Zo\u00e9", "Zoe", '"Zo\u00e9" → "Zoe"'),
        ("Ren\u00e9", "Zo\u00e9", '"Ren\u00e9" → "Zo\u00e9"'),
    ],
)
def test_two_values_that_look_the_same_are_told_apart(
    before: str, after: str, expected: str
) -> None:
    change = changed(FieldChange("first_name", Op.SET, before, after, Basis.RECORDED))
    line = plan_text(PlanView.of(plan_of(change)), color=False).splitlines()[2]
    assert line == f"    ~ first_name  {expected}"


def test_an_empty_sweep_says_that_nothing_has_expired() -> None:
    plan = plan_of(mode=Mode.SWEEP)
    assert plan_text(PlanView.of(plan), color=False) == "Nothing has expired.\n"


@given(FIELDS, st.booleans())
def test_every_field_is_one_line(fields: list[FieldChange], color: bool) -> None:
    change = Change("jane", Action.UPDATE, "because", tuple(fields), source=Source("a.yaml", 3))
    text = next(plan_text_parts(PlanView.of(plan_of(change)), Pen(color)))
    assert text.count("\n") == 2 + len(fields) + 1
