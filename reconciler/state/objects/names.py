"""The names of the objects of a state, below its prefix. Pure.

Everything but the head lies in a folder of the *incarnation*: the id that a state gets when its head is made.
So a state that was removed and begun anew has nothing in common with what a late writer of the old one does.
"""

from __future__ import annotations

import re

HEAD = "head"
SEGMENTS = "/log/"
"""In the names of all segments."""
_DIGITS = 12
_PART = r"[A-Za-z0-9_-]{1,100}"
is_incarnation = re.compile(_PART).fullmatch
is_name = re.compile(f"{_PART}(?:/{_PART}){{1,4}}").fullmatch
"""Whether a text that was read can be a name below the prefix: one that leads elsewhere could have objects of
others read or deleted."""


def segment_name(incarnation: str, position: int) -> str:
    """The segment at a position of the log, which counts from 1."""
    return f"{segments_prefix(incarnation)}{position:0{_DIGITS}d}"


def segments_prefix(incarnation: str) -> str:
    """What the names of all segments begin with."""
    return f"{incarnation}{SEGMENTS}"


def position_of(name: str) -> int | None:
    """The position of a segment; ``None`` for a name that no segment has."""
    digits = name.rpartition("/")[2]
    return int(digits) if len(digits) == _DIGITS and digits.isdecimal() else None


def snapshot_name(incarnation: str, position: int, *, unique: str) -> str:
    """A snapshot of the state at a position. Its parts lie in a folder of the same name."""
    return f"{incarnation}/snap/{position:0{_DIGITS}d}-{unique}"


def backup_name(incarnation: str, backup_id: str, *, unique: str) -> str:
    """A backup. Its parts lie in a folder of the same name."""
    return f"{incarnation}/backup/{backup_id}-{unique}"


def body_name(incarnation: str, unique: str) -> str:
    """The folder of the parts of a segment whose records are too many for it."""
    return f"{incarnation}/body/{unique}"


def part_name(folder: str, number: int) -> str:
    """A part of what lies in a folder."""
    return f"{folder}/{number:05d}"
