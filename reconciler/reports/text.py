"""Outcomes, drift and records as text. Pure: values in, strings out.

Everything that came from a file or from the API passes `shown` or `quoted` before it is printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from json import dumps
from typing import Any, assert_never

from reconciler.commands import Command, Invocation
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
from reconciler.errors import Source
from reconciler.reports.style import BOLD, DIM, GREEN, RED, YELLOW, Pen
from reconciler.reports.wording import count, duration, range_text, seconds_left
from reconciler.values import FieldPath, Json, quoted, shown


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


def apply_text(
    report: ApplyReport,
    *,
    color: bool,
    width: int | None = None,
    problems: bool = False,
    again: str = Command.of("apply").text(),
) -> str:
    """The totals of an apply, and what to do next; with ``problems`` also what went wrong, at most 20
    of them. ``again`` is the command that goes on where it stopped; ``width`` is that of a terminal."""
    pen = Pen(color, width=width)
    counts = report.counts
    good = report.is_complete or not (report.failed or counts[Outcome.SKIPPED])
    lines = list(_problem_lines(report, color=color)) if problems else []
    skipped = [result for result in report.problems if result.outcome is Outcome.SKIPPED]
    if skipped:
        some = ", ".join(shown(result.address) for result in skipped[:3])
        more = ", …" if counts[Outcome.SKIPPED] > 3 else ""
        lines.append(
            f"{count(counts[Outcome.SKIPPED], 'change')} not begun, because "
            f"{shown(skipped[0].reason)}: {some}{more}"
        )
    head = "Apply complete" if good else "Apply incomplete"
    parts = [f"{counts[outcome]:,} {outcome}" for outcome in Outcome if counts[outcome]]
    totals = ", ".join(parts) or "nothing was to be done"
    total = pen.wrap(f"{head}: {totals}.", "  ")
    lines.append(total.replace(head, pen(head, BOLD, GREEN if good else RED), 1))
    if report.requests:
        lines.append(f"{count(report.requests, 'request')} sent.")
    if report.recovered:
        lines.append(
            f"An earlier apply was cut off; {count(report.recovered, 'profile')} that it had under way "
            "counted as uncertain."
        )
    if report.clock_jumps:
        lines.append(clock_text(report.clock_jumps))
    lines += [pen.wrap(step) for step in _next_steps(report, again)]
    return "\n".join(lines) + "\n"


def _problem_lines(report: ApplyReport, *, color: bool) -> Iterator[str]:
    problems = [result for result in report.problems if result.outcome is not Outcome.SKIPPED]
    for result in problems[:_MOST_PROBLEMS]:
        yield result_line(result, color=color)
    if len(problems) > _MOST_PROBLEMS:
        yield f"and {len(problems) - _MOST_PROBLEMS} more that need a look"


def _next_steps(report: ApplyReport, again: str) -> Iterator[str]:
    counts = report.counts
    match report.halt:
        case Halt.KEY:
            yield f"The API refused the key. Correct it, then run `{again}` again."
        case Halt.APPLICATION:
            yield "The key is of another application than the state. Check --env and the key."
        case Halt.AWAY if any(each.failure is Failure.NOT_SENT for each in report.problems):
            reached = "The API cannot be reached, for the reason above."
            yield f"{reached} Run `{again}` again when it can; what is done is recorded."
        case Halt.AWAY:
            yield f"The API is away. Run `{again}` again when it is back; what is done is recorded."
        case Halt.LIMITED:
            yield (
                f"The API answers 429 to every request. Run `{again}` again later, or with a lower rate; "
                "what is done is recorded."
            )
        case Halt.INTERRUPTED:
            yield f"Interrupted: run `{again}` again to go on; what is done is recorded."
        case None if counts[Outcome.UNCERTAIN]:
            yield f"Run `{again}` again: uncertain writes are sent again, what is done is recorded."
        case None if counts[Outcome.FAILED]:
            yield f"Look at the reasons above, then run `{again}` again."
        case _:
            pass
    if counts[Outcome.STALE]:
        yield "Stale changes were not sent: plan again."


def progress_text(progress: Progress, *, seconds: float, pace: float | None = None) -> str:
    """How far an apply is after so many seconds, as a line. ``pace``: requests per second at present."""
    return ", ".join(_progress_parts(progress, seconds=seconds, pace=pace))


def bar_text(progress: Progress, *, seconds: float, pace: float | None) -> str:
    """The text beside the bar of an apply: ``153/2,000  58 s left  1,840/min (limit 4,000)``."""
    return "  ".join(_progress_parts(progress._replace(planned=None), seconds=seconds, pace=pace))


def _progress_parts(progress: Progress, *, seconds: float, pace: float | None) -> Iterator[str]:
    """The changes that are done, the time that is left, the pace and its limit, what failed, and why it
    waits."""
    yield f"{progress.done:,}/{progress.total:,}"
    if progress.failed:
        yield f"{progress.failed:,} failed"
    if progress.waiting_for:
        yield progress.waiting_for
        return
    if (left := seconds_left(progress, seconds)) is not None:
        yield f"{duration(left)} left"
    elif progress.under_way:
        yield f"{progress.under_way:,} under way"
    limit = None if progress.rate is None else f"{progress.rate * 60:,.0f}"
    if pace:
        yield f"{pace * 60:,.0f}/min" + (f" (limit {limit})" if limit else "")
    elif limit:
        yield f"limit {limit}/min"
    if progress.planned and progress.requests:
        yield f"{progress.requests:,} of {range_text(*progress.planned)} requests sent"


# --- drift ---------------------------------------------------------------------------------------


_DRIFT = {
    DriftKind.CHANGED: "differs from what was recorded",
    DriftKind.GONE: "does not exist at the API any more; the next plan creates it",
    DriftKind.RECREATED: "is another profile now: its write-only fields are lost, the next plan sends them",
    DriftKind.UNREAD: "could not be read",
}


def drift_text(
    drifts: Sequence[Drift],
    *,
    color: bool,
    ascii: bool = False,
    width: int | None = None,
    invocation: Invocation = Invocation(),  # noqa: B008
) -> str:
    """The drift that `refresh` found, and how many fields the API never shows."""
    pen = Pen(color, ascii, width)
    lines = []
    for drift in drifts:
        if drift.kind is DriftKind.SAME:
            continue
        reason = f": {shown(drift.reason)}" if drift.reason else ""
        mark = f"~ {shown(drift.address)}"
        text = pen.wrap(f"{mark}  {_DRIFT[drift.kind]}{reason}", "    ")
        lines.append(text.replace(mark, pen(mark, BOLD, YELLOW), 1))
        width = max([len(shown(field.path)) for field in drift.fields], default=0)
        for field in drift.fields:
            values = f"{quoted(field.before)} {pen.arrow} {quoted(field.after)}"
            lines.append(f"    {shown(field.path):<{width}}  {values}")
    lines.append(_drift_total(drifts))
    if jumps := sum(drift.clock_went_back for drift in drifts):
        lines.append(clock_text(jumps))
    blind = sum(drift.unverifiable for drift in drifts)
    if blind:
        again = Command.of("plan", "--reassert").text(invocation)
        text = (
            f"{count(blind, 'field')} cannot be verified: the API returns custom attributes, access and "
            "identifiers only."
        )
        lines.append(pen.wrap(text))
        lines.append(f"To send them again, plan with `{again}`.")
    return "\n".join(lines) + "\n"


def _drift_total(drifts: Sequence[Drift]) -> str:
    """``5 read: 2 differ.``"""
    if not drifts:
        return "No recorded profile is selected; none was read."
    kinds = Counter(drift.kind for drift in drifts)
    differ = kinds[DriftKind.CHANGED]
    parts = [
        (differ, "differs" if differ == 1 else "differ"),
        (kinds[DriftKind.GONE], "gone"),
        (kinds[DriftKind.RECREATED], "made anew"),
    ]
    told = ", ".join(f"{number:,} {word}" for number, word in parts if number)
    unread = kinds[DriftKind.UNREAD]
    parts_read = [f"{len(drifts) - unread:,} read: {told or 'none differs'}"] * (
        len(drifts) > unread
    )
    return "; ".join([*parts_read, *([f"{unread:,} could not be read"] if unread else [])]) + "."


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
_UNTOLD = frozenset({"serial", "revision", "timestamp"})
"""Members of a state that every write changes."""


def difference_text(before: Json, after: Json, *, ascii: bool = False) -> str:
    """The difference of two exports of a state in words, at most 50 lines. It decides nothing."""
    from deepdiff import DeepDiff

    old, new = _keyed(before), _keyed(after)
    tree = DeepDiff(old, new, view="tree", verbose_level=2)
    places = {
        tuple(level.path(output_format="list"))[: _depth(level.path(output_format="list"))]
        for levels in tree.values()
        for level in levels
    }
    arrow = Pen(False, ascii).arrow
    lines = [
        _difference(place, old, after=new, arrow=arrow)
        for place in sorted(places, key=lambda place: [*map(str, place)])
        if place[-1] not in _UNTOLD
    ]
    if not lines:
        return "No difference.\n"
    hidden = len(lines) - _MOST_DIFFERENCES
    if hidden > 0:
        lines = [*lines[:_MOST_DIFFERENCES], f"and {count(hidden, 'more difference')}"]
    return "\n".join(lines) + "\n"


def _depth(path: Sequence[object]) -> int:
    """How many parts of a path name what differs: a profile, one of its members, one of its facts."""
    if path[:1] != ["profiles"]:
        return 1
    return 4 if path[2:3] == ["facts"] else 3


def _difference(place: Sequence[Any], before: Any, *, after: Any, arrow: str) -> str:
    """One difference: ``qa-bob: changed custom_attributes.beta 1.0 → 2.0``."""
    for part in place:
        before = before.get(part, _ABSENT) if isinstance(before, Mapping) else _ABSENT
        after = after.get(part, _ABSENT) if isinstance(after, Mapping) else _ABSENT
    is_profile = place[0] == "profiles"
    subject = shown(str(place[1])) if is_profile and len(place) > 1 else "state"
    verb = "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
    if is_profile and len(place) == 2:
        return f"{subject}: {verb}"
    sides = [_side(each) for each in (before, after) if each is not _ABSENT]
    if len(sides) == 2 and sides[0] == sides[1]:  # the same value, known in another way
        sides = [_spelled(each) for each in (before, after)]
    return f"{subject}: {verb} {shown(str(place[-1]))} {f' {arrow} '.join(sides)}"


_ABSENT = object()


def _keyed(value: Json) -> Any:
    """An export with its profiles by address, so that an added one does not shift the others."""
    if not isinstance(value, Mapping):
        return {}
    profiles = value.get("profiles")
    if not isinstance(profiles, list):
        return value
    return {**value, "profiles": {str(each["address"]): each for each in profiles}}


def _side(value: Any) -> str:
    """A member of a record, or a fact: its value, where that is all there is to it."""
    match value:
        case {"known": "cleared"}:
            return "cleared"
        case {"known": "unknown" | "uncertain" as known}:
            return str(known)
        case {"known": "value", "value": content} if not isinstance(content, (dict, list)):
            return quoted(content)
        case None | bool() | int() | float() | str():
            return quoted(value)
        case _:
            return _spelled(value)


def _spelled(value: Any) -> str:
    text = shown(dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 120 else f"{text[:119]}…"
