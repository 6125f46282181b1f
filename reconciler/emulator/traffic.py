"""What came to the emulator: a log of requests and what became of them, and how fast they came.

The log is the emulator's history, complete enough to be held against a client's journal: who came
when, what took effect in which order, what was answered. It never holds a key.
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
from reconciler.errors import ReconcileError, UsageError
from reconciler.values import Json

IDENTIFIERS = ("adapty-customer-user-id", "adapty-profile-id")
_AUTHORIZATION = re.compile(r"Api-Key (?!public_live_)([!-~]+)")
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie")
_KEY_LENGTH = 16
"""Characters; a shorter key is nobody's secret, and would be found in any text."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests of one key within any ``seconds``; ``str`` gives the text that `parse` reads."""

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
    """What is done about a request above the rate; it is recorded in any case."""

    REFUSE = "refuse"
    """429 with Retry-After. Requests that were refused do not count."""
    BARE = "bare"
    """The same, without Retry-After."""
    RECORD = "record"
    """Nothing. Every request counts."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A request above the rate: the ``number`` and ``key`` of its log entry, and how many requests of
    its key, it included, had arrived within the limit's seconds."""

    number: int
    at: float
    key: int
    limit: RateLimit
    count: int

    def as_json(self) -> dict[str, Json]:
        """As the log file and the debug view have it."""
        return {
            "number": self.number,
            "at": self.at,
            "key": self.key,
            "limit": str(self.limit),
            "count": self.count,
        }


class Sent(StrEnum):
    """What went over the wire for a request."""

    ANSWER = "answer"
    """What the API answered, as it is."""
    ALTERED = "altered"
    """Something else: a fault's answer, or the API's after faults had their way with it."""
    NOTHING = "nothing"


@dataclass(slots=True, kw_only=True)
class Received:
    """A request that arrived and what became of it; an entry of the log. Times are seconds of the
    monotonic clock, which the processes of a machine share."""

    number: int
    """1 for the first one that arrived."""
    at: float
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; the key is hidden."""
    key: int = 0
    """Which key it came with: 1 for the first one ever seen; 0 for none."""
    raw: bytes = field(default=b"", repr=False)
    authenticated: bool = False
    above_rate: float | None = None
    """The seconds after which it would have been within the rate; None where it is."""
    faults: tuple[Fault, ...] = ()
    """Those that struck it."""
    status: int = 0
    """What the API answered, or a fault in its place; 0 for nothing (yet)."""
    answer: Answer | None = field(default=None, repr=False)
    """What was handed out to be sent, before it was altered."""
    sent: Sent = Sent.NOTHING
    effect: int | None = None
    """The place of its write among all writes that took effect, from 1; None if it wrote nothing
    (yet)."""
    effect_at: float | None = None
    late_status: int | None = None
    """What the API said when the request landed late, with nobody to hear it."""

    @property
    def body(self) -> Json:
        """Parsed, or text where it was not JSON."""
        return _parsed(self.raw)

    @property
    def address(self) -> str:
        """The customer id, or else ``profile:`` and the profile id; empty without either."""
        customer, profile = (self.headers.get(name, "") for name in IDENTIFIERS)
        return customer or (f"profile:{profile}" if profile else "")

    def as_json(self) -> dict[str, Json]:
        """The entry as the log file and the debug view have it."""
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
        """The most requests of one key in any window, those included that were refused."""
        self.total = 0
        """Violations ever."""
        self._windows: dict[tuple[int, RateLimit], deque[float]] = {}

    def arrive(self, entry: Received, *, count_all: bool) -> tuple[list[Violation], float]:
        """The violations of a request, and the seconds after which it would have been none. Unless
        ``count_all``, only requests that are none count."""
        found, wait, windows = [], 0.0, []
        for limit in self.limits:
            window = self._windows.setdefault((entry.key, limit), deque())
            windows.append(window)
            while window and window[0] <= entry.at - limit.seconds:
                window.popleft()
            count = len(window) + 1
            self.peaks[limit] = max(self.peaks[limit], count)
            if count > limit.count:
                found.append(Violation(entry.number, entry.at, entry.key, limit, count))
                wait = max(wait, window[-limit.count] + limit.seconds - entry.at)
        if count_all or not found:
            for window in windows:
                window.append(entry.at)
        self.total += len(found)
        return found, wait


class _LogFile:
    """Lines that are with the system when `write` returns: a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
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

    ``accepted`` are the keys that are let in (any, if None), ``monotonic`` the clock of the log.
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
        """Why the file ends early, if it does."""
        self.mode = mode
        self._accepted = accepted
        self._rates = _Rates(limits)
        self._monotonic = monotonic
        self._keys: dict[str, int] = {}
        self._lock = threading.Lock()
        self._arrived = 0
        self._file = None if file is None else _LogFile(file)
        self._note("start", {"at": monotonic(), "time": time.time(), "pid": os.getpid()})

    def receive(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Received:
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
        counted = self.mode is RateMode.RECORD
        violations, wait = self._rates.arrive(entry, count_all=counted)
        for violation in violations:
            self.violations.append(violation)
            self._note("violation", violation.as_json())
        if violations:
            entry.above_rate = wait

    def conclude(self, received: Received) -> None:
        """Has the file hold what became of a request."""
        self._note("request", received.as_json)

    def landed(self, received: Received) -> None:
        """Has the file hold that a request took effect after it was concluded."""
        self._note("landed", received.as_json)

    def view(self, after: int) -> Json:
        """The entries of the log behind a number."""
        found = [each.as_json() for each in tuple(self.log) if each.number > after]
        shown: Json = json.loads(self._without_keys(json.dumps(found)))
        return shown

    def rates(self) -> dict[str, Json]:
        """The limits, what was reached, and the requests above them."""
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
            self._file.write(self._without_keys(json.dumps(line, allow_nan=False)))
        except OSError as problem:
            self.problem = f"cannot write the log {self._file.path}: {problem.strerror}"

    def _without_keys(self, text: str) -> str:
        """JSON text in which the keys are hidden that clients put where they do not belong."""
        for key in tuple(self._keys):
            if len(key) >= _KEY_LENGTH:
                text = text.replace(json.dumps(key)[1:-1], "(hidden)")
        return text


def refuse_constant(name: str) -> float:
    """For a JSON decoder that keeps to the standard: NaN and Infinity are errors."""
    raise ValueError(f"Out of range float values are not JSON compliant: {name}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else refuse_constant(text)


_FINITE = json.JSONDecoder(parse_constant=refuse_constant, parse_float=_finite)
"""For what is written down again: ``1e999`` would come out as no JSON."""


def _parsed(body: bytes) -> Json:
    if not body:
        return None
    try:
        parsed: Json = _FINITE.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return parsed
