"""The store of a location in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from reconciler.state.location import ObjectAddress, StateLocation
from reconciler.state.objects.bucket import BucketPlace, open_bucket
from reconciler.state.objects.keys import KeyedSealer
from reconciler.state.objects.protocol import Sealer
from reconciler.state.objects.sealing import ObjectSealer
from reconciler.state.objects.store import ObjectStore


def open_store(location: StateLocation, *, environ: Mapping[str, str]) -> ObjectStore:
    """The store; nothing is connected before its first use. ``environ`` holds credentials and keys."""
    address = location.address
    assert isinstance(address, ObjectAddress)
    place = BucketPlace(
        address.kind.value,
        address.bucket,
        address.prefix,
        address.account or "",
        location.region,
        location.endpoint,
    )
    sealer: Sealer = ObjectSealer()
    if location.encryption is not None:
        sealer = KeyedSealer(location.encryption, environ=environ)
    return ObjectStore(
        open_bucket(place, environ=environ),
        sealer,
        environment=location.environment,
        cache=location.cache_folder / f"state-{_digest(location.identity)}.db",
    )


def _digest(text: str) -> str:
    """Part of the name of the cache: two locations with one folder for caches have two caches."""
    return sha256(text.encode()).hexdigest()[:16]
