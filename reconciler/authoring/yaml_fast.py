"""Plain scalars, and plain documents: the YAML that nearly every profile file is written in; and the
characters that no file may hold, since they do not show. Pure.

Scalars are JSON's, whatever YAML would make of them. `read_plain` reads block mappings and lists of scalars
that stand on one line each, with one regular expression, in a third of the time that libyaml's events
take.
It reads such text as the loader does or not at all: whatever it does not take, and whatever anything
is to be said about, is the loader's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any

from reconciler.authoring.documents import Document, Path
from reconciler.errors import Source
from reconciler.values import Json

# --- scalars -------------------------------------------------------------------------------------

WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
is_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch

LOOK_CLOSER = frozenset(["", *"~-+.0123456789nNtTfFyYoO=<"])
"""With one of these begins every plain scalar that is not text, here or for another tool."""

_OTHER_WORDS = frozenset(
    [
        *("yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"),
        *("y", "Y", "n", "N", "True", "TRUE", "False", "FALSE", "Null", "NULL", "=", "<<"),
    ]
)
# YAML 1.1's types (yaml.org/type) and the core schema of YAML 1.2.2, section 10.3.2.
_OTHER_FORMS = re.compile(
    r"""
      [-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?   # +1 007 1_0 1. .5
    | [-+]?0(?:b[01_]+|o[0-7_]+|x[0-9a-fA-F_]+)
    | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?                         # base 60: 12:30
    | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}
      (?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?
         (?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?
    """,
    re.VERBOSE,
).fullmatch


def is_ambiguous(text: str) -> bool:
    """Whether a plain scalar that is text here is something else for other YAML tools."""
    return text in _OTHER_WORDS or _OTHER_FORMS(text) is not None


def json_number(text: str) -> int | float | None:
    """JSON's number, or ``None`` where no float comes near it. There is one zero."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return None
    if value == 0.0:
        if any(digit in "123456789" for digit in re.split("[eE]", text)[0]):
            return None
        value = 0.0
    return value if any(mark in text for mark in ".eE") else int(text)


# --- characters ----------------------------------------------------------------------------------

# Controls, line breaks that editors do not show, direction marks, and characters without a width.
_ALWAYS = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)
# The joiners U+200C and U+200D belong to some scripts and to emoji: fine between two characters that
# are not ASCII. Lone carriage returns break lines for YAML and for few editors.
INVISIBLE = re.compile(
    f"[{_ALWAYS}]|\r(?!\n)|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
# One class of characters is searched many times faster than alternatives are.
_PERHAPS = re.compile(f"[{_ALWAYS}\r\u200c\u200d]").search
_VISIBLE = bytes([ord("\n"), *range(ord(" "), ord("~") + 1)])


def is_visible(text: str) -> bool:
    """Whether nothing in a text hides, or changes how the text around it reads."""
    return _PERHAPS(text) is None or INVISIBLE.search(text) is None


def visible_text(data: bytes) -> str | None:
    """The text of a file; ``None`` where it is not UTF-8, or something in it is invisible."""
    try:
        text = data.decode("utf-8")
        # Nearly all characters are ASCII and visible, and taken out at once; the rest is searched.
        rest = data.translate(None, _VISIBLE).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if not rest or _PERHAPS(rest) is None or is_visible(text) else None


# --- documents -----------------------------------------------------------------------------------

_LONGEST = 16_000
"""Characters of a document. So it has neither too many nodes nor a scalar that is too long."""
_MOST_OUTLINES = 4096
_WORTH_A_SHAPE = 100
"""Documents of an outline from which on an expression of its own soon saves what compiling it costs."""
_SAMPLED = 4
"""One of so many is looked at for that."""
_MOST_SHAPES = 6
"""Of those that have as many lines, of which any may have to be tried."""

# Pieces of lines, which are applied to text without tabs, carriage returns and invisible characters.
_SPECIAL = r"""\s"'\[\]{},&*!|>%@`:?\#)\\"""
_REST = r"[^\n:\#]*+ (?: : (?=[^\s\#]) [^\n:\#]*+ )*+"
_VALUE = rf"""
    (?: [^{_SPECIAL}-] | - (?=[^\s]) ) {_REST}
    | "[^"\\\n]*+"
    | '[^'\n]*+'
    | \[ [A-Za-z0-9_.,\ -]*+ \]
"""
_END = r"\ *+ (?: (?<=\ ) \# [^\n]*+ )?+"
_EMPTY = r"\ *+ (?: \# [^\n]*+ )?+"

# A line: a key with a value or without, an item of a list, a comment, or nothing.
_LINE = re.compile(
    rf"""
    ^ (?: (\ {{0,12}}+ (?: [A-Za-z_][A-Za-z0-9_.-]{{0,98}}+ (?=:) | - (?=\ ++[^\ \n\#]) )) :?+
          (?: \ ++ ({_VALUE}) )?+ {_END}
        | {_EMPTY}
      ) $
    """,
    re.VERBOSE | re.MULTILINE,
).findall
_ITEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*").fullmatch
_ITEM_HEAD = "-"
_ENDED = 100
"""Deeper than any line: what is below an item is part of it, and not plain."""
_NO = object()
"""The answer about a scalar of which something is to be said."""


class _Outline:
    """What the keys of a document say by themselves; it is the same for all documents that have the
    same keys on the same lines, and most of a corpus has."""

    __slots__ = ("_kinds", "_left", "heads", "lists", "openers", "places", "root", "subtrees")

    def __init__(self, heads: Sequence[str]) -> None:
        """Raises ValueError for keys that are not plain: these are the loader's."""
        self.heads = heads
        self._left = _WORTH_A_SHAPE
        self._kinds: list[set[_Kind]] = [set() for head in heads if head]
        keys: dict[Path, dict[str, int]] = {}
        items: dict[Path, list[int]] = {}
        stack: list[tuple[int, Path]] = [(0, ())]
        places: dict[Path, tuple[int, int]] = {}
        above: tuple[int, Path] | None = None
        beside: tuple[int, Path] | None = None
        for row, head in enumerate(heads):
            if not head:
                continue
            key = head.lstrip(" ")
            indent = len(head) - len(key)
            if above is None:
                if indent or key == _ITEM_HEAD:
                    raise ValueError
                above = (0, ())
                places[()] = (row, 1)
            elif indent > above[0]:
                stack.append((indent, above[1]))
            while indent < stack[-1][0]:
                stack.pop()
            if indent != stack[-1][0] or (key[0] in LOOK_CLOSER and _is_odd(key)):
                raise ValueError
            parent = stack[-1][1]
            if key == _ITEM_HEAD:
                if indent == above[0]:  # as deep as the key of the list
                    beside = above
                if beside is not None and indent == beside[0]:
                    parent = beside[1]
                if parent in keys:
                    raise ValueError
                items.setdefault(parent, []).append(row)
                above = (_ENDED, ())
                continue
            beside = None
            if parent in items:
                raise ValueError
            siblings = keys.setdefault(parent, {})
            if key in siblings:
                raise ValueError
            siblings[key] = row
            above = (indent, (*parent, key))
            places[above[1]] = (row, indent + 1)
        if above is None:
            raise ValueError
        # Values are counted without the lines that have none.
        count = itertools.count()
        at = {row: next(count) for row, head in enumerate(heads) if head}
        keys = {
            path: {key: at[row] for key, row in siblings.items()} for path, siblings in keys.items()
        }
        self.root = _members(keys[()])
        self.subtrees = [
            (at[places[path][0]], *_members(keys[path]))
            for path in sorted(keys, key=len, reverse=True)
            if path
        ]
        self.lists = [
            (at[places[path][0]], _picked([at[row] for row in rows]))
            for path, rows in items.items()
        ]
        self.openers = (
            *[at for at, _ in self.lists],
            *[at for at, _, _ in self.subtrees],
        )
        self.places = places

    def learn(self, part: str, rows: Sequence[tuple[str, str]]) -> None:
        """Takes note of what the scalars of a document look like. Once that was seen often enough, there
        is a shape."""
        if not self._left:
            return
        self._left -= 1
        if self._left % _SAMPLED:
            return
        lines = zip(part.split("\n"), rows, strict=True)
        for kinds, kind in zip(
            self._kinds, [_kind(line, raw) for line, (head, raw) in lines if head], strict=True
        ):
            kinds.add(kind)
        if not self._left:
            alike = _shapes.setdefault(len(rows), [])
            if len(alike) < _MOST_SHAPES:
                alike.append(_Shape(self, self._kinds))


class _Shape:
    """An expression for all documents of an outline whose scalars are of the kinds that are usual on
    their lines. It is several times as fast as going through the lines."""

    __slots__ = ("_flags", "_match", "_numbers", "_others", "_texts", "outline")

    def __init__(self, outline: _Outline, kinds: Sequence[set[_Kind]]) -> None:
        self.outline = outline
        found: dict[_Kind, list[int]] = {kind: [] for kind in _Kind}
        lines: list[str] = []
        at = 0
        for head in outline.heads:
            if not head:
                lines.append(_EMPTY)
                continue
            kind = next(iter(kinds[at])) if len(kinds[at]) == 1 else _Kind.OTHER
            is_item = head.endswith(_ITEM_HEAD) and head.strip(" ") == _ITEM_HEAD
            if is_item and kind is _Kind.OTHER:
                kind = _Kind.OTHER_ITEM
            if at in outline.openers:
                kind = _Kind.OPENER
            found[kind].append(at)
            lines.append(f"{re.escape(head)}{'' if is_item else ':'}{_FORMS[kind]}")
            at += 1
        self._match = re.compile(r"\n".join(lines), re.VERBOSE).fullmatch
        self._texts = _picked(found[_Kind.TEXT])
        self._flags = found[_Kind.FLAG]
        self._numbers = found[_Kind.NUMBER]
        self._others = [
            *found[_Kind.NOTHING],
            *found[_Kind.OTHER],
            *found[_Kind.OTHER_ITEM],
        ]

    def read(self, part: str) -> list[Any] | None:
        """The values of a document; ``None`` if they are not as usual."""
        match = self._match(part)
        if match is None:
            return None
        values: list[Any] = [*match.groups("")]
        if not _ODD_WORDS.isdisjoint(self._texts(values)):
            return None
        for at in self._flags:
            values[at] = values[at] == "true"
        for at in self._numbers:
            values[at] = int(values[at])
        for at in self._others:
            values[at] = value = _scalar(values[at])
            if value is _NO:
                return None
        return values


class _Kind(Enum):
    """What a scalar looks like. All up to `SINGLE` stand alone behind the blanks after a key."""

    NOTHING = 0
    TEXT = 1
    UUID = 2
    FLAG = 3
    NUMBER = 4
    DOUBLE = 5
    SINGLE = 6
    OTHER = 7
    OTHER_ITEM = 8
    OPENER = 9
    """Nothing, on the line of a key that has more below it."""


def _kind(line: str, raw: str) -> _Kind:
    if not raw:
        return _Kind.NOTHING if line.endswith(":") else _Kind.OTHER
    if not line.endswith(raw):
        return _Kind.OTHER
    if raw[0] in _QUOTES:
        return _Kind.DOUBLE if raw[0] == '"' else _Kind.SINGLE
    if raw in _ODD_WORDS and raw not in ("true", "false"):
        return _Kind.OTHER
    return next((kind for kind, fits in _FITTING if fits(raw)), _Kind.OTHER)


_shapes: dict[int, list[_Shape]] = {}
"""By how many lines there are."""


def _members(rows: dict[str, int]) -> tuple[tuple[str, ...], Callable[[list[Any]], Any]]:
    """The keys of a mapping, and what takes its values out of those of all lines."""
    return tuple(rows), _picked([*rows.values()])


def _picked(rows: Sequence[int]) -> Callable[[list[Any]], Any]:
    if len(rows) < 2:
        return itemgetter(slice(rows[0], rows[0] + 1) if rows else slice(0))
    return itemgetter(*rows)


def _is_odd(key: str) -> bool:
    return key in WORDS or is_ambiguous(key)


_outlines: dict[tuple[str, ...], _Outline | None] = {}


def _outline(heads: tuple[str, ...]) -> _Outline | None:
    if len(_outlines) >= _MOST_OUTLINES:
        _outlines.clear()
        _shapes.clear()
    try:
        found = _Outline(heads)
    except ValueError:
        found = None
    _outlines[heads] = found
    return found


def read_plain(text: str, file: str) -> list[Document] | None:
    """The documents of a file without invisible characters, or ``None`` if it is not plain.

    Items of lists have no places of their own.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\t" in text or "\r" in text or text[:1] == "\ufeff":
        return None
    line = 1
    if text.startswith("---\n"):
        text, line = text[4:], 2
    documents: list[Document] = []
    for part in text.split("\n---\n"):
        if len(part) > _LONGEST:
            return None
        count = part.count("\n") + 1
        for shape in _shapes.get(count, ()):
            found = shape.read(part)
            if found is not None:
                outline, values = shape.outline, found
                break
        else:
            rows = _LINE(part)
            if len(rows) != count:
                return None
            heads = tuple([head for head, _ in rows])
            known = _outlines[heads] if heads in _outlines else _outline(heads)
            if known is None:
                return None
            outline = known
            raws = [raw for head, raw in rows if head]
            for at in outline.openers:
                if raws[at]:
                    return None
            values = [_scalar(raw) for raw in raws]
            if _NO in values:
                return None
            outline.learn(part, rows)
        for at, pick in outline.lists:
            values[at] = [*pick(values)]
        for at, keys, pick in outline.subtrees:
            values[at] = dict(zip(keys, pick(values), strict=True))
        keys, pick = outline.root
        row, column = outline.places[()]
        documents.append(
            Document(
                dict(zip(keys, pick(values), strict=True)),
                Source(file, row + line, column),
                outline.places,
                shift=line,
            )
        )
        line += count + 1
    return documents


_QUOTES = frozenset("\"'")
_NO_LETTER = frozenset(first for first in LOOK_CLOSER if not first.isalpha()) | {"["}
_ODD_WORDS = WORDS.keys() | _OTHER_WORDS

_PLAIN_FORMS = {
    # Never a number, and none of the forms of numbers and dates.
    _Kind.UUID: "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}",
    _Kind.FLAG: "true|false",
    _Kind.NUMBER: "0|[1-9][0-9]{0,14}",
    # Whether it is one of the words is looked at later.
    _Kind.TEXT: r"[A-Za-z][^\n:\#]*+(?<!\ )",
}
_FITTING = [(kind, re.compile(form).fullmatch) for kind, form in _PLAIN_FORMS.items()]
_FORMS = {
    _Kind.NOTHING: "()",
    **{kind: rf"\ ++({form})" for kind, form in _PLAIN_FORMS.items()},
    _Kind.DOUBLE: r'\ ++"([^"\\\n]*+)"',
    _Kind.SINGLE: r"\ ++'([^'\n]*+)'",
    _Kind.OTHER: rf"(?: \ ++ ({_VALUE}) )?+ {_END}",
    _Kind.OPENER: rf"(){_END}",
    _Kind.OTHER_ITEM: rf"\ ++ ({_VALUE}) {_END}",
}
"""What stands behind a key or a dash that is followed by a scalar of a kind."""


def _scalar(raw: str) -> Any:
    """What a value is as it stands in its line, or `_NO`."""
    first = raw[:1]
    if first in _QUOTES:
        return raw[1:-1]
    text = raw.rstrip(" ")
    return _typed(text) if first in _NO_LETTER or text in _ODD_WORDS else text


def _typed(text: str) -> Any:
    """What a scalar is that may be more than text, or a list of such; or `_NO`."""
    if text in WORDS:
        return WORDS[text]
    if text[0] == "[":
        return _items(text[1:-1])
    if is_number(text):
        value: Json = json_number(text)
        return _NO if value is None else value
    return _NO if is_ambiguous(text) else text


def _items(text: str) -> Any:
    if not text.strip(" "):
        return []
    items: list[Any] = [item.strip(" ") for item in text.split(",")]
    for index, item in enumerate(items):
        if not _ITEM(item):
            return _NO
        if item[0] in LOOK_CLOSER:
            items[index] = _typed(item)
    return _NO if _NO in items else items
