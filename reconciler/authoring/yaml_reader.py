"""One file, from libyaml's events: strict YAML, with a place for everything. Home of PyYAML.

Scalars are JSON's, whatever YAML would make of them. Values are built from the events with a
stack of our own, so that nothing here recurses and every bound (depth, nodes with aliases expanded,
length) is checked before memory or time is spent. Whatever is wrong with a file is a diagnostic.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
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

from reconciler.authoring import documents
from reconciler.authoring.documents import Document, Place
from reconciler.authoring.walk import MAX_FILE, TOO_LARGE
from reconciler.authoring.yaml_scalars import (
    INVISIBLE,
    LOOK_CLOSER,
    WORDS,
    is_ambiguous,
    is_number,
    is_visible,
    json_number,
)
from reconciler.errors import (
    Diagnostic,
    Message,
    Quote,
    ReconcileError,
    Source,
    error,
    warning,
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
MAX_FINDINGS = 20
"""Invisible characters reported one by one in a file; the last one says how many there were."""

Node: TypeAlias = "dict[str, Any] | list[Any]"

_STR_TAG = "tag:yaml.org,2002:str"


class _Slot(Enum):
    """Where the next value of a mapping goes when it is not under a key."""

    MERGE = "merge"
    DISCARD = "discard"


_OPEN = object()
"""An anchor whose collection has not ended."""


class _Stop(Exception):
    """The rest of the file cannot be read; a diagnostic says why."""


def read_events(data: bytes, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """The documents of one file and all that is wrong with it: see `loader.load_text`.

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


