"""The strict YAML reader: documents with exact places from libyaml's events. Home of PyYAML.

Scalars are read as JSON reads them, not as YAML does. Values are built from the events with a stack
of our own, so nothing here recurses, and every bound (depth, nodes with aliases expanded, length) is
checked before memory or time is spent. Every problem of a file is a diagnostic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum
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
from reconciler.authoring.yaml_findings import (
    MAX_ALIASED,
    MAX_DEPTH,
    MAX_NODES,
    MAX_SCALAR,
    Stop,
    YamlFindings,
    explain_bad_start,
    explain_syntax,
)
from reconciler.authoring.yaml_scalars import (
    LOOK_CLOSER,
    WORDS,
    is_ambiguous,
    is_number,
    json_number,
)
from reconciler.errors import Diagnostic, Message, ReconcileError, Source
from reconciler.values import Json

CParser: Any
try:
    from yaml._yaml import CParser
except ImportError:  # pragma: no cover - PyYAML was built without libyaml
    CParser = None


Node: TypeAlias = "dict[str, Any] | list[Any]"

_STR_TAG = "tag:yaml.org,2002:str"


class _Slot(Enum):
    """Where the next value of a mapping goes when it is not under a key."""

    MERGE = "merge"
    DISCARD = "discard"


_OPEN = object()
"""An anchor whose collection has not ended."""


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
    if reading.findings.are_text(data):
        try:
            reading.run()
        except Stop:
            pass
        except Exception as problem:  # PyYAML also raises ValueError, MemoryError and others
            reading.syntax(problem)
    return reading.documents, reading.findings.diagnostics


def comments_of(text: str) -> list[str]:
    """The comments of YAML that parses, in their order: they stand between its tokens."""
    parser = CParser(text.encode("utf-8", "surrogatepass"))
    comments: list[str] = []
    place = 0
    try:
        while (token := parser.get_token()) is not None:
            comments += _COMMENT(text[place : token.start_mark.index])
            place = max(place, token.end_mark.index)
    finally:
        parser.dispose()
    return comments


_COMMENT = re.compile("#.*").findall


class _Reading:
    """The reading of one file."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data = data
        self.file = file
        self.documents: list[Document] = []
        self.findings = YamlFindings(file, data)
        self.aliased = 0
        """Nodes that aliases stood for, in all documents."""

    # -- documents --

    def run(self) -> None:
        parser = CParser(self.data)
        try:
            self._stream(parser.get_event)
        finally:
            parser.dispose()

    def _stream(self, get_event: Callable[[], Any]) -> None:
        has_documents = False
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
            has_documents = True
            for before in empty:
                self.findings.empty_document(before)
            empty.clear()
            if root.__class__ is MappingStartEvent:
                self._document(root, get_event, place=place)
            else:
                self._not_a_mapping(root, get_event, place=place)
        if not has_documents:
            self.findings.no_document()

    def _not_a_mapping(self, root: Any, get_event: Callable[[], Any], *, place: Place) -> None:
        """Reads a document that is a value, a list or an alias, to its end."""
        kinds = {ScalarEvent: "a single value", SequenceStartEvent: "a list"}
        kind = kinds.get(root.__class__, "an alias")
        self.findings.not_a_mapping(kind, place=place)
        depth = 1 if root.__class__ is SequenceStartEvent else 0
        event = root
        while event.__class__ is not DocumentEndEvent:
            event = get_event()
            if event.__class__ in (MappingStartEvent, SequenceStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise Stop
            elif event.__class__ in (MappingEndEvent, SequenceEndEvent):
                depth -= 1

    def _document(self, root: Any, get_event: Callable[[], Any], *, place: Place) -> None:
        """Builds one document. Long, since this loop decides how fast files are read."""
        data, findings = self.data, self.findings
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
                        raise findings.too_many(place)
                    here = path + (text,)  # noqa: RUF005 - (*path, text) takes twice as long
                    slot = text
                    if not style and not tagged and text[:1] in look_closer:
                        slot = self._plain_key(text, place)
                    if unusual:
                        if len(text) > MAX_SCALAR // 4 or style == '"':
                            findings.check_scalar(text, place)
                        if event.anchor is not None:
                            anchors[event.anchor] = text
                    if slot is text:
                        if text in node:
                            findings.duplicate_key(text, place=place, first=places[here])
                            slot = _Slot.DISCARD
                            here = (*path, -1)
                        else:
                            places[here] = place
                    elif slot is _Slot.MERGE:
                        if id(node) in merges:
                            findings.duplicate_key(text, place=place, first=merges[id(node)][1])
                            slot = _Slot.DISCARD
                        else:
                            merges[id(node)] = (None, place)
                    continue
                item: Any = text
                if not style and not tagged and text[:1] in look_closer:
                    item = self._plain(text, event)
                if unusual:
                    if len(text) > MAX_SCALAR // 4 or style == '"':
                        findings.check_scalar(text, _start(event))
                    if event.anchor is not None:
                        anchors[event.anchor] = item
            elif kind is mapping_start or kind is SequenceStartEvent:
                nodes += 1
                mark = event.start_mark
                place = (mark.line + 1, mark.column + 1)
                if nodes > max_nodes:
                    raise findings.too_many(place)
                if len(stack) + 2 > MAX_DEPTH:
                    raise findings.too_deep(place)
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
                    findings.collection_key(place)
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
                    self._merge(node, merged, place=place, path=path, places=places)
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
                    findings.collection_key(place, what="an alias")
                    slot = _Slot.DISCARD
                    here = (*path, -1)
                    continue
                item = self._aliased(event.anchor, anchors, place=place)
                if item.__class__ is dict or item.__class__ is list:
                    size, height = _measure(item)
                    nodes += size - 1
                    self.aliased += size
                    if nodes > max_nodes:
                        raise findings.too_many(place)
                    if self.aliased > MAX_ALIASED:
                        raise findings.too_many_aliased(place)
                    if len(stack) + 1 + height > MAX_DEPTH:
                        raise findings.too_deep(place)
                    item = _copy(item)
            # A scalar or an alias as a value.
            if nodes > max_nodes:
                raise findings.too_many(_start(event))
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
        self.findings.tag(event.tag, _start(event))
        return False

    def _properties(self, event: Any, place: Place) -> str | None:
        """The anchor of a collection; a tag on it is an error."""
        if event.tag is not None:
            self.findings.tag(event.tag, place)
        anchor: str | None = event.anchor
        return anchor

    def _plain_key(self, text: str, place: Place) -> str | _Slot:
        if text == "<<":
            return _Slot.MERGE
        if text in WORDS or is_number(text):
            self.findings.key_not_text(text, place)
            return _Slot.DISCARD
        if is_ambiguous(text):
            self.findings.ambiguous(text, place)
        return text

    def _plain(self, text: str, event: Any) -> Json:
        """The value of a plain scalar that may be more than text."""
        if text in WORDS:
            return WORDS[text]
        if is_number(text):
            value = json_number(text)
            if value is None:
                self.findings.number_range(text, _start(event))
                return 0
            return value
        if is_ambiguous(text):
            self.findings.ambiguous(text, _start(event))
        return text

    def _aliased(self, name: str, anchors: dict[str, Any], *, place: Place) -> Any:
        """The value of an anchor; ``None`` with a finding where there is none yet."""
        item = anchors.get(name, self)
        if item is self:
            self.findings.undefined_alias(name, place)
        elif item is _OPEN:
            self.findings.alias_loop(name, place)
        else:
            return item
        return None

    def _merge(
        self,
        node: dict[str, Any],
        merged: Any,
        *,
        place: Place,
        path: documents.Path,
        places: dict[documents.Path, Place],
    ) -> None:
        """Brings the mappings under `<<` into ``node``: its own keys win, then the earlier one's."""
        sources = [merged] if isinstance(merged, dict) else merged
        if not isinstance(sources, list) or not all(isinstance(item, dict) for item in sources):
            self.findings.merge(place)
            return
        for item in sources:
            for key, value in item.items():
                if key not in node:
                    node[key] = value
                    places[(*path, key)] = place

    # -- failures of the parser --

    def syntax(self, problem: Exception) -> None:
        """Explains what stopped the parser."""
        place: Place = (0, 0)
        message: str | Message = f"the file is not YAML ({type(problem).__name__})"
        hint = "Check its syntax."
        if isinstance(problem, MarkedYAMLError):
            mark = problem.problem_mark or problem.context_mark
            text = problem.problem or "this is not YAML"
            message, hint = explain_syntax(text) or (text, hint)
            if text == "found unexpected end of stream" and problem.context_mark is not None:
                mark = problem.context_mark
            elif text == "found character that cannot start any token" and mark is not None:
                message, hint = explain_bad_start(self.data, line=mark.line, column=mark.column)
            if mark is not None:
                place = (mark.line + 1, mark.column + 1)
        self.findings.syntax(message, place=place, hint=hint)


def _start(event: Any) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1)


def _measure(item: Node) -> tuple[int, int]:
    """The number of nodes of a finished value, keys included, and of its levels of collections."""
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
