"""The profiles that a plan would write: those that are worth reading before it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from reconciler.core.endpoints import PROFILE_HEADER
from reconciler.core.facets.registry import is_readable, is_shown
from reconciler.core.plan import Action, Basis, Change, Op
from reconciler.core.profiles import address_of
from reconciler.values import FieldPath


class WrittenProfiles:
    """Gathers, as an accumulator, the profiles that changes send requests for."""

    __slots__ = ("new_fields",)

    def __init__(self) -> None:
        self.new_fields: dict[str, tuple[FieldPath, ...]] = {}
        """By the address of each record: the fields that it does not hold yet and that a request of their own
        reads."""

    def add(self, change: Change) -> None:
        if not change.requests:
            return
        self.new_fields[_recorded_address(change)] = tuple(
            field.path
            for field in change.fields
            if field.basis is Basis.NONE
            and field.op is not Op.FORGET
            and is_readable(field.path)
            and not is_shown(field.path)
        )

    def add_blocked(self, addresses: Collection[str]) -> None:
        """Count profiles whose change an error prevents: what the API says may take it away."""
        self.new_fields.update(dict.fromkeys(addresses, ()))

    def empty(self) -> WrittenProfiles:
        return WrittenProfiles()

    def merge(self, other: WrittenProfiles) -> None:
        self.new_fields.update(other.new_fields)

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(self.new_fields)

    @property
    def with_new_fields(self) -> Mapping[str, tuple[FieldPath, ...]]:
        """Those with such fields."""
        return {address: paths for address, paths in self.new_fields.items() if paths}


def _recorded_address(change: Change) -> str:
    """The address that the state has for the profile of a change: a link or a rename gives it another one."""
    if change.renamed_from:
        return change.renamed_from
    if change.action is Action.LINK:
        for request in change.requests:
            if (profile_id := request.headers.get(PROFILE_HEADER)) is not None:
                return address_of(None, profile_id)
    return change.address
