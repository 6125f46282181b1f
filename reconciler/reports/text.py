"""Plans, findings, outcomes and records as text and JSON. Pure: values in, strings out.

Everything that came from a file or from the API passes `shown` or `quoted` before it is printed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, assert_never

from reconciler.core.outcomes import ApplyReport, Drift, DriftKind, Halt, Outcome, Progress, Result
from reconciler.core.plan import Action, Mode, Op, Plan, to_lines
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import Diagnostic, ExitCode, ReconcileError, Severity, Source
from reconciler.reports.view import (
    ChangeView,
    FieldView,
    HazardView,
    PlanView,
    count,
    duration,
)
from reconciler.values import Json, quoted, shown, spelled

_RED, _GREEN, _YELLOW, _BOLD, _DIM = "31", "32", "33", "1", "2"
_MOST_ORPHANS = 20
_MOST_DIFFERENCES = 50

_COLORS = {"+": _GREEN, "~": _YELLOW, "-": _RED, "x": _DIM}


class _Pen(NamedTuple):
    """Colours text, or not."""

    color: bool

    def __call__(self, text: str, *codes: str) -> str:
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.color and codes else text


# --- plans ---------------------------------------------------------------------------------------


def plan_text(
    view: PlanView, *, color: bool, show_requests: bool = False, ascii: bool = False
) -> str:
    """A plan as a reviewer reads it: dangers, changes, orphans, totals.

    ``ascii`` avoids arrows that the output cannot encode.
    """
    parts = plan_text_parts(view, color=color, show_requests=show_requests, ascii=ascii)
    return "".join(parts)


def plan_text_parts(
    view: PlanView,
    *,
    color: bool,
    show_requests: bool = False,
    ascii: bool = False,
) -> Iterator[str]:
    """`plan_text` in parts, for a plan that does not fit into memory."""
    pen, arrow = _Pen(color), _arrow(ascii)
    hazards = [_hazard_line(hazard, pen) for hazard in view.hazards]
    if hazards:
        yield _joined([*hazards, ""])
    if show_requests:  # of a group they are not the same
        for change in view.changes:
            lines = (f"    {line}" for request in change.requests for line in request)
            yield f"{_change_text(change, pen, arrow)[:-1]}{_joined([*lines, ''])}"
    else:
        for leader in view.leaders:
            yield _change_text(view.group(leader), pen, arrow)
    yield _joined([*_orphan_lines(view, pen), *_closing_lines(view, pen)])


def _arrow(ascii: bool) -> str:
    return "->" if ascii else "→"


def _joined(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])


def _hazard_line(hazard: HazardView, pen: _Pen) -> str:
    if hazard.is_summed:
        return pen(f"! {count(hazard.number, 'change')} {hazard.message}", _YELLOW)
    address = f"{hazard.address}: " if hazard.address else ""
    return pen(f"! {address}{hazard.message}", _BOLD, _RED)


def _change_text(change: ChangeView, pen: _Pen, arrow: str) -> str:
    return _joined([*_head_lines(change, pen), *_field_lines(change.fields, pen, arrow), ""])


def _head_lines(change: ChangeView, pen: _Pen) -> Iterator[str]:
    place = f"  {change.place}" if change.place else ""
    yield pen(f"{change.symbol} {change.address}", _BOLD, _COLORS[change.symbol]) + (
        f"  ({change.action})" + pen(place, _DIM)
    )
    yield pen(f"    # {change.reason}", _DIM)
    if change.author:
        yield pen(f"    # {change.author}", _DIM)


def _field_lines(fields: Sequence[FieldView], pen: _Pen, arrow: str) -> Iterator[str]:
    width = max([len(field.path) for field in fields], default=0)
    for field in fields:
        name = _field_name(field.mark, field.path, width, pen)
        text = f"{name}  {_field_text(field, arrow)}"
        yield text + pen(f"  [{field.author}]", _DIM) if field.author else text


@lru_cache(maxsize=4096)  # there are few, and many fields
def _field_name(mark: str, path: str, width: int, pen: _Pen) -> str:
    return f"    {pen(mark, _COLORS[mark])} {path:<{width}}"


def _field_text(field: FieldView, arrow: str) -> str:
    if field.op is Op.FORGET:
        return f"{field.before}  {field.note}"
    value = field.after if field.before is None else f"{field.before} {arrow} {field.after}"
    return f"{value}  ({field.note})" if field.note else value


def _orphan_lines(view: PlanView, pen: _Pen) -> Iterator[str]:
    if not view.orphans:
        return
    yield pen(f"{count(len(view.orphans), 'orphan')}, recorded but in no file, left alone:", _BOLD)
    for address in view.orphans[:_MOST_ORPHANS]:
        yield f"    {shown(address)}"
    if len(view.orphans) > _MOST_ORPHANS:
        yield f"    and {len(view.orphans) - _MOST_ORPHANS:,} more"
    if view.plan.mode is Mode.PRUNE:
        yield "  They are protected; `reconcile state rm` stops recording them."
    else:
        yield "  Delete them with --prune, or stop recording them with `reconcile state rm`."
    yield ""


def _closing_lines(view: PlanView, pen: _Pen) -> Iterator[str]:
    summary = view.summary
    environment = f"environment {view.environment}, mode {view.plan.mode}"
    if view.scope:
        yield f"This plan: {'; '.join(view.scope)}."
    if view.masked:
        yield f"Masked: {', '.join(view.masked)} values; equal ones have the same number."
    if view.is_empty:
        yield pen("No changes.", _BOLD, _GREEN) + (
            f" {count(summary['unchanged'], 'profile')} as recorded; {environment}."
        )
        yield view.digest
        return
    if view.write_only:
        noun, them = ("field is", "it") if view.write_only == 1 else ("fields are", "them")
        yield (
            f"{view.write_only:,} {noun} write-only: the API never returns {them}, so what was there "
            "is what this tool last wrote."
        )
    counts = ", ".join(f"{summary[action]:,} to {action}" for action in Action)
    yield pen("Plan:", _BOLD) + f" {counts}; {summary['unchanged']:,} unchanged; {environment}."
    yield f"{count(summary['requests'], 'request')}, {view.duration}. {view.digest}"


def plan_json(view: PlanView) -> str:
    """A plan as one JSON object: schema ``plan.schema.json``. What is masked in it, and who wrote its
    lines, is said beside the plan itself; a masked one cannot be applied."""
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


# --- findings ------------------------------------------------------------------------------------


def diagnostics_text(diagnostics: Sequence[Diagnostic], *, color: bool) -> str:
    """Findings, one after the other, and how many there are."""
    pen = _Pen(color)
    lines = []
    for diagnostic in diagnostics:
        code = _RED if diagnostic.is_error else _YELLOW
        severity = pen(diagnostic.severity.value, _BOLD, code)
        lines.append(
            f"{_place(diagnostic.source)}: {severity}: {shown(diagnostic.message)} "
            f"[{diagnostic.rule}]"
        )
        if diagnostic.hint:
            lines.append(f"  {shown(diagnostic.hint)}")
    errors, warnings = _totals(diagnostics)
    lines.append(f"{count(errors, 'error')}, {count(warnings, 'warning')}.")
    return "\n".join(lines) + "\n"


def diagnostics_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Findings as one JSON object."""
    errors, warnings = _totals(diagnostics)
    data: Json = {
        "format_version": 1,
        "valid": errors == 0,
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
        "summary": {"errors": errors, "warnings": warnings},
    }
    return spelled(data, indent=2) + "\n"


