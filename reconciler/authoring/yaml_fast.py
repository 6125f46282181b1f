"""A fast reader of the plain YAML that nearly every profile file is written in. Pure.

It reads block mappings, and lists of scalars that stand on one line each, with one regular expression,
in about a fifth of the time that libyaml's events take. It returns the documents that the strict
reader returns for the same text, or ``None``; a text with any finding gets ``None``. No other module
depends on how it works.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path, Place
from reconciler.authoring.yaml_scalars import (
    LOOK_CLOSER,
    ODD_WORDS,
    WORDS,
    is_ambiguous,
    is_number,
    is_odd,
    json_number,
)
from reconciler.errors import Source
from reconciler.values import Json

_LONGEST = 16_000
"""Characters of a document. Shorter ones have neither too many nodes nor too long a scalar."""
_MOST_LAYOUTS = 4096
"""Layouts that are remembered."""


def read(text: str, file: str) -> list[Document] | None:
    """The documents of a file without invisible characters, or ``None`` if the strict reader has to read it.

    Items of lists have no places of their own.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\t" in text or "\r" in text or text[:1] == "\ufeff":
        return None
    above = 0  # lines
    if text.startswith("---\n"):
        text, above = text[4:], 1
    documents: list[Document] = []
    for part in text.split("\n---\n"):
        if len(part) > _LONGEST:
            return None
        lines = _LINE(part)
        if len(lines) != part.count("\n") + 1:
            return None
        document = _document(lines, file, above=above)
        if document is None:
            return None
        documents.append(document)
        above += len(lines) + 1
    return documents


def _document(lines: Sequence[tuple[str, str]], file: str, *, above: int) -> Document | None:
    """A document from the head and the value of each of its lines."""
    layout = _layout(tuple([head for head, _ in lines]))
    if layout is None:
        return None
    raws = [raw for head, raw in lines if head]
    values = [_scalar(raw) for raw in raws]
    if _REFUSED in values:
        return None
    for container in layout.containers:  # the inner ones first
        at = container.opener
        if raws[at]:
            return None
        members = container.pick(values)
        keys = container.keys
        values[at] = [*members] if keys is None else dict(zip(keys, members, strict=True))
    places: Mapping[Path, Place] = _LowerPlaces(layout.places, above) if above else layout.places
    return Document(
        dict(zip(layout.keys, layout.pick(values), strict=True)), Source(file, *places[()]), places
    )


# --- lines ---------------------------------------------------------------------------------------

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


# --- layouts -------------------------------------------------------------------------------------


class _Container(NamedTuple):
    """A mapping or a list below the root."""

    opener: int
    """The number of the line that it is the value of. Lines without key or dash are not counted."""
    keys: tuple[str, ...] | None
    """The keys of a mapping; ``None`` for a list."""
    pick: Callable[[list[Any]], Sequence[Any]]
    """Takes the values of its members from those of all lines."""


class _Layout(NamedTuple):
    """The structure of a document, as the keys and dashes of its lines decide it, whatever its values are."""

    keys: tuple[str, ...]
    """The keys of the root mapping."""
    pick: Callable[[list[Any]], Sequence[Any]]
    containers: tuple[_Container, ...]
    """The inner ones first."""
    places: Mapping[Path, Place]
    """The places in a document that begins in the first line. Documents with the same layout share them."""


class _LowerPlaces(Mapping[Path, Place]):
    """The places of a layout, for a document that begins further down in its file."""

    __slots__ = ("_lines", "_places")

    def __init__(self, places: Mapping[Path, Place], lines: int) -> None:
        self._places, self._lines = places, lines

    def __getitem__(self, path: Path) -> Place:
        line, column = self._places[path]
        return line + self._lines, column

    def __contains__(self, path: object) -> bool:
        return path in self._places

    def __iter__(self) -> Iterator[Path]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@lru_cache(maxsize=_MOST_LAYOUTS)  # most profiles of a corpus share a few
def _layout(heads: tuple[str, ...]) -> _Layout | None:
    """The layout of a document with these heads of lines; ``None`` if the keys are not plain."""
    builder = _LayoutBuilder()
    if not all(builder.add(row, head) for row, head in enumerate(heads, 1) if head):
        return None
    return builder.layout()


class _Open(NamedTuple):
    """A mapping or a list while its members are collected."""

    opener: int
    indent: int
    path: Path
    members: dict[str, int] | list[int]
    """The numbers of the lines of its members."""


