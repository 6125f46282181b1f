"""The API without HTTP: requests in, answers out.

`Emulator` stands in for Adapty's profile methods. Its answers hold the members that the real API returns
and no others. Fields that the API never returns are visible through `Emulator.profiles` only.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.emulator.debug import DEBUG_ROOT, inspect
from reconciler.emulator.http import Answer
from reconciler.emulator.judge import (
    CUSTOMER_HEADER,
    PROFILE_HEADER,
    Judge,
    Rejected,
    Switches,
    method_not_allowed,
    not_authenticated,
    not_found,
    parse_body,
)
from reconciler.emulator.profile import StoredProfile
from reconciler.emulator.responses import error_answer, json_answer
from reconciler.emulator.storage import MemoryProfiles, ProfileStore, SqliteProfiles
from reconciler.emulator.traffic import RateLimit, RateMode, Received, Sent, Traffic, Violation
from reconciler.errors import UsageError
from reconciler.resources import load_schema
from reconciler.values import Json, canonical

PROFILE_PATH = "/api/v2/server-side-api/profile/"

_LOG_SIZE = 10_000
_METHODS = ("GET", "POST", "PATCH", "DELETE")
_UNKNOWN_COUNTRY = "ZZ"
"""The country of a loopback address: a code that ISO 3166-1 will never assign."""


class Emulator:
    """The API without HTTP. Safe to call from several threads.

    ``keys`` are the accepted secret keys (None accepts every key). ``clock`` gives seconds since the
    epoch, ``monotonic`` the seconds of the log, and ``locate`` the country of a sender's address.
    ``log_file`` gets a line of JSON for each request before its answer is sent; ``log_size`` is the
    number of requests that are kept in memory. A subclass may override `handle`, and may wait in it.
    """

    def __init__(
        self,
        *,
        dialect: str = "guide",
        db: Path | None = None,
        keys: frozenset[str] | None = None,
        debug: bool = False,
        app_id: str | None = None,
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
        self._switches = switches or Switches()
        self._judge = Judge.of(data, dialect=dialect, switches=self._switches)
        self.debug = debug
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id
        self._locate = locate
        self._lock = threading.RLock()
        self._last_timestamps: dict[str, int] = {}
        self._effects = 0
        self._store: ProfileStore = MemoryProfiles() if db is None else SqliteProfiles(db)
        self.app_id = self._store.app_id(app_id, new_id)
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
            return inspect(self, method=method, path=path)
        entry = received or self.receive(method, path, headers=headers, body=body)
        try:
            answer = self._route(entry, peer_ip)
        except Rejected as rejected:
            answer = error_answer(rejected)
        except sqlite3.Error as problem:
            errors = [(None, f"emulator database: {problem}")]
            answer = error_answer(Rejected(500, "internal_error", errors=errors))
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
        """Everything that was written, by customer id and profile id. Cleared fields are absent."""
        with self._lock:
            profiles = self._store.all()
        profiles.sort(key=lambda each: (each.customer_user_id or "", each.profile_id))
        return [
            {
                "customer_user_id": each.customer_user_id,
                "profile_id": each.profile_id,
                "fields": each.fields,
                "custom_attributes": each.attributes,
                "installations": each.installations,
                "country": each.country,
                "country_source": each.country_source,
            }
            for each in profiles
        ]

    def content(self) -> list[dict[str, Any]]:
        """Everything that was written, in a form that is equal for equal writes to two emulators.

        Values that the server generates (profile ids, times) are left out, and so is the country, which
        depends on the sender of the last request.
        """
        members = ("customer_user_id", "fields", "custom_attributes", "installations")
        content = [{name: profile[name] for name in members} for profile in self.profiles()]
        return sorted(content, key=canonical)

    def clear(self, *, keep: Container[str] = ()) -> None:
        """Remove the entries of the log in memory, and the profiles. A profile stays if ``keep`` contains
        its customer id or its profile id."""
        with self._lock, self._store.writing():
            for each in self._store.all():
                if each.customer_user_id not in keep and each.profile_id not in keep:
                    self._store.remove(each.profile_id)
        self._traffic.log.clear()

    def add_anonymous(self) -> str:
        """Create a profile without a customer id, as the first start of an app does; returns its profile
        id. The API has no request for that."""
        profile = StoredProfile(str(self._new_id()), None)
        with self._lock, self._store.writing():
            self._store.put(profile)
        return profile.profile_id

    def answer_about_another(self, received: Received) -> Answer:
        """A true answer about another profile than the request asks for."""
        customer = received.headers.get(CUSTOMER_HEADER, "")
        profile_id = received.headers.get(PROFILE_HEADER, "").lower()
        with self._lock:
            others = [
                each
                for each in self._store.all()
                if each.customer_user_id != customer and each.profile_id != profile_id
            ]
            other = others[0] if others else StoredProfile(str(self._new_id()), "somebody-else")
            other.timestamp = self._next_timestamp(other)
        return json_answer(200, {"data": self._response_data(other)})

    def close(self) -> None:
        """Release the database. With one, requests after this are answered with 500."""
        with self._lock:
            self._store.close()

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
        if received.path.partition("?")[0] != PROFILE_PATH:
            raise not_found()
        if not received.authenticated:
            raise not_authenticated()
        if received.above_rate is not None:
            self._refuse_above_rate(received.above_rate)
        if received.method not in _METHODS:
            raise method_not_allowed(received.method, ", ".join(_METHODS))
        customer, profile_id = self._judge.identifiers(received.headers)
        match received.method:
            case "GET":
                with self._lock:
                    profile = self._find(customer, profile_id)
                    profile.timestamp = self._next_timestamp(profile)
            case "DELETE":
                with self._lock:
                    with self._store.writing():
                        profile = self._find(customer, profile_id)
                        self._store.remove(profile.profile_id)
                        self._last_timestamps.pop(profile.profile_id, None)
                    self._count_effect(received)
                return json_answer(204)
            case _:
                body = parse_body(received.headers.get("content-type", ""), received.raw)
                find = self._find if received.method == "PATCH" else self._find_or_create
                with self._lock:
                    with self._store.writing():
                        profile = find(customer, profile_id)
                        self._judge.apply(body, profile)
                        self._set_country(profile, body, peer_ip=peer_ip)
                        profile.timestamp = self._next_timestamp(profile)
                        self._store.put(profile)
                    self._count_effect(received)
        return json_answer(200, {"data": self._response_data(profile)})

    def _refuse_above_rate(self, wait: float) -> None:
        mode = self._traffic.mode
        if mode is not RateMode.RECORD:
            hint = {"Retry-After": str(max(1, math.ceil(wait)))}
            headers = hint if mode is RateMode.REFUSE else {}
            errors = [(None, "Too many requests")]
            raise Rejected(429, "rate_limited", errors=errors, headers=headers)

    def _count_effect(self, received: Received) -> None:
        """Number a write. Call it under the lock, so that the numbers follow the order of the writes."""
        self._effects += 1
        received.effect, received.effect_at = self._effects, self._monotonic()

    # --- transitions ---

    def _find(self, customer: str, profile_id: str) -> StoredProfile:
        """The profile that the identifiers name; both must name the same one (adapty-api 2.2)."""
        profile = (
            self._store.by_profile(profile_id) if profile_id else self._store.by_customer(customer)
        )
        if profile is None or (customer and profile.customer_user_id != customer):
            raise Rejected(404, "profile_does_not_exist", errors=[(None, "Profile not found")])
        return profile

    def _find_or_create(self, customer: str, profile_id: str) -> StoredProfile:
        """The profile that the identifiers name, created or linked to the customer id if need be."""
        if not profile_id:
            existing = self._store.by_customer(customer)
            return existing or StoredProfile(str(self._new_id()), customer)
        profile = self._find("", profile_id)
        if customer and profile.customer_user_id != customer:
            if profile.customer_user_id is not None or self._store.by_customer(customer):
                message = "Profile and customer_user_id belong to different users"
                errors = [("non_field_errors", message)]
                raise Rejected(400, "customer_user_id_conflict", errors=errors)
            profile.customer_user_id = customer
        return profile

    def _set_country(self, profile: StoredProfile, body: Json, *, peer_ip: str) -> None:
        """The country follows the request (adapty-api 3.2)."""
        explicit = body.get("ip_country") if isinstance(body, Mapping) else None
        if isinstance(explicit, str):
            profile.country, profile.country_source = explicit, "explicit"
        elif self._switches.country_from_request:
            profile.country, profile.country_source = self._locate(peer_ip), "request_ip"

    def _next_timestamp(self, profile: StoredProfile) -> int:
        """Milliseconds since the epoch, greater than every earlier timestamp of the profile."""
        last = max(profile.timestamp, self._last_timestamps.get(profile.profile_id, 0))
        now = max(int(self._clock() * 1000), last + 1)
        self._last_timestamps[profile.profile_id] = now
        return now

    def _response_data(self, profile: StoredProfile) -> dict[str, Any]:
        """The members of a profile that the API returns."""
        empty: list[Any] | None = None if self._switches.null_lists else []
        return {
            "app_id": self.app_id,
            "profile_id": profile.profile_id,
            "customer_user_id": profile.customer_user_id,
            "total_revenue_usd": 0.0,
            "segment_hash": hashlib.sha256(profile.profile_id.encode()).hexdigest()[:16],
            "timestamp": profile.timestamp,
            "custom_attributes": [
                {"key": key, "value": value} for key, value in profile.attributes.items()
            ],
            "access_levels": empty,
            "subscriptions": empty,
            "non_subscriptions": empty,
        }
