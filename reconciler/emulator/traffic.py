"""The log of requests, and the watch over their rate.

The log is the emulator's history: when each request arrived, in which order the writes took effect, and
what was answered. It is complete enough to check a client's journal against it. It never holds a key.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from reconciler.emulator.faults import Fault
from reconciler.emulator.http import Answer
from reconciler.emulator.judge import CUSTOMER_HEADER, PROFILE_HEADER, refuse_constant
from reconciler.emulator.routes import route_of
from reconciler.errors import ReconcileError, UsageError
from reconciler.values import Json, unobeyed

_AUTHORIZATION = re.compile(r"Api-Key (?!public_live_)([!-~]+)")
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")
_KEY_LENGTH = 16
"""Characters. A shorter key is no real secret, and too many texts contain it by chance."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``count`` requests of one key within any ``seconds``; ``str`` gives the text that `parse`
    reads."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """A limit from ``N/s`` or ``N/min``; raises UsageError for anything else."""
        match = re.fullmatch(r"([1-9][0-9]{0,8})/(s|min)", text)
        if match is None:
            raise UsageError(f"{text!r} is not a rate limit", hint="write N/s or N/min")
        return cls(int(match[1]), 60.0 if match[2] == "min" else 1.0)

    def __str__(self) -> str:
        units = {1.0: "s", 60.0: "min"}
        return f"{self.count}/{units.get(self.seconds, f'{self.seconds}s')}"


class RateMode(StrEnum):
    """The reaction to a request above the rate. The request is recorded in every mode."""

    REFUSE = "refuse"
    """429 with Retry-After. Refused requests do not count."""
    BARE = "bare"
    """The same, without Retry-After."""
    RECORD = "record"
    """Nothing. Every request counts."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A request above the rate: the ``number``, the time and the ``key`` of its log entry, and the count
    of the key's requests within the limit's seconds, itself included."""

    number: int
    at: float
    key: int
    limit: RateLimit
    count: int

    def as_json(self) -> dict[str, Json]:
        """The form of the log file and the debug endpoint."""
        return {
            "number": self.number,
            "at": self.at,
            "key": self.key,
            "limit": str(self.limit),
            "count": self.count,
        }


class Sent(StrEnum):
    """The kind of reply that a request got."""

    ANSWER = "answer"
    """The API's answer, unchanged."""
    ALTERED = "altered"
    """A fault's answer, or the API's answer altered by faults."""
    NOTHING = "nothing"


@dataclass(slots=True, kw_only=True)
class Received:
    """An entry of the log: a request and its result. Times are seconds of the monotonic clock, which all
    processes of a machine share."""

    number: int
    """1 for the first request that arrived."""
    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; the key is hidden."""
    key: int = 0
    """The number of its key: 1 for the first key that arrived; 0 for no key."""
    raw: bytes = field(default=b"", repr=False)
    authenticated: bool = False
    above_rate: float | None = None
    """The seconds after which it would have been within the rate; None if it is within the rate."""
    faults: tuple[Fault, ...] = ()
    """The faults that struck it."""
    status: int = 0
    """The status of the API's answer, or of a fault's in its place; 0 without an answer (so far)."""
    answer: Answer | None = field(default=None, repr=False)
    """The answer before its alterations."""
    sent: Sent = Sent.NOTHING
    effect: int | None = None
    """The position of its write among all writes that took effect, from 1; None if it wrote nothing (so
    far)."""
    effect_at: float | None = None
    late_status: int | None = None
    """The API's status when the request took effect late, after the client stopped listening."""

    @property
    def body(self) -> Json:
        """The parsed body; a text if it is not JSON."""
        return _parsed(self.raw)

    @property
    def address(self) -> str:
        """The customer id, or else ``profile:`` and the profile id; empty without either."""
        customer = self.headers.get(CUSTOMER_HEADER, "")
        profile = self.headers.get(PROFILE_HEADER, "")
        return customer or (f"profile:{profile}" if profile else "")

    @property
    def route(self) -> str:
        """The name of the route, as in the conditions of faults; empty for an unknown path."""
        route = route_of(self.path)
        return "" if route is None else route.name

    def as_json(self) -> dict[str, Json]:
        """The form of the log file and the debug endpoint."""
        return {
            "number": self.number,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "headers": dict(self.headers),
            "body": self.body,
            "key": self.key,
            "faults": [str(fault) for fault in self.faults],
            "status": self.status,
            "answer": _parsed(self.answer.body) if self.answer else None,
            "sent": self.sent.value,
            "effect": self.effect,
            "effect_at": self.effect_at,
            "late_status": self.late_status,
        }


