"""The canonical form of a profile file: the order of its keys, the spelling of its scalars, and a quick test
for documents that have it. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

from reconciler.authoring.facets.registry import BY_GROUP
from reconciler.authoring.loader import load_text
from reconciler.core.contract import Contract

_IDS = ("for_each", "customer_user_id", "profile_id", "platform")
_META = ("labels", "protect", "forget")
_REMEMBERED = 4_096
"""Scalars and keys that are judged once. A file repeats most of them."""
_LONGEST = 256
"""Characters of a scalar that is worth to be remembered."""


class KeyOrder:
    """The order of keys: identifiers, fields as the contract has them, unknown ones, `meta`."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._ranks: dict[tuple[str, ...], dict[str, int] | None] = {}

    def rank(self, path: tuple[str, ...], key: str) -> tuple[int, int, str]:
        """What the keys of the mapping at a path are sorted by."""
        if not path and key == "meta":
            return (2, 0, key)
        group = path[:2]  # whatever lies deeper is in no contract
        if group not in self._ranks:
            self._ranks[group] = self._known(group)
        ranks = self._ranks[group]
        if ranks is None:
            return (0, 0, key)
        return (0, ranks[key], key) if key in ranks else (1, 0, key)

    def _known(self, path: tuple[str, ...]) -> dict[str, int] | None:
        """The places of the known keys; ``None`` where keys are sorted by their names."""
        if not path:
            fields = (name for name in self._contract.fields if "." not in name)
            known = [*_IDS, *fields, *BY_GROUP]
        elif path == ("meta",):
            known = [*_META]
        else:
            rules = BY_GROUP.get(path[0])
            if rules is None:
                return None
            is_field = len(path) > 1
            known = [*(rules.parts if is_field else rules.ordered_keys(self._contract) or ())]
            if not known:
                return None
        places: dict[str, int] = {}
        for place, name in enumerate(known):
            places.setdefault(name, place)
        return places


# --- scalars -------------------------------------------------------------------------------------


def read_scalar(text: str) -> Any:
    """The value that our loader reads from a plain scalar; ``None`` also if it is no scalar."""
    return _read_known(text) if len(text) <= _LONGEST else _read(text)


def is_plain(text: str) -> bool:
    """Whether a text may stand without quotes: every YAML tool reads it as this text, in a flow too."""
    return _is_known_plain(text) if len(text) <= _LONGEST else _is_plain(text)


def _read(text: str) -> Any:
    documents, _ = load_text(f"k: {text}\n".encode("utf-8", "surrogatepass"), "")
    value = documents[0].value.get("k") if len(documents) == 1 else None
    # Which collection it is does not matter, and it would be shared.
    return () if isinstance(value, dict | list) else value


def _is_plain(text: str) -> bool:
    probe = f"k: {text}\nf: {{{text}: [{text}]}}\n".encode("utf-8", "surrogatepass")
    documents, diagnostics = load_text(probe, "")
    return (
        not diagnostics
        and len(documents) == 1
        and documents[0].value == {"k": text, "f": {text: [text]}}
    )


_read_known = lru_cache(_REMEMBERED)(_read)
_is_known_plain = lru_cache(_REMEMBERED)(_is_plain)


# --- what is canonical already -------------------------------------------------------------------


def documents_of(text: str) -> list[str] | None:
    """The documents of a file that parses, each of which can be put in canonical form by itself; ``None``
    where that cannot be told quickly.

    Joined with lines `---` they are the file, without such a line at its very beginning. Comments may stand
    above the first document only: elsewhere one may belong to the document before or after it. Blank lines
    belong to comments. Anchors, tabs and lines that a block keeps at its end are left to a slower look.
    """
    text = text.removeprefix("---\n")
    body = text[_head(text) :]
    if not body.endswith("\n") or any(mark in body for mark in ("#", "&", "*", "|+", ">+")):
        return None
    lines = body[:-1].split("\n")
    if not all(line.isprintable() and not line.isspace() for line in lines):
        return None
    documents: list[list[str]] = [[text[: _head(text)]]]
    for line in lines:
        if line == "---":
            documents.append([""])
        elif not line or line.startswith(("---", "...", "%")):
            return None
        else:
            documents[-1].append(f"{line}\n")
    return (
        ["".join(lines) for lines in documents] if all(len(one) > 1 for one in documents) else None
    )


