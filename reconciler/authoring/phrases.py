"""How findings name places, quote values and suggest names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.authoring.documents import Path
from reconciler.errors import Message, Quote

_LONGEST_QUOTE = 60
MOST_EXACT = 10**18
"""A number that is as large as this one is not quoted."""


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a text; case, dashes and camel case aside."""
    if len(text) > _LONGEST_QUOTE:
        return None
    from difflib import get_close_matches  # here, since only a mistake needs it

    folded = {_fold(candidate): candidate for candidate in known}
    matches = get_close_matches(_fold(text), folded, n=1)
    return folded[matches[0]] if matches else None


def _fold(text: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).casefold().replace("-", "_").strip()


def kind_of(value: Any) -> str | Message:
    """The kind of a value, and a number whole: ``text``, ``a map``, ``the number 5``."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            exact = abs(value) < MOST_EXACT
            return Message.of("the number ", Quote(str(value), "")) if exact else "a number"
        case str():
            return "text"
        case Mapping():
            return "a map"
        case _:
            return "a list"


def quote(value: Any, *, is_name: bool = False) -> str | Message | Quote:
    """A value in a message: whole if it is short, never more than sixty characters."""
    if isinstance(value, str):
        fits = len(value) <= _LONGEST_QUOTE - 2
        return Quote(value if fits else f"{value[: _LONGEST_QUOTE - 3]}…", is_name=is_name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MOST_EXACT:
        return Quote(str(value), "")
    return kind_of(value)


def name(text: str) -> Quote:
    """The name of a field or a key: ``first_name``."""
    return Quote(text, "`", is_name=True)


def place_name(path: Path) -> str | Quote:
    """``custom_attributes.tier``, ``meta.labels[1]``."""
    if not path:
        return "the document"
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
    return name(text if len(text) <= 2 * _LONGEST_QUOTE else text[: 2 * _LONGEST_QUOTE] + "…")
