"""What can go wrong between a client and an API: the menu, when it happens, and how it looks.

A `Fault` is one misbehaviour and its conditions; `parse_fault` reads it from a text. `Faults` holds
those that are set and says which of them strike a request. `Course` is what then becomes of that
request, decided before anything is done, and `on_the_wire` turns an answer into bytes and pauses.
"""

from __future__ import annotations

import difflib
import email.utils
import fnmatch
import functools
import gzip
import json
import math
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from reconciler.emulator.http import Answer, End, Reply
from reconciler.errors import UsageError

_LONGEST_WAIT = 86_400.0
_LARGEST = 1 << 30
_MAX_TEXT = 2_000
_METHODS = ("GET", "POST", "PATCH", "DELETE")
_REDIRECTS = (301, 302, 303, 307, 308)


class FaultKind(StrEnum):
    """What goes wrong. Those that alter an answer do it in the order in which they stand here."""

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


_DELAYS = frozenset({FaultKind.LATENCY, FaultKind.LAG})
_INSTEAD = frozenset(
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
"""Those that end a request in their own way; the first one wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour and when it happens: of the requests with ``method`` and an address like
    ``address`` that come ``between`` two moments (seconds since it was set), each ``every``-th after
    the first ``after``, with probability ``rate``, ``times`` at most. What the other members mean
    depends on the kind; ``str`` gives the text that `parse_fault` reads."""

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
    address: str | None = None
    between: tuple[float, float] | None = None

    def __str__(self) -> str:
        return _written(self)

    @property
    def is_conditional(self) -> bool:
        """Whether it waits for certain requests, rather than striking every one."""
        return any(getattr(self, each.field) != _DEFAULTS[each.field] for each in _WHEN)


# --- the menu ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member:
    """A value in a fault's text: the member of `Fault` it sets, how it is read (ValueError for what it
    is not) and written, and what it looks like."""

    name: str
    field: str
    read: Callable[[str], Any]
    shape: str
    write: Callable[[Any], str] = str


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text) if re.fullmatch(r"[0-9.eE+-]+", text) else math.nan
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def _whole(low: int, high: int, but: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else high + 1
        if not low <= number <= high or number == but:
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


def _yes(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _span(text: str) -> tuple[float, float]:
    first, dash, last = text.partition("-")
    read = _number(0, _LONGEST_WAIT)
    start, end = read(first or "0"), read(last) if last else math.inf
    if not dash or start >= end:
        raise ValueError
    return start, end


def _cut(text: str) -> str:
    if text in ("status", "headers", "body"):
        return text
    return str(_whole(-_LARGEST, _LARGEST)(text))


def _late_answer(text: str) -> str:
    return text if text == "none" else str(_whole(300, 599)(text))


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


_SECONDS = _Member(
    "", "seconds", _number(0, _LONGEST_WAIT), f"seconds, from 0 to {_LONGEST_WAIT:.0f}", _plain
)
_JITTER = _Member("jitter", "jitter", _SECONDS.read, _SECONDS.shape, _plain)
_STATUS = _Member("", "status", _whole(201, 599), "a status from 201 to 599")
_RETRY_AFTER = _Member("retry-after", "retry_after", _printable, "text, or date, date+N, date-N")
_CODE = _Member("code", "code", _printable, "an error code")
_EFFECT = _Member("effect", "effect", _yes, "yes or no", lambda effect: "yes" if effect else "no")
_END = _Member("end", "end", End, "keep, close or reset")

_BODIES = (
    "html", "text", "empty", "null", "list", "half", "nan", "infinity", "duplicate", "surrogate",
    "utf8", "utf16", "bom", "nested", "huge", "gzip", "gzip-bomb",
)  # fmt: skip
_FRAMINGS = (
    "none", "chunked", "both", "two-lengths", "bad-length", "negative-length", "bad-chunk",
    "negative-chunk", "long-chunk", "short-chunk", "no-last-chunk",
)  # fmt: skip

_WHEN = (
    _Member("rate", "rate", _number(0, 1), "a probability from 0 to 1", _plain),
    _Member("every", "every", _whole(1, 10**9), "a whole number from 1"),
    _Member("after", "after", _whole(1, 10**9), "a whole number from 1"),
    _Member("times", "times", _whole(1, 10**9), "a whole number from 1"),
    _Member("method", "method", _one_of(*_METHODS), "one of " + ", ".join(_METHODS)),
    _Member("address", "address", _printable, "a pattern, like qa-*"),
    _Member(
        "between",
        "between",
        _span,
        "seconds, like 5-20 or 5-",
        lambda span: f"{_plain(span[0])}-{'' if span[1] == math.inf else _plain(span[1])}",
    ),
)


@dataclass(frozen=True, slots=True)
class _Dish:
    """What may be said of a kind: its value, the value it has when none is given (``...`` if one must
    be), and its options."""

    value: _Member | None = None
    default: Any = ...
    options: tuple[_Member, ...] = ()


_MENU: Mapping[FaultKind, _Dish] = {
    FaultKind.LATENCY: _Dish(_SECONDS, options=(_JITTER,)),
    FaultKind.LAG: _Dish(_SECONDS, options=(_JITTER,)),
    FaultKind.STATUS: _Dish(_STATUS, options=(_RETRY_AFTER, _CODE, _EFFECT)),
    FaultKind.REDIRECT: _Dish(
        _Member("", "status", _redirect, "one of " + ", ".join(map(str, _REDIRECTS))),
        options=(_Member("to", "text", _printable, "an address in double quotes"), _EFFECT),
    ),
    FaultKind.RESET_BEFORE: _Dish(),
    FaultKind.RESET_AFTER: _Dish(),
    FaultKind.CLOSE_BEFORE: _Dish(),
    FaultKind.CLOSE_AFTER: _Dish(),
    FaultKind.STALL_BEFORE: _Dish(_SECONDS, math.inf),
    FaultKind.STALL_AFTER: _Dish(_SECONDS, math.inf),
    FaultKind.LATE: _Dish(
        _SECONDS,
        options=(_Member("answer", "text", _late_answer, "a status from 300 to 599, or none"),),
    ),
    FaultKind.OUTAGE: _Dish(_SECONDS),
    FaultKind.OTHER_PROFILE: _Dish(),
    FaultKind.PROFILE_ID: _Dish(_Member("", "text", _printable, "an id"), ""),
    FaultKind.APP_ID: _Dish(_Member("", "text", _printable, "an id"), ""),
    FaultKind.BODY: _Dish(
        _Member("", "text", _one_of(*_BODIES), "one of " + ", ".join(_BODIES)),
        options=(
            replace(
                _STATUS, name="status", read=_whole(200, 599), shape="a status from 200 to 599"
            ),
            _EFFECT,
            _Member("size", "size", _whole(1, _LARGEST), f"bytes, from 1 to {_LARGEST}"),
        ),
    ),
    FaultKind.HEADERS: _Dish(_Member("", "size", _whole(1, 100_000), "how many, up to 100000")),
    FaultKind.BIG_HEADER: _Dish(
        _Member("", "size", _whole(1, 100_000_000), "bytes, from 1 to 100000000")
    ),
    FaultKind.LENGTH: _Dish(
        _Member(
            "",
            "size",
            _whole(-_LARGEST, _LARGEST, but=0),
            "how many bytes too long or short, like +5 or -5",
            "{:+}".format,
        ),
        options=(_END,),
    ),
    FaultKind.FRAMING: _Dish(
        _Member("", "text", _one_of(*_FRAMINGS), "one of " + ", ".join(_FRAMINGS)), options=(_END,)
    ),
    FaultKind.INTERIM: _Dish(_Member("", "status", _whole(100, 199), "a status from 100 to 199")),
    FaultKind.TRUNCATE: _Dish(
        _Member("", "text", _cut, "bytes kept, or dropped like -1, or status, headers, body"),
        options=(_END,),
    ),
    FaultKind.STRAY: _Dish(_SECONDS, 0.05),
    FaultKind.DRIP: _Dish(
        _Member("", "speed", _number(0.001, 1e9), "bytes a second", _plain),
        options=(_Member("part", "part", _one_of("all", "headers", "body"), "headers or body"),),
    ),
    FaultKind.IDLE_CLOSE: _Dish(_SECONDS, 0.0),
}

_DEFAULTS = {each.name: each.default for each in fields(Fault)}
_COLON = re.compile(r':(?=(?:[^"]*"[^"]*")*[^"]*$)')
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


_KINDS = {kind.value: kind for kind in FaultKind}
_COLON = re.compile(r':(?=(?:[^"]*"[^"]*")*[^"]*$)')
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


class _NotAFault(Exception):
    """Says why; becomes a UsageError."""


@functools.lru_cache(maxsize=1024)
def parse_fault(text: str) -> Fault:
    """A fault from ``KIND`` or ``KIND=VALUE``, followed by options, ``:NAME=VALUE`` each; a bare status
    means ``status=``. A value in double quotes may hold colons. docs/emulator.md has the menu.

    Raises UsageError, which says what is wrong, for anything else.
    """
    try:
        if len(text) > _MAX_TEXT:
            raise _NotAFault("it is too long")
        first, *options = _COLON.split(text)
        kind, made = _what(first)
        known = {each.name: each for each in (*_MENU[kind].options, *_WHEN)}
        given: set[str] = set()
        for option in options:
            name, value = _assignment(option)
            if name not in known:
                raise _NotAFault(f"{kind} has no option {name!r}{_meant(name, known)}")
            if name in given:
                raise _NotAFault(f"{name} is there twice")
            given.add(name)
            made[known[name].field] = _read(known[name], name, value)
    except _NotAFault as problem:
        raise UsageError(
            f"{text[:200]!r} is not a fault: {problem}",
            hint="for example latency=0.1, status=503:rate=0.1, 429:retry-after=1:every=5, "
            "reset-after:method=PATCH:times=1; docs/emulator.md has the whole menu",
        ) from None
    return Fault(kind=kind, **made)


def split_faults(text: str) -> list[str]:
    """The texts of several faults, separated by commas outside of quotes, as a header has them."""
    return [part.strip() for part in _COMMA.split(text[:_MAX_TEXT])]


def _what(text: str) -> tuple[FaultKind, dict[str, Any]]:
    name, value = _assignment(text)
    if value is None and name.isascii() and name.isdecimal():
        name, value = FaultKind.STATUS.value, name
    if name not in _KINDS:
        raise _NotAFault(f"there is no {name!r}{_meant(name, _KINDS)}")
    dish = _MENU[_KINDS[name]]
    if dish.value is None:
        if value is not None:
            raise _NotAFault(f"{name} takes no value")
        return _KINDS[name], {}
    if value is None and dish.default is ...:
        raise _NotAFault(f"{name} needs a value: {dish.value.shape}")
    read = dish.default if value is None else _read(dish.value, name, value)
    return _KINDS[name], {dish.value.field: read}


def _assignment(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return name, value if equals else None


def _read(member: _Member, name: str, value: str | None) -> Any:
    try:
        return member.read(value or "")
    except ValueError:
        raise _NotAFault(f"{name} must be {member.shape}") from None


def _meant(name: str, known: Iterable[str]) -> str:
    if name.startswith("//"):
        return "; a value with a colon needs double quotes"
    close = difflib.get_close_matches(name, known, 1)
    return f"; {close[0]}?" if close else f" among {', '.join(known)}"


def _written(fault: Fault) -> str:
    dish = _MENU[fault.kind]
    parts = [fault.kind.value]
    if dish.value is not None and getattr(fault, dish.value.field) != dish.default:
        parts[0] += "=" + _quoted(dish.value.write(getattr(fault, dish.value.field)))
    for member in (*dish.options, *_WHEN):
        value = getattr(fault, member.field)
        if value != _DEFAULTS[member.field]:
            parts.append(f"{member.name}={_quoted(member.write(value))}")
    return ":".join(parts)


def _quoted(text: str) -> str:
    return f'"{text}"' if set(text) & set(":,=") else text


# --- those that are set --------------------------------------------------------------------------


@dataclass(slots=True)
class SetFault:
    """A fault that is set: its number, how many requests it looked at, how many it struck."""

    id: int
    fault: Fault
    since: float
    chance: random.Random = field(repr=False)
    seen: int = 0
    struck: int = 0


class Faults:
    """The faults that are set, in their order; they may change at any time, from any thread.

    Chance is seeded, for each fault alone: the same seed and the same sequence of requests misbehave
    alike.
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        self._clock = clock
        self._lock = threading.Lock()
        self._next_id = 1
        self._set: tuple[SetFault, ...] = ()
        for fault in faults:
            self.add(fault)

    def __bool__(self) -> bool:
        return bool(self._set)

    def entries(self) -> tuple[SetFault, ...]:
        """What is set."""
        return self._set

    def add(self, fault: Fault) -> int:
        """Sets one more; returns its number."""
        with self._lock:
            number, self._next_id = self._next_id, self._next_id + 1
            chance = random.Random(f"{self._seed}/{number}")
            self._set = (*self._set, SetFault(number, fault, self._clock(), chance))
        return number

    def remove(self, number: int) -> bool:
        """Whether it was set."""
        with self._lock:
            before = self._set
            self._set = tuple(each for each in before if each.id != number)
            return len(self._set) < len(before)

    def clear(self) -> None:
        """No fault is set any more."""
        with self._lock:
            self._set = ()

    def start(self) -> None:
        """Has ``between`` count from now."""
        with self._lock:
            for each in self._set:
                each.since = self._clock()

    def strike(self, method: str, address: str) -> tuple[Fault, ...]:
        """Those that strike a request, in their order; jitter is drawn."""
        with self._lock:
            now = self._clock()
            return tuple(_drawn(each) for each in self._set if _strikes(each, method, address, now))


def _strikes(entry: SetFault, method: str, address: str, now: float) -> bool:
    fault = entry.fault
    if fault.method not in (None, method) or entry.struck == fault.times:
        return False
    if fault.address is not None and not fnmatch.fnmatchcase(address, fault.address):
        return False
    if fault.between is not None:
        start, end = fault.between
        if not start <= now - entry.since < end:
            return False
    entry.seen += 1
    if entry.seen <= fault.after or (entry.seen - fault.after) % fault.every:
        return False
    if entry.chance.random() >= fault.rate:
        return False
    entry.struck += 1
    return True


def _drawn(entry: SetFault) -> Fault:
    fault = entry.fault
    if not fault.jitter:
        return fault
    return replace(fault, seconds=fault.seconds + entry.chance.uniform(0, fault.jitter), jitter=0.0)


# --- what becomes of a request -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of one request: it waits, takes effect (or not, or later), waits again, and is
    answered (or not) by what the API says, by the fault that ended it, altered by others."""

    wait: float
    """Seconds before it takes effect."""
    takes_effect: bool
    """Before it is answered, that is."""
    late: float | None
    """Seconds after its answer until it takes effect all the same."""
    lag: float
    """Seconds between the effect and the answer."""
    instead: Fault | None
    alter: tuple[Fault, ...]

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> Course:
        """Delays add up; the first fault that ends a request wins; every other one alters its answer."""
        instead = next((each for each in faults if each.kind in _INSTEAD), None)
        order = list(FaultKind).index
        rest = [each for each in faults if each.kind not in _INSTEAD | _DELAYS]
        return cls(
            wait=sum(each.seconds for each in faults if each.kind is FaultKind.LATENCY),
            takes_effect=all(map(_takes_effect, [instead] if instead else rest)),
            late=instead.seconds if instead and instead.kind is FaultKind.LATE else None,
            lag=sum(each.seconds for each in faults if each.kind is FaultKind.LAG),
            instead=instead,
            alter=tuple(sorted(rest, key=lambda each: order(each.kind))),
        )

    def silence(self) -> Reply | None:
        """The reply, where there is no answer at all."""
        fault = self.instead
        if fault is None:
            return None
        match fault.kind:
            case FaultKind.RESET_BEFORE | FaultKind.RESET_AFTER | FaultKind.OUTAGE:
                return Reply((), End.RESET)
            case FaultKind.CLOSE_BEFORE | FaultKind.CLOSE_AFTER:
                return Reply((), End.CLOSE)
            case FaultKind.STALL_BEFORE | FaultKind.STALL_AFTER:
                return Reply((fault.seconds,), End.CLOSE)
            case FaultKind.LATE if fault.text == "":
                return Reply((), End.RESET)
            case FaultKind.LATE if fault.text == "none":
                return Reply((math.inf,), End.CLOSE)
            case _:
                return None


def _takes_effect(fault: Fault) -> bool:
    match fault.kind:
        case FaultKind.STATUS:
            return fault.status < 300 if fault.effect is None else fault.effect
        case FaultKind.REDIRECT:
            return bool(fault.effect)
        case FaultKind.RESET_AFTER | FaultKind.CLOSE_AFTER | FaultKind.STALL_AFTER:
            return True
        case _ if fault.kind in _INSTEAD:
            return False
        case _:
            return fault.effect is not False


def retry_after(text: str, now: float) -> str:
    """The value of a Retry-After header: ``date+N`` and ``date-N`` as an HTTP date so many seconds from
    ``now`` (seconds since the epoch), other text as it is."""
    match = re.fullmatch(r"date(?:([+-][0-9]{1,9}))?", text)
    return email.utils.formatdate(now + int(match[1] or 0), usegmt=True) if match else text


# --- how an answer looks on the wire -------------------------------------------------------------


@dataclass(slots=True)
class _Message:
    """An answer while it is being altered. ``more`` are header lines as they are sent."""

    status: int
    headers: dict[str, str]
    body: list[bytes]
    more: list[str]
    before: bytes = b""
    end: End = End.KEEP
    idle_limit: float | None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.body))

    def replace_body(self, *pieces: bytes, kind: str | None = None) -> None:
        self.body = list(pieces)
        if "Content-Length" in self.headers or self.size:
            self.headers["Content-Length"] = str(self.size)
        if kind is not None:
            self.headers["Content-Type"] = kind


def on_the_wire(
    answer: Answer,
    alter: Sequence[Fault] = (),
    *,
    close: bool = False,
    head_only: bool = False,
    other: Callable[[], Answer] | None = None,
) -> Reply:
    """The reply that carries an answer, altered by faults in their order. ``close`` announces the end
    of the connection, ``head_only`` leaves the body away, ``other`` gives another profile's answer."""
    if any(fault.kind is FaultKind.OTHER_PROFILE for fault in alter) and other is not None:
        answer = other()
    message = _Message(answer.status, dict(answer.headers), [answer.body], [])
    for fault in alter:
        _alter(message, fault)
    if close:
        message.more.append("Connection: close")
    head = Answer(message.status, message.headers, b"").head(*message.more)
    pieces = [message.before + head, *([] if head_only else message.body)]
    return Reply(_steps(pieces, len(pieces[0]), alter), message.end, message.idle_limit)


def _alter(message: _Message, fault: Fault) -> None:
    match fault.kind:
        case FaultKind.PROFILE_ID:
            _set_member(message, "profile_id", fault.text)
        case FaultKind.APP_ID:
            _set_member(message, "app_id", fault.text)
        case FaultKind.BODY:
            message.status = fault.status or message.status
            _spoil(message, fault)
        case FaultKind.HEADERS:
            message.more += [f"X-Filler-{number}: {number}" for number in range(fault.size)]
        case FaultKind.BIG_HEADER:
            message.more.append("X-Filler: " + "x" * fault.size)
        case FaultKind.LENGTH:
            message.headers["Content-Length"] = str(max(0, message.size + fault.size))
            message.end = fault.end or (End.CLOSE if fault.size > 0 else End.KEEP)
        case FaultKind.FRAMING:
            _frame(message, fault)
        case FaultKind.INTERIM:
            message.before += Answer(fault.status, {}, b"").head()
        case FaultKind.TRUNCATE:
            message.end = fault.end or End.CLOSE
        case FaultKind.IDLE_CLOSE:
            message.idle_limit = fault.seconds
        case _:  # those of whole replies: see _steps
            pass


def _set_member(message: _Message, name: str, value: str) -> None:
    """Changes a member of the profile in an answer; one that is made up follows from the true one."""
    try:
        content = json.loads(b"".join(message.body))
        data = content["data"]
        data[name] = value or str(uuid.uuid5(uuid.NAMESPACE_OID, str(data[name])))
    except (ValueError, LookupError, TypeError):
        return
    message.replace_body(json.dumps(content).encode("ascii"))


_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\n"
)
_BLOCK = 1 << 20
_JSON = "application/json"


