"""The profiles that a sandbox hands out, and what happens to them when a test is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, TypeAlias

from reconciler.core.endpoints import headers
from reconciler.core.facets.custom_attributes import CUSTOM_ATTRIBUTES
from reconciler.core.plan import Plan
from reconciler.core.profiles import Profile
from reconciler.core.records import Record
from reconciler.core.transitions import Observed
from reconciler.errors import ReconcileError
from reconciler.values import FieldPath, Scalar


class Teardown(StrEnum):
    """The fate of a profile when its test is over."""

    RESTORE = "restore"
    """A profile that did not exist is deleted; another one gets its known values back."""
    DELETE = "delete"
    KEEP = "keep"


class NotMade(ReconcileError):
    """A profile could not be made as it is declared, or not be taken back. The message holds the plan."""


@dataclass(frozen=True)
class PriorState:
    """The knowledge about a profile before a test made it."""

    record: Record | None = None
    shown: Mapping[FieldPath, Scalar] | None = None
    """The values that the API returned of a profile that existed and was not recorded."""
    decided: Mapping[FieldPath, Scalar | None] = field(default_factory=dict)
    """The values that the API showed, before a test declared others, of fields whose facet decides what
    happens to them."""
    own: Mapping[FieldPath, Scalar | None] = field(default_factory=dict)
    """The values that a read of their own showed, before a test declared others, of fields that no answer
    about the profile shows."""

    @property
    def existed(self) -> bool:
        return self.shown is not None or (self.record is not None and self.record.exists)


class HandleOwner(Protocol):
    """The sandbox that a handle comes from."""

    def observe(self, handle: ProfileHandle) -> Observed | None: ...
    def access_levels(self, handle: ProfileHandle) -> Mapping[str, str]: ...
    def reset(self, handle: ProfileHandle) -> None: ...
    def text_of(self, plan: Plan) -> str: ...


@dataclass(eq=False)
class ProfileHandle:
    """A profile that exists as it is declared, for as long as its test runs."""

    profile: Profile
    """The declared profile: identifiers, normalised values by field path, labels."""
    url: str
    """The base address of the API, without a final slash."""
    teardown: Teardown
    owner: HandleOwner
    prior: PriorState
    """The profile that is restored when the test is over."""
    profile_id: str = ""
    """The id that the API gave it."""
    plan: Plan | None = None
    """The plan that was applied last."""

    @property
    def address(self) -> str:
        return self.profile.address

    @property
    def customer_user_id(self) -> str | None:
        return self.profile.customer_user_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by which the API knows the profile. ``Authorization`` is not among them; the
        emulator takes ``Api-Key`` and anything."""
        customer = self.customer_user_id
        return headers(
            customer, None if customer else self.profile_id, platform=self.profile.platform
        )

    @property
    def values(self) -> Mapping[FieldPath, Scalar | None]:
        """The declared values by field path, as the API is to hold them; ``None``: absent."""
        return MappingProxyType(dict(self.profile.values))

    @property
    def custom_attributes(self) -> Mapping[str, Scalar]:
        """The declared custom attributes, as the API answers them: numbers and booleans as floats."""
        declared = self.profile.values.items()
        return CUSTOM_ATTRIBUTES.by_key(
            {path: value for path, value in declared if value is not None}
        )

    @property
    def access_levels(self) -> Mapping[str, str]:
        """The access that the profile has at present, by access level: ``lifetime``, or
        ``until 2027-01-31T00:00:00Z``. A level that has ended or not begun is absent. On the emulator this
        takes no request, on another API one.

        Raises ReconcileError where the profile cannot be read.
        """
        return self.owner.access_levels(self)

    def has_access(self, level: str = "premium") -> bool:
        """Whether the profile has an access level at present.

        Raises ReconcileError where the profile cannot be read.
        """
        return level in self.access_levels

    @property
    def plan_text(self) -> str:
        """The plan that was applied last, as a person reads it."""
        return self.owner.text_of(self.plan) if self.plan is not None else ""

    def refresh(self) -> Observed | None:
        """The profile as the API returns it now: identifiers, custom attributes and access levels;
        ``None`` if it is gone. Every other field is write-only."""
        return self.owner.observe(self)

    def reset(self) -> None:
        """Sends every declared value again, whatever the app did meanwhile. That takes one request, and a
        second one if the profile is exclusive and the app added attributes. A profile with access levels is
        read first, and gets again what it lacks."""
        self.owner.reset(self)

    def __repr__(self) -> str:
        return f"<ProfileHandle {self.address!r}>"


MakeProfile: TypeAlias = Callable[..., ProfileHandle]
"""The type of the fixture `adapty_profile`."""
