"""Seeds: content that no request of the API can make, such as store purchases, read from JSON values.

docs/emulator.md describes the format. A seed is untrusted: everything that is wrong with it is told at once.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from reconciler.emulator.access import DASHBOARD_PRODUCT, LevelOrigin, new_level
from reconciler.emulator.instants import SECOND, format_instant, is_instant, parse_instant
from reconciler.emulator.judge import UUID, Judge, Rejected
from reconciler.emulator.profile import StoredProfile
from reconciler.emulator.subresources import MemberGroup
from reconciler.errors import Diagnostic, InputError, Source, error
from reconciler.values import Json

SeedPath: TypeAlias = tuple[str | int, ...]
"""Where a value is in a seed: names of members, and positions in lists from 0."""

_FORMAT = "docs/emulator.md describes seeds."
_RELATIVE = re.compile(r"now(?: ?([+-]) ?([0-9]{1,6})([smhdw]))?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_INSTANT_HINT = "an instant like 2027-01-31T00:00:00Z, or now, now+30d, now-2h"
PROFILE_MEMBERS = (
    *("customer_user_id", "profile_id", "fields", "custom_attributes", "access_levels"),
    *("purchases", "integrations", "refund_saver"),
)
PURCHASE_MEMBERS = (
    *("store", "store_product_id", "access_level", "purchased_at", "expires_at", "environment"),
    *("purchase_type", "store_transaction_id", "is_in_grace_period", "is_refund", "is_consumable"),
)
_PERIOD = ("starts_at", "expires_at")
_SUBSCRIPTION, _ONE_TIME = "subscription", "one_time_purchase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A purchase in a store."""

    level: str | None
    """The access level that it gives."""
    origin: LevelOrigin
    is_subscription: bool
    expires_at: int | None
    environment: str
    is_in_grace_period: bool
    is_refund: bool
    is_consumable: bool

    def write_to(self, profile: StoredProfile) -> None:
        """Add the purchase to a profile, in the place of one with its transaction id."""
        origin = self.origin
        store = {
            "store": origin.store,
            "store_product_id": origin.store_product_id,
            "store_base_plan_id": None,
            "store_transaction_id": origin.store_transaction_id,
            "store_original_transaction_id": origin.store_original_transaction_id,
        }
        expires_at = None if self.expires_at is None else format_instant(self.expires_at)
        if self.is_subscription:
            listed = profile.subscriptions
            shown = {
                **store,
                "offer": None,
                "environment": self.environment,
                "purchased_at": origin.purchased_at,
                "originally_purchased_at": origin.originally_purchased_at,
                "expires_at": expires_at,
                "renewal_cancelled_at": None,
                "billing_issue_detected_at": None,
                "is_in_grace_period": self.is_in_grace_period,
                "cancellation_reason": None,
            }
        else:
            listed = profile.non_subscriptions
            shown = {
                "purchase_id": _uuid_of(profile.profile_id, origin.store_transaction_id),
                **store,
                "purchased_at": origin.purchased_at,
                "environment": self.environment,
                "is_refund": self.is_refund,
                "is_consumable": self.is_consumable,
            }
        transaction = origin.store_transaction_id
        listed[:] = [each for each in listed if each["store_transaction_id"] != transaction]
        listed.append(shown)
        if self.level is not None:
            level = new_level(self.level, origin, starts_at=None, expires_at=self.expires_at)
            level["is_in_grace_period"] = self.is_in_grace_period
            profile.access_levels[self.level] = level


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedProfile:
    """A profile of a seed."""

    customer_user_id: str | None
    profile_id: str | None
    content: StoredProfile
    """The members that the seed gives; its ids do not matter."""
    purchases: Sequence[Purchase]

    def write_to(self, profile: StoredProfile) -> None:
        """Put the members of the seed in place; others of the profile stay."""
        content = self.content
        profile.fields |= content.fields
        profile.attributes |= content.attributes
        profile.access_levels |= content.access_levels
        profile.identifiers |= content.identifiers
        profile.refund_saver |= content.refund_saver
        for purchase in self.purchases:
            purchase.write_to(profile)