_ITEM_HEAD = "-"
_AFTER_ITEM = 100
"""Deeper than any line: nothing can be below an item of a plain list."""


class _LayoutBuilder:
    """Collects the layout of a document, line by line."""

    def __init__(self) -> None:
        self._places: dict[Path, Place] = {}
        self._root = _Open(-1, 0, (), {})
        self._stack = [self._root]
        self._all: list[_Open] = []
        self._count = 0
        self._indent = 0
        """The indentation of the last key; `_AFTER_ITEM` after an item."""
        self._path: Path = ()
        """The path of the last key."""

    def add(self, row: int, head: str) -> bool:
        """Adds the next line with a key or a dash. Returns whether it is plain."""
        key = head.lstrip(" ")
        indent = len(head) - len(key)
        is_item = key == _ITEM_HEAD
        if not self._count:
            if indent or is_item:
                return False
            self._places[()] = (row, 1)
        elif indent > self._indent or (is_item and indent == self._indent):
            self._open(indent, {} if not is_item else [])
        elif not self._close(indent, is_item=is_item):
            return False
        number = self._count
        self._count += 1
        members, path = self._stack[-1].members, self._stack[-1].path
        if isinstance(members, list):
            members.append(number)
            self._indent = _AFTER_ITEM
            return True
        if key in members or (key[0] in LOOK_CLOSER and is_odd(key)):
            return False
        members[key] = number
        self._indent, self._path = indent, (*path, key)
        self._places[self._path] = (row, indent + 1)
        return True

    def _open(self, indent: int, members: dict[str, int] | list[int]) -> None:
        """Begins the mapping or list that is the value of the last key."""
        opened = _Open(self._count - 1, indent, self._path, members)
        self._stack.append(opened)
        self._all.append(opened)

    def _close(self, indent: int, *, is_item: bool) -> bool:
        """Ends the containers that are deeper than a line. Returns whether the line fits the rest."""
        stack = self._stack
        while indent < stack[-1].indent:
            stack.pop()
        # A list may be as deep as its key; then the next key ends it.
        if not is_item and isinstance(stack[-1].members, list) and stack[-2].indent == indent:
            stack.pop()
        top = stack[-1]
        return top.indent == indent and is_item is isinstance(top.members, list)

    def layout(self) -> _Layout | None:
        """The layout of the lines so far; ``None`` if there were none."""
        root = self._root.members
        if not self._count or isinstance(root, list):
            return None
        return _Layout(
            tuple(root),
            _picker([*root.values()]),
            tuple(
                _Container(each.opener, tuple(each.members), _picker([*each.members.values()]))
                if isinstance(each.members, dict)
                else _Container(each.opener, None, _picker(each.members))
                for each in reversed(self._all)
            ),
            self._places,
        )


def _picker(numbers: Sequence[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """Takes the values with some numbers out of a list."""
    if len(numbers) == 1:
        return itemgetter(slice(numbers[0], numbers[0] + 1))
    return itemgetter(*numbers)


# --- scalars -------------------------------------------------------------------------------------

_REFUSED = object()
"""The value of a scalar that the strict reader has to read."""
_QUOTES = frozenset("\"'")
_NO_LETTER = frozenset(first for first in LOOK_CLOSER if not first.isalpha()) | {"["}


def _scalar(raw: str) -> Any:
    """The value of a scalar or a list as it stands in its line, or `_REFUSED`."""
    first = raw[:1]
    if first in _QUOTES:
        return raw[1:-1]
    text = raw.rstrip(" ")
    return _typed(text) if first in _NO_LETTER or text in ODD_WORDS else text


def _typed(text: str) -> Any:
    """The value of a scalar that may be more than text, or of a list; or `_REFUSED`."""
    if text in WORDS:
        return WORDS[text]
    if text[0] == "[":
        return _items(text[1:-1])
    if is_number(text):
        value: Json = json_number(text)
        return _REFUSED if value is None else value
    return _REFUSED if is_ambiguous(text) else text


def _items(text: str) -> Any:
    if not text.strip(" "):
        return []
    items: list[Any] = [item.strip(" ") for item in text.split(",")]
    for index, item in enumerate(items):
        if not _ITEM(item):
            return _REFUSED
        if item[0] in LOOK_CLOSER:
            items[index] = _typed(item)
    return _REFUSED if _REFUSED in items else items
