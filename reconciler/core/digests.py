"""Two digests that tell whether a recorded profile is as its document wants it. Pure.

`wanted_digest` covers what a document declares, `known_digest` what a record knows. The index keeps the
first and the state keeps the second, so profiles that are in sync are found by comparing sixteen bytes:
neither a profile nor a record is decoded. Equal digests of one address imply that the planner finds
nothing to change (`tests/core/test_digests.py`). Digests that differ imply nothing: the planner decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from reconciler.core.facets.registry import depends_on_time
from reconciler.core.profiles import PROFILE_PREFIX, ProfileMeta
from reconciler.core.records import Known, Record
from reconciler.jsontext import packed_sorted
from reconciler.values import FieldPath, Scalar

SIZE = 16
"""Bytes of a digest."""


def wanted_digest(
    meta: ProfileMeta, *, paths: Sequence[FieldPath], values: Sequence[Scalar | None]
) -> bytes | None:
    """The digest of what a document declares: its address and its normalised values (``None``: absent).

    ``None`` where equal values are not enough to be in sync: a document that names both identifiers may
    be a link, an exclusive one depends on attributes that it does not declare, and access on the time.
    """
    if meta.exclusive or (meta.customer_user_id is not None and meta.profile_id is not None):
        return None
    declared = dict(zip(paths, values, strict=True))
    return None if depends_on_time(declared) else _digest(meta.address, declared)


def known_digest(record: Record) -> bytes | None:
    """The digest of what a record knows, equal to the `wanted_digest` of a document that declares just
    that.

    ``None`` where the profile is not known to be there, or a field is uncertain or unknown.
    """
    if not record.exists or record.linking or record.address != _address(record):
        return None
    values: dict[FieldPath, Scalar | None] = {}
    for path, fact in record.facts.items():
        if fact.known is Known.VALUE and fact.value is not None:
            values[path] = fact.value
        elif fact.known is Known.CLEARED:
            values[path] = None
        else:
            return None
    return _digest(record.address, values)


def _address(record: Record) -> str | None:
    """The address that the identifiers of a record give it."""
    if record.address.startswith(PROFILE_PREFIX):
        return f"{PROFILE_PREFIX}{record.profile_id}"
    return record.customer_user_id


def _digest(address: str, values: Mapping[FieldPath, Scalar | None]) -> bytes:
    return blake2b(packed_sorted([address, values]), digest_size=SIZE).digest()