def is_canonical(document: str, order: KeyOrder) -> bool:
    """Whether one document of `documents_of` certainly is in canonical form. ``False`` may also mean that it
    is written in a way that takes a closer look."""
    head = _head(document)
    if any(line != line.strip() for line in document[:head].splitlines()):
        return False
    path: tuple[str, ...] = ()
    last: dict[int, tuple[int, int, str]] = {}
    waits_for_members = False
    for line in document[head:-1].split("\n"):
        parts = _MEMBER(line)
        if parts is None:
            return False
        indent, key, value = parts.groups()
        is_inner = bool(indent)
        if (is_inner and not path) or (waits_for_members and not is_inner):
            return False
        rank = order.rank(path if is_inner else (), key)
        if (is_inner in last and last[is_inner] >= rank) or not _is_spelled(key):
            return False
        last[is_inner] = rank
        waits_for_members = value is None
        if not is_inner:
            path = (key,) if value is None else ()
            last.pop(True, None)
        if value is None:
            if is_inner:
                return False
        elif value[0] == "{":
            if not _is_canonical_flow(value, (*(path if is_inner else ()), key), order=order):
                return False
        elif not _is_canonical(value):
            return False
    return not waits_for_members


def in_canonical_form(document: str, order: KeyOrder) -> str | None:
    """One document of `documents_of` in canonical form, if it is written simply: a member on each line, and
    values that a look at them tells how to spell. ``None`` if it takes a YAML library."""
    head = _head(document)
    members: list[tuple[str, str | None, list[tuple[str, str | None]]]] = []
    for line in document[head:-1].split("\n"):
        parts = _MEMBER(line)
        if parts is None:
            return None
        indent, key, value = parts.groups()
        spelled = None if value is None else _respelled(value)
        if value is not None and spelled is None:
            return None
        if not indent:
            members.append((key, spelled, []))
        elif members and members[-1][1] is None:
            members[-1][2].append((key, spelled))
        else:
            return None
    lines = []
    for key, spelled, inner in sorted(members, key=lambda member: order.rank((), member[0])):
        lines.append(f"{key}:" if spelled is None else f"{key}: {spelled}")
        inner.sort(key=lambda member: order.rank((key,), member[0]))
        lines += [f"  {name}: {each}" for name, each in inner]
    result = document[:head] + "".join(f"{line}\n" for line in lines)
    return result if is_canonical(result, order) else None


def _respelled(value: str) -> str | None:
    """A value in its one spelling; ``None`` where that takes a closer look. `is_canonical` checks flows, and
    text that is written without quotes from here on."""
    if value[0] in "[{":
        return value
    is_quoted = _QUOTED(value) is not None
    text = value[1:-1] if is_quoted else value
    if not is_quoted and _WORDS(value) is None:
        return None
    read = read_scalar(text)
    if not is_quoted and not isinstance(read, str):
        return None if read is None and value != "null" else value
    return text if text and _is_spelled(text) else f'"{text}"'


def _head(text: str) -> int:
    """Where the comments at the head of a text end."""
    return _HEAD(text).end()  # type: ignore[union-attr]


def _is_canonical(value: str) -> bool:
    if value[0] == '"':
        return _QUOTED(value) is not None and not _is_spelled(value[1:-1])
    if value[0] == "[":
        return _LIST(value) is not None and all(map(_is_canonical, value[1:-1].split(", ")))
    if _WORDS(value) is None:
        return False
    read = read_scalar(value)
    return _is_spelled(value) if isinstance(read, str) else read is not None or value == "null"


def _is_canonical_flow(value: str, path: tuple[str, ...], *, order: KeyOrder) -> bool:
    """Whether a mapping in braces is one of plain members in their order."""
    if _BRACES(value) is None:
        return False
    members = [member.split(": ") for member in value[1:-1].split(", ")]
    ranks = [order.rank(path, key) for key, _ in members]
    in_order = all(before < after for before, after in pairwise(ranks))
    return in_order and all(_is_spelled(key) and _is_canonical(item) for key, item in members)


def _is_spelled(text: str) -> bool:
    """Whether a text is written without quotes."""
    return bool(read_scalar(text) == text and is_plain(text))


_HEAD = re.compile("(?:#[^\n]*\n)*").match
_MEMBER = re.compile("(  )?([A-Za-z_][A-Za-z0-9_.-]{0,99}):(?: (.+))?").fullmatch
_WORD = "[A-Za-z0-9+][A-Za-z0-9@._+/-]*"
_WORDS = re.compile(f"{_WORD}(?: [A-Za-z0-9][A-Za-z0-9@._+/-]*)*").fullmatch
_LIST = re.compile(rf"\[{_WORD}(?:, {_WORD})*\]").fullmatch
_BRACES = re.compile(rf"\{{{_WORD}: {_WORD}(?:, {_WORD}: {_WORD})*\}}").fullmatch
_QUOTED = re.compile(r'"[ !#-\[\]-~]*"').fullmatch
