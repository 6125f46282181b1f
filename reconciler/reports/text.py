"""Findings, outcomes, drift and records as text. Pure: values in, strings out.

Everything that came from a file or from the API passes `shown` or `quoted` before it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from itertools import chain, islice
from json import dumps
from typing import assert_never

from reconciler.core.facets.registry import facet_of
from reconciler.core.outcomes import (
    ApplyReport,
    Drift,
    DriftKind,
    Failure,
    Halt,
    Outcome,
    Progress,
    Result,
    clock_text,
)
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import Diagnostic, Source
from reconciler.reports.style import BOLD, DIM, GREEN, RED, YELLOW, Pen
from reconciler.reports.tally import count_by_severity
from reconciler.reports.wording import count, duration, range_text, seconds_left
from reconciler.values import FieldPath, Json, quoted, shown

# --- findings ------------------------------------------------------------------------------------


_MOST_FINDINGS = 1_000
"""Findings that are listed. Errors come first where there are more."""


def diagnostics_text(diagnostics: Sequence[Diagnostic], *, color: bool) -> str:
    """Findings, one after the other, and their number. At most 1,000 are listed, errors first then."""
    pen = Pen(color)
    lines = []
    listed = diagnostics
    if len(diagnostics) > _MOST_FINDINGS:
        grave = islice((each for each in diagnostics if each.is_error), _MOST_FINDINGS)
        light = (each for each in diagnostics if not each.is_error)
        listed = list(islice(chain(grave, light), _MOST_FINDINGS))
    for diagnostic in listed:
        code = RED if diagnostic.is_error else YELLOW
        severity = pen(diagnostic.severity.value, BOLD, code)
        lines.append(
            f"{_place(diagnostic.source)}: {severity}: {shown(diagnostic.message)} "
            f"[{diagnostic.rule}]"
        )
        if diagnostic.hint:
            lines.append(f"  {shown(diagnostic.hint)}")
    if more := len(diagnostics) - len(listed):
        lines.append(f"and {more:,} more")
    counts = count_by_severity(diagnostics)
    lines.append(f"{count(counts.errors, 'error')}, {count(counts.warnings, 'warning')}.")
    return "\n".join(lines) + "\n"


def _place(source: Source) -> str:
    return shown(str(source))


# --- outcomes ------------------------------------------------------------------------------------

_OUTCOME_COLORS = {
    **{outcome: GREEN for outcome in Outcome if outcome.is_applied},
    Outcome.ALREADY: DIM,
    Outcome.FAILED: RED,
    Outcome.STALE: YELLOW,
    Outcome.UNCERTAIN: RED,
    Outcome.SKIPPED: YELLOW,
}
_MOST_PROBLEMS = 20
"""Outcomes that are listed at the end of an apply."""


def result_line(result: Result, *, color: bool) -> str:
    """The outcome of a change, with its reason and the API's Request-Id where it went wrong."""
    pen = Pen(color)
    text = f"{shown(result.address)}: {pen(result.outcome.value, _OUTCOME_COLORS[result.outcome])}"
    if result.reason:
        text += f" ({shown(result.reason)})"
    if result.request_id and result.outcome in (Outcome.FAILED, Outcome.UNCERTAIN):
        text += f" [Request-Id {shown(result.request_id)}]"
    return "\n".join([text, *(f"  warning: {shown(warning)}" for warning in result.warnings)])


def apply_text(report: ApplyReport, *, color: bool, problems: bool = False) -> str:
    """The totals of an apply, and what to do next; with ``problems`` also what went wrong, at most 20
    of them."""
    pen = Pen(color)
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
    parts = [f"{counts[outcome]:,} {outcome}" for outcome in Outcome if counts[outcome]]
    totals = ", ".join(parts) or "nothing was to be done"
    lines.append(f"{pen(head, BOLD, GREEN if good else RED)}: {totals}.")
    if report.requests:
        lines.append(f"{count(report.requests, 'request')} sent.")
    if report.recovered:
        lines.append(
            f"An earlier apply was cut off; {count(report.recovered, 'profile')} that it had under way "
            "counted as uncertain."
        )
    if report.clock_jumps:
        lines.append(clock_text(report.clock_jumps))
    lines += _next_steps(report)
    return "\n".join(lines) + "\n"


def _problem_lines(report: ApplyReport, *, color: bool) -> Iterator[str]:
    problems = [result for result in report.problems if result.outcome is not Outcome.SKIPPED]
    for result in problems[:_MOST_PROBLEMS]:
        yield result_line(result, color=color)
    if len(problems) > _MOST_PROBLEMS:
        yield f"and {len(problems) - _MOST_PROBLEMS} more that need a look"


def _next_steps(report: ApplyReport) -> Iterator[str]:
    counts = report.counts
    match report.halt:
        case Halt.KEY:
            yield "The API refused the key. Correct it and apply again."
        case Halt.APPLICATION:
            yield "The key is of another application than the state. Check --env and the key."
        case Halt.AWAY if any(each.failure is Failure.NOT_SENT for each in report.problems):
            reached = "The API cannot be reached, for the reason above."
            yield f"{reached} Run apply again when it can; what is done is recorded."
        case Halt.AWAY:
            yield "The API is away. Run apply again when it is back; what is done is recorded."
        case Halt.LIMITED:
            yield (
                "The API answers 429 to every request. Run apply again later, or with a lower rate; "
                "what is done is recorded."
            )
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
        f"; about {duration(left)} left"
        if (left := seconds_left(progress, seconds)) is not None
        else ""
    )


