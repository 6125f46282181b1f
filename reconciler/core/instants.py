"""Instants: times with a zone, in any of the spellings that the API and files use. Pure.

An instant is a number of whole seconds since 1970 in UTC: instants that differ by less are the same
(adapty-api 8.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import cache

_INSTANT = (
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?P<part>\.[0-9]{1,9})?)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_DAY = 86400
_EPOCH = date(1970, 1, 1).toordinal()
_LONGEST_OFFSET = 14 * 3600
"""Seconds; no zone is farther from UTC."""


@cache
def _instant() -> Callable[[str], re.Match[str] | None]:
    """Compiled on first use: most plans name no instant."""
    return re.compile(_INSTANT).fullmatch


class NoZone(ValueError):
    """A time that names no zone."""


class NoTime(ValueError):
    """A day without a time."""


def instant_of(text: str) -> int:
    """The instant that a text names.

    Raises NoZone and NoTime for a text that lacks just that, and ValueError for anything else.
    """
    match = _instant()(text)
    if match is None:
        date.fromisoformat(text)
        raise NoTime(text)
    days = date.fromisoformat(match["day"]).toordinal() - _EPOCH
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(text)
    zone = match["zone"]
    if zone is None:
        raise NoZone(text)
    seconds = days * _DAY + hour * 3600 + minute * 60 + second
    seconds += float(match["part"] or 0) >= 0.5
    return seconds - _offset(zone)


def _offset(zone: str) -> int:
    if zone in ("Z", "z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    seconds = hours * 3600 + minutes * 60
    if minutes > 59 or seconds > _LONGEST_OFFSET:
        raise ValueError(zone)
    return -seconds if zone[0] == "-" else seconds


def instant_text(at: int) -> str:
    """An instant in its one spelling: ``2027-01-31T00:00:00Z``.

    Raises ValueError for one outside of the years 1 to 9999.
    """
    days, seconds = divmod(at, _DAY)
    day = date.fromordinal(_EPOCH + days).isoformat()
    return f"{day}T{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}Z"
