"""The application at the API: its profiles, its access levels, its clock, and the effect of requests on them.

It knows neither keys nor rates: it carries out requests that were let in.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

from reconciler.emulator.access import (
    AccessEvent,
    AccessJudge,
    access_over_time,
    active_levels,
    shown_level,
)
from reconciler.emulator.http import Answer
from reconciler.emulator.instants import SECOND, format_instant, is_instant
from reconciler.emulator.judge import (
    CUSTOMER_HEADER,
    PROFILE_HEADER,
    Judge,
    Rejected,
    Switches,
    not_authenticated,
    parse_body,
)
from reconciler.emulator.planting import PlantedProfile, SeedPath, SeedReader, place_in_seed
from reconciler.emulator.profile import StoredProfile
from reconciler.emulator.responses import json_answer
from reconciler.emulator.routes import ApiRoute
from reconciler.emulator.storage import ProfileStore
from reconciler.emulator.subresources import (
    NO_IDENTIFIER,
    NO_SETTING,
    MemberGroup,
    shown_identifiers,
    shown_refund_saver,
)
from reconciler.emulator.traffic import Received
from reconciler.errors import Source, UsageError
from reconciler.values import Json, canonical

_SKIPPED = "skipped"
"""The setting that holds by how many microseconds the clock was moved."""
_LEVELS = "access_levels"
"""The setting that holds the access levels of the app."""


class Application:
    """An application's content, and the requests that read and change it. Several threads may use it."""

    def __init__(
        self,
        contract: Mapping[str, Any],
        store: ProfileStore,
        *,
        dialect: str,
        switches: Switches,
        app_id: str | None,
        access_levels: Iterable[str],
        clock: Callable[[], float],
        new_id: Callable[[], uuid.UUID],
        locate: Callable[[str], str],
    ) -> None:
        self._switches = switches
        self._judge = Judge.of(contract, dialect=dialect, switches=switches)
        self._access = AccessJudge.of(contract, switches=switches)
        self._identifiers, self._refund_saver = (
            MemberGroup.of(contract, facet, nothing=nothing, dialect=dialect, switches=switches)
            for facet, nothing in (("integrations", NO_IDENTIFIER), ("refund_saver", NO_SETTING))
        )
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._locate = locate
        self._lock = threading.RLock()
        self._last_timestamps: dict[str, int] = {}
        self.app_id = store.app_id(app_id, new_id)
        always = contract["facets"]["access_levels"]["level"]["always"]
        with self._lock, store.writing():
            self._add_levels([*always, *access_levels])
            self._first_levels = self.access_levels

    # --- the clock and the app's access levels ---

    def now(self) -> int:
        """The present instant, in microseconds since the epoch."""
        return int(self._clock() * SECOND) + int(self._store.setting(_SKIPPED) or 0)

    def advance(self, microseconds: int) -> None:
        """Move the clock forward. With a database this outlives the process, and holds for every emulator
        that shares the file.

        Raises UsageError for a move backwards, or to an instant that has no date.
        """
        with self._lock, self._store.writing():
            if microseconds < 0 or not is_instant(self.now() + microseconds):
                raise UsageError(
                    "the emulator's clock goes forward only, and not beyond the year 9999",
                    hint="give a duration, such as days=31",
                )
            skipped = int(self._store.setting(_SKIPPED) or 0) + microseconds
            self._store.set_setting(_SKIPPED, str(skipped))

    def clock(self) -> dict[str, Json]:
        """The clock as the debug endpoint shows it; ``skipped`` is in seconds."""
        with self._lock:
            skipped = int(self._store.setting(_SKIPPED) or 0)
            return {"now": format_instant(self.now()), "skipped": skipped / SECOND}

    @property
    def access_levels(self) -> tuple[str, ...]:
        """The access levels of the app."""
        return tuple(json.loads(self._store.setting(_LEVELS) or "[]"))

    def _add_levels(self, levels: Iterable[str]) -> None:
        before = self.access_levels
        after = tuple(dict.fromkeys([*before, *levels]))
        if after != before:
            self._store.set_setting(_LEVELS, json.dumps(after))

    # --- content ---

    def profiles(self) -> list[dict[str, Any]]:
        """Everything that is stored, by customer id and profile id. Cleared fields are absent."""
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
                "access_levels": list(each.access_levels.values()),
                "subscriptions": each.subscriptions,
                "non_subscriptions": each.non_subscriptions,
                "integration_identifiers": each.identifiers,
                "refund_saver": each.refund_saver,
            }
            for each in profiles
        ]

    def content(self) -> list[dict[str, Any]]:
        """Everything that was written, in a form that is equal for equal writes to two emulators.

        Values that the server generates (profile ids, times) are left out, and so is the country, which
        depends on the sender of the last request. Access is compared over time: from now on, who has it
        until when.
        """
        with self._lock:
            now, profiles = self.now(), self._store.all()
        content = [
            {
                "customer_user_id": each.customer_user_id,
                "fields": each.fields,
                "custom_attributes": each.attributes,
                "installations": each.installations,
                "access": access_over_time(each, now),
                "integration_identifiers": each.identifiers,
                "refund_saver": each.refund_saver,
            }
            for each in profiles
        ]
        return sorted(content, key=canonical)

    def active_levels(self, profile_id: str) -> dict[str, int | None]:
        """The levels that a profile has at present, and the instants of their ends; None is no end. Empty
        for an unknown profile."""
        with self._lock:
            profile, now = self._store.by_profile(profile_id), self.now()
        return {} if profile is None else active_levels(profile, now)

    def clear(self, *, keep: Container[str] = ()) -> None:
        """Remove the profiles and the events, set the clock right, and leave the app the access levels that
        it had at first. A profile stays if ``keep`` contains its customer id or its profile id."""
        with self._lock, self._store.writing():
            for each in self._store.all():
                if each.customer_user_id not in keep and each.profile_id not in keep:
                    self._store.remove(each.profile_id)
            self._store.clear_events()
            self._store.set_setting(_SKIPPED, "0")
            self._store.set_setting(_LEVELS, json.dumps(self._first_levels))

    def add_anonymous(self) -> str:
        """Create a profile without a customer id; returns its profile id."""
        profile = StoredProfile(str(self._new_id()), None)
        with self._lock, self._store.writing():
            self._store.put(profile)
        return profile.profile_id

    def events_after(self, number: int) -> list[AccessEvent]:
        """The events with a greater number."""
        with self._lock:
            return self._store.events_after(number)

    def plant(
        self, value: Json, *, place: Callable[[SeedPath], Source] = place_in_seed
    ) -> list[dict[str, Json]]:
        """Put the content of a seed in place; returns the ids of its profiles. Other content stays.

        ``place`` says where a value of the seed was written. Raises InputError with findings for a bad
        seed, and UsageError if two ids of the seed belong to different profiles. It changes nothing then.
        """
        with self._lock, self._store.writing():
            seed = SeedReader(
                judge=self._judge,
                identifiers=self._identifiers,
                refund_saver=self._refund_saver,
                now=self.now(),
                place=place,
            ).read(value)
            profiles = [self._planted(each) for each in seed.profiles]
            self._add_levels(seed.access_levels)
            for profile in profiles:
                self._store.put(profile)
        return [
            {"customer_user_id": each.customer_user_id, "profile_id": each.profile_id}
            for each in profiles
        ]

    def _planted(self, planted: PlantedProfile) -> StoredProfile:
        customer, profile_id = planted.customer_user_id, planted.profile_id
        by_customer = self._store.by_customer(customer) if customer else None
        by_profile = self._store.by_profile(profile_id) if profile_id else None
        profile = by_profile or by_customer
        if profile is None:
            profile = StoredProfile(profile_id or str(self._new_id()), customer)
        elif customer and by_profile and by_profile.customer_user_id is None and not by_customer:
            profile.customer_user_id = customer
        elif profile.customer_user_id != (customer or profile.customer_user_id) or (
            profile_id and profile.profile_id != profile_id
        ):
            raise UsageError(
                f"the seed gives {customer} the profile id {profile_id}, but another profile has one of "
                "these ids",
                hint="give one of the two ids, or remove the profile that is there",
            )
        planted.write_to(profile)
        return profile

    # --- requests ---

    def carry_out(
        self, route: ApiRoute, received: Received, *, peer_ip: str, on_effect: Callable[[], None]
    ) -> Answer:
        """Judge a request of a known method, and carry it out. A write is durable before this returns.

        ``on_effect`` is called once for a write that took effect, in the order of the writes. Raises
        Rejected.
        """
        customer, profile_id = self._ids(route, received)
        match received.method:
            case "GET":
                with self._lock:
                    profile = self._find(route, customer, profile_id=profile_id)
                    if not route.is_flat:
                        profile.timestamp = self._next_timestamp(profile)
            case "DELETE":
                with self._lock:
                    with self._store.writing():
                        profile = self._find(route, customer, profile_id=profile_id)
                        self._store.remove(profile.profile_id)
                        self._last_timestamps.pop(profile.profile_id, None)
                    on_effect()
                return json_answer(204)
            case _:
                body = parse_body(received.headers.get("content-type", ""), received.raw)
                creates = received.method == "POST" and route.name == "profile"
                find = self._find_or_create if creates else self._find
                with self._lock:
                    with self._store.writing():
                        profile = find(route, customer, profile_id=profile_id)
                        self._write(route, profile, body=body, peer_ip=peer_ip)
                    on_effect()
                if route.name == "identifiers":
                    return json_answer(200)
        return json_answer(200, self._body(route, profile))

    def _write(self, route: ApiRoute, profile: StoredProfile, *, body: Json, peer_ip: str) -> None:
        """Apply the body of a request to a profile, and store it."""
        level_id = None
        match route.name:
            case "grant":
                level_id = self._access.grant(
                    body,
                    profile,
                    levels=self.access_levels,
                    now=self.now(),
                    transaction=str(self._new_id()),
                )
            case "revoke":
                level_id = self._access.revoke(
                    body, profile, levels=self.access_levels, now=self.now()
                )
            case "identifiers":
                self._identifiers.write(body, profile.identifiers)
            case "refund-saver":
                self._refund_saver.write(body, profile.refund_saver)
            case _:
                self._judge.apply(body, profile)
                self._set_country(profile, body, peer_ip=peer_ip)
        if not route.is_flat:
            profile.timestamp = self._next_timestamp(profile)
        self._store.put(profile)
        if level_id is not None:
            self._note_event(route, profile, level=profile.access_levels[level_id])

    def _note_event(
        self, route: ApiRoute, profile: StoredProfile, *, level: Mapping[str, Any]
    ) -> None:
        self._store.add_event(
            lambda number: AccessEvent(
                number=number,
                at=format_instant(self.now()),
                cause=route.name,
                profile_id=profile.profile_id,
                customer_user_id=profile.customer_user_id,
                access_level_id=level["access_level_id"],
                starts_at=level["starts_at"],
                expires_at=level["expires_at"],
            )
        )

    def _ids(self, route: ApiRoute, received: Received) -> tuple[str, str]:
        """The identifiers of a request, as `Judge.identifiers` returns them."""
        try:
            return self._judge.identifiers(received.headers)
        except Rejected as rejected:
            if not route.is_flat:
                raise
            if rejected.status == 401:
                raise unauthenticated(route) from None
            errors = [(None, f"{source}: {message}") for source, message in rejected.errors]
            raise Rejected(400, "validation_error", errors=errors) from None

    def _find(self, route: ApiRoute, customer: str, *, profile_id: str) -> StoredProfile:
        """The profile that the identifiers name; both must name the same one (adapty-api 2.2)."""
        profile = (
            self._store.by_profile(profile_id) if profile_id else self._store.by_customer(customer)
        )
        if profile is None or (customer and profile.customer_user_id != customer):
            raise self._missing(route)
        return profile

    def _find_or_create(self, route: ApiRoute, customer: str, *, profile_id: str) -> StoredProfile:
        """The profile that the identifiers name, created or linked to the customer id if need be."""
        if not profile_id:
            existing = self._store.by_customer(customer)
            return existing or StoredProfile(str(self._new_id()), customer)
        profile = self._find(route, "", profile_id=profile_id)
        if customer and profile.customer_user_id != customer:
            if profile.customer_user_id is not None or self._store.by_customer(customer):
                message = "Profile and customer_user_id belong to different users"
                errors = [("non_field_errors", message)]
                raise Rejected(400, "customer_user_id_conflict", errors=errors)
            profile.customer_user_id = customer
        return profile

    def _missing(self, route: ApiRoute) -> Rejected:
        """The refusal of a request about a profile that does not exist (adapty-api 6.2)."""
        match route.name:
            case "identifiers":
                return Rejected(404, "profile_not_found", errors=[(None, "Profile not found")])
            case "refund-saver":
                errors: list[tuple[str | None, str]] = [(None, "Profile does not exist")]
                return Rejected(400, "profile_does_not_exist", errors=errors)
            case "grant" | "revoke" if not self._switches.missing_is_404:
                errors = [("non_field_errors", "Profile not found")]
                return Rejected(400, "profile_does_not_exist", errors=errors)
            case _:
                return Rejected(404, "profile_does_not_exist", errors=[(None, "Profile not found")])

    def _set_country(self, profile: StoredProfile, body: Json, *, peer_ip: str) -> None:
        """The country follows the request (adapty-api 3.2)."""
        explicit = body.get("ip_country") if isinstance(body, Mapping) else None
        if isinstance(explicit, str):
            profile.country, profile.country_source = explicit, "explicit"
        elif self._switches.country_from_request:
            profile.country, profile.country_source = self._locate(peer_ip), "request_ip"

    # --- answers ---

    def answer_about_another(self, route: ApiRoute, received: Received) -> Answer:
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
        return json_answer(200, self._body(route, other))

    def _body(self, route: ApiRoute, profile: StoredProfile) -> Json:
        match route.name:
            case "identifiers":
                return shown_identifiers(self._identifiers, profile)
            case "refund-saver":
                return shown_refund_saver(profile, self._switches)
            case _:
                return {"data": self._profile_data(profile)}

    def _next_timestamp(self, profile: StoredProfile) -> int:
        """Milliseconds since the epoch, greater than every earlier timestamp of the profile."""
        last = max(profile.timestamp, self._last_timestamps.get(profile.profile_id, 0))
        now = max(self.now() // 1000, last + 1)
        self._last_timestamps[profile.profile_id] = now
        return now

    def _profile_data(self, profile: StoredProfile) -> dict[str, Any]:
        """The members of a profile that the API returns."""
        whole = self._switches.whole_seconds
        levels = [shown_level(each, whole_seconds=whole) for each in profile.access_levels.values()]
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
            "access_levels": self._list(levels),
            "subscriptions": self._list(profile.subscriptions),
            "non_subscriptions": self._list(profile.non_subscriptions),
        }

    def _list(self, items: Collection[dict[str, Any]]) -> list[dict[str, Any]] | None:
        return None if not items and self._switches.null_lists else list(items)

    def close(self) -> None:
        """Release the database."""
        with self._lock:
            self._store.close()


def unauthenticated(route: ApiRoute) -> Rejected:
    """The refusal of a request without a key, or with a wrong one (adapty-api 6.2)."""
    if route.is_flat:
        return Rejected(401, "unauthorized", errors=[(None, "Invalid API key")])
    return not_authenticated()
