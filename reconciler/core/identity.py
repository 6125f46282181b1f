"""Which record a profile is, by any of its identifiers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reconciler.core.profiles import Profile
from reconciler.core.records import Presence, Record
from reconciler.core.renames import record_to_rename
from reconciler.errors import Diagnostic, error


class IdentityIndex(NamedTuple):
    """Recorded profiles by the identifiers that are not their address: a profile that is not recorded
    under its address may be one of them."""

    by_profile_id: Mapping[str, Record]
    by_learned_customer: Mapping[str, Record]
    """Those declared by their profile id alone, whose customer id an answer told."""
    claimed: set[str]
    """Addresses of the recorded profiles that are wanted under another one, and so are no orphans."""
    previous: Mapping[str, Record] = {}
    """Those under former addresses that profiles name, by address."""

    @classmethod
    def of(
        cls, recorded: Iterable[Record], *, previous: Mapping[str, Record] | None = None
    ) -> IdentityIndex:
        by_profile_id: dict[str, Record] = {}
        by_learned_customer: dict[str, Record] = {}
        for record in recorded:
            if record.profile_id:
                by_profile_id[record.profile_id] = record
                if record.customer_user_id not in (None, record.address):
                    by_learned_customer[record.customer_user_id or ""] = record
        previous = previous or {}
        return cls(by_profile_id, by_learned_customer, set(previous), previous)

    def claim(self, unrecorded: Iterable[tuple[str | None, str | None]]) -> None:
        """Take note of the customer id and profile id of profiles that are not recorded under their
        address."""
        for customer_user_id, profile_id in unrecorded:
            record = self._named(customer_user_id, profile_id)
            if record is not None:
                self.claimed.add(record.address)

    def _named(self, customer_user_id: str | None, profile_id: str | None) -> Record | None:
        if profile_id is None:
            return self.by_learned_customer.get(customer_user_id or "")
        return self.by_profile_id.get(profile_id)

    def match(self, profile: Profile, record: Record | None) -> Record | Diagnostic | None:
        """The record of a profile: that of its address; else one to be linked, by the other
        identifier."""
        if profile.previously:
            former = record_to_rename(profile, record, previous=self.previous)
            if isinstance(former, Record):
                return self._unless_taken(profile, former)
            if former is not None:
                return former
        if record is None:
            return self._to_be_linked(profile)
        conflict = (
            profile.profile_id and record.profile_id and profile.profile_id != record.profile_id
        )
        if conflict and record.presence is Presence.PRESENT:
            return _identity(
                profile,
                f"{profile.address} is recorded as profile {record.profile_id}, "
                f"the file says {profile.profile_id}",
                hint="Take profile_id out of the file, or correct it.",
            )
        return record

    def _unless_taken(self, profile: Profile, former: Record) -> Record | Diagnostic:
        """The record under a former address, unless another one has the customer id of the profile."""
        other = self.by_learned_customer.get(profile.customer_user_id or "")
        if other is None or other is former or other.address == former.address:
            return former
        return _identity(
            profile,
            f"the customer id {profile.customer_user_id} is recorded for profile {other.profile_id}",
            hint="Correct `meta.previously`: it names another profile.",
        )

    def _to_be_linked(self, profile: Profile) -> Record | Diagnostic | None:
        record = self._named(profile.customer_user_id, profile.profile_id)
        if profile.profile_id is None:
            return record
        by_customer = self.by_learned_customer.get(profile.customer_user_id or "")
        if record is not None and record.customer_user_id not in (None, profile.customer_user_id):
            return _identity(
                profile,
                f"profile {profile.profile_id} is recorded with the customer id "
                f"{record.customer_user_id}",
                hint="A link cannot be undone through the API: write `customer_user_id: "
                f"{record.customer_user_id}`.",
            )
        if by_customer is not None and by_customer is not record:
            return _identity(
                profile,
                f"the customer id {profile.customer_user_id} is recorded for profile "
                f"{by_customer.profile_id}",
                hint="Take profile_id out of the file, or correct it.",
            )
        return record


def _identity(profile: Profile, message: str, *, hint: str) -> Diagnostic:
    return error("profile/identity", message, source=profile.source, hint=hint)