class _Rates:
    """Sliding windows over the arrivals of each key."""

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self.limits = tuple(limits)
        self.peaks = dict.fromkeys(self.limits, 0)
        """The most requests of one key in any window, with the refused ones."""
        self.total = 0
        """The number of all violations so far."""
        self._windows: dict[tuple[int, RateLimit], deque[float]] = {}

    def arrive(self, entry: Received, *, count_all: bool) -> tuple[list[Violation], float]:
        """The violations of a request, and the seconds after which it would have had none. Unless
        ``count_all`` is set, a request with violations does not count."""
        violations, wait, windows = [], 0.0, []
        for limit in self.limits:
            window = self._windows.setdefault((entry.key, limit), deque())
            windows.append(window)
            while window and window[0] <= entry.at - limit.seconds:
                window.popleft()
            count = len(window) + 1
            self.peaks[limit] = max(self.peaks[limit], count)
            if count > limit.count:
                violations.append(
                    Violation(
                        number=entry.number, at=entry.at, key=entry.key, limit=limit, count=count
                    )
                )
                wait = max(wait, window[-limit.count] + limit.seconds - entry.at)
        if count_all or not violations:
            for window in windows:
                window.append(entry.at)
        self.total += len(violations)
        return violations, wait


class _LogFile:
    """A file of lines. The operating system has a line when `write` returns, so a killed process loses
    none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = (
                os.dup(1)
                if str(path) == "-"
                else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            )
        except (OSError, ValueError) as problem:
            raise ReconcileError(
                f"the emulator cannot write its log {path}: {problem}",
                hint="give --log a file in a folder that exists",
            ) from None
        weakref.finalize(self, os.close, self._file)

    def write(self, line: str) -> None:
        data = f"{line}\n".encode("ascii")
        while data:
            data = data[os.write(self._file, data) :]


class Traffic:
    """The log and the rates. Safe to use from several threads.

    ``accepted`` are the accepted keys (None accepts every key), ``monotonic`` is the clock of the log.
    """

    def __init__(
        self,
        *,
        accepted: frozenset[str] | None,
        limits: Sequence[RateLimit],
        mode: RateMode,
        file: Path | None,
        size: int,
        monotonic: Callable[[], float],
    ) -> None:
        self.log: deque[Received] = deque(maxlen=size)
        self.violations: deque[Violation] = deque(maxlen=size)
        self.problem: str | None = None
        """The reason why the file ends early; None if it does not."""
        self.mode = mode
        self._accepted = accepted
        self._rates = _Rates(limits)
        self._monotonic = monotonic
        self._keys: dict[str, int] = {}
        self._lock = threading.Lock()
        self._arrived = 0
        self._file = None if file is None else _LogFile(file)
        self._note("start", {"at": monotonic(), "time": time.time(), "pid": os.getpid()})

    def receive(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes
    ) -> Received:
        """The entry of a request that has just arrived."""
        named = {name.lower(): value.strip() for name, value in headers.items()}
        match = _AUTHORIZATION.fullmatch(named.get("authorization", ""))
        for name in _SECRET_HEADERS:
            if name in named:
                named[name] = "(hidden)"
        with self._lock:
            self._arrived += 1
            entry = Received(
                number=self._arrived,
                at=self._monotonic(),
                method=method,
                path=path,
                headers=named,
                raw=body,
            )
            if match is not None:
                entry.key = self._keys.setdefault(match[1], len(self._keys) + 1)
                entry.authenticated = self._accepted is None or match[1] in self._accepted
                if self._rates.limits:
                    self._count(entry)
            self.log.append(entry)
        return entry

    def _count(self, entry: Received) -> None:
        count_all = self.mode is RateMode.RECORD
        violations, wait = self._rates.arrive(entry, count_all=count_all)
        for violation in violations:
            self.violations.append(violation)
            self._note("violation", violation.as_json())
        if violations:
            entry.above_rate = wait

    def conclude(self, received: Received) -> None:
        """Write the result of a request to the file."""
        self._note("request", received.as_json)

    def note_late_effect(self, received: Received) -> None:
        """Write to the file that a request took effect after it was concluded."""
        self._note("landed", received.as_json)

    def entries_after(self, number: int) -> Json:
        """The entries of the log after a number, without keys."""
        entries = [each.as_json() for each in tuple(self.log) if each.number > number]
        hidden: Json = json.loads(self._without_keys(json.dumps(entries)))
        return hidden

    def rates(self) -> dict[str, Json]:
        """The limits, the peaks, and the requests above the limits."""
        return {
            "mode": self.mode.value,
            "peaks": {str(limit): peak for limit, peak in self._rates.peaks.items()},
            "total": self._rates.total,
            "violations": [each.as_json() for each in tuple(self.violations)],
        }

    def _note(
        self, event: str, content: Mapping[str, Json] | Callable[[], Mapping[str, Json]]
    ) -> None:
        if self._file is None or self.problem is not None:
            return
        line = {"event": event, **(content() if callable(content) else content)}
        try:
            self._file.write(unobeyed(self._without_keys(json.dumps(line, allow_nan=False))))
        except OSError as problem:
            self.problem = f"cannot write the log {self._file.path}: {problem.strerror}"

    def _without_keys(self, text: str) -> str:
        """JSON text without the keys that a client put into the wrong place."""
        for key in tuple(self._keys):
            if len(key) >= _KEY_LENGTH:
                text = text.replace(json.dumps(key)[1:-1], "(hidden)")
        return text


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else refuse_constant(text)


_FINITE = json.JSONDecoder(parse_constant=refuse_constant, parse_float=_finite)
"""For JSON that is written again: ``1e999`` would become Infinity, which is no JSON."""


def _parsed(body: bytes) -> Json:
    if not body:
        return None
    try:
        parsed: Json = _FINITE.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return parsed
