"""How findings name places, quote values and suggest names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.authoring.documents import Path

_LONGEST_QUOTE = 60
MOST_EXACT = 10**18
"""A number that is as large as this one is not quoted."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody most likely meant; case, dashes and camel case aside."""
    if len(name) > _LONGEST_QUOTE:
        return None
    from difflib import get_close_matches  # here, since only a mistake needs it

    folded = {_fold(candidate): candidate for candidate in known}
    matches = get_close_matches(_fold(name), folded, n=1)
    return folded[matches[0]] if matches else None


def _fold(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold().replace("-", "_").strip()


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}" if abs(value) < MOST_EXACT else "a number"
        case str():
            return "text"
        case Mapping():
            return "a map"
        case _:
            return "a list"


def quote(value: Any) -> str:
    """A value in a message: whole if it is short, never more than sixty characters."""
    if not isinstance(value, str):
        return kind_of(value).removeprefix("the number ")
    fits = len(value) <= _LONGEST_QUOTE - 2
    return f'"{value}"' if fits else f'"{value[: _LONGEST_QUOTE - 3]}…"'


def place_name(path: Path) -> str:
    """``custom_attributes.tier``, ``meta.labels[1]``."""
    if not path:
        return "the document"
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    return f"`{text if len(text) <= 2 * _LONGEST_QUOTE else text[: 2 * _LONGEST_QUOTE] + '…'}`"
