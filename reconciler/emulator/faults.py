"""A fault: one way in which the API misbehaves, and the text that describes it.

`parse_fault` reads a fault from a text, and ``str`` writes the text again. `FAULT_SYNTAX` says which
value and which options each kind takes; `CONDITIONS` are the options that every kind takes.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from reconciler.emulator.http import End
from reconciler.emulator.routes import ROUTES
from reconciler.errors import UsageError

_LONGEST_WAIT = 86_400.0
"""Seconds."""
_LARGEST = 1 << 30
"""Bytes."""
_MAX_TEXT = 2_000
"""Characters of a fault's text."""
_METHODS = ("GET", "POST", "PATCH", "DELETE")
_ROUTES = tuple(route.name for route in ROUTES)
_REDIRECTS = (301, 302, 303, 307, 308)


class FaultKind(StrEnum):
    """The kinds of misbehaviour. Faults that alter an answer are applied in the order of this list."""

    LATENCY = "latency"
    LAG = "lag"

    STATUS = "status"
    REDIRECT = "redirect"
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"
    CLOSE_BEFORE = "close-before"
    CLOSE_AFTER = "close-after"
    STALL_BEFORE = "stall-before"
    STALL_AFTER = "stall-after"
    LATE = "late"
    OUTAGE = "outage"

    OTHER_PROFILE = "other-profile"
    PROFILE_ID = "profile-id"
    APP_ID = "app-id"
    CLOCK = "clock"
    BODY = "body"
    HEADERS = "headers"
    BIG_HEADER = "big-header"
    LENGTH = "length"
    FRAMING = "framing"
    INTERIM = "interim"
    TRUNCATE = "truncate"
    STRAY = "stray"
    DRIP = "drip"
    IDLE_CLOSE = "idle-close"


DELAYS = frozenset({FaultKind.LATENCY, FaultKind.LAG})
"""The kinds that make a request or its answer wait; their seconds add up."""
ENDINGS = frozenset(
    {
        FaultKind.STATUS,
        FaultKind.REDIRECT,
        FaultKind.RESET_BEFORE,
        FaultKind.RESET_AFTER,
        FaultKind.CLOSE_BEFORE,
        FaultKind.CLOSE_AFTER,
        FaultKind.STALL_BEFORE,
        FaultKind.STALL_AFTER,
        FaultKind.LATE,
        FaultKind.OUTAGE,
    }
)
"""The kinds that end a request in their own way; the first such fault of a request wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour and its conditions.

    A fault applies to requests with the given ``method`` and ``route``, with an address like ``address``,
    that come ``between`` two moments (seconds since the fault was set). Of these it strikes each
    ``every``-th after the first ``after``, with probability ``rate``, at most ``times`` times. The meaning
    of the other members depends on the kind. ``str`` gives the text that `parse_fault` reads.
    """

    kind: FaultKind
    seconds: float = 0.0
    jitter: float = 0.0
    status: int = 0
    retry_after: str | None = None
    code: str | None = None
    text: str = ""
    size: int = 0
    speed: float = 0.0
    part: str = "all"
    effect: bool | None = None
    end: End | None = None
    rate: float = 1.0
    every: int = 1
    after: int = 0
    times: int | None = None
    method: str | None = None
    route: str | None = None
    address: str | None = None
    between: tuple[float, float] | None = None

    def __str__(self) -> str:
        return _text_of(self)

    @property
    def is_conditional(self) -> bool:
        """Whether it waits for certain requests. Otherwise it strikes every request."""
        return any(getattr(self, each.field) != _DEFAULTS[each.field] for each in CONDITIONS)


