"""Phrases that several formats share: counts, times, authors, requests, what happens to a field. Pure.

Every text has passed `shown` or `quoted`: it is one line without control, direction or invisible
characters, and the log of a build does not obey it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import zip_longest
from math import ceil
from typing import NamedTuple, assert_never
from unicodedata import normalize

from reconciler.core.facets.registry import facet_of
from reconciler.core.options import Rate
from reconciler.core.outcomes import Progress
from reconciler.core.plan import Action, Basis, FieldChange, LineAuthor, Op, Request
from reconciler.errors import Source
from reconciler.values import quoted, shown, spelled

shown_often = lru_cache(maxsize=4096)(shown)
"""`shown` for paths, labels and sentences: a plan has few of them, in many changes."""


def count(number: int, noun: str) -> str:
    """``1 change``, ``2,000 changes``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def join_with_and(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def duration(seconds: float) -> str:
    """A time as a person says it: ``12 s``, ``34 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def request_count(least: int, most: int) -> str:
    """``1 request``, ``1 to 2 requests``."""
    return f"{range_text(least, most)} {'request' if most == 1 else 'requests'}"


def range_text(least: int, most: int) -> str:
    """``5``, ``5 to 10``."""
    return f"{least:,}" if most <= least else f"{least:,} to {most:,}"


def sending_time(least: int, most: int, *, rate: Rate | None) -> str:
    """How long a number of requests takes at a rate: ``7 to 14 min at 300/min``. Empty where no rate holds
    them up, and for a second or less."""
    if rate is None or rate.per_second is None or most <= rate.per_second:
        return ""
    shortest, longest = duration(least / rate.per_second), duration(most / rate.per_second)
    number, _, unit = shortest.partition(" ")
    if shortest == longest:
        span = shortest
    elif longest.endswith(f" {unit}"):
        span = f"{number} to {longest}"
    else:
        span = f"{shortest} to {longest}"
    return f"{span} at {rate}" + (" to begin with" if rate.auto else "")


def seconds_left(progress: Progress, seconds: float) -> float | None:
    """How long the rest of an apply takes at the speed so far; ``None`` before the first outcome."""
    if not progress.done:
        return None
    return (progress.total - progress.done) * seconds / progress.done


def author_text(author: LineAuthor | None) -> str:
    """The author who wrote or removed a line, and the commit."""
    if author is None:
        return ""
    verb = "removed" if author.removed else "written"
    if author.problem:
        return f"git cannot tell who {'removed' if author.removed else 'wrote'} it: {shown(author.problem)}"
    if not author.commit:
        return f"{verb}, not committed yet"
    return (
        f"{verb} by {shown(author.author)} in {shown(author.commit[:12])} on {shown(author.date)}"
    )


def request_lines(request: Request) -> Iterator[str]:
    """A request as it is sent, its headers and body, line by line."""
    yield f"{shown(request.method)} {shown(request.path)}"
    for name, value in request.headers.items():
        yield f"  {shown(name)}: {shown(value)}"
    if request.body is not None:
        for line in spelled(request.body, indent=2).splitlines():
            yield f"  {line}"
    if request.expects_none:
        yield "  if the profile exists: refused, nothing is sent"
    if request.fallback is not None:
        body = "the same" if request.body is not None else "{}"
        yield f"  if the profile does not exist: {shown(request.fallback)} with body {body}"
    if request.if_needed:
        yield "  only if the answers before it show that it is needed"


def place_text(source: Source | None) -> str:
    """The file and the line of a declaration; empty without one."""
    if source is None:
        return ""
    file = shown(source.file)
    return f"{file}:{source.line}" if source.line else file


class FieldWording(NamedTuple):
    """How reports describe a field change."""

    mark: str
    """``+``, ``~``, ``-``, or ``x`` for a field that is no longer managed."""
    before: str | None
    """``None`` where nothing was there, or it was never known."""
    after: str
    note: str
    """How sure ``before`` is, where that is worth a word."""


def field_wording(item: FieldChange, action: Action = Action.UPDATE) -> FieldWording:
    """How reports describe a field change, with its values, in a change with some action. The heading of a
    create says already that nothing was known; the fields of a deleted profile go with it."""
    op, before = item.op, item.before
    is_absent = before is None
    wording = _wording(op, item.basis, absent=is_absent, cleared=facet_of(item.path).absent)
    shown_before = wording.before
    after = quoted(item.after) if op is Op.SET else wording.after
    if shown_before is not None and before is not None:
        shown_before = quoted(before)
        if type(before) is type(item.after) is str and not f"{before}{item.after}".isascii():
            shown_before, after = _told_apart(before, item.after)
    if action is Action.DELETE:
        after = "gone"
    is_said = action is Action.CREATE and item.basis is Basis.NONE
    note = "" if is_said else wording.note
    return FieldWording(wording.mark, shown_before, after, note)


def _told_apart(before: str, after: str) -> tuple[str, str]:
    """Two texts, each with what distinguishes it where they look the same or nearly so."""
    texts = quoted(before), quoted(after)
    is_plain = texts == (f'"{before}"', f'"{after}"')  # an escape shows the difference
    notes = _differences(before, after) if is_plain else None
    return texts if notes is None else (f"{texts[0]} ({notes[0]})", f"{texts[1]} ({notes[1]})")


def _differences(before: str, after: str) -> tuple[str, str] | None:
    """What distinguishes two texts that look the same: their Unicode form, or the first characters that
    differ. ``None`` where a reader sees the difference."""
    if before == after:
        return None
    composed = normalize("NFC", before), normalize("NFC", after)
    if composed[0] == composed[1]:
        if before == composed[0]:
            return "composed", "decomposed"
        if after == composed[1]:
            return "decomposed", "composed"
    elif _likeness(before) != _likeness(after):
        return None
    left, right = next(
        pair for pair in zip_longest(before, after, fillvalue="") if pair[0] != pair[1]
    )
    return _code_point(left), _code_point(right)


def _likeness(text: str) -> str:
    """A text in which letters of other scripts stand for the Latin ones that they look like."""
    return normalize("NFKC", text).translate(_LOOKALIKES)


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}" if character else "nothing there"


_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455"  # Cyrillic
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406"
    "\u03bf\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u03a5\u0396"  # Greek
    "\u2010\u2011\u2012\u2013\u2212\u2018\u2019\u201c\u201d",
    "aeopcyxijsABEKMHOPCTXIoABEHIKMNOPTXYZ-----''\"\"",
)
"""Characters that most fonts draw as they draw another one (Unicode Technical Standard 39)."""


@cache
def _wording(op: Op, basis: Basis, *, absent: bool, cleared: str) -> FieldWording:
    """The wording of all field changes that differ in their values only: values that are there are
    empty in it. ``absent`` says that there is no value before, which is called ``cleared``."""
    before = ("unset" if basis is Basis.UNCERTAIN else cleared) if absent else ""
    note = "" if basis is Basis.RECORDED else str(basis)
    match op:
        case Op.SET if basis is Basis.NONE:
            return FieldWording("+", None, "", "never known")
        case Op.SET if absent and basis is not Basis.UNCERTAIN:
            return FieldWording("+", None, "", "")
        case Op.SET:
            return FieldWording("~", before, "", note)
        case Op.CLEAR if basis is Basis.NONE:
            return FieldWording("-", None, cleared, "never known")
        case Op.CLEAR:
            return FieldWording("-", before, cleared, note)
        case Op.FORGET:
            note = "no longer managed; stays as it is at the API"
            return FieldWording("x", before, "", note)
        case _:
            assert_never(op)
