"""Plain scalars of YAML, and the invisible characters that no file may hold. Pure.

Scalars are read as JSON reads them, not as YAML does.
"""

from __future__ import annotations

import re

# --- scalars -------------------------------------------------------------------------------------

WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
is_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch

LOOK_CLOSER = frozenset(["", *"~-+.0123456789nNtTfFyYoO=<"])
"""The first characters of all plain scalars that are not text, here or for another tool."""

_OTHER_WORDS = frozenset(
    [
        *("yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"),
        *("y", "Y", "n", "N", "True", "TRUE", "False", "FALSE", "Null", "NULL", "=", "<<"),
    ]
)
ODD_WORDS = WORDS.keys() | _OTHER_WORDS
"""Words that are not simply text, here or for another tool."""
# YAML 1.1's types (yaml.org/type) and the core schema of YAML 1.2.2, section 10.3.2.
_OTHER_FORMS = re.compile(
    r"""
      [-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?   # +1 007 1_0 1. .5
    | [-+]?0(?:b[01_]+|o[0-7_]+|x[0-9a-fA-F_]+)
    | [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?                         # base 60: 12:30
    | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}
      (?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?
         (?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?
    """,
    re.VERBOSE,
).fullmatch


def is_ambiguous(text: str) -> bool:
    """Whether a plain scalar that is text here is something else for other YAML tools."""
    return text in _OTHER_WORDS or _OTHER_FORMS(text) is not None


def read_elsewhere(text: str) -> str:
    """What YAML 1.1 makes of an ambiguous plain scalar, or YAML 1.2 where 1.1 makes text of it."""
    word = text.lower()
    if word in ("y", "yes", "on", "true"):
        return "true"
    if word in ("n", "no", "off", "false"):
        return "false"
    if text in _NAMED_ELSEWHERE:
        return _NAMED_ELSEWHERE[text]
    if word.lstrip("+-") in (".inf", ".nan"):
        sign = "minus " if text[0] == "-" else ""
        return "not a number" if word == ".nan" else f"{sign}infinity"
    if _DATE(text):
        return "a date" if len(text) <= len("2000-12-31") else "a date with a time"
    if len(text) > _LONGEST_NUMBER:
        return "a number"
    value = _number_elsewhere(text.replace("_", "").lstrip("+-"))
    return f"the number {'-' if text[0] == '-' else ''}{value}"


def _number_elsewhere(text: str) -> int | float:
    """The number of digits without a sign."""
    if ":" in text:
        value: int | float = 0
        for part in text.split(":"):
            value = value * 60 + (float(part) if "." in part else int(part))
        return value
    prefix = text[:2].lower()
    if prefix in _BASES:
        return int(text[2:] or "0", _BASES[prefix])
    if text.isdecimal():
        is_octal = text[0] == "0" and not {"8", "9"} & set(text)
        return int(text, 8 if is_octal else 10)
    return float(text)


_NAMED_ELSEWHERE = {
    "null": "null",
    "Null": "null",
    "NULL": "null",
    "=": "a default",
    "<<": "a merge",
}
_LONGEST_NUMBER = 40
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_DATE = re.compile(r"[0-9]{4}-").match


def json_number(text: str) -> int | float | None:
    """The number of a text in JSON's form; ``None`` if no float comes near it. -0 is 0."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return None
    if value == 0.0:
        if any(digit in "123456789" for digit in re.split("[eE]", text)[0]):
            return None
        value = 0.0
    return value if any(mark in text for mark in ".eE") else int(text)


def is_odd(text: str) -> bool:
    """Whether a plain scalar is not simply text, here or for other YAML tools."""
    return text in WORDS or is_ambiguous(text)


# --- characters ----------------------------------------------------------------------------------

# Controls, line breaks that editors do not show, direction marks, and characters without a width.
_ALWAYS = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)
# The joiners U+200C and U+200D belong to some scripts and to emoji: fine between two characters that
# are not ASCII. Lone carriage returns break lines for YAML and for few editors.
INVISIBLE = re.compile(
    f"[{_ALWAYS}]|\r(?!\n)|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
# One class of characters is searched many times faster than alternatives are.
_PERHAPS = re.compile(f"[{_ALWAYS}\r\u200c\u200d]").search
_VISIBLE = bytes([ord("\n"), *range(ord(" "), ord("~") + 1)])


def is_visible(text: str) -> bool:
    """Whether a text holds no character that hides or changes how the text around it reads."""
    return _PERHAPS(text) is None or INVISIBLE.search(text) is None


def visible_text(data: bytes) -> str | None:
    """The text of a file; ``None`` if it is not UTF-8 or holds an invisible character."""
    try:
        text = data.decode("utf-8")
        # Nearly all characters are ASCII and visible, and taken out at once; the rest is searched.
        rest = data.translate(None, _VISIBLE).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if not rest or _PERHAPS(rest) is None or is_visible(text) else None
