"""A plan as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from reconciler.commands import Command, arguments
from reconciler.core.plan import Change, HazardKind, Mode, Op
from reconciler.reports.style import BOLD, DIM, GREEN, MARK_COLORS, RED, YELLOW, Pen
from reconciler.reports.view import ChangeView, FieldView, HazardView, PlanView
from reconciler.reports.wording import FieldWording, count, field_wording, shown_often
from reconciler.values import shown

_MOST_NAMED = 5
"""Orphans that are named in the command that forgets them."""
_MOST_ORPHANS = 20


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
    pen = Pen(color, ascii)
    hazards = [_hazard_line(hazard, pen) for hazard in view.hazards]
    if hazards:
        yield _joined([*hazards, ""])
    if show_requests:  # the changes of a group have different ones
        for change in view.changes:
            lines = (f"    {line}" for request in change.requests for line in request)
            yield f"{_change_text(change, pen)[:-1]}{_joined([*lines, ''])}"
    else:
        for leader in view.leaders:
            if leader.template or view.blame:  # its fields have more than their own wording
                yield _change_text(view.group(leader), pen)
            else:
                yield _plain_text(leader, view.heading(leader), pen=pen)
    yield _joined([*_orphan_lines(view, pen), *_closing_lines(view, pen)])


def _joined(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])


def _hazard_line(hazard: HazardView, pen: Pen) -> str:
    if hazard.is_summed:
        return pen(f"! {count(hazard.number, 'change')} {hazard.message}", YELLOW)
    address = f"{hazard.address}: " if hazard.address else ""
    return pen(f"! {address}{hazard.message}", BOLD, RED)


def _change_text(change: ChangeView, pen: Pen) -> str:
    return _joined([*_head_lines(change, pen), *_field_lines(change.fields, pen), ""])


def _plain_text(change: Change, heading: ChangeView, *, pen: Pen) -> str:
    """The same text of a change that stands for itself, without a view of each of its fields."""
    lines = [*_head_lines(heading, pen)]
    paths = [shown_often(item.path) for item in change.fields]
    width = max(map(len, paths), default=0)
    for item, path in zip(change.fields, paths, strict=True):
        wording = field_wording(item)
        name = _field_name(wording.mark, path, width=width, pen=pen)
        lines.append(f"{name}  {_field_text(item.op, wording, arrow=pen.arrow)}")
    lines.append("")
    return _joined(lines)


def _head_lines(change: ChangeView, pen: Pen) -> Iterator[str]:
    place = f"  {change.place}" if change.place else ""
    yield pen(f"{change.symbol} {change.address}", BOLD, MARK_COLORS[change.symbol]) + (
        f"  ({change.action})" + pen(place, DIM)
    )
    yield pen(f"    # {change.reason}", DIM)
    if change.author:
        yield pen(f"    # {change.author}", DIM)


def _field_lines(fields: Sequence[FieldView], pen: Pen) -> Iterator[str]:
    width = max([len(field.path) for field in fields], default=0)
    for field in fields:
        name = _field_name(field.mark, field.path, width=width, pen=pen)
        text = f"{name}  {_field_text(field.op, field, arrow=pen.arrow)}"
        yield text + pen(f"  [{field.author}]", DIM) if field.author else text


@lru_cache(maxsize=4096)  # there are few names, and many fields
def _field_name(mark: str, path: str, *, width: int, pen: Pen) -> str:
    return f"    {pen(mark, MARK_COLORS[mark])} {path:<{width}}"


def _field_text(op: Op, field: FieldView | FieldWording, *, arrow: str) -> str:
    if op is Op.FORGET:
        return f"{field.before}  {field.note}"
    value = field.after if field.before is None else f"{field.before} {arrow} {field.after}"
    return f"{value}  ({field.note})" if field.note else value


def _orphan_lines(view: PlanView, pen: Pen) -> Iterator[str]:
    if not view.orphans:
        return
    yield pen(f"{count(len(view.orphans), 'orphan')}, recorded but in no file, left alone:", BOLD)
    for address in view.orphans[:_MOST_ORPHANS]:
        author = view.orphan_author(address)
        yield f"    {shown(address)}" + (pen(f"  [{author}]", DIM) if author else "")
    if len(view.orphans) > _MOST_ORPHANS:
        yield f"    and {len(view.orphans) - _MOST_ORPHANS:,} more"
    if view.orphan_note:
        yield f"  {view.orphan_note}, as said at the top."
    if view.plan.mode is Mode.PRUNE:
        yield f"  {_why_kept(view)}; `{_forget_command(view)}` stops recording them."
    else:
        prune = Command.of("plan", "--prune").text(view.invocation)
        yield f"  Plan their deletion with `{prune}`, or stop recording them with `{_forget_command(view)}`."
    yield ""


def _forget_command(view: PlanView) -> str:
    """The command that forgets the orphans; an example where they are many."""
    orphans = view.orphans if len(view.orphans) <= _MOST_NAMED else view.orphans[:1]
    return Command(("state", "rm", *arguments(orphans))).text(view.invocation)


def _why_kept(view: PlanView) -> str:
    """Why a plan that prunes leaves its orphans alone."""
    kinds = {hazard.kind for hazard in view.hazards}
    if HazardKind.ADOPTED not in kinds:
        return "They are protected"
    if HazardKind.PROTECTED not in kinds:
        return "This tool did not create them: --include-adopted deletes them too"
    return "Some are protected, others were not created by this tool, as said at the top"


def _closing_lines(view: PlanView, pen: Pen) -> Iterator[str]:
    summary = view.summary
    environment = f"environment {view.environment}, mode {view.plan.mode}"
    if view.scope:
        yield f"This plan: {'; '.join(view.scope)}."
    if view.masked:
        yield f"Masked: {', '.join(view.masked)} values; equal ones have the same number."
    if view.is_empty:
        yield pen("No changes.", BOLD, GREEN) + (
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
    yield pen("Plan:", BOLD) + f" {view.totals}; {summary['unchanged']:,} unchanged; {environment}."
    yield f"{view.requests}, {view.duration}. {view.digest}"
