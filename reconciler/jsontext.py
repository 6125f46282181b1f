"""JSON that only this program reads again, as fast as it can be had. Pure. Home of orjson.

Text that is digested or published is spelled by the standard library instead: see `values.canonical`.
"""

from __future__ import annotations

import json
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


def unpacked(text: str) -> Any:
    """The reverse of `packed`, and of any other JSON. An integer of more than 64 bits may be a float.

    Raises ValueError for what is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError:  # lone surrogates, in escapes or as they are
        return json.loads(text)


def unpacked_exactly(text: str) -> Any:
    """The same, but that every integer is one, whatever its size.

    Raises ValueError for what is not JSON.
    """
    digits = text.encode("utf-8", "surrogatepass").translate(_DIGITS)
    return json.loads(text) if _LONG in digits else unpacked(text)


_LONG = b"0" * 19
"""The fewest digits of an integer of more than 64 bits, each read as 0."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
