"""JSON as fast as it can be had. Pure. Home of orjson.

Text that is digested or published is spelled as the standard library spells it: see `spelled_exactly` and
`values.canonical`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection
from typing import Any

import orjson


def packed(value: Any) -> str:
    """A value as JSON.

    Raises ValueError for what JSON cannot hold.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, integers of more than 64 bits
        return json.dumps(value, separators=(",", ":"), allow_nan=False)


def packed_sorted(value: Any) -> bytes:
    """A value as JSON with the members of objects in the order of their names: equal values give equal
    bytes, and values that differ give bytes that differ.

    Raises ValueError for what JSON cannot hold.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, integers of more than 64 bits
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode("ascii")


def spelled_exactly(value: Any, numbers: Collection[Any]) -> bytes:
    """A value as the encoder of the standard library spells it: in ASCII, without blanks.

    ``numbers`` are the parts of the value that may be floats, or may hold some.

    Raises ValueError for what JSON cannot hold.
    """
    if _are_spelled_alike(numbers):
        try:
            data = orjson.dumps(value)
        except TypeError:  # lone surrogates, integers of more than 64 bits
            pass
        else:
            if not data.isascii():
                data = data.decode().encode("ascii", _ESCAPES)
            return data.replace(b"\x7f", b"\\u007f") if b"\x7f" in data else data
    return _spelled(value).encode("ascii")


_spelled = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _are_spelled_alike(values: Collection[Any]) -> bool:
    """Whether both encoders spell the floats in some values alike: they write an exponent, or infinity, in
    ways of their own."""
    for value in values:
        if value is None or value.__class__ is str:
            continue
        if value.__class__ is float:
            if value and not 1e-4 <= abs(value) < 1e16:
                return False
        elif value.__class__ is dict:
            if not _are_spelled_alike(value.values()):
                return False
        elif value.__class__ in (list, tuple) and not _are_spelled_alike(value):
            return False
    return True


def _escaped(problem: UnicodeError) -> tuple[str, int]:
    """Escapes the characters that are not ASCII in JSON, as a handler of encoding errors."""
    assert isinstance(problem, UnicodeEncodeError)
    return json.dumps(problem.object[problem.start : problem.end])[1:-1], problem.end


_ESCAPES = "reconciler.json"
codecs.register_error(_ESCAPES, _escaped)


def unpacked(text: str | bytes) -> Any:
    """The reverse of `packed`, and of any other JSON. An integer of more than 64 bits may be a float.

    Raises ValueError for what is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError:  # lone surrogates, in escapes or as they are
        return json.loads(text)


def unpacked_exactly(text: bytes) -> Any:
    """The same, but that every integer is one, whatever its size.

    Raises ValueError for what is not JSON.
    """
    digits = text.translate(_DIGITS)
    return json.loads(text) if _LONG in digits else unpacked(text)


_LONG = b"0" * 19
"""The fewest digits of an integer of more than 64 bits, each read as 0."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
