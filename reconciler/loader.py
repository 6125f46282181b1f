"""Files to documents: strict YAML, and the walk over a profiles folder. Home of PyYAML.

Scalars are JSON's, whatever YAML would make of them. Values are built from libyaml's events with a
stack of our own, so that nothing here recurses and every bound (depth, nodes with aliases expanded,
length) is checked before memory or time is spent. Whatever is wrong with a file is a diagnostic; a
file that cannot be read is an error and never looks like an absent one.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from yaml import MarkedYAMLError
from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from reconciler import documents
from reconciler.documents import Document, Place
from reconciler.errors import Diagnostic, ReconcileError, Severity, Source
from reconciler.plain import (
    LOOK_CLOSER,
    WORDS,
    is_ambiguous,
    is_number,
    json_number,
    read_plain,
)
from reconciler.values import Json

CParser: Any
try:
    from yaml._yaml import CParser
except ImportError:  # pragma: no cover - PyYAML was built without libyaml
    CParser = None

MAX_DEPTH = 16
"""Nested collections in a document, the root mapping included."""
MAX_NODES = 20_000
"""Keys, scalars and collections in a document, aliases expanded."""
MAX_SCALAR = 64 * 1024
"""Bytes of one scalar, in UTF-8."""
MAX_FILE = 64 * 1024 * 1024
"""Bytes of one file."""
MAX_FINDINGS = 20
"""Invisible characters reported one by one in a file; the last one says how many there were."""

Node: TypeAlias = "dict[str, Any] | list[Any]"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The documents below a root, ordered by file name; ``files`` counts the files read."""

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
    files: int


# --- characters ----------------------------------------------------------------------------------