def pace_text(progress: Progress) -> str:
    """The failures, the calls under way, and the rate."""
    parts = [f"{progress.failed} failed"] if progress.failed else []
    if progress.under_way or not progress.waiting_for:
        parts.append(f"{progress.under_way} under way")
    if progress.requests:
        least, most = progress.planned or (0, 0)
        of = f" of {range_text(least, most)}" if most else ""
        parts.append(f"{progress.requests:,}{of} sent")
    if progress.rate is not None:
        parts.append(f"at most {progress.rate * 60:.0f}/min")
    if progress.waiting_for:
        parts.append(progress.waiting_for)
    return ", ".join(parts)


# --- drift ---------------------------------------------------------------------------------------


def drift_text(drifts: Sequence[Drift], *, color: bool) -> str:
    """The drift that `refresh` found, and how many fields the API never shows."""
    pen = Pen(color)
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
        reason = f": {shown(drift.reason)}" if drift.reason else ""
        heading = pen(f"~ {shown(drift.address)}", BOLD, YELLOW)
        lines.append(f"{heading}  {words[drift.kind]}{reason}")
        for field in drift.fields:
            lines.append(
                f"    {shown(field.path)}  {quoted(field.before)} -> {quoted(field.after)}"
            )
    same = sum(1 for drift in drifts if drift.kind is DriftKind.SAME)
    lines.append(f"{count(len(drifts), 'profile')} read, {same} as recorded where it can be seen.")
    if jumps := sum(drift.clock_went_back for drift in drifts):
        lines.append(clock_text(jumps))
    blind = sum(drift.unverifiable for drift in drifts)
    if blind:
        lines.append(
            f"{count(blind, 'field')} cannot be verified: the API returns custom attributes, access and "
            "identifiers only. `plan --reassert` sends them again."
        )
    return "\n".join(lines) + "\n"


# --- records -------------------------------------------------------------------------------------


def records_text(records: Sequence[Record], *, color: bool) -> str:
    """A line per recorded profile."""
    pen = Pen(color)
    if not records:
        return "The state records no profile.\n"
    width = max(len(shown(record.address)) for record in records)
    return "".join(f"{_record_line(record, width=width, pen=pen)}\n" for record in records)


def _record_line(record: Record, *, width: int, pen: Pen) -> str:
    uncertain = sum(1 for fact in record.facts.values() if fact.known is Known.UNCERTAIN)
    notes = [record.presence.value, count(len(record.facts), "field")]
    if uncertain:
        notes.append(pen(f"{uncertain} uncertain", RED))
    if record.protect:
        notes.append("protected")
    if record.source is not None:
        notes.append(_place(record.source))
    return f"{shown(record.address):<{width}}  {', '.join(notes)}"


def backup_text(path: str) -> str:
    """Where a backup of the state is."""
    return f"the state before is in {shown(path)}"


def record_text(record: Record, *, color: bool) -> str:
    """All that is known of a profile."""
    pen = Pen(color)
    lines = [pen(shown(record.address), BOLD)]
    properties = {
        "profile_id": record.profile_id,
        "presence": record.presence.value,
        "origin": record.origin.value,
        "declared at": _place(record.source) if record.source else None,
        "labels": ", ".join(record.labels) or None,
        "protected": "yes" if record.protect else None,
        "forgotten": ", ".join(sorted(record.forgotten)) or None,
        "unmanaged attributes": ", ".join(record.unmanaged) or None,
    }
    lines += [f"  {name}: {shown(value)}" for name, value in properties.items() if value]
    width = max((len(shown(path)) for path in record.facts), default=0)
    for path, fact in sorted(record.facts.items()):
        lines.append(f"  {shown(path):<{width}}  {_fact_text(path, fact)}")
    return "\n".join(lines) + "\n"


def _fact_text(path: FieldPath, fact: Fact) -> str:
    match fact.known:
        case Known.VALUE:
            return quoted(fact.value) + ("  (observed)" if fact.observed else "")
        case Known.CLEARED:
            return facet_of(path).absent + ("  (observed)" if fact.observed else "")
        case Known.UNCERTAIN:
            return f"uncertain: {quoted(fact.value)} or {quoted(fact.attempt)}"
        case Known.UNKNOWN:
            return "unknown"
        case _:
            assert_never(fact.known)


# --- texts and nested values -------------------------------------------------------------------------------


def difference_of_texts(name: str, *, before: str, after: str, color: bool) -> str:
    """A unified difference of two versions of a file."""
    pen = Pen(color)
    colors = {"+": GREEN, "-": RED, "@": DIM}
    lines = unified_diff(
        before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm=""
    )
    return "".join(f"{pen(shown(line), *filter(None, [colors.get(line[:1])]))}\n" for line in lines)


_MOST_DIFFERENCES = 50


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
    text = shown(dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 120 else text[:117] + "..."
