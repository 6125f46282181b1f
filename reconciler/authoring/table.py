"""A table (CSV, RFC 4180) → documents: a row is a profile, and the header names field paths. Pure.

The cells keep their places, which no CSV reader of the standard library tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.phrases import quote
from reconciler.authoring.yaml_scalars import WORDS, is_number, json_number
from reconciler.core.contract import Contract
from reconciler.core.facets.registry import GROUPS, facet_of
from reconciler.errors import Diagnostic, Message, Source, error
from reconciler.values import Json

IDENTIFIERS = ("customer_user_id", "profile_id")
_TEXTS = frozenset({*IDENTIFIERS, "platform"})
_CELL = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"(?=[,\r\n]|\Z)|(?P<plain>[^",\r\n]*)(?=[,\r\n]|\Z)')
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_RFC = "Put the cell in quotes, and double each quote in it."


class Cell(NamedTuple):
    """A cell, and where it begins."""

    text: str
    source: Source


def read_table(
    text: str, file: str, *, contract: Contract
) -> tuple[list[Document], list[Diagnostic]]:
    """The documents of a table, not validated, and what is wrong with the table itself. An empty cell is a
    field that is not mentioned."""
    rows: list[list[Cell]] = []
    findings: list[Diagnostic] = []
    for row in _rows(text, file):
        if isinstance(row, Diagnostic):
            return [], [row]
        rows.append(row)
    if not rows:
        problem = error(
            "table/header",
            "the table has no header",
            source=Source(file),
            hint="Name a field in each cell of the first line, such as customer_user_id.",
        )
        return [], [problem]
    header, *body = rows
    paths = [_path(cell.text.strip()) for cell in header]
    findings += _header_findings(header, paths)
    documents = []
    for row in body:
        if len(row) > len(header):
            findings.append(
                error(
                    "table/cells",
                    f"the row has {len(row)} cells, and the header has {len(header)}",
                    source=row[len(header)].source,
                    hint=_RFC,
                )
            )
        elif any(cell.text for cell in row):
            documents.append(_document(paths, row, contract=contract))
    return ([] if findings else documents), findings


def _header_findings(header: Sequence[Cell], paths: Sequence[Path]) -> Iterator[Diagnostic]:
    seen = set()
    for cell, path in zip(header, paths, strict=True):
        if not all(path):
            message: str | Message = "the column has no name"
            yield error("table/header", message, source=cell.source, hint="Name a field.")
        elif path in seen:
            message = Message.of("there are two columns ", quote(cell.text))
            yield error("table/header", message, source=cell.source, hint="Remove one.")
        seen.add(path)
    if not any((name,) in seen for name in IDENTIFIERS):
        yield error(
            "table/header",
            f"no column is {' or '.join(IDENTIFIERS)}",
            source=header[0].source,
            hint="Add the column that says whose row it is.",
        )


def _path(name: str) -> Path:
    group, dot, key = name.partition(".")
    return (group, key) if dot and group in GROUPS else (name,)


def _document(paths: Sequence[Path], row: Sequence[Cell], *, contract: Contract) -> Document:
    value: dict[str, Any] = {}
    first = row[0].source
    places: dict[Path, tuple[int, int]] = {(): (first.line, first.column)}
    for path, cell in zip(paths, row, strict=False):
        if not cell.text:
            continue
        place = (cell.source.line, cell.source.column)
        content = _value(path, cell.text, contract=contract)
        if len(path) == 1:
            value[str(path[0])] = content
        else:
            value.setdefault(str(path[0]), {})[str(path[1])] = content
            places.setdefault(path[:1], place)
        places[path] = place
    order = sorted(value, key=lambda name: (name not in _TEXTS, name in GROUPS))
    return Document({name: value[name] for name in order}, first, places)


def _value(path: Path, text: str, *, contract: Contract) -> Json:
    """A cell as a file would have it: a text where the schema wants one, else by the rules of JSON."""
    if text == "null":
        return None
    name = ".".join(map(str, path))
    if name in _TEXTS or facet_of(name).converts_text:
        return text
    if name in contract.fields and contract.fields[name].schema.get("type") == "string":
        return text
    if text in WORDS:
        return WORDS[text]
    number = json_number(text) if is_number(text) else None
    return text if number is None else number


def _rows(text: str, file: str) -> Iterator[list[Cell] | Diagnostic]:
    """The rows that hold anything; a finding is the last item."""
    at, line, begin = 0, 1, 0
    row: list[Cell] = []
    while at < len(text):
        source = Source(file, line, at - begin + 1)
        match = _CELL.match(text, at)
        if match is None:
            yield error("table/quotes", "a quote is out of place", source=source, hint=_RFC)
            return
        quoted = match["quoted"]
        row.append(Cell(match["plain"] if quoted is None else quoted.replace('""', '"'), source))
        for each in _LINE_BREAK.finditer(text, at, match.end()):
            line, begin = line + 1, each.end()
        at = match.end()
        if text[at : at + 1] == ",":
            at += 1
            if at < len(text):
                continue
            row.append(Cell("", Source(file, line, at - begin + 1)))
        elif (end := _LINE_BREAK.match(text, at)) is not None:
            at = begin = end.end()
            line += 1
        if any(cell.text for cell in row):
            yield row
        row = []
