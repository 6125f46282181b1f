"""A document → the text of a profile file that declares the same. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.placeholders import escaped
from reconciler.authoring.yaml_scalars import is_odd
from reconciler.values import Json
from reconciler.values import shown as safe

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*").fullmatch


def profile_yaml(document: Document, shown: Callable[[Path, Json], Json] = lambda _, x: x) -> str:
    """A document as the text of a profile file, which ends with a newline.

    A comment gives the place of each value that comes from another file. The same document always gives
    the same bytes. ``shown`` may replace values.
    """
    name = f"  {safe(document.template)}" if document.template else ""
    lines = [f"# {safe(document.source.file)}:{document.source.line}{name}"]
    lines += _lines(document, document.value, path=(), shown=shown)
    return "\n".join(lines) + "\n"


def document_yaml(document: Document) -> str:
    """A document as the text of a profile file, without any comment."""
    return "\n".join([*_lines(document, document.value, path=(), shown=lambda _, x: x), ""])


def _lines(
    document: Document,
    node: Mapping[str, Any],
    *,
    path: Path,
    shown: Callable[[Path, Json], Json],
) -> Iterator[str]:
    indent = "  " * len(path)
    for key, value in node.items():
        here = (*path, key)
        place = document.at(here)
        note = f"  # {safe(place.file)}:{place.line}" if here in document.files else ""
        if isinstance(value, dict) and value:
            yield f"{indent}{_spelled(key)}:{note}"
            yield from _lines(document, value, path=here, shown=shown)
        else:
            yield f"{indent}{_spelled(key)}: {_value(shown(here, value))}{note}"


def _value(value: Any) -> str:
    """A value on one line, in YAML's flow style."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_spelled(key)}: {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    return _spelled(escaped(value) if isinstance(value, str) else value)


def _spelled(value: Any) -> str:
    """A scalar or a key as YAML. Placeholders are not escaped, since keys have none."""
    if isinstance(value, str) and _PLAIN(value) and not is_odd(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    if "##" not in text and text.isprintable():
        return text
    return _ODD.sub(_escape, text)


_ODD = re.compile(r"#(?=#(?:vso)?\[)|[^ -~]", re.I)


def _escape(match: re.Match[str]) -> str:
    """A character that a terminal or the log of a build could obey, as YAML escapes it."""
    character = match[0]
    if character != "#" and safe(character) == character:
        return character
    point = ord(character)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