def _totals(diagnostics: Iterable[Diagnostic]) -> tuple[int, int]:
    counts = Counter(diagnostic.severity for diagnostic in diagnostics)
    return counts[Severity.ERROR], counts[Severity.WARNING]


def _place(source: Source) -> str:
    return shown(str(source))


# --- outcomes ------------------------------------------------------------------------------------

_OUTCOME_COLORS = {
    Outcome.APPLIED: _GREEN,
    Outcome.ALREADY: _DIM,
    Outcome.FAILED: _RED,
    Outcome.STALE: _YELLOW,
    Outcome.UNCERTAIN: _RED,
    Outcome.SKIPPED: _YELLOW,
}
_MOST_PROBLEMS = 20


def result_line(result: Result, *, color: bool) -> str:
    """The outcome of a change, with its reason and the API's Request-Id where it went wrong."""
    pen = _Pen(color)
    text = f"{shown(result.address)}: {pen(result.outcome.value, _OUTCOME_COLORS[result.outcome])}"
    if result.reason:
        text += f" ({shown(result.reason)})"
    if result.request_id and result.outcome in (Outcome.FAILED, Outcome.UNCERTAIN):
        text += f" [Request-Id {shown(result.request_id)}]"
    return "\n".join([text, *(f"  warning: {shown(warning)}" for warning in result.warnings)])