class _Reading:
    """The reading of one file."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data = data
        self.file = file
        self.documents: list[Document] = []
        self.diagnostics: list[Diagnostic] = []

    def error(
        self, rule: str, message: str | Message, *, place: Place, hint: str | Message = ""
    ) -> None:
        source = Source(self.file, *place)
        self.diagnostics.append(error(rule, message, source=source, hint=hint))

    def stop(self, rule: str, message: str, *, place: Place, hint: str) -> _Stop:
        self.error(rule, message, place=place, hint=hint)
        return _Stop()

    # -- before parsing --

    def is_text(self) -> bool:
        """Whether the bytes are text that can be parsed: size, encoding, characters."""
        data = self.data
        if len(data) > MAX_FILE:
            self.error(
                "file/too-large", TOO_LARGE, place=(0, 0), hint="Split it into several files."
            )
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
        if not is_visible(text):
            self._invisible(text)
            return False
        return True

    def _encoding(self, guess: str, place: Place) -> None:
        message = f"the file looks like {guess}" if guess else "the file is not UTF-8"
        self.error(
            "file/encoding", f"{message}; only UTF-8 is read", place=place, hint="Save it as UTF-8."
        )

    def _invisible(self, text: str) -> None:
        matches = INVISIBLE.finditer(text)
        for number, match in enumerate(islice(matches, MAX_FINDINGS), 1):
            more = sum(1 for _ in matches) if number == MAX_FINDINGS else 0
            rest = f"; and {more} more like it" if more else ""
            self.error(
                "yaml/invisible-character",
                f"{_named(match.group())} is not allowed{rest}",
                place=_place(text[: match.start()]),
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
                    place=before,
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
                place=(0, 0),
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
            "yaml/not-a-mapping",
            f"a document must be a mapping, found {what}",
            place=place,
            hint=hint,
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
            Message.of("the tag ", Quote(short, "`"), " is not allowed here"),
            place=place,
            hint="Remove it; to keep a value as text, put it in quotes.",
        )

    def _plain_key(self, text: str, place: Place) -> str | _Slot:
        if text == "<<":
            return _Slot.MERGE
        if text in WORDS or is_number(text):
            short = _short(text)
            self.error(
                "yaml/non-string-key",
                Message.of("a key must be text, and ", Quote(short, "`", is_name=True), " is not")
                if text
                else "a key is missing here",
                place=place,
                hint=Message.of("Put it in quotes: ", Quote(short, is_name=True), ".")
                if text
                else "Write one before the `:`.",
            )
            return _Slot.DISCARD
        if is_ambiguous(text):
            self._ambiguous(text, place)
        return text

    def _collection_key(self, place: Place, *, what: str = "a list or mapping") -> None:
        self.error(
            "yaml/non-string-key",
            f"a key must be text, and this is {what}",
            place=place,
            hint="Write the key as text; text that begins with `[`, `{`, `*` or `? ` needs quotes.",
        )

    def _duplicate(self, key: str, place: Place, first: Place) -> _Slot:
        self.error(
            "yaml/duplicate-key",
            Message.of(
                "the key ",
                Quote(_short(key), "`", is_name=True),
                f" is here twice; first at line {first[0]}, column {first[1]}",
            ),
            place=place,
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
                    Message.of(
                        "the number ", Quote(_short(text), ""), " is beyond the range of a float"
                    ),
                    place=_start(event),
                    hint="If it is text, such as an id, put it in quotes.",
                )
                return 0
            return value
        if is_ambiguous(text):
            self._ambiguous(text, _start(event))
        return text

    def _ambiguous(self, text: str, place: Place) -> None:
        short = _short(text)
        example = (": ", Quote(short)) if short is text else ()
        self.diagnostics.append(
            warning(
                "yaml/ambiguous-scalar",
                Message.of(
                    Quote(short, "`"),
                    " is text here, but other YAML tools read it as something else",
                ),
                source=Source(self.file, *place),
                hint=Message.of("Put it in quotes", *example, "."),
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
                    place=place,
                    hint="Shorten it.",
                )
        found = dict.fromkeys(match.group() for match in INVISIBLE.finditer(text))
        for character in list(found)[:MAX_FINDINGS]:
            self.error(
                "yaml/invisible-character",
                f"{_named(character)} is not allowed, not as an escape either",
                place=place,
                hint="Delete the escape.",
            )

    def _aliased(self, name: str, anchors: dict[str, Any], place: Place) -> Any:
        item = anchors.get(name, self)
        if item is self:
            self.error(
                "yaml/undefined-alias",
                Message.of(
                    "the alias ",
                    Quote(f"*{name}", "`"),
                    " has no anchor ",
                    Quote(f"&{name}", "`"),
                    " before it in this document",
                ),
                place=place,
                hint=Message.of(
                    "Write ",
                    Quote(f"&{name}", "`"),
                    " before the value it stands for, or quote the text.",
                ),
            )
        elif item is _OPEN:
            self.error(
                "yaml/alias-loop",
                Message.of(
                    "the alias ", Quote(f"*{name}", "`"), " stands inside of what it stands for"
                ),
                place=place,
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
                place=place,
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
            place=place,
            hint="No profile needs this; the rest of the file was not read.",
        )

    def _too_many(self, place: Place) -> _Stop:
        return self.stop(
            "yaml/too-many-nodes",
            f"the document has more than {MAX_NODES:,} keys and values, aliases expanded",
            place=place,
            hint="Split it into several documents; the rest of the file was not read.",
        )

    # -- failures of the parser --

    def syntax(self, problem: Exception) -> None:
        """Say what stopped the parser, as a person would."""
        place: Place = (0, 0)
        message: str | Message = f"the file is not YAML ({type(problem).__name__})"
        hint = "Check its syntax."
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
        self.error(
            "yaml/syntax", message, place=place, hint=f"{hint} The rest of the file was not read."
        )

    def _bad_start(self, line: int, column: int) -> tuple[str | Message, str]:
        lines = self.data.decode("utf-8-sig").split("\n")
        character = lines[line][column : column + 1] if line < len(lines) else ""
        if character == "\t":
            return "a tab cannot indent a line", "Use blanks."
        return Message.of("a value cannot begin with ", Quote(character, "`")), "Put it in quotes."


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
