"""The faults that are active: which of them strike a request, and what they do to it.

`Faults` holds the active faults and chooses those that strike a request. `FaultPlan` decides what
happens to that request before anything is done.
"""

from __future__ import annotations

import fnmatch
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from reconciler.emulator.faults import DELAYS, ENDINGS, Fault, FaultKind
from reconciler.emulator.http import End, Reply


@dataclass(slots=True)
class ActiveFault:
    """A fault that may strike requests, with its counters."""

    id: int
    fault: Fault
    since: float
    """The moment from which ``between`` counts, on the clock of `Faults`."""
    chance: random.Random = field(repr=False)
    matches: int = 0
    """How many requests had its method, its route, its address and its time."""
    strikes: int = 0
    """How many requests it struck."""

    def strikes_next(self, method: str, address: str, *, route: str, now: float) -> bool:
        """Whether it strikes a request. Counts the request."""
        fault = self.fault
        if fault.method not in (None, method) or self.strikes == fault.times:
            return False
        if fault.route not in (None, route):
            return False
        if fault.address not in (None, address) and not fnmatch.fnmatchcase(
            address, fault.address or ""
        ):
            return False
        if fault.between is not None:
            start, end = fault.between
            if not start <= now - self.since < end:
                return False
        self.matches += 1
        if self.matches <= fault.after or (self.matches - fault.after) % fault.every:
            return False
        if self.chance.random() >= fault.rate:
            return False
        self.strikes += 1
        return True

    def draw_jitter(self) -> Fault:
        """The fault, with a random part of its jitter added to its seconds."""
        fault = self.fault
        if not fault.jitter:
            return fault
        jitter = self.chance.uniform(0, fault.jitter)
        return replace(fault, seconds=fault.seconds + jitter, jitter=0.0)


class Faults:
    """The active faults in their order. They may change at any time, from any thread.

    Each fault has a seeded random sequence of its own: the same seed and the same sequence of requests
    give the same strikes.
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
        self._active: tuple[ActiveFault, ...] = ()
        for fault in faults:
            self.add(fault)

    def __bool__(self) -> bool:
        return bool(self._active)

    def entries(self) -> tuple[ActiveFault, ...]:
        """The active faults with their numbers and counters."""
        return self._active

    def add(self, fault: Fault) -> int:
        """Make one more fault active; returns its number."""
        with self._lock:
            number, self._next_id = self._next_id, self._next_id + 1
            chance = random.Random(f"{self._seed}/{number}")
            self._active = (*self._active, ActiveFault(number, fault, self._clock(), chance))
        return number

    def remove(self, number: int) -> bool:
        """Remove the fault with this number; returns whether it was active."""
        with self._lock:
            before = self._active
            self._active = tuple(each for each in before if each.id != number)
            return len(self._active) < len(before)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._active = ()

    def start(self) -> None:
        """Let ``between`` count from now."""
        with self._lock:
            for each in self._active:
                each.since = self._clock()

    def strike(self, method: str, address: str, *, route: str = "") -> tuple[Fault, ...]:
        """The faults that strike a request, in their order, with their jitter drawn. ``route`` is the name
        of the request's route."""
        with self._lock:
            now = self._clock()
            return tuple(
                each.draw_jitter()
                for each in self._active
                if each.strikes_next(method, address, route=route, now=now)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """The course of one request: a wait, its effect, another wait, and an answer or none."""

    latency: float
    """Seconds before the request takes effect."""
    takes_effect: bool
    """Whether the request takes effect before its answer."""
    late_effect: float | None
    """Seconds from the answer until the request takes effect; None if it never does so late."""
    lag: float
    """Seconds between the effect and the answer."""
    ending: Fault | None
    """The fault that ends the request instead of the API's answer."""
    alterations: tuple[Fault, ...]
    """The faults that alter the answer, in the order of their application."""

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> FaultPlan:
        """The plan for a request that these faults strike.

        Delays add up. The first fault that ends a request wins. All others alter the answer.
        """
        ending = next((each for each in faults if each.kind in ENDINGS), None)
        order = list(FaultKind).index
        rest = [each for each in faults if each.kind not in ENDINGS | DELAYS]
        return cls(
            latency=sum(each.seconds for each in faults if each.kind is FaultKind.LATENCY),
            takes_effect=all(map(_lets_effect_happen, [ending] if ending else rest)),
            late_effect=ending.seconds if ending and ending.kind is FaultKind.LATE else None,
            lag=sum(each.seconds for each in faults if each.kind is FaultKind.LAG),
            ending=ending,
            alterations=tuple(sorted(rest, key=lambda each: order(each.kind))),
        )

    def silence(self) -> Reply | None:
        """The reply without a byte, for a plan that ends without an answer; None for all others."""
        fault = self.ending
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


def _lets_effect_happen(fault: Fault) -> bool:
    match fault.kind:
        case FaultKind.STATUS:
            return fault.status < 300 if fault.effect is None else fault.effect
        case FaultKind.REDIRECT:
            return bool(fault.effect)
        case FaultKind.RESET_AFTER | FaultKind.CLOSE_AFTER | FaultKind.STALL_AFTER:
            return True
        case _ if fault.kind in ENDINGS:
            return False
        case _:
            return fault.effect is not False