def apply_text(report: ApplyReport, *, color: bool, problems: bool = False) -> str:
    """The totals of an apply, and what to do next; with ``problems`` also what went wrong, at most 20
    of them."""
    pen = _Pen(color)
    counts = report.counts
    good = report.is_complete or not (report.failed or counts[Outcome.SKIPPED])
    lines = list(_problem_lines(report, color=color)) if problems else []
    skipped = [result for result in report.problems if result.outcome is Outcome.SKIPPED]
    if skipped:
        some = ", ".join(shown(result.address) for result in skipped[:3])
        more = ", ..." if counts[Outcome.SKIPPED] > 3 else ""
        lines.append(
            f"{count(counts[Outcome.SKIPPED], 'change')} not begun, because "
            f"{shown(skipped[0].reason)}: {some}{more}"
        )
    head = "Apply complete" if good else "Apply incomplete"
    totals = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    lines.append(f"{pen(head, _BOLD, _GREEN if good else _RED)}: {totals}.")
    if report.recovered:
        lines.append(
            f"An earlier apply was cut off; {count(report.recovered, 'profile')} that it had under way "
            "counted as uncertain."
        )
    lines += _next_steps(report)
    return "\n".join(lines) + "\n"


def _problem_lines(report: ApplyReport, *, color: bool) -> Iterator[str]:
    shown_ones = [result for result in report.problems if result.outcome is not Outcome.SKIPPED]
    for result in shown_ones[:_MOST_PROBLEMS]:
        yield result_line(result, color=color)
    if len(shown_ones) > _MOST_PROBLEMS:
        yield f"and {len(shown_ones) - _MOST_PROBLEMS} more that need a look"


def _next_steps(report: ApplyReport) -> Iterator[str]:
    counts = report.counts
    match report.halt:
        case Halt.KEY:
            yield "The API refused the key. Correct it and apply again."
        case Halt.APPLICATION:
            yield "The key is of another application than the state. Check --env and the key."
        case Halt.AWAY:
            yield "The API is away. Run apply again when it is back; what is done is recorded."
        case Halt.INTERRUPTED:
            yield "Interrupted: run apply again to go on; what is done is recorded."
        case None if counts[Outcome.UNCERTAIN]:
            yield "Run apply again: uncertain writes are sent again, what is done is recorded."
        case None if counts[Outcome.FAILED]:
            yield "Look at the reasons above, then run apply again."
        case _:
            pass
    if counts[Outcome.STALE]:
        yield "Stale changes were not sent: plan again."


def progress_text(progress: Progress, *, seconds: float) -> str:
    """How far an apply is after so many seconds, as a line."""
    return f"{progress.done} of {count(progress.total, 'change')}; {pace_text(progress)}" + (
        f"; about {duration(left)} left" if (left := _left(progress, seconds)) is not None else ""
    )


def pace_text(progress: Progress) -> str:
    """What failed, what is under way, and how fast it goes."""
    parts = [f"{progress.failed} failed"] if progress.failed else []
    parts.append(f"{progress.under_way} under way")
    if progress.rate is not None:
        parts.append(f"at most {progress.rate * 60:.0f}/min")
    if progress.waiting_for:
        parts.append(progress.waiting_for)
    return ", ".join(parts)


def _left(progress: Progress, seconds: float) -> float | None:
    if not progress.done:
        return None
    return (progress.total - progress.done) * seconds / progress.done


# The stream of events of `apply --json`: types and members stay, new ones may come.


def version_event() -> str:
    """The first event."""
    return spelled({"type": "version", "format_version": 1})


def start_event(plan: Plan) -> str:
    """What is about to be applied."""
    return spelled(
        {
            "type": "start",
            "environment": plan.environment,
            "digest": plan.digest,
            "changes": plan.count,
            "requests": plan.summary["requests"],
        }
    )


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
    left = _left(progress, seconds)
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
    report: ApplyReport, code: ExitCode, problem: ReconcileError | None = None
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
            "exit_code": int(code),
            "error": None if problem is None else problem.message,
            "hint": None if problem is None else problem.hint,
        }
    )


# --- drift ---------------------------------------------------------------------------------------


def drift_text(drifts: Sequence[Drift], *, color: bool) -> str:
    """What `refresh` found, and what it cannot know."""
    pen = _Pen(color)
    lines = []
    words = {
        DriftKind.CHANGED: "differs from what was recorded",
        DriftKind.GONE: "does not exist at the API any more; the next plan creates it",
        DriftKind.RECREATED: "is another profile now: its write-only fields are lost, "
        "the next plan sends them",
        DriftKind.UNREAD: "could not be read",
    }
    for drift in drifts:
        if drift.kind is DriftKind.SAME:
            continue
        lines.append(pen(f"~ {shown(drift.address)}", _BOLD, _YELLOW) + f"  {words[drift.kind]}")
        for field in drift.fields:
            lines.append(
                f"    {shown(field.path)}  {quoted(field.before)} -> {quoted(field.after)}"
            )
    same = sum(1 for drift in drifts if drift.kind is DriftKind.SAME)
    lines.append(f"{count(len(drifts), 'profile')} read, {same} as recorded where it can be seen.")
    blind = sum(drift.unverifiable for drift in drifts)
    if blind:
        lines.append(
            f"{count(blind, 'field')} cannot be verified: the API returns custom attributes and "
            "identifiers only. `plan --reassert` sends them again."
        )
    return "\n".join(lines) + "\n"


