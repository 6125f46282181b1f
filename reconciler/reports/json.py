"""Plans, findings, drift and the events of an apply as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from reconciler.core.outcomes import ApplyReport, Drift, Halt, Progress, Result
from reconciler.core.plan import Plan
from reconciler.core.plan_format import to_lines
from reconciler.errors import Diagnostic, ExitCode, ReconcileError
from reconciler.reports.tally import count_by_severity
from reconciler.reports.view import PlanView
from reconciler.reports.wording import seconds_left
from reconciler.values import Json, spelled


def plan_json(view: PlanView) -> str:
    """A plan as one JSON object: schema ``plan.schema.json``. The kinds of masked values and the authors of
    lines are members beside those of the plan. A masked plan cannot be applied."""
    return "".join(plan_json_parts(view))


def plan_json_parts(view: PlanView) -> Iterator[str]:
    """`plan_json` in parts, one a change, for a plan that does not fit into memory."""
    lines = to_lines(view.plan)
    head: dict[str, Json] = json.loads(next(lines))
    if view.masked:
        head["masked"] = list(view.masked)
    if view.blame:
        head["blame"] = [
            {
                "address": address,
                "path": path,
                "commit": author.commit or None,
                "author": author.author or None,
                "date": author.date or None,
                "summary": author.summary,
                "removed": author.removed,
                **({"problem": author.problem} if author.problem else {}),
            }
            for (address, path), author in view.blame.items()
        ]
    yield f'{spelled(head, indent=2).removesuffix("}").rstrip()},\n  "changes": ['
    separator = "\n"
    line = next(lines)
    for following in lines:
        change = spelled(json.loads(line), indent=2).replace("\n", "\n    ")
        yield f"{separator}    {change}"
        separator = ",\n"
        line = following
    end = "\n  " if separator != "\n" else ""
    foot = {**json.loads(line), "digest": view.digest}
    yield f"{end}],{spelled(foot, indent=2).removeprefix('{')}\n"


def diagnostics_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Findings as one JSON object."""
    counts = count_by_severity(diagnostics)
    data: Json = {
        "format_version": 1,
        "valid": counts.errors == 0,
        "diagnostics": [
            {
                "severity": diagnostic.severity.value,
                "rule": diagnostic.rule,
                "message": diagnostic.message,
                "file": diagnostic.source.file,
                "line": diagnostic.source.line,
                "column": diagnostic.source.column,
                "hint": diagnostic.hint,
            }
            for diagnostic in diagnostics
        ],
        "summary": {"errors": counts.errors, "warnings": counts.warnings},
    }
    return spelled(data, indent=2) + "\n"


def drift_json(drifts: Sequence[Drift]) -> str:
    """The drift that `refresh` found, as one JSON object."""
    data: Json = {
        "format_version": 1,
        "profiles": [
            {
                "address": drift.address,
                "kind": drift.kind,
                "fields": [
                    {"path": field.path, "recorded": field.before, "observed": field.after}
                    for field in drift.fields
                ],
                "unverifiable": drift.unverifiable,
                "clock_went_back": drift.clock_went_back,
                **({"reason": drift.reason} if drift.reason else {}),
            }
            for drift in drifts
        ],
    }
    return spelled(data, indent=2) + "\n"


# The stream of events of `apply --json`: types and members stay, new ones may come.


def version_event() -> str:
    """The first event of the stream."""
    return spelled({"type": "version", "format_version": 1})


def start_event(plan: Plan) -> str:
    """The event that announces an apply."""
    return spelled(
        {
            "type": "start",
            "environment": plan.environment,
            "digest": plan.digest,
            "changes": plan.count,
            "requests": plan.summary["requests"],
            "requests_max": plan.summary["requests_max"],
        }
    )


def backup_event(path: str) -> str:
    """A backup of the state was made, before the first change."""
    return spelled({"type": "backup", "path": path})


def change_event(result: Result) -> str:
    """The outcome of a change; ``failure`` names the class of what went wrong."""
    return spelled(
        {
            "type": "change",
            "address": result.address,
            "action": result.action.value,
            "outcome": result.outcome.value,
            "failure": result.failure.value if result.failure else None,
            "reason": result.reason,
            "request_id": result.request_id,
            "warnings": list(result.warnings),
        }
    )


def progress_event(progress: Progress, *, seconds: float) -> str:
    """How far it is."""
    left = seconds_left(progress, seconds)
    return spelled(
        {
            "type": "progress",
            "total": progress.total,
            "done": progress.done,
            "failed": progress.failed,
            "under_way": progress.under_way,
            "requests": progress.requests,
            "rate_per_minute": None if progress.rate is None else round(progress.rate * 60, 3),
            "waiting_for": progress.waiting_for,
            "seconds": round(seconds, 3),
            "seconds_left": None if left is None else round(left, 1),
        }
    )


def summary_event(
    report: ApplyReport, code: ExitCode, *, problem: ReconcileError | None = None
) -> str:
    """The last event, also where the run ended by an error."""
    return spelled(
        {
            "type": "summary",
            "run": report.run,
            "outcomes": {outcome.value: count for outcome, count in report.counts.items()},
            "halt": report.halt.name.lower() if report.halt else None,
            "interrupted": report.halt is Halt.INTERRUPTED,
            "requests": report.requests,
            "seconds": round(report.seconds, 3),
            "recovered": report.recovered,
            "clock_jumps": report.clock_jumps,
            "exit_code": int(code),
            "error": None if problem is None else problem.message,
            "hint": None if problem is None else problem.hint,
        }
    )
