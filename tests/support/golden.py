"""The plans of `tests.support.plans` in each format, as files. ``make golden`` writes them anew."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from reconciler.core.contract_files import load_contract
from reconciler.core.options import Rate
from reconciler.core.outcomes import ApplyReport, Outcome
from reconciler.core.plan import Plan
from reconciler.core.rules import load_rules
from reconciler.reports import ci, markdown
from reconciler.reports.findings_text import diagnostics_text
from reconciler.reports.html import load_template, plan_html
from reconciler.reports.json import diagnostics_json, plan_json
from reconciler.reports.masking import Mask
from reconciler.reports.plan_text import plan_text
from reconciler.reports.text import apply_text, drift_text, result_line
from reconciler.reports.view import PlanView
from tests.support.plans import (
    ALIKE,
    BLAME,
    DRIFTS,
    EMPTY,
    EVERYTHING,
    FINDINGS,
    LINES,
    LINKS,
    RESULTS,
    SMALL,
    TEMPLATES,
)

FOLDER = Path(__file__).parent.parent / "golden"


def _masked(plan: Plan) -> PlanView:
    mask = Mask(load_contract("guide"), ("tier",))
    return PlanView.of(mask.plan(plan), masked=(mask.kind,), links=LINKS)


VIEWS: dict[str, Callable[[], PlanView]] = {
    "everything": lambda: PlanView.of(EVERYTHING, rate=Rate(5.0), links=LINKS),
    "empty": lambda: PlanView.of(EMPTY),
    "blamed": lambda: PlanView.of(SMALL, blame=BLAME, links=LINKS),
    "masked": lambda: _masked(EVERYTHING),
    "templates": lambda: PlanView.of(
        TEMPLATES, rate=Rate(5.0), planned="Planned 2026-11-29 04:10 UTC with reconcile 0.1.0"
    ),
}


def without_files(text: str) -> str:
    """A page without its style and script, which are files themselves."""
    for name, tag in (("plan.css", "style"), ("plan.js", "script")):
        text = text.replace(f"<{tag}>{load_template(name)}</{tag}>", f"<{tag}>{name}</{tag}>")
    return text


PLANS: dict[str, Callable[[PlanView], str]] = {
    "txt": lambda view: plan_text(view, color=False, show_requests=True),
    "json": plan_json,
    "md": lambda view: markdown.plan_markdown(view, show_requests=True),
    "html": lambda view: without_files(plan_html(view, explained=load_rules())),
    "github.txt": ci.plan_annotations,
    "gitlab.json": ci.plan_gitlab,
}

REPORTS: dict[str, Callable[[], str]] = {
    "txt": lambda: diagnostics_text(FINDINGS, color=False),
    "json": lambda: diagnostics_json(FINDINGS),
    "md": lambda: markdown.diagnostics_markdown(FINDINGS, environment="local", links=LINKS),
    "github.txt": lambda: ci.diagnostics_annotations(FINDINGS, LINKS),
    "gitlab.json": lambda: ci.diagnostics_gitlab(FINDINGS, LINKS),
    "sarif": lambda: ci.diagnostics_sarif(
        FINDINGS, version="0.1.0", explained=load_rules(), links=LINKS
    ),
    "junit.xml": lambda: ci.diagnostics_junit(FINDINGS, documents=3),
}


def _applied(*, color: bool, width: int | None) -> str:
    """The outcomes of an apply, and its end."""
    lines = [result_line(result, color=color) for result in RESULTS]
    counts = Counter(result.outcome for result in RESULTS)
    report = ApplyReport(
        "run-1", {outcome: counts[outcome] for outcome in Outcome}, problems=RESULTS, requests=2_041
    )
    again = "reconcile --env production apply"
    return "\n".join([*lines, apply_text(report, color=color, width=width, again=again)])


SPOKEN: dict[str, Callable[..., str]] = {
    "plan": lambda **terminal: plan_text(VIEWS["everything"](), **terminal),
    "templates": lambda **terminal: plan_text(VIEWS["templates"](), **terminal),
    "apply": _applied,
    "refresh": lambda **terminal: drift_text(DRIFTS, **terminal),
    "findings": lambda **terminal: diagnostics_text(
        (*FINDINGS, *[ALIKE] * 2_999), excerpts=LINES.__getitem__, **terminal
    ),
}
"""Texts for a terminal of 80 columns, in colour or without."""


def rendered() -> dict[str, str]:
    """The content of every golden file by its name."""
    files = {
        f"{name}.{ending}": write(view())
        for name, view in VIEWS.items()
        for ending, write in PLANS.items()
    }
    for name, speak in SPOKEN.items():
        files[f"terminal.{name}.txt"] = speak(color=False, width=80)
        files[f"terminal.{name}.color.txt"] = speak(color=True, width=80)
    return files | {f"findings.{ending}": write() for ending, write in REPORTS.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, "utf-8")
    sys.exit()
