"""How long profiles may live: a day, a time, or a span after their creation. Pure."""

from __future__ import annotations

import re
from datetime import date

_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))?Z)?"
).fullmatch
_SPAN = re.compile(r"(?P<count>[1-9][0-9]{0,5})(?P<unit>[smhdw])").fullmatch
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EPOCH = date(1970, 1, 1).toordinal()
_DAY = 86400


def is_time(text: str) -> bool:
    """Whether a text is a day or a time: ``2030-12-31``, ``2030-12-31T18:00Z``."""
    match = _TIME(text)
    return match is not None and _days(match["day"]) is not None


def is_span(text: str) -> bool:
    """Whether a text is a span such as ``14d``."""
    return _SPAN(text) is not None


def seconds_of(span: str) -> int:
    """The seconds of a span such as ``14d``.

    Raises ValueError for anything else.
    """
    match = _SPAN(span)
    if match is None:
        raise ValueError(f"{span} is not a span of time")
    return int(match["count"]) * _UNITS[match["unit"]]


def expiry(lifetime: str, created: float | None) -> float | None:
    """When a lifetime ends, in Unix seconds: at the end of a day (UTC), at a time, or a span after the
    creation. ``None`` where that is not known."""
    match = _TIME(lifetime)
    if match is not None:
        days = _days(match["day"])
        if days is None:
            return None
        if match["hour"] is None:
            return float((days + 1) * _DAY)
        hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
        return float(days * _DAY + hour * 3600 + minute * 60 + second)
    if created is None or _SPAN(lifetime) is None:
        return None
    return created + seconds_of(lifetime)


def utc(at: float) -> str:
    """A time in Unix seconds as a person reads it, to the minute: ``2030-12-31 18:00 UTC``."""
    days, seconds = divmod(int(at), _DAY)
    day = date.fromordinal(_EPOCH + days).isoformat()
    return f"{day} {seconds // 3600:02}:{seconds % 3600 // 60:02} UTC"


def _days(text: str) -> int | None:
    try:
        return date(int(text[:4]), int(text[5:7]), int(text[8:])).toordinal() - _EPOCH
    except ValueError:
        return None