def _spoil(message: _Message, fault: Fault) -> None:
    body = b"".join(message.body)
    match fault.text:
        case "html":
            message.replace_body(_PAGE, kind="text/html; charset=utf-8")
        case "text":
            message.replace_body(b"OK", kind="text/plain")
        case "empty":
            message.replace_body()
        case "null":
            message.replace_body(b"null", kind=_JSON)
        case "list":
            message.replace_body(b"[" + body + b"]", kind=_JSON)
        case "half":
            message.replace_body(body[: len(body) // 2])
        case "nan":
            message.replace_body(*_with_member(body, b'"score": NaN'))
        case "infinity":
            message.replace_body(*_with_member(body, b'"score": 1e999'))
        case "duplicate":
            nobody = b'"profile_id": "00000000-0000-4000-8000-000000000000"'
            message.replace_body(*_with_member(body, nobody))
        case "surrogate":
            message.replace_body(*_with_member(body, b'"note": "\\ud800"'))
        case "utf8":
            message.replace_body(*_with_member(body, b'"note": "\xff\xc0\x80"'))
        case "utf16":
            message.replace_body(body.decode("utf-8", "replace").encode("utf-16"))
        case "bom":
            message.replace_body(b"\xef\xbb\xbf" + body)
        case "nested":
            depth = fault.size or 100_000
            message.replace_body(*_with_member(body, b'"note": ', b"[" * depth, b"]" * depth))
        case "huge":
            blocks, rest = divmod(fault.size or 50 << 20, _BLOCK)
            padding = [b"x" * _BLOCK] * blocks + [b"x" * rest]
            message.replace_body(*_with_member(body, b'"note": "', *padding, b'"'))
        case "gzip":
            message.replace_body(gzip.compress(body, mtime=0))
            message.headers["Content-Encoding"] = "gzip"
        case "gzip-bomb":
            # Members of gzip may follow each other: a megabyte of blanks is compressed only once.
            blanks = gzip.compress(b" " * _BLOCK, mtime=0)
            count = -(-(fault.size or 200 << 20) // _BLOCK)
            message.replace_body(gzip.compress(body, mtime=0), *[blanks] * count)
            message.headers["Content-Encoding"] = "gzip"
        case _:
            raise AssertionError(fault.text)


def _with_member(body: bytes, *member: bytes) -> tuple[bytes, ...]:
    """A JSON object with one more member, first in its ``data`` if there is one."""
    start = body.find(b'{"data": {')
    at = start + len(b'{"data": {') if start >= 0 else body.find(b"{") + 1
    if at == 0:
        return (b"{", *member, b"}")
    comma = b"" if body[at:].lstrip().startswith(b"}") else b", "
    return (body[:at], *member, comma + body[at:])


def _frame(message: _Message, fault: Fault) -> None:
    """Says wrongly, or not at all, where the body ends."""
    body = b"".join(message.body)
    length = message.headers.pop("Content-Length", str(len(body)))
    end = End.KEEP
    match fault.text:
        case "none":
            end = End.CLOSE
        case "two-lengths":
            message.more += [f"Content-Length: {length}", f"Content-Length: {int(length) + 1}"]
        case "bad-length":
            message.more.append("Content-Length: many")
        case "negative-length":
            message.more.append("Content-Length: -1")
        case "both" | "chunked" | "bad-chunk" | "negative-chunk" | "long-chunk" | "short-chunk":
            sizes = {
                "bad-chunk": b"zz",
                "negative-chunk": b"-5",
                "long-chunk": b"%x" % (len(body) + 5),
                "short-chunk": b"%x" % max(1, len(body) - 5),
            }
            size = sizes.get(fault.text, b"%x" % len(body))
            message.body = [size, b"\r\n", body, b"\r\n0\r\n\r\n"]
            message.more.append("Transfer-Encoding: chunked")
            if fault.text == "both":
                message.more.append(f"Content-Length: {length}")
            if fault.text == "long-chunk":
                end = End.CLOSE
        case "no-last-chunk":
            message.body = [b"%x\r\n" % len(body), body, b"\r\n"]
            message.more.append("Transfer-Encoding: chunked")
            end = End.CLOSE
        case _:
            raise AssertionError(fault.text)
    message.end = fault.end or end


def _steps(pieces: list[bytes], head: int, alter: Sequence[Fault]) -> Iterable[bytes | float]:
    """The bytes of a reply and its pauses."""
    steps: Iterable[bytes | float] = _joined(pieces)
    for fault in alter:
        match fault.kind:
            case FaultKind.TRUNCATE:
                pieces = _kept(pieces, head, fault.text)
                steps = _joined(pieces)
            case FaultKind.STRAY:
                again = b"".join(pieces)
                steps = (again, fault.seconds, again) if fault.seconds else (again + again,)
            case FaultKind.DRIP:
                steps = _dripped(steps, head, fault)
            case _:
                pass
    return steps


def _joined(pieces: list[bytes]) -> list[bytes | float]:
    """One step where that is cheap: a second small segment would wait for the client's delayed
    acknowledgement."""
    return [b"".join(pieces)] if sum(map(len, pieces)) <= _BLOCK else list(pieces)


def _kept(pieces: list[bytes], head: int, where: str) -> list[bytes]:
    total = sum(map(len, pieces))
    match where:
        case "status":
            left = pieces[0].find(b"\r\n") // 2
        case "headers":
            left = (pieces[0].find(b"\r\n") + head) // 2
        case "body":
            left = head + (total - head) // 2
        case _:
            left = int(where) if not where.startswith("-") else max(0, total + int(where))
    kept = []
    for piece in pieces:
        kept.append(piece[:left])
        left -= len(kept[-1])
    return kept


def _dripped(steps: Iterable[bytes | float], head: int, fault: Fault) -> Iterator[bytes | float]:
    """At ``speed`` bytes a second, in at most fifty pieces a second."""
    portion = max(1, round(fault.speed / 50))
    sent = 0
    for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        at = 0
        while at < len(step):
            slow = fault.part == "all" or (fault.part == "headers") == (sent < head)
            length = portion if slow else len(step)
            if sent < head and fault.part != "all":
                length = min(length, head - sent)
            piece = step[at : at + length]
            yield piece
            at += len(piece)
            sent += len(piece)
            if slow:
                yield len(piece) / fault.speed
