"""Valid documents → profiles, the unit of declaration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.contract import ATTRIBUTES, INSTALLATION, Contract, normalise
from reconciler.documents import Document
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
    value = document.value
    meta: Any = value.get("meta") or {}
    found = {path: (wanted, line) for path, wanted, line in _declared(document)}
    values = {path: found[path][0] for path in contract.ordered(found)}
    profile_id = _lower(value.get("profile_id"))
    customer_user_id: Any = value.get("customer_user_id")
    platform: Any = value.get("platform")
    return Profile(
        address=address_of(customer_user_id, profile_id),
        customer_user_id=customer_user_id,
        profile_id=profile_id,
        platform=platform,
        values=values,
        forget=frozenset(
            member for path in meta.get("forget") or () for member in contract.expand(path)
        ),
        protect=bool(meta.get("protect", False)),
        labels=tuple(sorted(meta.get("labels") or ())),
        source=document.source,
        lines={path: line for path, (_, line) in found.items()},
    )


def _lower(value: Any) -> str | None:
    return None if value is None else value.lower()


def _declared(document: Document) -> Iterator[tuple[FieldPath, Scalar | None, int]]:
    value: Mapping[str, Any] = document.value
    line_of = {path: place[0] for path, place in document.places.items()}
    for name, content in value.items():
        if name == ATTRIBUTES:
            for key, raw, place in _attributes(content):
                path = f"{ATTRIBUTES}.{key}"
                line = line_of.get((ATTRIBUTES, *place), document.source.line)
                yield path, normalise(path, raw), line
        elif name == INSTALLATION:
            for member, raw in content.items():
                path = f"{INSTALLATION}.{member}"
                line = line_of.get((INSTALLATION, member), document.source.line)
                yield path, normalise(path, raw), line
        elif name not in {"customer_user_id", "profile_id", "platform", "meta"}:
            yield name, normalise(name, content), line_of.get((name,), document.source.line)


def _attributes(content: Any) -> Iterator[tuple[str, Scalar | None, tuple[str | int, ...]]]:
    if isinstance(content, Mapping):
        for key, raw in content.items():
            yield key, raw, (key,)
    else:
        for index, item in enumerate(content or ()):
            yield item["key"], item["value"], (index, "value")