def drift_json(drifts: Sequence[Drift]) -> str:
    """What `refresh` found, as one JSON object."""
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
            }
            for drift in drifts
        ],
    }
    return spelled(data, indent=2) + "\n"


# --- records -------------------------------------------------------------------------------------


def records_text(records: Sequence[Record], *, color: bool) -> str:
    """A line per recorded profile."""
    pen = _Pen(color)
    if not records:
        return "The state records no profile.\n"
    width = max(len(shown(record.address)) for record in records)
    return "".join(f"{_record_line(record, width, pen)}\n" for record in records)


def _record_line(record: Record, width: int, pen: _Pen) -> str:
    uncertain = sum(1 for fact in record.facts.values() if fact.known is Known.UNCERTAIN)
    notes = [record.presence.value, count(len(record.facts), "field")]
    if uncertain:
        notes.append(pen(f"{uncertain} uncertain", _RED))
    if record.protect:
        notes.append("protected")
    if record.source is not None:
        notes.append(_place(record.source))
    return f"{shown(record.address):<{width}}  {', '.join(notes)}"


def record_text(record: Record, *, color: bool) -> str:
    """All that is known of a profile."""
    pen = _Pen(color)
    lines = [pen(shown(record.address), _BOLD)]
    about = {
        "profile_id": record.profile_id,
        "presence": record.presence.value,
        "declared at": _place(record.source) if record.source else None,
        "labels": ", ".join(record.labels) or None,
        "protected": "yes" if record.protect else None,
        "forgotten": ", ".join(sorted(record.forgotten)) or None,
        "unmanaged attributes": ", ".join(record.unmanaged) or None,
    }
    lines += [f"  {name}: {shown(value)}" for name, value in about.items() if value]
    width = max((len(shown(path)) for path in record.facts), default=0)
    for path, fact in sorted(record.facts.items()):
        lines.append(f"  {shown(path):<{width}}  {_fact_text(fact)}")
    return "\n".join(lines) + "\n"


def _fact_text(fact: Fact) -> str:
    match fact.known:
        case Known.VALUE:
            return quoted(fact.value) + ("  (observed)" if fact.observed else "")
        case Known.CLEARED:
            return "cleared" + ("  (observed)" if fact.observed else "")
        case Known.UNCERTAIN:
            return f"uncertain: {quoted(fact.value)} or {quoted(fact.attempt)}"
        case Known.UNKNOWN:
            return "unknown"
        case _:
            assert_never(fact.known)


# --- texts and nested values -------------------------------------------------------------------------------


def difference_of_texts(name: str, before: str, after: str, *, color: bool) -> str:
    """A unified difference of two versions of a file."""
    from difflib import unified_diff

    pen = _Pen(color)
    colors = {"+": _GREEN, "-": _RED, "@": _DIM}
    lines = unified_diff(
        before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm=""
    )
    return "".join(f"{pen(shown(line), *filter(None, [colors.get(line[:1])]))}\n" for line in lines)


def difference_text(before: Json, after: Json) -> str:
    """A difference of nested values for a person, at most 50 lines. It decides nothing."""
    from deepdiff import DeepDiff

    tree = DeepDiff(_keyed(before), _keyed(after), view="tree", verbose_level=2)
    lines = sorted(
        f"{shown(str(level.path()))}: {_side(level.t1)} -> {_side(level.t2)}"
        for levels in tree.values()
        for level in levels
    )
    if not lines:
        return "No difference.\n"
    hidden = len(lines) - _MOST_DIFFERENCES
    if hidden > 0:
        lines = [*lines[:_MOST_DIFFERENCES], f"and {count(hidden, 'more difference')}"]
    return "\n".join(lines) + "\n"


def _keyed(value: Json) -> Json:
    """Lists of profiles by address, so that an added one does not shift the others."""
    if isinstance(value, Mapping):
        return {key: _keyed(item) for key, item in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and "address" in item for item in value)
    ):
        return {str(item["address"]): _keyed(item) for item in value}
    return value


def _side(value: object) -> str:
    if type(value).__name__ == "NotPresent":
        return "absent"
    text = shown(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 120 else text[:117] + "..."
