"""Findings as text, with the lines that they are about. Pure.

Everything that came from a file passes `shown` before it is printed: no line of a file steers the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple
from unicodedata import combining, east_asian_width

from reconciler.commands import Command, Invocation
from reconciler.errors import Diagnostic, QuotedValue, Severity, Source
from reconciler.reports.style import BOLD, DIM, RED, YELLOW, Pen
from reconciler.reports.tally import count_by_severity
from reconciler.reports.wording import count
from reconciler.values import shown

_MOST_FINDINGS = 1_000
"""Findings that are listed. Errors come first where there are more."""
_MOST_ALIKE: Mapping[Severity, int] = {Severity.ERROR: 20, Severity.WARNING: 1}
"""Findings of a rule in the same words, values aside, that are listed."""
_LEAST_WIDTH, _MOST_WIDTH = 30, 100
"""Columns of an excerpt, margin aside."""
_TAB = "    "

Excerpts = Callable[[Source], str]
"""The line of a file that a finding is about, without its end; empty where it cannot or must not be shown."""


def no_excerpts(source: Source) -> str:
    """Shows no line of any file."""
    return ""


class ListedFinding(NamedTuple):
    """A finding that is listed."""

    finding: Diagnostic
    alike: int = 0
    """How many more there are like it, which are not listed."""


def group_findings(
    diagnostics: Sequence[Diagnostic], *, everything: bool = False
) -> list[ListedFinding]:
    """The findings that are listed, in their order. Of those alike, the first few are, and the last of these
    says how many more there are. ``everything``: all are listed."""
    if everything:
        return [ListedFinding(each) for each in diagnostics]
    places: dict[tuple[str, ...], list[int]] = {}
    listed: list[ListedFinding] = []
    for each in diagnostics:
        key = _likeness(each)
        same = places.setdefault(key, [])
        if len(same) < _MOST_ALIKE[each.severity]:
            same.append(len(listed))
            listed.append(ListedFinding(each))
        else:
            last = listed[same[-1]]
            listed[same[-1]] = last._replace(alike=last.alike + 1)
    return listed


def _likeness(finding: Diagnostic) -> tuple[str, ...]:
    """Findings that are equal in this are alike: severity, rule, and the message without what it quotes."""
    return finding.severity.value, finding.rule, _without(finding.message, finding.values)


def _without(text: str, values: Sequence[QuotedValue]) -> str:
    for value in reversed(values):
        text = text[: value.start] + text[value.end :]
    return text


def diagnostics_text(
    diagnostics: Sequence[Diagnostic],
    *,
    color: bool,
    width: int | None = None,
    excerpts: Excerpts = no_excerpts,
    everything: bool = False,
    invocation: Invocation = Invocation(),  # noqa: B008
) -> str:
    """Findings, one after the other, each with its line, and their number.

    At most 1,000 are listed, errors first then, and few that are alike, unless ``everything`` is asked for.
    ``width`` is that of a terminal.
    """
    pen = Pen(color, width=width)
    grouped = group_findings(diagnostics, everything=everything)
    listed = grouped
    if len(grouped) > _MOST_FINDINGS and not everything:
        grave = (each for each in grouped if each.finding.is_error)
        light = (each for each in grouped if not each.finding.is_error)
        listed = [*islice(chain(grave, light), _MOST_FINDINGS)]
    lines = [line for each in listed for line in _finding_lines(each, pen, excerpts=excerpts)]
    if more := len(grouped) - len(listed):
        lines.append(f"and {more:,} more")
    counts = count_by_severity(diagnostics)
    numbers = ((counts.errors, "error"), (counts.warnings, "warning"))
    lines.append(", ".join(count(number, noun) for number, noun in numbers if number) + ".")
    if pen.width and listed:  # a person reads it
        command = Command.of("explain", listed[0].finding.rule, is_global=False).text()
        lines.append(pen.wrap(f"`{command}` says more about that rule."))
    if len(listed) < len(diagnostics):
        command = Command.of("validate", "--all").text(invocation)
        lines.append(pen.wrap(f"`{command}` lists all of them."))
    return "\n".join(lines) + "\n"


def _finding_lines(listed: ListedFinding, pen: Pen, *, excerpts: Excerpts) -> Iterator[str]:
    finding = listed.finding
    code = RED if finding.is_error else YELLOW
    place, severity = shown(str(finding.source)), finding.severity.value
    head = f"{place}: {severity}: "
    text = pen.wrap(f"{head}{shown(finding.message)} [{finding.rule}]", "  ")
    yield text.replace(head, f"{place}: {pen(severity, BOLD, code)}: ", 1)
    if finding.source.line:
        yield from _excerpt_lines(finding, pen, line=excerpts(finding.source), code=code)
    if finding.hint:
        yield pen.wrap(f"  {shown(finding.hint)}", "  ")
    if listed.alike:
        yield f"  and {listed.alike:,} more"


# --- the line of a file ----------------------------------------------------------------------------


def _excerpt_lines(finding: Diagnostic, pen: Pen, *, line: str, code: str) -> Iterator[str]:
    """The line of a finding, and a mark below the part that it is about."""
    if not line.strip():
        return
    source = finding.source
    margin = f"  {source.line} | "
    room = min((pen.width or _MOST_WIDTH) - len(margin), _MOST_WIDTH)
    excerpt = excerpt_of(line, source.column, values=finding.values, width=max(room, _LEAST_WIDTH))
    yield f"{pen(margin.rstrip(), DIM)} {excerpt.text}"
    if excerpt.marked:
        bar = f"{' ' * (len(margin) - 2)}|"
        mark = "^" * excerpt.marked
        yield f"{pen(bar, DIM)} {' ' * excerpt.before}{pen(mark, BOLD, code)}"


class Excerpt(NamedTuple):
    """A piece of a line, as it is shown."""

    text: str
    before: int
    """Columns of the terminal before the marked part."""
    marked: int
    """Columns that are marked; 0 where the finding names no column."""


def excerpt_of(
    line: str, column: int, *, values: Sequence[QuotedValue] = (), width: int
) -> Excerpt:
    """The piece of a line around a column, which counts characters from 1, in so many columns of a terminal.
    ``values`` are quoted by the finding: the mark is as long as one of them that stands there."""
    if not 1 <= column <= len(line) + 1:
        column = 0
    begin = max(column - 1, 0)
    end = begin + (_length_of_marked(line[begin:], values) if column else 0)
    left, right = 0, len(line)
    if _columns(_shown(line)) > width:
        left = _start(line, begin, room=width // 3)
        right = _end(line, left, room=width - 2)
    parts = (
        line[left:begin],
        line[begin : min(end, right)],
        line[max(begin, min(end, right)) : right],
    )
    before, marked, after = map(_shown, parts)
    if left:
        before = f"…{before}"
    text = f"{before}{marked}{after}" + ("…" if right < len(line) else "")
    if "##" in text:  # the pieces of a command that the log of a build obeys may stand in two parts
        return Excerpt(shown(text), 0, 0)
    return Excerpt(text, _columns(before), max(_columns(marked), 1) if column else 0)


def _length_of_marked(rest: str, values: Sequence[QuotedValue]) -> int:
    """How many characters from the place of a finding on it is about."""
    for value in values:
        if value.text and rest.startswith(value.text):
            return len(value.text)
    match = _TOKEN(rest)
    return len(match[0]) if match else 1


_TOKEN = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s:,\[\]{}#"']+)""").match
"""A scalar in quotes, or one word."""


def _start(line: str, begin: int, *, room: int) -> int:
    """The first character that is shown, so that the columns before a place fit into the room."""
    while begin > 0 and room > 0:
        room -= _columns(_shown(line[begin - 1]))
        begin -= 1
    return begin


def _end(line: str, begin: int, *, room: int) -> int:
    """The end of the characters from a place on that fit into the room."""
    for at in range(begin, len(line)):
        room -= _columns(_shown(line[at]))
        if room < 0:
            return at
    return len(line)


def _shown(text: str) -> str:
    """A piece of a line, safe to print within one: a colon at its beginning stays."""
    return shown(f"x{text}".replace("\t", _TAB))[1:]


def _columns(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )
