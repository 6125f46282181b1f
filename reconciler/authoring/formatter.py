"""Formats a profile file for ``reconcile fmt``: canonical order and quoting, comments kept.

ruamel.yaml, an extra, reads and writes the file with its comments. It ties a comment to what stands
*before* it; since keys move here, comments are tied anew to the key that *follows* them. A
result is returned only if our own loader reads the same values from it, every comment is still there,
and formatting it again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    FoldedScalarString,
    LiteralScalarString,
    PlainScalarString,
    ScalarString,
)
from ruamel.yaml.tag import Tag
from ruamel.yaml.tokens import CommentToken

from reconciler.authoring.canonical_form import (
    KeyOrder,
    documents_of,
    in_canonical_form,
    is_canonical,
    is_plain,
    read_scalar,
)
from reconciler.authoring.documents import Document
from reconciler.authoring.loader import load_text
from reconciler.authoring.yaml_reader import comments_of
from reconciler.core.contract import Contract
from reconciler.errors import InputError, Source, error

_MERGE = "<<"
_MOST_ROUNDS = 4


def format_text(text: str, file: str, *, contract: Contract) -> str:
    """The text of a profile file in canonical form.

    Identifiers come first, then fields in the order of the contract, unknown ones, and ``meta``; keys of
    custom attributes are sorted. Text is in double quotes where a YAML tool would not read it as text, or
    where it must be; otherwise it is plain.

    Raises InputError for a file that does not parse, or that cannot be formatted without a loss (a rule
    ``fmt/…``).
    """
    if "\r\n" in text:
        return format_text(text.replace("\r\n", "\n"), file, contract=contract).replace(
            "\n", "\r\n"
        )
    text = text.removeprefix("\ufeff")
    documents, diagnostics = load_text(text.encode("utf-8", "surrogatepass"), file)
    problems = [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    if problems:
        raise InputError(f"{file} does not parse", diagnostics=problems)
    order = KeyOrder(contract)
    result, before = _formatted(text, file, order=order), text
    for _ in range(_MOST_ROUNDS):  # blank lines around block scalars take another round to settle
        if result == before:
            break
        result, before = _formatted(result, file, order=order), result
    if result == before == text:
        return result
    again, _ = load_text(result.encode("utf-8", "surrogatepass"), file)
    faithful = (
        [document.value for document in again] == [document.value for document in documents]
        and _comments(result) == _comments(text)
        and result == before
    )
    if not faithful:
        raise _not_safely(file, documents)
    return result


def _comments(text: str) -> Counter[str]:
    if "#" not in text:
        return Counter()
    return Counter(comment.strip() for comment in comments_of(text))


def _not_safely(file: str, documents: list[Document]) -> InputError:
    place = documents[0].source if documents else Source(file)
    finding = error(
        "fmt/not-safely",
        "this file cannot be put in order without changing what it says, so it is left as it is",
        source=place,
        hint="Move comments that stand inside of a value, and aliases, to lines of their own.",
    )
    return InputError(f"{file} was not formatted", diagnostics=[finding])


def _formatted(text: str, file: str, *, order: KeyOrder) -> str:
    """A text after one round. Documents are taken one by one where that is the same: it takes less memory,
    and those that are in order take next to no time."""
    documents = documents_of(text)
    if documents is None:
        return _by_ruamel(text, file, order=order)
    return "---\n".join(_formatted_one(document, file, order=order) for document in documents)


def _formatted_one(document: str, file: str, *, order: KeyOrder) -> str:
    if is_canonical(document, order):
        return document
    simple = in_canonical_form(document, order)
    return _by_ruamel(document, file, order=order) if simple is None else simple


def _by_ruamel(text: str, file: str, *, order: KeyOrder) -> str:
    yaml = _round_trip()
    try:
        documents = list(yaml.load_all(text))
        for document in documents:
            _Formatter(order).run(document)
        stream = StringIO()
        yaml.dump_all(documents, stream)
    except (
        Exception
    ):  # ruamel's errors have no common base; our own loader has read the file already
        raise _not_safely(file, []) from None
    return stream.getvalue()


def _round_trip() -> Any:
    yaml = YAML()
    yaml.Resolver = _TextOnly
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


class _TextOnly(VersionedResolver):
    """A resolver for which every plain scalar is text: only our loader decides about types."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode:
            return Tag(suffix="tag:yaml.org,2002:str")
        return super().resolve(kind, value, implicit)


# --- comments, and the keys they belong to -------------------------------------------------------


@dataclass
class _CommentSlot:
    """A key of a map or an item of a list, with its comments.

    ``holder`` is ``None`` for the comments before the first key of a document.
    """

    holder: Any
    key: Any
    column: int
    before: list[str] = field(default_factory=list)
    """Lines above it, blank ones included."""
    beside: str = ""
    beside_column: int = 0
    after: list[str] = field(default_factory=list)
    """Lines below it that belong to nothing further down."""


class _Formatter:
    """Takes the comments off a document, orders and quotes it, and puts them back."""

    def __init__(self, order: KeyOrder) -> None:
        self._order = order
        self.slots: list[_CommentSlot] = []
        self.foot: list[str] = []
        self._handled: list[Any] = []

    def run(self, document: Any) -> None:
        self.take_comments(document)
        if hasattr(document, "items"):
            self.order(document, ())
        self.quote(document)
        self.put_comments(document)

    # -- taking comments off --

    def take_comments(self, document: Any) -> None:
        self.slots = [_CommentSlot(None, None, 0)]
        self._visit(document)
        last = self.slots[-1]
        if last.holder is not None:  # what is not indented ends the document
            start = 0
            while start < len(last.after) and _column(last.after[start], 1):
                start += 1
            self.foot = last.after[start:]
            del last.after[start:]

    def _visit(self, node: Any) -> None:
        comments = getattr(node, "ca", None)
        if comments is None or isinstance(node, str) or _is_flow(node):
            return
        for held in comments.comment or ():
            self._read(held)
        comments.comment = None
        for key, value in _members(node):
            places = node.lc.data or {}
            column = places[key][1] if key in places else node.lc.col or 0
            self.slots.append(_CommentSlot(node, key, column))
            self._settle()
            for position, held in enumerate(comments.items.pop(key, None) or ()):
                if position == 1:
                    self.slots[-1].before += self._lines(held)
                elif _is_block(value):  # it holds the comment at its head itself
                    self.slots[-1].after += self._lines([held] if position == 2 else ())
                else:
                    self._read(held)
            if _is_flow(value):  # the comment after it is held twice
                value.ca.comment = None
            self._visit(value)
        self._read(comments.end)
        comments.end = []

    def _lines(self, held: Any) -> Iterator[str]:
        for token in held or ():
            if token is not None and not any(token is one for one in self._handled):
                self._handled.append(token)
                yield from _below(token.value)

    def _read(self, held: Any) -> None:
        """Takes comments as ruamel holds them.

        One begins beside the last slot and goes on below, or there is a list of lines below. ruamel holds
        some of them twice.
        """
        for token in held if isinstance(held, list) else [held]:
            if token is None or any(token is one for one in self._handled):
                continue
            self._handled.append(token)
            beside, _, rest = token.value.partition("\n")
            if isinstance(held, list):
                indent = " " * token.start_mark.column
                self.slots[-1].after += [indent + beside.strip() if beside else "", *_below(rest)]
                continue
            if beside.strip():
                self.slots[-1].beside = beside.strip()
                self.slots[-1].beside_column = token.start_mark.column
            self.slots[-1].after += _below(rest)

    def _settle(self) -> None:
        """Moves the lines below the last slot but one to the last one, unless they are indented deeper.

        Comments above the first key stay there: they are about the document.
        """
        last, present = self.slots[-2], self.slots[-1]
        if last.holder is None:
            return
        deeper = 0
        while deeper < len(last.after) and _column(last.after[deeper], 0) > present.column:
            deeper += 1
        present.before += last.after[deeper:]
        del last.after[deeper:]

    # -- order and quotes --

    def order(self, node: Any, path: tuple[str, ...]) -> None:
        if _MERGE not in node:  # around a merge key, the order of keys has a meaning
            for key in sorted(node, key=lambda key: self._order.rank(path, str(key))):
                node.move_to_end(key)
        for key, value in node.items():
            if hasattr(value, "items"):
                self.order(value, (*path, str(key)))

    def quote(self, node: Any) -> None:
        if hasattr(node, "items"):
            for key in list(node):
                value = node.pop(key)  # so that the key is replaced, in the same order
                node[key if key == _MERGE else self._spelled(key)] = self._spelled(value)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                node[index] = self._spelled(value)

    def _spelled(self, value: Any) -> Any:
        if not isinstance(value, str):
            self.quote(value)
            return value
        anchor = getattr(value, "anchor", None)
        if anchor is not None and anchor.value is not None:
            return value  # others may point at this very object
        plain = not isinstance(value, ScalarString) or isinstance(value, PlainScalarString)
        if "\n" in value and not plain:
            return value
        read = read_scalar(str(value))
        if plain and not isinstance(read, str):
            return "null" if read is None else value
        if read == value and is_plain(str(value)):
            return PlainScalarString(str(value))
        return DoubleQuotedScalarString(str(value))

    # -- putting comments back --

    def put_comments(self, document: Any) -> None:
        by_place = {
            (id(slot.holder), slot.key): slot for slot in self.slots if slot.holder is not None
        }
        ordered = [
            (by_place[holder, key], column)
            for holder, key, column in _places(document, 0)
            if (holder, key) in by_place
        ]
        if not ordered:
            return
        first, last = ordered[0][0], ordered[-1][0]
        first.before = self.slots[0].after + first.before
        while first.before and not first.before[0]:
            del first.before[0]
        for slot, column in ordered:
            held: list[Any] = [None, None, None, None]
            is_map = hasattr(slot.holder, "items")
            if slot.before:
                held[1] = [_token(line.strip(), column) for line in _single_blanks(slot.before)]
            after = _indented(slot.after, column) + (self.foot if slot is last else [])
            value = slot.holder[slot.key]
            if slot.beside or after:
                lines = [slot.beside, *_single_blanks(after)]
                text = "\n".join(lines[1:] if _is_block(value) else lines)
                token = _token(text, slot.beside_column)
                held[2 if is_map else 0] = token
                if is_map and hasattr(value, "ca") and not isinstance(value, str):
                    value.ca.comment = [token, None]
            if any(held):
                slot.holder.ca.items[slot.key] = held


