"""Instants: microseconds since the epoch (UTC), read from the texts of requests and written for answers."""

from __future__ import annotations

import re
from datetime import date

SECOND = 1_000_000
"""Microseconds."""

_EPOCH = date(1970, 1, 1).toordinal()
_LAST = (date.max.toordinal() - _EPOCH + 1) * 86_400 * SECOND
_FIRST = (date.min.toordinal() - _EPOCH) * 86_400 * SECOND
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.]([0-9]{1,6}))?)?"
    r"(?:(Z)|([+-])([0-9]{2}):?([0-9]{2}))?",
    re.IGNORECASE,
)


def parse_instant(text: object) -> int | None:
    """The instant that an ISO 8601 text names; None for anything else.

    The three spellings of adapty-api 5.2 are read. A text without a zone is in UTC: a public client sends
    such texts (adapty-api 8.2).
    """
    match = _INSTANT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(each or 0) for each in match.groups()[:6])
    offset_hours, offset_minutes = int(match[10] or 0), int(match[11] or 0)
    if hour > 23 or minute > 59 or second > 59 or offset_hours > 23 or offset_minutes > 59:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    offset = (offset_hours * 60 + offset_minutes) * (-60 if match[9] == "-" else 60)
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    instant = seconds * SECOND + int((match[7] or "").ljust(6, "0"))
    return instant if is_instant(instant) else None


def is_instant(instant: int) -> bool:
    """Whether an instant lies in the years 1 to 9999, so that it can be written."""
    return _FIRST <= instant < _LAST


def format_instant(instant: int) -> str:
    """The text of an instant as answers spell it, like ``2024-12-24T10:50:23+00:00`` (adapty-api 5.2)."""
    return f"{_naive(instant, 'T')}+00:00"


def plain_instant(instant: int) -> str:
    """The text of an instant as the messages of errors spell it (adapty-api 6.2)."""
    return f"{_naive(instant, ' ')}+00:00"


def _naive(instant: int, separator: str) -> str:
    seconds, microseconds = divmod(instant, SECOND)
    days, seconds = divmod(seconds, 86_400)
    day = date.fromordinal(_EPOCH + days).isoformat()
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{microseconds:06}" if microseconds else ""
    return f"{day}{separator}{time}{fraction}"
