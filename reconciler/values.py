"""Values: JSON, its one canonical form, digests, and safe text.

Inside the program a field holds a *scalar* that the contract has normalised: text, a boolean, an
integer, or (custom attributes) a float. ``None`` means "make sure it is absent"; a path that is not in
a mapping is not mentioned.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
Scalar: TypeAlias = str | bool | int | float
FieldPath: TypeAlias = str
"""``email``, ``custom_attributes.tier``, ``installation_meta.locale``. Only the first dot separates:
the key of a custom attribute may hold dots itself."""


class Tag(str):
    """Text of ours in the place of a value that is not to be seen; it is shown without quotes."""

    __slots__ = ()


def canonical(value: Json) -> str:
    """The one JSON spelling of a value: sorted keys, no blanks, ASCII only, floats with their point."""
    return _canonical()(value)


@cache
def _canonical() -> Callable[[Json], str]:
    return json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest(*lines: Json) -> str:
    """``sha256:<hex>`` over the canonical form of each line, every one ended by a newline."""
    sha = hashlib.sha256()
    for line in lines:
        sha.update(canonical(line).encode("ascii"))
        sha.update(b"\n")
    return f"sha256:{sha.hexdigest()}"


def same(a: Scalar | None, b: Scalar | None) -> bool:
    """Equality of normalised scalars, types included: ``1.0`` is not ``True`` and ``"5"`` is not ``5``."""
    return type(a) is type(b) and a == b


def shown(text: str) -> str:
    """Text that is safe to print, also at the beginning of a line: whatever could steer a terminal,
    hide, or be read as a command by the log of a build is written as an escape.

    Controls (C0, C1, DEL), line separators, direction and other format marks, lone surrogates,
    private use and unassigned code points become ``\\x1b``-style escapes; a backslash is doubled so
    that an escape can be told from text that looks like one. Builds obey lines that begin with ``::``
    (GitHub), and ``##[`` or ``##vso[`` anywhere (GitHub, Azure): their first character is escaped.
    """
    safe = _escaped(text)
    if not safe.lstrip().startswith(":"):
        return safe
    start = safe.index(":")
    return f"{safe[:start]}\\x3a{safe[start + 1 :]}"


def spelled(value: Json, *, indent: int | None = None) -> str:
    """JSON for people and programs, in ASCII, that the log of a build does not obey (see `shown`)."""
    return unobeyed(json.dumps(value, indent=indent, allow_nan=False))


def unobeyed(text: str) -> str:
    """The same JSON, spelled so that no log of a build finds a command in a string of it (see `shown`)."""
    return _COMMAND.sub(r"\\u0023", text) if "##" in text else text


_COMMAND = re.compile(r"#(?=#(?:vso)?\[)", re.IGNORECASE)


def _escaped(text: str) -> str:
    if _is_plain(text):
        return text
    safe = "".join(_shown_character(character) for character in text)
    return _COMMAND.sub(r"\\x23", safe) if "##" in safe else safe


def _is_plain(text: str) -> bool:
    """Whether a text can be printed as it is, unless something else is made of its quotes and colons."""
    return text.isascii() and text.isprintable() and not ("\\" in text or "##" in text)


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character == " " or (
        character.isprintable() and unicodedata.category(character) not in {"Cf", "Co", "Cn", "Cs"}
    ):
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def quoted(value: Scalar | None) -> str:
    """A scalar as a person reads it: JSON's spelling, text in quotes, made safe by `shown`."""
    if isinstance(value, str):
        if value.__class__ is Tag:
            return str(value)
        # As `_is_plain` says, but without a call: nearly all values are such texts.
        if value.isascii() and value.isprintable() and not ("\\" in value or "##" in value):
            return f'"{value}"' if '"' not in value else _quoted(value)
        return _quoted(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return spelled(value)


@lru_cache(maxsize=4096)  # names in other letters are the values of many fields
def _quoted(text: str) -> str:
    escaped = _escaped(text).replace('"', '\\"')
    return f'"{escaped}"'