@dataclass(frozen=True, slots=True)
class Seed:
    """The content of a valid seed."""

    access_levels: tuple[str, ...]
    """Levels that the app gets, beside those that it has."""
    profiles: tuple[PlantedProfile, ...]


def place_in_seed(path: SeedPath) -> Source:
    """The place of a value in a seed that has no file: its path, as in ``profiles[0].purchases``."""
    return Source(_spelled(path) or "seed")


def _spelled(path: SeedPath) -> str:
    parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return "".join(parts).removeprefix(".")


@dataclass(slots=True, kw_only=True)
class SeedReader:
    """Reads one seed. Times of the seed are relative to ``now``, in microseconds since the epoch."""

    judge: Judge
    identifiers: MemberGroup
    refund_saver: MemberGroup
    now: int
    place: Callable[[SeedPath], Source] = place_in_seed
    findings: list[Diagnostic] = field(default_factory=list)

    def read(self, value: Json) -> Seed:
        """The seed in a value.

        Raises InputError with a finding, which has a place, for everything that is wrong.
        """
        members = self._members(value, (), known=("access_levels", "profiles"))
        levels = tuple(
            self._text(each, path) for each, path in self._items(members, (), name="access_levels")
        )
        profiles: list[PlantedProfile] = []
        ids: set[str] = set()
        for each, path in self._items(members, (), name="profiles"):
            profile = self._profile(each, path)
            for own in {profile.customer_user_id, profile.profile_id} - {None}:
                if own in ids:
                    self._refuse(path, f"{own} is there twice", hint="keep one of them")
                ids.add(str(own))
            profiles.append(profile)
        if self.findings:
            count = len(self.findings)
            raise InputError(
                f"the seed has {count} error{'s' if count > 1 else ''}",
                diagnostics=sorted(self.findings, key=Diagnostic.sort_key),
            )
        used = (
            level
            for each in profiles
            for level in (*each.content.access_levels, *(one.level for one in each.purchases))
        )
        every = dict.fromkeys([*levels, *(level for level in used if level is not None)])
        return Seed(tuple(every), tuple(profiles))

    # --- profiles ---

    def _profile(self, value: Json, path: SeedPath) -> PlantedProfile:
        members = self._members(value, path, known=PROFILE_MEMBERS)
        customer, profile_id = (
            self._text(members[name], (*path, name)) if name in members else None
            for name in ("customer_user_id", "profile_id")
        )
        if "customer_user_id" not in members and "profile_id" not in members:
            hint = "give customer_user_id, or profile_id, or both"
            self._refuse(path, "the profile has no id", hint=hint)
        if profile_id and not UUID.fullmatch(profile_id):
            hint = "write one like 3fa85f64-5717-4562-b3fc-2c963f66afa6"
            self._refuse((*path, "profile_id"), "profile_id is not a UUID", hint=hint)
        content = StoredProfile("", None)
        self._judged(members, path, content=content)
        for level, place, own in self._named(members, path, name="access_levels"):
            content.access_levels[level] = self._granted(own, place, level=level)
        owner = customer or profile_id or ""
        purchases = [
            self._purchase(each, place, owner=owner)
            for each, place in self._items(members, path, name="purchases")
        ]
        return PlantedProfile(
            customer_user_id=customer or None,
            profile_id=profile_id.lower() if profile_id else None,
            content=content,
            purchases=purchases,
        )

    def _judged(
        self, members: Mapping[str, Any], path: SeedPath, *, content: StoredProfile
    ) -> None:
        """Read the members that the API takes in requests too, by the rules for those requests."""
        fields = dict(self._mapping(members, path, name="fields"))
        attributes = self._mapping(members, path, name="custom_attributes")
        pairs = [{"key": key, "value": value} for key, value in attributes.items()]
        groups: list[tuple[str, Callable[[], None]]] = []
        if fields:
            groups.append(("fields", lambda: self.judge.apply(fields, content)))
        if pairs:
            body = {"custom_attributes": pairs}
            groups.append(("custom_attributes", lambda: self.judge.apply(body, content)))
        identifiers = self._mapping(members, path, name="integrations")
        if identifiers:
            groups.append(
                (
                    "integrations",
                    lambda: self.identifiers.write(identifiers, content.identifiers),
                )
            )
        for name, write in groups:
            try:
                write()
            except Rejected as rejected:
                for source, message in rejected.errors:
                    said = f"{source}: {message}" if source else message
                    place: SeedPath = (*path, name)
                    if number := re.match(r"custom_attributes\.([0-9]+)", source or ""):
                        place = (*place, pairs[int(number[1])]["key"])
                    self._refuse(place, said, hint="the API would refuse it too")
        self._refund_saver(members, path, content=content)

    def _refund_saver(
        self, members: Mapping[str, Any], path: SeedPath, *, content: StoredProfile
    ) -> None:
        """Refund preferences. The dashboard has a preference that the API cannot write (adapty-api 8.5), so
        any text is taken."""
        place = (*path, "refund_saver")
        given = self._members(
            members.get("refund_saver", {}), place, known=("consent", "preference")
        )
        if "consent" in given:
            content.refund_saver["consent"] = self._truth(given, place, name="consent")
        if "preference" in given:
            preference = self._text(given["preference"], (*place, "preference"))
            content.refund_saver["custom_preference"] = preference

    def _granted(self, value: Json, path: SeedPath, *, level: str) -> dict[str, Any]:
        """A level that somebody granted in the dashboard."""
        period: dict[str, int | None] = dict.fromkeys(_PERIOD)
        if isinstance(value, Mapping):
            members = self._members(value, path, known=_PERIOD)
            period |= {
                name: self._instant(members[name], (*path, name))
                for name in _PERIOD
                if members.get(name) is not None
            }
        elif value != "lifetime":
            period["expires_at"] = self._instant(
                value, path, hint=f"write lifetime, or {_INSTANT_HINT}"
            )
        origin = LevelOrigin.without_purchase(
            DASHBOARD_PRODUCT, transaction=_digits(level, *map(str, path)), now=self.now
        )
        return new_level(level, origin, **period)

    # --- purchases ---

    def _purchase(self, value: Json, path: SeedPath, *, owner: str) -> Purchase:
        members = self._members(value, path, known=PURCHASE_MEMBERS)
        for name in ("store", "store_product_id"):
            if name not in members:
                self._refuse(path, f"the purchase has no {name}", hint=f"add {name}: a text")
        texts = {
            name: self._text(members[name], (*path, name))
            for name in ("store", "store_product_id", "access_level", "store_transaction_id")
            if members.get(name) is not None
        }
        expires_at = members.get("expires_at")
        ends = None if expires_at is None else self._instant(expires_at, (*path, "expires_at"))
        kind = self._choice(
            members,
            path,
            name="purchase_type",
            choices=(_ONE_TIME if ends is None else _SUBSCRIPTION, _SUBSCRIPTION, _ONE_TIME),
        )
        began = self._instant(members.get("purchased_at", "now"), (*path, "purchased_at"))
        bought = format_instant(self.now if began is None else began)
        transaction = texts.get("store_transaction_id") or _digits(owner, *map(str, path))
        return Purchase(
            level=texts.get("access_level"),
            origin=LevelOrigin(
                store=texts.get("store", ""),
                store_product_id=texts.get("store_product_id", ""),
                store_transaction_id=transaction,
                store_original_transaction_id=transaction,
                purchased_at=bought,
                originally_purchased_at=bought,
            ),
            is_subscription=kind == _SUBSCRIPTION,
            expires_at=ends,
            environment=self._choice(
                members, path, name="environment", choices=("Production", "Sandbox")
            ),
            is_in_grace_period=self._truth(members, path, name="is_in_grace_period"),
            is_refund=self._truth(members, path, name="is_refund"),
            is_consumable=self._truth(members, path, name="is_consumable"),
        )

    # --- values ---

    def _refuse(self, path: SeedPath, message: str, *, hint: str) -> None:
        spelled = _spelled(path)
        said = f"{spelled}: {message}" if spelled else message
        sentence = hint[0].upper() + hint[1:] + ("" if hint.endswith("?") else ".")
        self.findings.append(
            error("seed/invalid", said, source=self.place(path), hint=f"{sentence} {_FORMAT}")
        )

    def _members(self, value: Json, path: SeedPath, *, known: Sequence[str]) -> Mapping[str, Any]:
        """A mapping with known members only; empty if the value is something else."""
        if not isinstance(value, Mapping):
            self._refuse(path, "this is not a mapping", hint=f"its members are {', '.join(known)}")
            return {}
        for name in value:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
                self._refuse((*path, name), "there is no such member", hint=hint)
        return value

    def _mapping(
        self, members: Mapping[str, Any], path: SeedPath, *, name: str
    ) -> Mapping[str, Any]:
        value = members.get(name, {})
        if isinstance(value, Mapping):
            return value
        self._refuse((*path, name), f"{name} is not a mapping", hint="write NAME: VALUE below it")
        return {}

    def _named(
        self, members: Mapping[str, Any], path: SeedPath, *, name: str
    ) -> Iterator[tuple[str, SeedPath, Any]]:
        """Name, place and value of each member of a mapping with names of one's own."""
        for key, value in self._mapping(members, path, name=name).items():
            place = (*path, name, key)
            yield self._text(key, place), place, value

    def _items(
        self, members: Mapping[str, Any], path: SeedPath, *, name: str
    ) -> Iterable[tuple[Any, SeedPath]]:
        """Value and place of each item of a list."""
        value = members.get(name, [])
        place = (*path, name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [(each, (*place, index)) for index, each in enumerate(value)]
        self._refuse(place, f"{name} is not a list", hint="write one item after each dash")
        return []

    def _text(self, value: Any, path: SeedPath) -> str:
        if isinstance(value, str) and value:
            return value
        self._refuse(path, "this is not a text", hint="write a text that is not empty, in quotes")
        return ""

    def _truth(self, members: Mapping[str, Any], path: SeedPath, *, name: str) -> bool:
        value = members.get(name, False)
        if not isinstance(value, bool):
            self._refuse((*path, name), f"{name} is not a boolean", hint="write true or false")
        return value is True

    def _choice(
        self, members: Mapping[str, Any], path: SeedPath, *, name: str, choices: Sequence[str]
    ) -> str:
        """One of the choices; the first is the default."""
        value = members.get(name, choices[0])
        if value not in choices:
            names = ", ".join(sorted(set(choices)))
            self._refuse(
                (*path, name), f"{name} is none of those that exist", hint=f"one of {names}"
            )
        return str(value)

    def _instant(
        self, value: Any, path: SeedPath, *, hint: str = f"write {_INSTANT_HINT}"
    ) -> int | None:
        """The instant that a text names, absolute or relative to now."""
        match = _RELATIVE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            instant = parse_instant(value)
        else:
            sign, count, unit = match.groups(default="")
            seconds = int(count or 0) * _UNITS.get(unit, 0)
            instant = self.now + (-seconds if sign == "-" else seconds) * SECOND
        if instant is None or not is_instant(instant):
            self._refuse(path, "this is not an instant", hint=hint)
            return None
        return instant


def _digits(*parts: str) -> str:
    """A transaction id that is always the same for the same parts, so that planting again changes nothing."""
    return str(int(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], 16) % 10**16)


def _uuid_of(*parts: str) -> str:
    """A UUID that is always the same for the same parts."""
    text = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-8{text[17:20]}-{text[20:32]}"
