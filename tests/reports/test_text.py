"""Outcomes and records as text; every text and JSON of hostile values."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.outcomes import ApplyReport, Drift, DriftKind, Outcome, Result
from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Op, Request
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import Source, error
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.json import change_event, diagnostics_json, drift_json, plan_json
from reconciler.reports.plan_text import plan_text
from reconciler.reports.text import (
    apply_text,
    difference_text,
    drift_text,
    record_text,
    records_text,
    result_line,
)
from reconciler.reports.view import PlanView
from tests.support.plans import PATH, plan_with


def test_an_outcome_names_the_request_where_it_went_wrong() -> None:
    result = Result("jane", Action.UPDATE, Outcome.FAILED, "refused", "abc")
    assert result_line(result, color=False) == "jane: failed (refused) [Request-Id abc]"


def test_the_end_of_an_apply_says_what_to_do() -> None:
    counts = dict.fromkeys(Outcome, 0) | {
        Outcome.UPDATED: 1,
        Outcome.UNCERTAIN: 1,
        Outcome.STALE: 1,
    }
    assert apply_text(ApplyReport("run", counts), color=False) == (
        "Apply incomplete: 1 updated, 1 stale, 1 uncertain.\n"
        "Run `reconcile apply` again: uncertain writes are sent again, what is done is recorded.\n"
        "Stale changes were not sent: plan again.\n"
    )


def test_a_record_shows_what_is_uncertain() -> None:
    record = Record("jane", facts={"email": Fact(Known.UNCERTAIN, value="a", attempt="b")})
    assert record_text(record, color=False) == (
        'jane\n  presence: present\n  origin: unknown\n  email  uncertain: "a" or "b"\n'
    )


def test_a_difference_of_states_is_told_in_words() -> None:
    def bob(**facts: object) -> dict[str, object]:
        return {"address": "qa-bob", "facts": facts, "revision": len(facts), "labels": [*facts]}

    seen = {"known": "value", "value": "Zoë"}
    before = {"serial": 7, "profiles": [bob(beta={"known": "value", "value": 1.0}, name=seen)]}
    after = {
        "serial": 9,
        "lineage": "l2",
        "profiles": [
            {"address": "qa-zoe", "facts": {}},
            bob(
                beta={"known": "value", "value": 2.0},
                email={"known": "cleared"},
                name={**seen, "observed": True},
            ),
        ],
    }
    assert difference_text(before, after) == (
        'state: added lineage "l2"\n'
        "qa-bob: changed beta 1.0 → 2.0\n"
        "qa-bob: added email cleared\n"
        'qa-bob: changed name {"known": "value", "value": "Zoë"} → '
        '{"known": "value", "value": "Zoë", "observed": true}\n'
        'qa-bob: changed labels ["beta", "name"] → ["beta", "email", "name"]\n'
        "qa-zoe: added\n"
    )
    assert difference_text(before, before) == "No difference.\n"
    line = difference_text({"a": "Zoë"}, {"a": "Ann"}, ascii=True)
    assert line == 'state: changed a "Zoë" -> "Ann"\n'


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
    plan = plan_with(
        [change], orphans=(text,), environment=text, hazards=(Hazard("protected", text),)
    )
    result = Result(text, Action.UPDATE, Outcome.FAILED, text, text, (text,))
    record = Record(
        text, profile_id=text, labels=(text,), facts={text: Fact.of(text)}, source=source
    )
    return [
        plan_text(PlanView.of(plan), color=False, show_requests=True),
        plan_json(PlanView.of(plan)),
        diagnostics_text([error("rule", text, source=source, hint=text)], color=False),
        diagnostics_json([error("rule", text, source=source, hint=text)]),
        result_line(result, color=False),
        change_event(result),
        drift_text([Drift(text, DriftKind.CHANGED, (field,), 1)], color=False),
        drift_json([Drift(text, DriftKind.CHANGED, (field,), 1)]),
        drift_text([Drift(text, DriftKind.UNREAD, reason=text)], color=False),
        drift_json([Drift(text, DriftKind.UNREAD, reason=text)]),
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
def test_events_hold_the_text_as_it_is(text: str) -> None:
    result = Result(text, Action.UPDATE, Outcome.UPDATED, text)
    assert json.loads(change_event(result))["address"] == text


def test_a_profile_that_could_not_be_read_says_why() -> None:
    drifts = [
        Drift("jane", DriftKind.UNREAD, reason="the API is away"),
        Drift("joe", DriftKind.SAME),
    ]
    assert "~ jane  could not be read: the API is away\n" in drift_text(drifts, color=False)
    jane, joe = json.loads(drift_json(drifts))["profiles"]
    assert (jane["reason"], "reason" in joe) == ("the API is away", False)


def test_a_refresh_counts_what_differs_and_leaves_zeros_out() -> None:
    same, changed = Drift("a", DriftKind.SAME), Drift("b", DriftKind.CHANGED)
    gone, unread = Drift("c", DriftKind.GONE), Drift("d", DriftKind.UNREAD)
    for drifts, expected in (
        ([same] * 3 + [changed] * 2, "5 read: 2 differ."),
        ([same], "1 read: none differs."),
        ([changed, gone, gone, unread], "3 read: 1 differs, 2 gone; 1 could not be read."),
        ([unread], "1 could not be read."),
        ([], "No recorded profile is selected; none was read."),
    ):
        assert drift_text(drifts, color=False).splitlines()[-1] == expected
