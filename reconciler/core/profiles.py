"""Profiles, the unit of declaration: what one valid document asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reconciler.errors import Source
from reconciler.values import FieldPath, Scalar

PROFILE_PREFIX = "profile:"


NO_OTHER_FILES: Mapping[FieldPath, str] = {}
"""A dictionary, because profiles travel between processes, which no `MappingProxyType` can."""


class Profile(NamedTuple):
    """The profile that one document declares.

    ``values`` holds normalised values in the order of a request body; ``None`` asks for absence.
    ``lines`` says where each path stands: in ``source.file``, or in the one that ``files`` names.
    """

    address: str
    customer_user_id: str | None
    profile_id: str | None
    platform: str | None
    values: Mapping[FieldPath, Scalar | None]
    forget: frozenset[FieldPath]
    protect: bool
    labels: tuple[str, ...]
    source: Source
    lines: Mapping[FieldPath, int]
    files: Mapping[FieldPath, str] = NO_OTHER_FILES
    template: str = ""
    """The customer id as the template at ``source`` has it that this profile was made from."""
    lifetime: str | None = None
    """Until when it may live, as declared: see `reconciler.core.lifetimes.expiry`."""
    exclusive: bool = False
    """Whether custom attributes that nobody declared are removed."""
    from_environment: tuple[FieldPath, ...] = ()
    """The fields whose values came from variables of the environment: they are never printed."""
    previously: tuple[str, ...] = ()
    """Former addresses, whose record is this profile's: see `reconciler.core.renames`."""


def address_of(customer_user_id: str | None, profile_id: str | None) -> str:
    """The address of a profile: its customer id, or ``profile:<uuid>`` where it has none."""
    return customer_user_id or f"{PROFILE_PREFIX}{profile_id}"


class ProfileMeta(NamedTuple):
    """The members of a document that are no fields: identifiers and ``meta``."""

    customer_user_id: str | None
    profile_id: str | None
    platform: str | None
    protect: bool
    labels: Sequence[str]
    forget: Sequence[FieldPath]
    template: str = ""
    lifetime: str | None = None
    exclusive: bool = False
    from_environment: Sequence[FieldPath] = ()
    previously: Sequence[str] = ()

    @property
    def address(self) -> str:
        return address_of(self.customer_user_id, self.profile_id)


def make_profile(
    meta: ProfileMeta,
    *,
    paths: Sequence[FieldPath],
    values: Sequence[Scalar | None],
    lines: Sequence[int],
    files: Mapping[FieldPath, str],
    source: Source,
) -> Profile:
    """The profile of a document: ``values`` and ``lines`` stand in the order of ``paths``."""
    return Profile(
        address=address_of(meta.customer_user_id, meta.profile_id),
        customer_user_id=meta.customer_user_id,
        profile_id=meta.profile_id,
        platform=meta.platform,
        values=dict(zip(paths, values, strict=True)),
        forget=frozenset(meta.forget),
        protect=meta.protect,
        labels=tuple(meta.labels),
        source=source,
        lines=dict(zip(paths, lines, strict=True)),
        files=files,
        template=meta.template,
        lifetime=meta.lifetime,
        exclusive=meta.exclusive,
        from_environment=tuple(meta.from_environment),
        previously=tuple(meta.previously),
    )
