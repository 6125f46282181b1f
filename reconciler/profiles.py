"""Valid documents → profiles, the unit of declaration. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from json import JSONEncoder, loads
from typing import Any

from reconciler.contract import ATTRIBUTES, INSTALLATION, Contract, normalise
from reconciler.documents import Document, Path
from reconciler.errors import Source
from reconciler.values import FieldPath, Scalar

PROFILE_PREFIX = "profile:"


@dataclass(frozen=True, slots=True)
class Profile:
    """What one document asks for.

    ``values`` holds normalised values in the order of a request body; ``None`` asks for absence.
    ``lines`` says where each path stands in ``source.file``.
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


def address_of(customer_user_id: str | None, profile_id: str | None) -> str:
    """The address of a profile: its customer id, or ``profile:<uuid>`` where it has none."""
    return customer_user_id or f"{PROFILE_PREFIX}{profile_id}"


def profile_of(document: Document, contract: Contract) -> Profile:
    """The profile that a *valid* document declares; validation comes first."""
    value: Mapping[str, Any] = document.value
    attributes, place_of = _attributes(value.get(ATTRIBUTES))
    installation: Mapping[str, Any] = value.get(INSTALLATION) or {}
    layout = _layout(contract, tuple(value), tuple(attributes), tuple(installation))
    declared = [*value.values(), *attributes.values(), *installation.values()]
    values = dict(zip(layout.paths, layout.pick(declared), strict=True))
    for path in layout.members:
        values[path] = normalise(path, values[path])
    places = document.places
    here = (document.source.line, 0)
    meta: Any = value.get("meta") or {}
    profile_id = value.get("profile_id")
    if profile_id is not None:
        profile_id = profile_id.lower()
    customer_user_id: Any = value.get("customer_user_id")
    return Profile(
        address=address_of(customer_user_id, profile_id),
        customer_user_id=customer_user_id,
        profile_id=profile_id,
        platform=value.get("platform"),
        values=values,
        forget=frozenset(
            [member for path in meta.get("forget") or () for member in contract.expand(path)]
        ),
        protect=bool(meta.get("protect", False)),
        labels=tuple(sorted(meta.get("labels") or ())),
        source=document.source,
        lines={
            path: places.get(place_of.get(place, place), here)[0] for path, place in layout.places
        },
    )


# --- packed --------------------------------------------------------------------------------------


def pack(profile: Profile) -> tuple[str, str]:
    """A profile as two texts of JSON: what many have in common (its paths, and on which lines after
    its first one they stand), and the rest. The name of its file is left out."""
    first = profile.source.line
    layout = _packed_layout(
        tuple(profile.values), tuple([profile.lines[path] - first for path in profile.values])
    )
    return layout, _dumps(
        [
            first,
            profile.source.column,
            profile.customer_user_id,
            profile.profile_id,
            profile.platform,
            profile.protect,
            profile.labels,
            sorted(profile.forget),
            *profile.values.values(),
        ]
    )


def unpack(layout: str, body: str, file: str) -> Profile:
    """The reverse of `pack`."""
    paths, offsets = _unpacked_layout(layout)
    first, column, customer, profile_id, platform, protect, labels, forget, *values = loads(body)
    return Profile(
        address=address_of(customer, profile_id),
        customer_user_id=customer,
        profile_id=profile_id,
        platform=platform,
        values=dict(zip(paths, values, strict=True)),
        forget=frozenset(forget),
        protect=protect,
        labels=tuple(labels),
        source=Source(file, first, column),
        lines=dict(zip(paths, [first + offset for offset in offsets], strict=True)),
    )


_dumps = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@lru_cache(maxsize=4096)
def _packed_layout(paths: tuple[FieldPath, ...], offsets: tuple[int, ...]) -> str:
    return _dumps([paths, offsets])


@lru_cache(maxsize=4096)
def _unpacked_layout(layout: str) -> tuple[tuple[FieldPath, ...], tuple[int, ...]]:
    paths, offsets = loads(layout)
    return tuple(paths), tuple(offsets)


# --- from documents ------------------------------------------------------------------------------


def _attributes(content: Any) -> tuple[Mapping[str, Any], Mapping[Path, Path]]:
    """Custom attributes by key, and where those of a list are."""
    if isinstance(content, dict):
        return content, {}
    items = content or ()
    return (
        {item["key"]: item["value"] for item in items},
        {
            (ATTRIBUTES, item["key"]): (ATTRIBUTES, index, "value")
            for index, item in enumerate(items)
        },
    )


_NO_FIELDS = frozenset({"customer_user_id", "profile_id", "platform", "meta"})


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the names in a document say by themselves; most profiles of a corpus share a few."""

    paths: tuple[FieldPath, ...]
    """In the order of a request body."""
    pick: Callable[[list[Any]], tuple[Any, ...]]
    """Takes their values out of all that is declared."""
    places: tuple[tuple[FieldPath, Path], ...]
    members: tuple[FieldPath, ...]
    """Those whose values have more than one form."""


@lru_cache(maxsize=4096)
def _layout(
    contract: Contract, names: tuple[str, ...], keys: tuple[str, ...], members: tuple[str, ...]
) -> _Layout:
    places: list[Path] = [(name,) for name in names]
    places += [(ATTRIBUTES, key) for key in keys]
    places += [(INSTALLATION, member) for member in members]
    groups = _NO_FIELDS | {ATTRIBUTES, INSTALLATION}
    position = {
        ".".join(str(part) for part in place): index
        for index, place in enumerate(places)
        if len(place) > 1 or place[0] not in groups
    }
    paths = tuple(contract.ordered(position))
    indexes = [position[path] for path in paths]
    return _Layout(
        paths,
        lambda declared: tuple([declared[index] for index in indexes]),
        tuple((path, places[position[path]]) for path in paths),
        tuple(path for path in paths if len(places[position[path]]) > 1),
    )
