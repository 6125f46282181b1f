"""What people read: expected text in full, and nothing hostile in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.outcomes import ApplyReport, Drift, DriftKind, Outcome, Result
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
from reconciler.core.records import Fact, Known, Record
from reconciler.core.transitions import Rate
from reconciler.errors import Source, error, warning
from reconciler.reports.json import change_event, diagnostics_json, drift_json, plan_json
from reconciler.reports.plan_text import plan_text
from reconciler.reports.text import (
    apply_text,
    diagnostics_text,
    difference_text,
    drift_text,
    record_text,
    records_text,
    result_line,
)
from reconciler.reports.view import PlanView
from tests.support.plans import EVERYTHING

PATH = "/api/v2/server-side-api/profile/"


def plan_of(*changes: Change, **settings: Any) -> Plan:
    given: dict[str, Any] = {
        "environment": "local",
        "mode": Mode.ADDITIVE,
        "lineage": None,
        "serial": 0,
        "application": None,
        "orphans": (),
        "unchanged": 0,
    }
    return Plan(changes=changes, **{**given, **settings})


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
        "  Delete them with --prune, or stop recording them with `reconcile state rm`.\n"
        "\n"
        "3 fields are write-only: the API never returns them, so what was there is what this tool "
        "last wrote.\n"
        "Plan: 0 to create, 1 to update, 0 to link, 1 to delete, 0 to forget; 98 unchanged; "
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


def test_without_unicode_the_arrow_is_ascii() -> None:
    field = FieldChange("first_name", Op.SET, "Jane", "Janet", Basis.RECORDED)
    assert plan_text(PlanView.of(plan_of(changed(field))), color=False, ascii=True).isascii()


def test_findings_in_full() -> None:
    findings = [
        error("profile/type", "it is wrong", Source("a.yaml", 1, 2), hint="mend it"),
        warning("profile/suspicious", "odd", Source("b.yaml")),
    ]
    assert diagnostics_text(findings, color=False) == (
        "a.yaml:1:2: error: it is wrong [profile/type]\n"
        "  mend it\n"
        "b.yaml: warning: odd [profile/suspicious]\n"
        "1 error, 1 warning.\n"
    )


def test_an_outcome_names_the_request_where_it_went_wrong() -> None:
    result = Result("jane", Action.UPDATE, Outcome.FAILED, "refused", "abc")
    assert result_line(result, color=False) == "jane: failed (refused) [Request-Id abc]"


def test_the_end_of_an_apply_says_what_to_do() -> None:
    counts = dict.fromkeys(Outcome, 0) | {
        Outcome.APPLIED: 1,
        Outcome.UNCERTAIN: 1,
        Outcome.STALE: 1,
    }
    assert apply_text(ApplyReport("run", counts), color=False) == (
        "Apply incomplete: 1 applied, 0 already, 0 failed, 1 stale, 1 uncertain, 0 skipped.\n"
        "Run apply again: uncertain writes are sent again, what is done is recorded.\n"
        "Stale changes were not sent: plan again.\n"
    )


def test_a_record_shows_what_is_uncertain() -> None:
    record = Record("jane", facts={"email": Fact(Known.UNCERTAIN, value="a", attempt="b")})
    assert record_text(record, color=False) == (
        'jane\n  presence: present\n  email  uncertain: "a" or "b"\n'
    )


def test_a_difference_of_states_is_by_address() -> None:
    before = {"profiles": [{"address": "a", "x": 1}]}
    after = {"profiles": [{"address": "0", "x": 3}, {"address": "a", "x": 2}]}
    assert difference_text(before, after) == (
        'root[\'profiles\'][\'0\']: absent -> {"address": "0", "x": 3}\n'
        "root['profiles']['a']['x']: 1 -> 2\n"
    )


def test_a_difference_shows_letters_as_they_are() -> None:
    assert difference_text({"a": "Zoë"}, {"a": "Ann"}) == 'root[\'a\']: "Zoë" -> "Ann"\n'


HOSTILE = st.text(
    alphabet=st.sampled_from("\x1b\x9b\r\n\x00\x07\u202e\u2066\u200b\u2028\ufeff\ud800a[31m:"),
    min_size=1,
    max_size=12,
)
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800]"
)


def _renderings(text: str) -> list[str]:
    """Every rendering of values that hold a text wherever one can stand."""
    field = FieldChange(f"custom_attributes.{text}", Op.SET, text, text + "x", Basis.RECORDED)
    source = Source(text, 1)
    change = Change(
        text, Action.UPDATE, text, (field,), (Request("PATCH", PATH, {text: text}, {text: text}),),
        (Hazard("link", text), Hazard("other", text)), source,
    )  # fmt: skip
    plan = plan_of(change, orphans=(text,), environment=text, hazards=(Hazard("protected", text),))
    result = Result(text, Action.UPDATE, Outcome.FAILED, text, text, (text,))
    record = Record(
        text, profile_id=text, labels=(text,), facts={text: Fact.of(text)}, source=source
    )
    return [
        plan_text(PlanView.of(plan), color=False, show_requests=True),
        plan_json(PlanView.of(plan)),
        diagnostics_text([error("rule", text, source, hint=text)], color=False),
        diagnostics_json([error("rule", text, source, hint=text)]),
        result_line(result, color=False),
        change_event(result),
        drift_text([Drift(text, DriftKind.CHANGED, (field,), 1)], color=False),
        drift_json([Drift(text, DriftKind.CHANGED, (field,), 1)]),
        record_text(record, color=False),
        records_text([record], color=False),
        difference_text({"a": text}, {"a": text + "b"}),
    ]


@given(HOSTILE)
def test_nothing_hostile_is_printed_raw(text: str) -> None:
    assert not [output for output in _renderings(text) if UNSAFE.search(output)]


@given(HOSTILE)
def test_a_value_cannot_make_a_line_of_its_own(text: str) -> None:
    lines = [output.count("\n") for output in _renderings(text)]
    assert lines == [output.count("\n") for output in _renderings("harmless")]


@given(HOSTILE)
def test_json_reads_back_as_it_was(text: str) -> None:
    result = Result(text, Action.UPDATE, Outcome.APPLIED, text)
    assert json.loads(change_event(result))["address"] == text


def test_of_very_many_grave_hazards_the_rest_is_summed_up() -> None:
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