# Controls, line breaks that editors do not show, direction marks, and characters without a width.
_ALWAYS = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)
# The joiners U+200C and U+200D belong to some scripts and to emoji: fine between two characters that
# are not ASCII. Lone carriage returns break lines for YAML and for few editors.
_INVISIBLE = re.compile(
    f"[{_ALWAYS}]|\r(?!\n)|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
# One class of characters is searched many times faster than alternatives are.
_PERHAPS_INVISIBLE = re.compile(f"[{_ALWAYS}\r\u200c\u200d]")
_VISIBLE = bytes([ord("\n"), *range(ord(" "), ord("~") + 1)])
_STR_TAG = "tag:yaml.org,2002:str"


class _Slot(Enum):
    """Where the next value of a mapping goes when it is not under a key."""

    MERGE = "merge"
    DISCARD = "discard"


_OPEN = object()
"""An anchor whose collection has not ended."""


class _Stop(Exception):
    """The rest of the file cannot be read; a diagnostic says why."""


# --- one file ------------------------------------------------------------------------------------


def load_text(data: bytes, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """The documents of one file and all that is wrong with it.

    Documents are returned although there are errors where their values still stand for what was
    written, so that validation can add its findings; none of it may be planned from.

    Raises ReconcileError when PyYAML lacks libyaml: the pure parser reads some files differently.
    """
    if CParser is None:
        raise ReconcileError(
            "PyYAML was installed without libyaml, its C parser",
            hint="Install a wheel: pip install --force-reinstall --only-binary pyyaml pyyaml",
        )
    reading = _Reading(data, file)
    if reading.is_text():
        try:
            reading.run()
        except _Stop:
            pass
        except Exception as problem:  # PyYAML also raises ValueError, MemoryError and others
            reading.syntax(problem)
    return reading.documents, reading.diagnostics


def load_quickly(data: bytes, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """The same, without the places of list items where nothing is wrong with the file."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return load_text(data, file)
    # Nearly all characters are ASCII and visible, and taken out at once; the rest is searched.
    rest = data.translate(None, _VISIBLE)
    if not (rest and _PERHAPS_INVISIBLE.search(rest.decode()) and _INVISIBLE.search(text)):
        found = read_plain(text, file)
        if found is not None:
            return found, []
    return load_text(data, file)


def comments_of(text: str) -> list[str]:
    """The comments of YAML that parses, in their order: what stands between its tokens."""
    parser = CParser(text.encode("utf-8", "surrogatepass"))
    found: list[str] = []
    place = 0
    try:
        while (token := parser.get_token()) is not None:
            found += _COMMENT(text[place : token.start_mark.index])
            place = max(place, token.end_mark.index)
    finally:
        parser.dispose()
    return found


_COMMENT = re.compile("#.*").findall


def parse_yaml(data: bytes, file: str) -> tuple[Document | None, list[Diagnostic]]:
    """The one document of a file, read as strictly as a profile; ``None`` after an error."""
    found, diagnostics = load_text(data, file)
    if len(found) > 1:
        diagnostics.append(
            Diagnostic(
                Severity.ERROR,
                "file/one-document",
                f"this file must hold one document, found {len(found)}",
                found[1].source,
                "Remove everything from the second `---` on.",
            )
        )
    if not found or any(diagnostic.is_error for diagnostic in diagnostics):
        return None, diagnostics
    return found[0], diagnostics


class _Reading:
    """The reading of one file."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data = data
        self.file = file
        self.documents: list[Document] = []
        self.diagnostics: list[Diagnostic] = []

    def error(self, rule: str, message: str, place: Place, *, hint: str = "") -> None:
        self.diagnostics.append(
            Diagnostic(Severity.ERROR, rule, message, Source(self.file, *place), hint)
        )

    def stop(self, rule: str, message: str, place: Place, *, hint: str = "") -> _Stop:
        self.error(rule, message, place, hint=hint)
        return _Stop()

    # -- before parsing --

    def is_text(self) -> bool:
        """Whether the bytes are text that can be parsed: size, encoding, characters."""
        data = self.data
        if len(data) > MAX_FILE:
            self.error("file/too-large", _TOO_LARGE, (0, 0), hint="Split it into several files.")
            return False
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as problem:
            place = _place(data[: problem.start].decode("utf-8"))
            self._encoding(_utf_16_or_32(data), place)
            return False
        if "\0" in text[:4] and (guess := _utf_16_or_32(data)):
            self._encoding(guess, (1, 1))
            return False
        text = text.removeprefix("\ufeff")
        if _PERHAPS_INVISIBLE.search(text) and _INVISIBLE.search(text):
            self._invisible(text)
            return False
        return True

    def _encoding(self, guess: str, place: Place) -> None:
        message = f"the file looks like {guess}" if guess else "the file is not UTF-8"
        self.error(
            "file/encoding", f"{message}; only UTF-8 is read", place, hint="Save it as UTF-8."
        )

    def _invisible(self, text: str) -> None:
        matches = _INVISIBLE.finditer(text)
        for number, match in enumerate(islice(matches, MAX_FINDINGS), 1):
            more = sum(1 for _ in matches) if number == MAX_FINDINGS else 0
            rest = f"; and {more} more like it" if more else ""
            self.error(
                "yaml/invisible-character",
                f"{_named(match.group())} is not allowed{rest}",
                _place(text[: match.start()]),
                hint="Delete it: it is invisible, or changes how the text around it reads.",
            )

    # -- documents --

    def run(self) -> None:
        parser = CParser(self.data)
        try:
            self._stream(parser.get_event)
        finally:
            parser.dispose()

    def _stream(self, get_event: Callable[[], Any]) -> None:
        seen = False
        empty: list[Place] = []
        while True:
            event = get_event()
            kind = event.__class__
            if kind is StreamEndEvent:
                break
            if kind is not DocumentStartEvent:  # the start of the stream, the end of a document
                continue
            root = get_event()
            mark = root.start_mark
            place = (mark.line + 1, mark.column + 1)
            if root.__class__ is ScalarEvent and not root.value and not root.style and not root.tag:
                # The mark of nothing is the end of the line before.
                empty.append((event.start_mark.line + 1, event.start_mark.column + 1))
                continue
            seen = True
            for before in empty:
                self.error(
                    "yaml/empty-document",
                    "this document is empty",
                    before,
                    hint="Remove its `---`, or write the profile that belongs here.",
                )
            empty.clear()
            if root.__class__ is MappingStartEvent:
                self._document(root, place, get_event)
            else:
                self._not_a_mapping(root, place, get_event)
        if not seen:
            self.error(
                "file/empty",
                "the file holds no document",
                (0, 0),
                hint="Write a profile into it, or delete the file: an empty file is never read as "
                "a wish to delete.",
            )

    def _not_a_mapping(self, root: Any, place: Place, get_event: Callable[[], Any]) -> None:
        what = {ScalarEvent: "a single value", SequenceStartEvent: "a list"}.get(
            root.__class__, "an alias"
        )
        hint = "Write `key: value` lines; separate several profiles with `---` lines."
        if self.data.startswith(b"version https://git-lfs"):
            hint = "This is a Git LFS pointer, not the file: run `git lfs pull`."
        elif _CONFLICT(self.data):
            hint = _RESOLVE
        elif self.data.startswith(b"$ANSIBLE_VAULT"):
            hint = "This file is encrypted with Ansible Vault; only plain files are read."
        self.error(
            "yaml/not-a-mapping", f"a document must be a mapping, found {what}", place, hint=hint
        )
        depth = 1 if root.__class__ is SequenceStartEvent else 0
        event = root
        while event.__class__ is not DocumentEndEvent:
            event = get_event()
            if event.__class__ in (MappingStartEvent, SequenceStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise _Stop
            elif event.__class__ in (MappingEndEvent, SequenceEndEvent):
                depth -= 1

    def _document(self, root: Any, place: Place, get_event: Callable[[], Any]) -> None:
        """Build one document. This is the loop that the speed of everything rests on."""
        data = self.data
        # Whether there may be anchors, tags, escapes or long scalars at all; mostly not.
        unusual = len(data) > MAX_SCALAR or any(mark in data for mark in (b"&", b"!", b"\\"))
        look_closer = LOOK_CLOSER
        scalar_event, mapping_start, mapping_end = ScalarEvent, MappingStartEvent, MappingEndEvent
        max_nodes = MAX_NODES

        value: dict[str, Any] = {}
        places: dict[documents.Path, Place] = {(): place}
        anchors: dict[str, Any] = {}
        merges: dict[int, tuple[Any, Place]] = {}  # by id of the mapping that has a `<<`
        stack: list[tuple[Any, bool, str | _Slot | None, documents.Path, str | None]] = []

        # The collection being filled: itself, its kind, the key that waits for its value, its path,
        # the path of that key, its anchor.
        node: Any = value
        is_mapping = True
        slot: str | _Slot | None = None
        path: documents.Path = ()
        here: documents.Path = ()
        anchor: str | None = self._properties(root, place) if unusual else None
        if anchor is not None:
            anchors[anchor] = _OPEN
        nodes = 1

        while True:
            event = get_event()
            kind = event.__class__
            if kind is scalar_event:
                nodes += 1
                text: str = event.value
                style = event.style
                tagged = False
                if unusual and event.tag is not None:
                    tagged = self._is_str(event)
                if is_mapping and slot is None:
                    mark = event.start_mark
                    place = (mark.line + 1, mark.column + 1)
                    if nodes > max_nodes:
                        raise self._too_many(place)
                    here = path + (text,)  # noqa: RUF005 - (*path, text) takes twice as long
                    slot = text
                    if not style and not tagged and text[:1] in look_closer:
                        slot = self._plain_key(text, place)
                    if unusual:
                        if len(text) > MAX_SCALAR // 4 or style == '"':
                            self._text(text, place)
                        if event.anchor is not None:
                            anchors[event.anchor] = text
                    if slot is text:
                        if text in node:
                            slot = self._duplicate(text, place, places[here])
                            here = (*path, -1)
                        else:
                            places[here] = place
                    elif slot is _Slot.MERGE:
                        if id(node) in merges:
                            slot = self._duplicate(text, place, merges[id(node)][1])
                        else:
                            merges[id(node)] = (None, place)
                    continue
                item: Any = text
                if not style and not tagged and text[:1] in look_closer:
                    item = self._plain(text, event)
                if unusual:
                    if len(text) > MAX_SCALAR // 4 or style == '"':
                        self._text(text, _start(event))
                    if event.anchor is not None:
                        anchors[event.anchor] = item
            elif kind is mapping_start or kind is SequenceStartEvent:
                nodes += 1
                mark = event.start_mark
                place = (mark.line + 1, mark.column + 1)
                if nodes > max_nodes:
                    raise self._too_many(place)
                if len(stack) + 2 > MAX_DEPTH:
                    raise self._too_deep(place)
                child: Node = {} if kind is mapping_start else []
                new_anchor = None
                if unusual:
                    new_anchor = self._properties(event, place)
                    if new_anchor is not None:
                        anchors[new_anchor] = _OPEN
                after: _Slot | None = None
                if not is_mapping:
                    here = (*path, len(node))
                    places[here] = place
                    node.append(child)
                elif slot.__class__ is str:
                    node[slot] = child
                elif slot is None:
                    self._collection_key(place)
                    after = _Slot.DISCARD
                    here = (*path, -1)
                elif slot is _Slot.MERGE:
                    merges[id(node)] = (child, place)
                stack.append((node, is_mapping, after, path, anchor))
                node, is_mapping, slot, path = child, kind is mapping_start, None, here
                anchor = new_anchor
                continue
            elif kind is mapping_end or kind is SequenceEndEvent:
                if merges and is_mapping and id(node) in merges:
                    merged, place = merges.pop(id(node))
                    self._merge(node, merged, place, path=path, places=places)
                if anchor is not None:
                    anchors[anchor] = node
                if not stack:
                    break
                node, is_mapping, slot, path, anchor = stack.pop()
                if slot is not None:  # the value of a collection key comes next
                    here = (*path, -1)
                continue
            else:  # an alias
                place = _start(event)
                nodes += 1
                if is_mapping and slot is None:
                    self._collection_key(place, what="an alias")
                    slot = _Slot.DISCARD
                    here = (*path, -1)
                    continue
                item = self._aliased(event.anchor, anchors, place)
                if item.__class__ is dict or item.__class__ is list:
                    size, height = _measure(item)
                    nodes += size - 1
                    if nodes > max_nodes:
                        raise self._too_many(place)
                    if len(stack) + 1 + height > MAX_DEPTH:
                        raise self._too_deep(place)
                    item = _copy(item)
            # A scalar or an alias as a value.
            if nodes > max_nodes:
                raise self._too_many(_start(event))
            if not is_mapping:
                mark = event.start_mark
                places[(*path, len(node))] = (mark.line + 1, mark.column + 1)
                node.append(item)
            else:
                if slot.__class__ is str:
                    node[slot] = item
                elif slot is _Slot.MERGE:
                    merges[id(node)] = (item, _start(event))
                slot = None
        self.documents.append(Document(value, Source(self.file, *places[()]), places))

    # -- the rare cases of that loop --

    def _is_str(self, event: Any) -> bool:
        if event.tag == _STR_TAG:
            return True
        self._tag(event.tag, _start(event))
        return False

    def _properties(self, event: Any, place: Place) -> str | None:
        """The anchor of a collection; a tag on it is an error."""
        if event.tag is not None:
            self._tag(event.tag, place)
        anchor: str | None = event.anchor
        return anchor

    def _tag(self, tag: str, place: Place) -> None:
        short = tag.replace("tag:yaml.org,2002:", "!!", 1)
        self.error(
            "yaml/tag",
            f"the tag `{short}` is not allowed here",
            place,
            hint="Remove it; to keep a value as text, put it in quotes.",
        )

    def _plain_key(self, text: str, place: Place) -> str | _Slot:
        if text == "<<":
            return _Slot.MERGE
        if text in WORDS or is_number(text):
            short = _short(text)
            self.error(
                "yaml/non-string-key",
                f"a key must be text, and `{short}` is not" if text else "a key is missing here",
                place,
                hint=f'Put it in quotes: "{short}".' if text else "Write one before the `:`.",
            )
            return _Slot.DISCARD
        if is_ambiguous(text):
            self._ambiguous(text, place)
        return text

    def _collection_key(self, place: Place, *, what: str = "a list or mapping") -> None:
        self.error(
            "yaml/non-string-key",
            f"a key must be text, and this is {what}",
            place,
            hint="Write the key as text; text that begins with `[`, `{`, `*` or `? ` needs quotes.",
        )

    def _duplicate(self, key: str, place: Place, first: Place) -> _Slot:
        self.error(
            "yaml/duplicate-key",
            f"the key `{_short(key)}` is here twice; first at line {first[0]}, column {first[1]}",
            place,
            hint="Keep one of the two.",
        )
        return _Slot.DISCARD

    def _plain(self, text: str, event: Any) -> Json:
        """What a plain scalar is that may be more than text."""
        if text in WORDS:
            return WORDS[text]
        if is_number(text):
            value = json_number(text)
            if value is None:
                self.error(
                    "yaml/number-range",
                    f"the number {_short(text)} is beyond the range of a float",
                    _start(event),
                    hint="If it is text, such as an id, put it in quotes.",
                )
                return 0
            return value
        if is_ambiguous(text):
            self._ambiguous(text, _start(event))
        return text

    def _ambiguous(self, text: str, place: Place) -> None:
        short = _short(text)
        hint = f'Put it in quotes: "{short}".' if short is text else "Put it in quotes."
        self.diagnostics.append(
            Diagnostic(
                Severity.WARNING,
                "yaml/ambiguous-scalar",
                f"`{short}` is text here, but other YAML tools read it as something else",
                Source(self.file, *place),
                hint,
            )
        )

    def _text(self, text: str, place: Place) -> None:
        """Check what only a decoded scalar shows: its length, and characters written as escapes."""
        if len(text) > MAX_SCALAR // 4:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > MAX_SCALAR:
                self.error(
                    "yaml/scalar-too-long",
                    f"this value has {size:,} bytes; {MAX_SCALAR:,} are allowed",
                    place,
                    hint="Shorten it.",
                )
        found = dict.fromkeys(match.group() for match in _INVISIBLE.finditer(text))
        for character in list(found)[:MAX_FINDINGS]:
            self.error(
                "yaml/invisible-character",
                f"{_named(character)} is not allowed, not as an escape either",
                place,
                hint="Delete the escape.",
            )

    def _aliased(self, name: str, anchors: dict[str, Any], place: Place) -> Any:
        item = anchors.get(name, self)
        if item is self:
            self.error(
                "yaml/undefined-alias",
                f"the alias `*{name}` has no anchor `&{name}` before it in this document",
                place,
                hint=f"Write `&{name}` before the value it stands for, or quote the text.",
            )
        elif item is _OPEN:
            self.error(
                "yaml/alias-loop",
                f"the alias `*{name}` stands inside of what it stands for",
                place,
                hint="Remove the alias, or write the value out.",
            )
        else:
            return item
        return None

    def _merge(
        self,
        node: dict[str, Any],
        merged: Any,
        place: Place,
        *,
        path: documents.Path,
        places: dict[documents.Path, Place],
    ) -> None:
        """Bring the mappings under `<<` into ``node``: its own keys win, then the earlier one's."""
        sources = [merged] if isinstance(merged, dict) else merged
        if not isinstance(sources, list) or not all(isinstance(item, dict) for item in sources):
            self.error(
                "yaml/merge",
                "`<<` takes a mapping or a list of mappings",
                place,
                hint='Give it an alias of a mapping; if a key named `<<` is meant, quote it: "<<".',
            )
            return
        for item in sources:
            for key, value in item.items():
                if key not in node:
                    node[key] = value
                    places[(*path, key)] = place

    def _too_deep(self, place: Place) -> _Stop:
        return self.stop(
            "yaml/too-deep",
            f"collections are nested more than {MAX_DEPTH} levels deep",
            place,
            hint="No profile needs this; the rest of the file was not read.",
        )

    def _too_many(self, place: Place) -> _Stop:
        return self.stop(
            "yaml/too-many-nodes",
            f"the document has more than {MAX_NODES:,} keys and values, aliases expanded",
            place,
            hint="Split it into several documents; the rest of the file was not read.",
        )

    # -- failures of the parser --

    def syntax(self, problem: Exception) -> None:
        """Say what stopped the parser, as a person would."""
        place: Place = (0, 0)
        message, hint = f"the file is not YAML ({type(problem).__name__})", "Check its syntax."
        if isinstance(problem, MarkedYAMLError):
            mark = problem.problem_mark or problem.context_mark
            if mark is not None:
                place = (mark.line + 1, mark.column + 1)
            text = problem.problem or "this is not YAML"
            message, hint = _SYNTAX.get(text, (text, hint))
            if text == "found unexpected end of stream" and problem.context_mark is not None:
                mark = problem.context_mark
                place = (mark.line + 1, mark.column + 1)
            elif text == "found character that cannot start any token" and mark is not None:
                message, hint = self._bad_start(mark.line, mark.column)
        if _CONFLICT(self.data):
            hint = _RESOLVE
        self.error("yaml/syntax", message, place, hint=f"{hint} The rest of the file was not read.")

    def _bad_start(self, line: int, column: int) -> tuple[str, str]:
        lines = self.data.decode("utf-8-sig").split("\n")
        character = lines[line][column : column + 1] if line < len(lines) else ""
        if character == "\t":
            return "a tab cannot indent a line", "Use blanks."
        return f"a value cannot begin with `{character}`", "Put it in quotes."


_TOO_LARGE = f"the file has more than {MAX_FILE // 2**20} MiB"

_CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7})(?: |\r?$)", re.MULTILINE).search
_RESOLVE = "The file holds conflict markers of a merge: resolve them."

_SYNTAX = {
    "found unexpected end of stream": (
        "the quote that opens here is never closed",
        "Close it; inside of single quotes write '' for one.",
    ),
    "mapping values are not allowed in this context": (
        "a `: ` cannot stand here",
        "Put the text in quotes, or check the indentation of this line and the one before.",
    ),
    "could not find expected ':'": (
        "a line before this one lacks its `:`",
        "Write `key: value`, or indent text that goes on.",
    ),
    "did not find expected key": (
        "a key was expected here",
        "Check the indentation and the quotes of this line and the one before.",
    ),
    "did not find expected '-' indicator": (
        "a list item was expected here",
        "Begin it with `- `, and indent it like the other items.",
    ),
    "did not find expected ',' or ']'": ("a `,` or `]` was expected here", "Close the list."),
    "did not find expected ',' or '}'": ("a `,` or `}` was expected here", "Close the mapping."),
    "did not find expected <document start>": (
        "something is left over after the end of the document",
        "Check the indentation, or begin another document with `---`.",
    ),
    "found a tab character that violates indentation": (
        "a tab cannot indent a line",
        "Use blanks.",
    ),
    "found a tab character where an indentation space is expected": (
        "a tab cannot indent a line",
        "Use blanks.",
    ),
    "found unknown escape character": (
        "this is not an escape that YAML knows",
        "Write \\\\ for a backslash, or use single quotes.",
    ),
    "found invalid Unicode character escape code": (
        "this escape is not a character",
        "Write the character itself.",
    ),
    "block sequence entries are not allowed in this context": (
        "a list cannot begin here",
        "Begin it on a line of its own.",
    ),
}


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _start(event: Any) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)


def _place(before: str) -> Place:
    """The line and column that follow a text."""
    before = before.removeprefix("\ufeff")
    return (before.count("\n") + 1, len(before) - before.rfind("\n"))


def _named(character: str) -> str:
    name = unicodedata.name(character, "a control character")
    if character == "\r":
        name = "a carriage return without a line feed"
    return f"U+{ord(character):04X} ({name})"


def _utf_16_or_32(data: bytes) -> str:
    """The name of the encoding that the first bytes give away, or nothing."""
    head = data[:4]
    if head in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if head.count(0) == 3:
        return "UTF-32"
    return "UTF-16" if len(head) > 1 and (head[0] == 0) != (head[1] == 0) else ""


def _measure(item: Node) -> tuple[int, int]:
    """How many nodes a finished value has, keys included, and how many levels of collections."""
    size, height = 0, 0
    level: list[Any] = [item]
    while level:
        below: list[Any] = []
        collections = 0
        for node in level:
            size += 1
            if isinstance(node, dict):
                collections += 1
                size += len(node)
                below.extend(node.values())
            elif isinstance(node, list):
                collections += 1
                below.extend(node)
        if collections:
            height += 1
        level = below
    return size, height


def _copy(item: Node) -> Node:
    """A copy all the way down, so that two users of an anchor never share a collection."""
    top: Node = {} if isinstance(item, dict) else []
    todo: list[tuple[Node, Node]] = [(item, top)]
    while todo:
        old, new = todo.pop()
        for key, value in _members(old):
            if isinstance(value, (dict, list)):
                copied: Node = {} if isinstance(value, dict) else []
                todo.append((value, copied))
                value = copied
            if isinstance(new, dict):
                new[key] = value
            else:
                new.append(value)
    return top


def _members(node: Node) -> Iterator[tuple[Any, Any]]:
    return iter(node.items()) if isinstance(node, dict) else enumerate(node)


# --- folders -------------------------------------------------------------------------------------

_ENDINGS = (".yaml", ".yml")
DEFAULTS = "_defaults.yaml"
"""The file that lies under all profiles of its folder, and so is no profile file itself."""
_OTHER_DEFAULTS = "_defaults.yml"


def load(root: Path, *, display: Callable[[Path], str] | None = None) -> Loaded:
    """Every document below a folder (hidden files and folders aside), or those of one file.

    ``display`` gives the name that a file or folder has in messages and sources; by default its path,
    with slashes. A name that is not UTF-8 is shown with escapes.

    Raises ReconcileError when PyYAML lacks libyaml.
    """
    walk = Walk(root, display)
    files = [
        (listing.path(index).split(os.sep), listing.opened(index), listing.shown(index))
        for listing in walk.listings()
        for index in range(len(listing.names))
    ]
    found: list[Document] = []
    diagnostics = walk.diagnostics
    for _, path, name in sorted(files):
        match read_file(path, name):
            case Diagnostic() as problem:
                diagnostics.append(problem)
            case data, _:
                documents_, problems = load_text(data, name)
                found += documents_
                diagnostics += problems
    return Loaded(tuple(found), tuple(diagnostics), len(files))


Stamp: TypeAlias = tuple[int, int, int, int]
"""Size, time of change and of status change in nanoseconds, inode: what tells a file from another."""
STAMP = 4
"""Numbers of a stamp."""


def read_file(path: str, name: str) -> tuple[bytes, Stamp] | Diagnostic:
    """The content of a file, and the stamp that it had before it was read; or why it cannot be read.

    ``name`` is what it is called in messages.
    """
    try:
        return _read(path)
    except _Unusable as problem:
        return Diagnostic(Severity.ERROR, problem.rule, problem.message, Source(name), problem.hint)


def files_below(
    root: Path, *, display: Callable[[Path], str] | None = None
) -> tuple[list[tuple[Path, str]], list[Diagnostic]]:
    """The files that profiles are made of, defaults too, each with its name in messages, and what is
    wrong with others."""
    walk = Walk(root, display)
    files = [
        (Path(listing.opened(index)), listing.shown(index))
        for listing in walk.listings()
        for index in range(len(listing.names))
    ]
    files += [(Path(path), walk.name(path)) for path in walk.defaults]
    return sorted(files), walk.diagnostics


class _Unusable(Exception):
    """A file that cannot be read: rule, message and hint of the diagnostic."""

    def __init__(self, rule: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.rule, self.message, self.hint = rule, message, hint


def _unreadable(problem: OSError | ValueError, what: str) -> _Unusable:
    reason = getattr(problem, "strerror", None) or str(problem)
    return _Unusable(
        "file/unreadable",
        f"the {what} cannot be read: {reason}",
        "Make it readable: what cannot be read is never taken as absent.",
    )


def _not_regular(mode: int) -> _Unusable:
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return _Unusable(
        "file/not-regular",
        f"this is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a regular file",
        "Remove or rename it, or put a regular file in its place.",
    )


def _read(path: str) -> tuple[bytes, Stamp]:
    """The bytes of a regular file within the limit, and the stamp that it had before they were read.

    Never waits: not on a pipe, not on a device.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as problem:
        raise _unreadable(problem, "file") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode)
        chunks: list[bytes] = []
        size = status.st_size
        if size <= MAX_FILE:  # not even a buffer for more: a sparse file may claim any size
            wanted, size = max(size, 4095) + 1, 0
            while size <= MAX_FILE and (chunk := os.read(fd, wanted)):
                chunks.append(chunk)
                size += len(chunk)
                if size == status.st_size:  # and what is added from now on, changes the stamp
                    break
    except OSError as problem:
        raise _unreadable(problem, "file") from None
    finally:
        os.close(fd)
    if size > MAX_FILE:
        raise _Unusable("file/too-large", _TOO_LARGE, "Split it into several files.")
    return b"".join(chunks), _stamp(status)


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _SIGNED)


_SIGNED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """The profile files in one folder, in no particular order, and their stamps one after another."""

    folder: str
    prefix: str
    """Of the names of its files in messages."""
    names: list[str]
    stamps: array[int]
    links: dict[str, str]
    """The real paths of files that are links."""

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def opened(self, index: int) -> str:
        """What is to be opened."""
        return self.links.get(self.names[index]) or self.path(index)

    def shown(self, index: int) -> str:
        return self.prefix + _readable(self.names[index])


def _readable(name: str) -> str:
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Walk:
    """The files to read below a root, folder by folder, and what is wrong on the way."""

    def __init__(self, root: Path, display: Callable[[Path], str] | None = None) -> None:
        self._root = str(root)
        self._display = display
        self.diagnostics: list[Diagnostic] = []
        self.defaults: list[str] = []
        """The files that lie under the profiles, as far as it has come."""

    def listings(self) -> Iterator[Listing]:
        """Folders that hold files to read; to be gone through once."""
        root = self._root
        try:
            status = os.stat(root)
        except FileNotFoundError:
            self._report(
                "file/missing",
                "there is no such file or folder",
                self.name(root),
                hint="Check the path; `reconcile init` makes a profiles folder. "
                "A missing folder is never read as a wish to delete.",
            )
            return
        except (OSError, ValueError) as problem:
            self._unusable(root, _unreadable(problem, "path"))
            return
        if stat.S_ISDIR(status.st_mode):
            found = False
            for listing in self._folders():
                found = True
                yield listing
            if not found and not any(item.is_error for item in self.diagnostics):
                self._report(
                    "file/no-profiles",
                    "the folder holds no profile file",
                    self.name(root),
                    hint="Put *.yaml or *.yml files into it; an empty folder is never read "
                    "as a wish to delete.",
                )
        elif stat.S_ISREG(status.st_mode):
            folder, name = os.path.split(root)
            prefix = self.name(root).removesuffix(_readable(name))
            links = {name: os.path.realpath(root)}
            yield Listing(folder, prefix, [name], array("q", _stamp(status)), links)
        else:
            self._unusable(root, _not_regular(status.st_mode))

    def _folders(self) -> Iterator[Listing]:
        inside = os.path.join(os.path.realpath(self._root), "")
        folders = [self._root]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listing = self._listing(folder, entries, folders, inside)
            except OSError as problem:
                self._unusable(folder, _unreadable(problem, "folder"))
            else:
                if listing.names:
                    yield listing

    def _listing(
        self, folder: str, entries: Iterable[os.DirEntry[str]], folders: list[str], inside: str
    ) -> Listing:
        """One folder; those within it are added to ``folders``."""
        names: list[str] = []
        stamps = array("q")
        links: dict[str, str] = {}
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if name == DEFAULTS:
                self.defaults.append(entry.path)
                continue
            try:
                if entry.is_file(follow_symlinks=False):
                    if name.endswith(_ENDINGS):
                        if name == _OTHER_DEFAULTS:
                            self._report(
                                "defaults/name",
                                "this file is read as profiles, not as defaults",
                                self.name(entry.path),
                                hint=f"Rename it to {DEFAULTS}.",
                            )
                        status = entry.stat(follow_symlinks=False)
                    else:
                        self._ending(name, entry.path)
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                elif entry.is_symlink():
                    link = self._link(entry.path, inside, is_profile=name.endswith(_ENDINGS))
                    if link is None:
                        continue
                    links[name], status = link
                elif name.endswith(_ENDINGS):
                    raise _not_regular(entry.stat(follow_symlinks=False).st_mode)
                else:
                    self._ending(name, entry.path)
                    continue
            except _Unusable as problem:
                self._unusable(entry.path, problem)
            except OSError as problem:
                self._unusable(entry.path, _unreadable(problem, "file"))
            else:
                names.append(name)
                stamps.extend(
                    (
                        status.st_size,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        status.st_ino & _SIGNED,
                    )
                )
        shown = self.name(folder) if names else ""
        prefix = "" if shown in ("", ".") else os.path.join(shown, "")
        return Listing(folder, prefix, names, stamps, links)

    def _ending(self, name: str, path: str) -> None:
        if name.lower().endswith(_ENDINGS):
            self._report(
                "file/ending",
                "this file is not read: its ending is not in lower case",
                self.name(path),
                hint="Rename it to end in .yaml or .yml.",
                severity=Severity.WARNING,
            )

    def _link(
        self, path: str, inside: str, *, is_profile: bool
    ) -> tuple[str, os.stat_result] | None:
        """The real path and status of the file that a link names, unless it is not to be read."""
        try:
            status = os.stat(path)
        except OSError as problem:
            if not is_profile:
                return None
            what = "leads in a circle" if problem.errno == errno.ELOOP else "leads nowhere"
            if problem.errno not in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR):
                raise
            raise _Unusable(
                "file/link-broken",
                f"this link {what}",
                "Repair or remove it: what cannot be read is never taken as absent.",
            ) from None
        if stat.S_ISDIR(status.st_mode):
            self._report(
                "file/link-folder",
                "this link to a folder is not followed",
                self.name(path),
                hint="Move the folder here; if it holds no profiles, nothing is missing.",
                severity=Severity.WARNING,
            )
            return None
        if not is_profile:
            return None
        real = os.path.realpath(path)
        if not real.startswith(inside):
            raise _Unusable(
                "file/link-outside",
                "this link leads out of the profiles folder",
                "Copy the file into the folder: what is outside of it is not read.",
            )
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(status.st_mode)
        return real, status

    def name(self, path: str) -> str:
        """What a file or folder is called in messages."""
        return _readable(self._display(Path(path)) if self._display else Path(path).as_posix())

    def _unusable(self, path: str, problem: _Unusable) -> None:
        self._report(problem.rule, problem.message, self.name(path), hint=problem.hint)

    def _report(
        self, rule: str, message: str, name: str, *, hint: str, severity: Severity = Severity.ERROR
    ) -> None:
        self.diagnostics.append(Diagnostic(severity, rule, message, Source(name), hint))
