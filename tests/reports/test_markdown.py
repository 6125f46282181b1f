"""The comment of a review: what comes first, what is cut, and that it says so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reconciler.core.plan import Action, Basis, Change, FieldChange, Hazard, Mode, Op, Plan, Request
from reconciler.errors import Source, error, warning
from reconciler.reports.markdown import LEAST, LIMIT, diagnostics_markdown, marker, plan_markdown
from reconciler.reports.view import Links, PlanView
from tests.support.plans import EVERYTHING, LINKS, SMALL, plan_with


def large(changes: int, *, length: int = 20) -> Plan:
    """A plan in which every fiftieth change is a deletion."""

    def change(number: int) -> Change:
        address = f"user-{number:05}@example.com"
        if number % 50 == 49:
            hazard = Hazard("delete", "will be deleted with all related data; there is no undo")
            return Change(address, Action.DELETE, "in no file", hazards=(hazard,))
        return Change(
            address,
            Action.UPDATE,
            "2 to set",
            (
                FieldChange("first_name", Op.SET, "x" * length, "y" * length, Basis.RECORDED, 3),
                FieldChange("custom_attributes.tier", Op.SET, "a", "b", Basis.OBSERVED, 5),
            ),
            (Request("PATCH", "/x", {}, {"first_name": "y" * length}),),
            source=Source(f"profiles/{number}.yaml", 1),
        )

    return plan_with(
        (change(number) for number in range(changes)),
        environment="production",
        mode=Mode.PRUNE,
        lineage="lineage",
        serial=1,
        orphans=tuple(f"orphan-{number}" for number in range(1000)),
        unchanged=7,
    )


def test_the_marker_of_a_comment_names_environment_and_digest() -> None:
    first = plan_markdown(PlanView.of(SMALL)).splitlines()[0]
    assert first == f"<!-- reconcile:plan:local {SMALL.digest} -->"
    commit = "0" * 40
    assert marker("x", SMALL.digest, since=commit) == (
        f"<!-- reconcile:plan:x {SMALL.digest} since:{commit} -->"
    )
    assert marker("x", SMALL.digest, since="0 -->") == f"<!-- reconcile:plan:x {SMALL.digest} -->"
    assert marker("a b>--") == "<!-- reconcile:plan:a%20b%3E-- -->"


def test_dangers_and_deletions_stand_before_anything_else() -> None:
    text = plan_markdown(PlanView.of(EVERYTHING))
    assert (
        text.index("[!CAUTION]")
        < text.index("`old-1`: will be deleted")
        < text.index("| profile |")
    )
    rows = re.findall(r"^\| `.` (\w+)", text, re.MULTILINE)
    assert rows == ["delete", "link", "create", "update", "adopt", "rename", "forget"]


def test_a_change_has_its_mark_in_the_first_column_of_a_diff() -> None:
    text = plan_markdown(PlanView.of(SMALL))
    assert '\n! custom_attributes.tier  "gold" → "platinum"  (observed)\n' in text
    assert '\n- email  "jane@example.com" → cleared\n' in text


def test_fields_lead_to_their_lines() -> None:
    text = plan_markdown(PlanView.of(SMALL, links=LINKS))
    base = "https://git.example/owner/name/blob/0123abc/apps/shop/profiles/qa/jane.yaml"
    assert f"[`custom_attributes.tier`]({base}#L5)" in text
    assert f"[`profiles/qa/jane.yaml:2`]({base}#L2)" in text


def test_a_file_name_cannot_steer_a_link() -> None:
    link = Links("https://git.example/blob/1/").to(Source("a b)](x#L1?q&<é>", 2))
    assert link == "https://git.example/blob/1/a%20b%29%5D%28x%23L1%3Fq%26%3C%C3%A9%3E#L2"


@pytest.mark.parametrize("number", [1, 30, 300, 3000])
@pytest.mark.parametrize("limit", [LEAST, 20_000, LIMIT])
@pytest.mark.parametrize("requests", [False, True])
def test_a_comment_fits_and_keeps_totals_digest_and_command(
    number: int, limit: int, requests: bool
) -> None:
    plan = large(number, length=200)
    text = plan_markdown(PlanView.of(plan, links=LINKS), limit=limit, show_requests=requests)
    assert len(text.encode()) <= limit
    assert f"{plan.summary['update']:,} to update" in text
    assert text.count(plan.digest) == 3
    assert "--auto-approve --digest" in text
    assert "**1,000 orphans**" in text
    assert text.count("```") % 2 == 0
    assert text.count("<details>") == text.count("</details>")


def test_deletions_are_the_last_to_be_cut() -> None:
    text = plan_markdown(PlanView.of(large(3000)), limit=20_000)
    rows = re.findall(r"^\| `.` (\w+)", text, re.MULTILINE)
    assert rows.count("delete") == 60
    assert rows == sorted(rows, key=lambda action: action != "delete")


def test_a_cut_comment_says_what_is_missing() -> None:
    text = plan_markdown(PlanView.of(large(3000)), limit=20_000)
    said = re.search(
        r"> Cut to fit: the table has (\d+) of 3,000 changes, .*; the details are of (\d+);", text
    )
    assert said is not None
    assert int(said[1]) == len(re.findall(r"^\| `.` ", text, re.MULTILINE))
    assert int(said[2]) == len(re.findall(r"^@@ ", text, re.MULTILINE))


def test_a_comment_that_fits_does_not_mention_cutting() -> None:
    assert "Cut to fit" not in plan_markdown(PlanView.of(large(30)), show_requests=True)


def test_github_counts_characters_and_takes_the_largest_comment() -> None:
    plan = large(3000)
    wide = replace(plan, changes=tuple(c._replace(address=f"💥{c.address}") for c in plan.changes))
    text = plan_markdown(PlanView.of(wide))
    assert len(text.encode("utf-16-le")) // 2 <= 65_536


def test_a_long_value_is_cut_and_shows_it() -> None:
    text = plan_markdown(PlanView.of(large(1, length=5000)))
    assert "…" in text
    assert len(text) < 5000


def test_findings_come_errors_first_and_are_counted_when_cut() -> None:
    findings = [
        (error if number % 2 else warning)(
            "profile/value",
            f"value {number} is wrong",
            source=Source(f"{number:04}.yaml", 1),
            hint="Mend it.",
        )
        for number in range(1000)
    ]
    text = diagnostics_markdown(findings, environment="local", limit=10_000)
    assert len(text.encode()) <= 10_000
    rows = re.findall(r"^\| (\*\*error\*\*|warning)", text, re.MULTILINE)
    assert set(rows) == {"**error**"}
    assert f"Cut to fit: {len(rows)} of 1,000 rows are shown." in text
    assert "500 errors, 500 warnings" in text


def test_valid_files_have_a_comment_too() -> None:
    assert "### Profile files: valid" in diagnostics_markdown([], environment="local")
