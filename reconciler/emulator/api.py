"""The API without HTTP: requests in, answers out.

`Emulator` stands in for Adapty's methods about one profile. Its answers hold the members that the real
API returns and no others. Fields that the API never returns are visible through `Emulator.profiles` only.
"""

from __future__ import annotations

import math
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from reconciler.emulator.access import AccessEvent
from reconciler.emulator.application import Application, unauthenticated
from reconciler.emulator.debug import DEBUG_ROOT, inspect
from reconciler.emulator.http import Answer
from reconciler.emulator.instants import SECOND
from reconciler.emulator.judge import Rejected, Switches, method_not_allowed, not_found
from reconciler.emulator.planting import SeedPath, place_in_seed
from reconciler.emulator.responses import error_answer
from reconciler.emulator.routes import ROUTES, has_flat_errors, route_of
from reconciler.emulator.storage import MemoryProfiles, SqliteProfiles
from reconciler.emulator.traffic import RateLimit, RateMode, Received, Sent, Traffic, Violation
from reconciler.errors import Source, UsageError
from reconciler.resources import load_schema
from reconciler.values import Json

_LOG_SIZE = 10_000
_UNKNOWN_COUNTRY = "ZZ"
"""The country of a loopback address: a code that ISO 3166-1 will never assign."""


