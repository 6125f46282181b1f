"""The surroundings of an apply: its clock, its gate, its listener, and the calls that it may make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.core.options import RequestOptions
from reconciler.core.outcomes import Progress, Result
from reconciler.core.records import RunStarter
from reconciler.remote.engine import Calls


@dataclass(frozen=True, slots=True)
class RunClock:
    """The time of a run."""

    unix_time: Callable[[], float]
    """Seconds. Somebody may set it back."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that never run backwards."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether more may start, and how much at a time."""

    stop: Callable[[], bool]
    """Whether the user wants to stop. From then on nothing new starts."""
    is_away: Callable[[], bool] = lambda: False
    """Whether the API has been away for longer than a run waits."""
    is_limited: Callable[[], bool] = lambda: False
    """Whether the API has answered 429, and nothing else, for longer than a run waits."""
    in_flight: Callable[[], int] = lambda: 1
    """The number of profiles that are worth having under way."""


@dataclass(frozen=True, slots=True)
class ApplyListener:
    """Called by the thread that applies."""

    on_result: Callable[[Result], None] = lambda result: None
    """Takes each outcome once it is durable."""
    on_progress: Callable[[Progress], None] = lambda progress: None
    """Takes the progress of the run, about twice a second."""
    on_state_write: Callable[[float], None] = lambda seconds: None
    """Takes the seconds of each write of the state."""


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """The surroundings of one apply, as arguments, so that a test controls all of them."""

    calls: Calls
    run: str
    """Names this run in journal and history."""
    clock: RunClock
    gate: Gate
    listener: ApplyListener = field(default_factory=ApplyListener)
    request_options: RequestOptions = field(default_factory=RequestOptions)
    starter: RunStarter = field(default_factory=RunStarter)
    """For the history."""
    quiet_period: float = 60.0
    """Seconds that a different value waits after a write of unknown outcome (see `contradicts`)."""
