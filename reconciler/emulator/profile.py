"""The profile that the emulator stores: the only state that requests change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StoredProfile:
    """A profile as the server keeps it. Cleared fields, attributes and members are absent."""

    profile_id: str
    customer_user_id: str | None
    fields: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, str | float] = field(default_factory=dict)
    installations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The members of each installation, by device id."""
    country: str | None = None
    country_source: str | None = None
    """``explicit`` for a country from the body, ``request_ip`` for one from the sender's address."""
    timestamp: int = 0
    """Milliseconds since the epoch; 0 before the first answer."""
    access_levels: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The access levels as answers show them, by their ids; expired ones stay. A level and a purchase are
    replaced, never changed."""
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    """Purchases that renew, as answers show them."""
    non_subscriptions: list[dict[str, Any]] = field(default_factory=list)
    """Other purchases, as answers show them."""
    identifiers: dict[str, str] = field(default_factory=dict)
    """Integration identifiers."""
    refund_saver: dict[str, Any] = field(default_factory=dict)
    """Refund preferences by their names at the API; those that were never set are absent."""

    def copy(self) -> StoredProfile:
        """A copy that can be changed and thrown away."""
        return StoredProfile(
            self.profile_id,
            self.customer_user_id,
            fields=dict(self.fields),
            attributes=dict(self.attributes),
            installations={name: dict(members) for name, members in self.installations.items()},
            country=self.country,
            country_source=self.country_source,
            timestamp=self.timestamp,
            access_levels=dict(self.access_levels),
            subscriptions=list(self.subscriptions),
            non_subscriptions=list(self.non_subscriptions),
            identifiers=dict(self.identifiers),
            refund_saver=dict(self.refund_saver),
        )