# --- the syntax ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ValueSyntax:
    """A value in a fault's text."""

    name: str
    """Before the equals sign; empty for the value of the kind itself."""
    field: str
    """The member of `Fault` that holds the value."""
    read: Callable[[str], Any]
    """The value of a text; raises ValueError for a text that is no such value."""
    description: str
    """The end of the sentence "NAME must be"."""
    write: Callable[[Any], str] = str
    """The text of a value."""


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text) if re.fullmatch(r"[0-9.eE+-]+", text) else math.nan
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _whole(low: int, high: int, *, refused: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else high + 1
        if not low <= number <= high or number == refused:
            raise ValueError
        return number

    return read


def _one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return read


def _printable(text: str) -> str:
    if not text or not text.isprintable() or '"' in text:
        raise ValueError
    return text


def _redirect(text: str) -> int:
    return int(_one_of(*map(str, _REDIRECTS))(text))


def _yes_or_no(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _time_span(text: str) -> tuple[float, float]:
    first, dash, last = text.partition("-")
    read = _number(0, _LONGEST_WAIT)
    start, end = read(first or "0"), read(last) if last else math.inf
    if not dash or start >= end:
        raise ValueError
    return start, end


def _cut_place(text: str) -> str:
    if text in ("status", "headers", "body"):
        return text
    return str(_whole(-_LARGEST, _LARGEST)(text))


def _late_answer(text: str) -> str:
    return text if text == "none" else str(_whole(300, 599)(text))


def _number_text(number: float) -> str:
    return repr(number).removesuffix(".0")


_SECONDS = ValueSyntax(
    "",
    "seconds",
    _number(0, _LONGEST_WAIT),
    f"seconds, from 0 to {_LONGEST_WAIT:.0f}",
    _number_text,
)
_JITTER = ValueSyntax("jitter", "jitter", _SECONDS.read, _SECONDS.description, _number_text)
_STATUS = ValueSyntax("", "status", _whole(201, 599), "a status from 201 to 599")
_RETRY_AFTER = ValueSyntax(
    "retry-after", "retry_after", _printable, "text, or date, date+N, date-N"
)
_CODE = ValueSyntax("code", "code", _printable, "an error code")
_EFFECT = ValueSyntax(
    "effect", "effect", _yes_or_no, "yes or no", lambda effect: "yes" if effect else "no"
)
_END = ValueSyntax("end", "end", End, "keep, close or reset")

BODIES = (
    "html", "text", "empty", "null", "list", "half", "nan", "infinity", "duplicate", "surrogate",
    "utf8", "utf16", "bom", "nested", "huge", "gzip", "gzip-bomb", "brotli",
    "errors-text", "json-api", "django", "fastapi", "problem",
)  # fmt: skip
FRAMINGS = (
    "none", "chunked", "both", "two-lengths", "bad-length", "negative-length", "bad-chunk",
    "negative-chunk", "long-chunk", "short-chunk", "no-last-chunk",
)  # fmt: skip

CONDITIONS = (
    ValueSyntax("rate", "rate", _number(0, 1), "a probability from 0 to 1", _number_text),
    ValueSyntax("every", "every", _whole(1, 10**9), "a whole number from 1"),
    ValueSyntax("after", "after", _whole(1, 10**9), "a whole number from 1"),
    ValueSyntax("times", "times", _whole(1, 10**9), "a whole number from 1"),
    ValueSyntax("method", "method", _one_of(*_METHODS), "one of " + ", ".join(_METHODS)),
    ValueSyntax("route", "route", _one_of(*_ROUTES), "one of " + ", ".join(_ROUTES)),
    ValueSyntax("address", "address", _printable, "a pattern, like qa-*"),
    ValueSyntax(
        "between",
        "between",
        _time_span,
        "seconds, like 5-20 or 5-",
        lambda span: (
            f"{_number_text(span[0])}-{'' if span[1] == math.inf else _number_text(span[1])}"
        ),
    ),
)
"""The options of every kind: they say which requests the fault strikes."""


@dataclass(frozen=True, slots=True)
class FaultSyntax:
    """The value and the options that a kind of fault takes, apart from `CONDITIONS`."""

    value: ValueSyntax | None = None
    """None for a kind that takes no value."""
    default: Any = ...
    """The value if the text has none; ``...`` if the text must have one."""
    options: tuple[ValueSyntax, ...] = ()


FAULT_SYNTAX: Mapping[FaultKind, FaultSyntax] = {
    FaultKind.LATENCY: FaultSyntax(_SECONDS, options=(_JITTER,)),
    FaultKind.LAG: FaultSyntax(_SECONDS, options=(_JITTER,)),
    FaultKind.STATUS: FaultSyntax(_STATUS, options=(_RETRY_AFTER, _CODE, _EFFECT)),
    FaultKind.REDIRECT: FaultSyntax(
        ValueSyntax("", "status", _redirect, "one of " + ", ".join(map(str, _REDIRECTS))),
        options=(ValueSyntax("to", "text", _printable, "an address in double quotes"), _EFFECT),
    ),
    FaultKind.RESET_BEFORE: FaultSyntax(),
    FaultKind.RESET_AFTER: FaultSyntax(),
    FaultKind.CLOSE_BEFORE: FaultSyntax(),
    FaultKind.CLOSE_AFTER: FaultSyntax(),
    FaultKind.STALL_BEFORE: FaultSyntax(_SECONDS, math.inf),
    FaultKind.STALL_AFTER: FaultSyntax(_SECONDS, math.inf),
    FaultKind.LATE: FaultSyntax(
        _SECONDS,
        options=(ValueSyntax("answer", "text", _late_answer, "a status from 300 to 599, or none"),),
    ),
    FaultKind.OUTAGE: FaultSyntax(_SECONDS),
    FaultKind.OTHER_PROFILE: FaultSyntax(),
    FaultKind.PROFILE_ID: FaultSyntax(ValueSyntax("", "text", _printable, "an id"), ""),
    FaultKind.APP_ID: FaultSyntax(ValueSyntax("", "text", _printable, "an id"), ""),
    FaultKind.CLOCK: FaultSyntax(
        ValueSyntax(
            "", "size", _whole(-(10**11), 10**11, refused=0), "seconds, like +3600", "{:+}".format
        )
    ),
    FaultKind.BODY: FaultSyntax(
        ValueSyntax("", "text", _one_of(*BODIES), "one of " + ", ".join(BODIES)),
        options=(
            replace(
                _STATUS,
                name="status",
                read=_whole(200, 599),
                description="a status from 200 to 599",
            ),
            _EFFECT,
            ValueSyntax("size", "size", _whole(1, _LARGEST), f"bytes, from 1 to {_LARGEST}"),
        ),
    ),
    FaultKind.HEADERS: FaultSyntax(
        ValueSyntax("", "size", _whole(1, 100_000), "how many, up to 100000")
    ),
    FaultKind.BIG_HEADER: FaultSyntax(
        ValueSyntax("", "size", _whole(1, 100_000_000), "bytes, from 1 to 100000000")
    ),
    FaultKind.LENGTH: FaultSyntax(
        ValueSyntax(
            "",
            "size",
            _whole(-_LARGEST, _LARGEST, refused=0),
            "how many bytes too long or short, like +5 or -5",
            "{:+}".format,
        ),
        options=(_END,),
    ),
    FaultKind.FRAMING: FaultSyntax(
        ValueSyntax("", "text", _one_of(*FRAMINGS), "one of " + ", ".join(FRAMINGS)),
        options=(_END,),
    ),
    FaultKind.INTERIM: FaultSyntax(
        ValueSyntax("", "status", _whole(100, 199), "a status from 100 to 199")
    ),
    FaultKind.TRUNCATE: FaultSyntax(
        ValueSyntax(
            "", "text", _cut_place, "bytes kept, or dropped like -1, or status, headers, body"
        ),
        options=(_END,),
    ),
    FaultKind.STRAY: FaultSyntax(_SECONDS, 0.05, options=(replace(_STATUS, name="status"),)),
    FaultKind.DRIP: FaultSyntax(
        ValueSyntax("", "speed", _number(0.001, 1e9), "bytes a second", _number_text),
        options=(
            ValueSyntax("part", "part", _one_of("all", "headers", "body"), "headers or body"),
        ),
    ),
    FaultKind.IDLE_CLOSE: FaultSyntax(_SECONDS, 0.0),
}

_DEFAULTS = {each.name: each.default for each in fields(Fault)}
_KINDS = {kind.value: kind for kind in FaultKind}
_COLON = re.compile(r':(?=(?:[^"]*"[^"]*")*[^"]*$)')
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


class _SyntaxProblem(Exception):
    """The reason why a text is no fault; becomes a UsageError."""


@functools.lru_cache(maxsize=1024)
def parse_fault(text: str) -> Fault:
    """A fault from ``KIND`` or ``KIND=VALUE``, followed by options, ``:NAME=VALUE`` each.

    A status alone means ``status=``. A value in double quotes may hold colons. docs/emulator.md lists
    all kinds. Raises UsageError, which names the problem, for any other text.
    """
    try:
        return _parse(text)
    except _SyntaxProblem as problem:
        raise UsageError(
            f"{text[:200]!r} is not a fault: {problem}",
            hint="for example latency=0.1, status=503:rate=0.1, 429:retry-after=1:every=5, "
            "reset-after:method=PATCH:times=1; docs/emulator.md has the whole menu",
        ) from None


def split_faults(text: str) -> list[str]:
    """The texts of several faults, separated by commas outside of quotes, as a header has them."""
    return [part.strip() for part in _COMMA.split(text[:_MAX_TEXT])]


def _parse(text: str) -> Fault:
    if len(text) > _MAX_TEXT:
        raise _SyntaxProblem("it is too long")
    first, *options = _COLON.split(text)
    kind, members = _parse_kind(first)
    known = {each.name: each for each in (*FAULT_SYNTAX[kind].options, *CONDITIONS)}
    names: set[str] = set()
    for option in options:
        name, value = _assignment(option)
        if name not in known:
            raise _SyntaxProblem(f"{kind} has no option {name!r}{_suggestion(name, known)}")
        if name in names:
            raise _SyntaxProblem(f"{name} is there twice")
        names.add(name)
        members[known[name].field] = _read(known[name], value, name=name)
    return Fault(kind=kind, **members)


def _parse_kind(text: str) -> tuple[FaultKind, dict[str, Any]]:
    """The kind at the beginning of a fault's text, and the member that its value sets."""
    name, value = _assignment(text)
    if value is None and name.isascii() and name.isdecimal():
        name, value = FaultKind.STATUS.value, name
    if name not in _KINDS:
        raise _SyntaxProblem(f"there is no {name!r}{_suggestion(name, _KINDS)}")
    syntax = FAULT_SYNTAX[_KINDS[name]]
    if syntax.value is None:
        if value is not None:
            raise _SyntaxProblem(f"{name} takes no value")
        return _KINDS[name], {}
    if value is None and syntax.default is ...:
        raise _SyntaxProblem(f"{name} needs a value: {syntax.value.description}")
    content = syntax.default if value is None else _read(syntax.value, value, name=name)
    return _KINDS[name], {syntax.value.field: content}


def _assignment(text: str) -> tuple[str, str | None]:
    """Name and value around an equals sign, the value without its quotes."""
    name, equals, value = text.partition("=")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return name, value if equals else None


def _read(syntax: ValueSyntax, value: str | None, *, name: str) -> Any:
    try:
        return syntax.read(value or "")
    except ValueError:
        raise _SyntaxProblem(f"{name} must be {syntax.description}") from None


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name."""
    if name.startswith("//"):
        return "; a value with a colon needs double quotes"
    close = difflib.get_close_matches(name, known, 1)
    return f"; {close[0]}?" if close else f" among {', '.join(known)}"


def _text_of(fault: Fault) -> str:
    syntax = FAULT_SYNTAX[fault.kind]
    parts = [fault.kind.value]
    if syntax.value is not None and getattr(fault, syntax.value.field) != syntax.default:
        parts[0] += "=" + _quoted(syntax.value.write(getattr(fault, syntax.value.field)))
    for option in (*syntax.options, *CONDITIONS):
        value = getattr(fault, option.field)
        if value != _DEFAULTS[option.field]:
            parts.append(f"{option.name}={_quoted(option.write(value))}")
    return ":".join(parts)


def _quoted(text: str) -> str:
    return f'"{text}"' if set(text) & set(":,=") else text
