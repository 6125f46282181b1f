"""A plan as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from reconciler.commands import Command, arguments
from reconciler.core.plan import Action, Basis, Change, FieldChange, HazardKind, Mode, Op
from reconciler.reports.style import BOLD, DIM, GREEN, MARK_COLORS, RED, YELLOW, Pen
from reconciler.reports.view import SYMBOLS, ChangeView, FieldView, HazardView, PlanView
from reconciler.reports.wording import (
    FieldWording,
    count,
    field_wording,
    place_text,
    shown_often,
)
from reconciler.values import Tag, quoted, shown

_MOST_NAMED = 5
"""Orphans that are named in the command that forgets them."""
_MOST_ORPHANS = 20


def plan_text(
    view: PlanView,
    *,
    color: bool,
    show_requests: bool = False,
    ascii: bool = False,
    width: int | None = None,
) -> str:
    """A plan as a reviewer reads it: dangers, changes, orphans, totals.

    ``ascii`` avoids arrows that the output cannot encode; ``width`` is that of a terminal.
    """
    return "".join(plan_text_parts(view, Pen(color, ascii, width), show_requests=show_requests))


def plan_text_parts(
    view: PlanView,
    pen: Pen,
    *,
    show_requests: bool = False,
    captured: Iterator[str] | None = None,
) -> Iterator[str]:
    """`plan_text` in parts, for a plan that does not fit into memory. ``captured`` is the text of its
    changes, if that was written while the plan was made: see `reconciler.reports.capture`."""
    hazards = [_hazard_line(hazard, pen) for hazard in view.hazards]
    if hazards:
        yield _joined([*hazards, ""])
    if captured is not None:
        yield from captured
    elif show_requests:  # the changes of a group have different ones
        for change in view.changes:
            lines = (f"    {line}" for request in change.requests for line in request)
            yield f"{_change_text(change, pen)[:-1]}{_joined([*lines, ''])}"
    else:
        for leader in view.leaders:
            if leader.template or view.blame:  # its fields have more than their own wording
                yield _change_text(view.group(leader), pen)
            else:
                yield change_text(leader, pen)
    yield _joined([*_orphan_lines(view, pen), *_closing_lines(view, pen)])


def _joined(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])


def _hazard_line(hazard: HazardView, pen: Pen) -> str:
    codes = (YELLOW,) if hazard.is_summed else (BOLD, RED)
    return pen(pen.wrap(f"! {hazard.sentence}", "  "), *codes)


def _change_text(change: ChangeView, pen: Pen) -> str:
    return _joined([*_head_lines(change, pen), *_field_lines(change.fields, pen), ""])


def change_text(change: Change, pen: Pen) -> str:
    """The text of a change that stands for itself, without a view of it: most of a large plan are such."""
    symbol, place = SYMBOLS[change.action], place_text(change.source)
    lines = [
        _title(symbol, shown(change.address), action=change.action, place=place, pen=pen),
        _comment(shown_often(change.reason), pen),
    ]
    paths = [shown_often(item.path) for item in change.fields]
    width = max(map(len, paths), default=0)
    is_new = change.action is Action.CREATE
    for item, path in zip(change.fields, paths, strict=True):
        if item.op is Op.SET and item.before is None:
            # Nothing there is the same as nothing known, where the heading says that nothing is known.
            basis = Basis.RECORDED if is_new and item.basis is Basis.NONE else item.basis
            start, end = _around_value((path, basis, width, pen))
            lines.append(f"{start}{quoted(item.after)}{end}")
        else:
            wording = field_wording(item, change.action)
            name = _field_name(wording.mark, path, width=width, pen=pen)
            lines.append(f"{name}  {_field_text(item.op, wording, arrow=pen.arrow)}")
    lines.append("\n")
    return "\n".join(lines)


@lru_cache(maxsize=4096)  # there are few names, and many fields
def _around_value(field: tuple[str, Basis, int, Pen]) -> tuple[str, str]:
    """The text of a field before and after its value, if it is set and nothing was there or known: from its
    path as it is shown, its basis, and the width of all paths."""
    path, basis, width, pen = field
    wording = field_wording(FieldChange(path, Op.SET, None, _VALUE, basis))
    name = _field_name(wording.mark, path, width=width, pen=pen)
    start, _, end = f"{name}  {_field_text(Op.SET, wording, arrow=pen.arrow)}".rpartition(_VALUE)
    return start, end


_VALUE = Tag("\0")
"""Stands for a value. No other text that is shown has this character."""


def _head_lines(change: ChangeView, pen: Pen) -> Iterator[str]:
    yield _title(change.symbol, change.address, action=change.action, place=change.place, pen=pen)
    yield _comment(change.reason, pen)
    if change.author:
        yield _comment(change.author, pen)


def _title(symbol: str, address: str, *, action: Action, place: str, pen: Pen) -> str:
    name = pen(f"{symbol} {address}", BOLD, MARK_COLORS[symbol])
    return f"{name}  ({action})" + pen(f"  {place}" if place else "", DIM)


def _comment(text: str, pen: Pen) -> str:
    return pen(pen.wrap(f"    # {text}", "    # "), DIM)


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
        yield pen.wrap(f"  {view.orphan_note}, as said at the top.", "  ")
    if view.plan.mode is Mode.PRUNE:
        advice = f"{_why_kept(view)}; `{_forget_command(view)}` stops recording them."
    else:
        prune = Command.of("plan", "--prune").text(view.invocation)
        forget = _forget_command(view)
        advice = f"Plan their deletion with `{prune}`, or stop recording them with `{forget}`."
    yield pen.wrap(f"  {advice}", "  ")
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
    if view.is_idle_sweep:
        yield pen("Nothing has expired.", BOLD, GREEN)
        return
    if view.scope:
        yield pen.wrap(f"This plan: {'; '.join(view.scope)}.", "  ")
    if view.masked:
        yield f"Masked: {', '.join(view.masked)} values; equal ones have the same number."
    if view.blindness:
        yield pen.wrap(view.blindness, "  ")
    mark = f"{pen('No changes.', BOLD, GREEN)} " if view.is_empty else ""
    head = f"Plan for {view.environment}:"
    yield mark + pen.wrap(f"{head} {view.effect}.", "  ").replace(head, pen(head, BOLD), 1)
    if view.requests:
        yield f"{view.requests}."
    yield f"Digest {view.digest}"
    if not view.is_empty and view.is_refused:
        yield pen("apply will refuse this plan, as said at the top.", BOLD, RED)