def _members(node: Any) -> list[tuple[Any, Any]]:
    return list(node.items()) if hasattr(node, "items") else list(enumerate(node))


def _is_flow(node: Any) -> bool:
    return hasattr(node, "fa") and bool(node.fa.flow_style())


def _is_block(value: Any) -> bool:
    return isinstance(value, FoldedScalarString | LiteralScalarString)


def _places(node: Any, column: int) -> Iterator[tuple[int, Any, int]]:
    """Every key and item below a node with the column that it is written at, in that order.

    A flow, `[a, b]`, is one place with its key.
    """
    for key, value in _members(node):
        yield id(node), key, column
        if hasattr(value, "ca") and not isinstance(value, str) and not _is_flow(value):
            yield from _places(value, column + 2)


def _below(rest: str) -> list[str]:
    return [line.rstrip() for line in rest.split("\n")[:-1]] if rest else []


def _column(line: str, blank: int) -> int:
    """The column of a comment; ``blank`` for a blank line."""
    return len(line) - len(line.lstrip()) if line.strip() else blank


def _indented(lines: list[str], column: int) -> list[str]:
    return [" " * column + line.strip() if line.strip() else "" for line in lines]


def _single_blanks(lines: list[str]) -> list[str]:
    return [line for index, line in enumerate(lines) if line or index == 0 or lines[index - 1]]


def _token(text: str, column: int) -> Any:
    return CommentToken(f"{text}\n", CommentMark(column if text else 0), None)