class Emulator:
    """The API without HTTP. Safe to call from several threads.

    ``keys`` are the accepted secret keys (None accepts every key). ``access_levels`` are those of the app
    beside ``premium``, which every app has. ``clock`` gives seconds since the epoch, ``monotonic`` the
    seconds of the log, and ``locate`` the country of a sender's address. ``log_file`` gets a line of JSON
    for each request before its answer is sent; ``log_size`` is the number of requests that are kept in
    memory. A subclass may override `handle`, and may wait in it.
    """

    def __init__(
        self,
        *,
        dialect: str = "guide",
        db: Path | None = None,
        keys: frozenset[str] | None = None,
        debug: bool = False,
        app_id: str | None = None,
        access_levels: Iterable[str] = (),
        rate_limits: Sequence[RateLimit] = (),
        rate_mode: RateMode = RateMode.REFUSE,
        log_file: Path | None = None,
        log_size: int = _LOG_SIZE,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
        locate: Callable[[str], str] = lambda ip: _UNKNOWN_COUNTRY,
        switches: Switches | None = None,
        contract: Mapping[str, Any] | None = None,
    ) -> None:
        data = load_schema("contract") if contract is None else contract
        if dialect not in data["dialects"]:
            raise UsageError(
                f"the emulator knows no dialect {dialect}",
                hint="one of " + ", ".join(data["dialects"]),
            )
        self._application = Application(
            data,
            MemoryProfiles() if db is None else SqliteProfiles(db),
            dialect=dialect,
            switches=switches or Switches(),
            app_id=app_id,
            access_levels=access_levels,
            clock=clock,
            new_id=new_id,
            locate=locate,
        )
        self.app_id = self._application.app_id
        self.debug = debug
        self._monotonic = monotonic
        self._effects = 0
        self._traffic = Traffic(
            accepted=keys,
            limits=rate_limits,
            mode=rate_mode,
            file=log_file,
            size=log_size,
            monotonic=monotonic,
        )

    # --- requests ---

    def handle(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        peer_ip: str = "127.0.0.1",
        received: Received | None = None,
    ) -> Answer:
        """Judge a request and carry it out. A write is durable before this returns.

        ``received`` is the request's entry in the log, if the caller made one and will conclude it.
        """
        if self.debug and path.startswith(DEBUG_ROOT):
            return inspect(self, method=method, path=path, body=body)
        entry = received or self.receive(method, path, headers=headers, body=body)
        is_flat = has_flat_errors(path)
        try:
            answer = self._route(entry, peer_ip)
        except Rejected as rejected:
            answer = error_answer(rejected, is_flat=is_flat)
        except sqlite3.Error as problem:
            errors = [(None, f"emulator database: {problem}")]
            answer = error_answer(Rejected(500, "internal_error", errors=errors), is_flat=is_flat)
        entry.status, entry.answer = answer.status, answer
        if received is None:
            self.conclude(entry, answer)
        return answer

    def receive(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes
    ) -> Received:
        """Note the arrival of a request; returns its entry in the log, for `handle`."""
        return self._traffic.receive(method, path, headers=headers, body=body)

    def conclude(
        self, received: Received, answer: Answer | None, *, sent: Sent = Sent.ANSWER
    ) -> None:
        """Note the answer that is about to be sent; None if there is none."""
        received.sent = sent
        if answer is not None:
            received.status, received.answer = answer.status, answer
        self._traffic.conclude(received)

    def take_effect_late(self, received: Received, *, peer_ip: str = "127.0.0.1") -> None:
        """Carry out a request that was concluded before."""
        again = replace(received, faults=())
        self.handle(
            again.method,
            again.path,
            headers=again.headers,
            body=again.raw,
            peer_ip=peer_ip,
            received=again,
        )
        received.late_status = again.status
        received.effect, received.effect_at = again.effect, again.effect_at
        self._traffic.note_late_effect(received)

    # --- content ---

    def profiles(self) -> list[dict[str, Any]]:
        """Everything that is stored, by customer id and profile id. Cleared fields are absent."""
        return self._application.profiles()

    def content(self) -> list[dict[str, Any]]:
        """Everything that was written, in a form that is equal for equal writes to two emulators.

        Values that the server generates (profile ids, times) are left out, and so is the country, which
        depends on the sender of the last request. Access is compared over time: from now on, who has it
        until when.
        """
        return self._application.content()

    def clear(self, *, keep: Container[str] = ()) -> None:
        """Remove the profiles, the events, and the entries of the log in memory, set the clock right, and
        leave the app the access levels that it had at first. A profile stays if ``keep`` contains its
        customer id or its profile id."""
        self._application.clear(keep=keep)
        self._traffic.log.clear()

    def add_anonymous(self) -> str:
        """Create a profile without a customer id, as the first start of an app does; returns its profile
        id. The API has no request for that."""
        return self._application.add_anonymous()

    def plant(
        self, seed: Json, *, place: Callable[[SeedPath], Source] = place_in_seed
    ) -> list[dict[str, Json]]:
        """Put content in place that no request can make, such as store purchases (docs/emulator.md, seeds);
        returns the ids of its profiles.

        ``place`` says where a value of the seed was written. Raises InputError with findings for a bad
        seed, and UsageError if two ids of the seed belong to different profiles. It changes nothing then.
        """
        return self._application.plant(seed, place=place)

    def advance(self, **durations: float) -> None:
        """Move the clock of the API forward by ``days=31`` (weeks, days, hours, minutes, seconds): access
        ends, and timestamps follow. Rates and faults keep to the real time. With a database this outlives
        the process.

        Raises UsageError for another unit, and for a move backwards or beyond the year 9999.
        """
        try:
            moved = timedelta(**durations)
        except TypeError:
            raise UsageError(
                f"the emulator's clock is not moved by {', '.join(durations)}",
                hint="give weeks, days, hours, minutes or seconds, as numbers",
            ) from None
        except (OverflowError, ValueError):
            moved = timedelta.max
        self._application.advance(moved // timedelta(microseconds=1))

    def time(self) -> float:
        """The present time of the API, in seconds since the epoch."""
        return self._application.now() / SECOND

    def clock(self) -> dict[str, Json]:
        """The present time of the API, and by how many seconds it was moved."""
        return self._application.clock()

    def active_levels(self, profile_id: str) -> dict[str, float | None]:
        """The access levels that a profile has at present, with their ends in seconds since the epoch;
        None is no end. Empty for an unknown profile."""
        levels = self._application.active_levels(profile_id)
        return {name: None if end is None else end / SECOND for name, end in levels.items()}

    @property
    def access_levels(self) -> tuple[str, ...]:
        """The access levels that the app has."""
        return self._application.access_levels

    @property
    def access_events(self) -> list[AccessEvent]:
        """The events that grants and revokes sent, the last 10,000 of them."""
        return self._application.events_after(0)

    def events_after(self, number: int) -> Json:
        """The events after a number, as the debug endpoint shows them."""
        return [event.as_json() for event in self._application.events_after(number)]

    def answer_about_another(self, received: Received) -> Answer:
        """A true answer about another profile than the request asks for."""
        route = route_of(received.path) or ROUTES[0]
        return self._application.answer_about_another(route, received)

    def close(self) -> None:
        """Release the database. With one, requests after this are answered with 500."""
        self._application.close()

    # --- the log ---

    @property
    def log(self) -> deque[Received]:
        """The last requests, in the order of their arrival."""
        return self._traffic.log

    def log_after(self, number: int) -> Json:
        """The entries of the log after a number, as the debug endpoint shows them."""
        return self._traffic.entries_after(number)

    @property
    def log_problem(self) -> str | None:
        """The reason why the log file ends early; None if it does not."""
        return self._traffic.problem

    @property
    def violations(self) -> deque[Violation]:
        """The last requests above the rate."""
        return self._traffic.violations

    def rates(self) -> dict[str, Json]:
        """The limits, the peaks, and the requests above the limits, as the debug endpoint shows them."""
        return self._traffic.rates()

    # --- routes ---

    def _route(self, received: Received, peer_ip: str) -> Answer:
        route = route_of(received.path)
        if route is None:
            raise not_found()
        if not received.authenticated:
            raise unauthenticated(route)
        if received.above_rate is not None:
            self._refuse_above_rate(received.above_rate)
        if received.method not in route.methods:
            raise method_not_allowed(received.method, ", ".join(route.methods))
        return self._application.carry_out(
            route, received, peer_ip=peer_ip, on_effect=lambda: self._count_effect(received)
        )

    def _refuse_above_rate(self, wait: float) -> None:
        mode = self._traffic.mode
        if mode is not RateMode.RECORD:
            hint = {"Retry-After": str(max(1, math.ceil(wait)))}
            headers = hint if mode is RateMode.REFUSE else {}
            errors = [(None, "Too many requests")]
            raise Rejected(429, "rate_limited", errors=errors, headers=headers)

    def _count_effect(self, received: Received) -> None:
        """Number a write. Writes are counted in their order, one at a time."""
        self._effects += 1
        received.effect, received.effect_at = self._effects, self._monotonic()
