"""A valid document → the profile that it declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.registry import FACET_RULES
from reconciler.authoring.facets.rules import NO_PLACES
from reconciler.core.contract import Contract
from reconciler.core.facets.registry import EXCLUSIVE, GROUPS, facet_of, normalise
from reconciler.core.profiles import NO_OTHER_FILES, Profile, ProfileMeta, make_profile
from reconciler.core.renames import former_address
from reconciler.values import FieldPath


def profile_of(document: Document, contract: Contract) -> Profile:
    """The profile that a *valid* document declares."""
    parsed = parse_profile(document, contract)
    return make_profile(
        parsed.meta,
        paths=parsed.paths,
        values=parsed.values,
        lines=parsed.lines,
        files=parsed.files,
        source=document.source,
    )


class ParsedProfile(NamedTuple):
    """The parts of a profile, as a valid document declares them."""

    paths: tuple[FieldPath, ...]
    """In the order of a request body."""
    values: list[Any]
    """Normalised."""
    lines: list[int]
    """The line of each path."""
    files: Mapping[FieldPath, str]
    """The file of each path that is not in the file of the document."""
    meta: ProfileMeta


def parse_profile(document: Document, contract: Contract) -> ParsedProfile:
    """The parts of the profile that a *valid* document declares, to be packed or made a `Profile`."""
    value: Mapping[str, Any] = document.value
    place_of = NO_PLACES
    keys = []
    declared = [*value.values()]
    for rules in FACET_RULES:
        if (content := value.get(rules.group)) is not None:
            by_key: Mapping[str, Any] = content
            if content.__class__ is not dict:
                by_key, places_of = rules.by_key(content)
                if places_of:
                    place_of = {**place_of, **places_of}
            keys.append((rules.group, tuple(by_key)))
            declared += by_key.values()
    layout = _layout(contract, tuple(value), keys=tuple(keys))
    values = [declared[index] for index in layout.indexes]
    for index in layout.converted:
        values[index] = normalise(layout.paths[index], values[index])
    for index in layout.members:
        content = values[index]
        if content.__class__ is not str or not content:
            values[index] = normalise(layout.paths[index], content)
    places = document.places
    try:
        if place_of:
            raise KeyError
        lines = [places[place][0] for place in layout.places]
    except KeyError:
        here = (document.source.line, 0)
        lines = [places.get(place_of.get(place, place), here)[0] for place in layout.places]
    files = NO_OTHER_FILES
    if document.files:
        stand = zip(layout.paths, layout.places, strict=True)
        files = {path: document.files[at] for path, at in stand if at in document.files}
    meta: Any = value.get("meta") or _NOTHING
    profile_id = value.get("profile_id")
    return ParsedProfile(
        layout.paths,
        values,
        lines,
        files,
        ProfileMeta(
            value.get("customer_user_id"),
            None if profile_id is None else profile_id.lower(),
            value.get("platform"),
            meta.get("protect") is True,
            sorted(meta.get("labels") or ()),
            sorted(
                [member for path in meta.get("forget") or () for member in contract.expand(path)]
            ),
            document.template,
            _lifetime(document),
            EXCLUSIVE.group in (meta.get("exclusive") or ()),
            _from_environment(document, layout, place_of=place_of) if document.environment else (),
            [*map(former_address, meta.get("previously") or ())],
        ),
    )


_NOTHING: Mapping[str, Any] = {}


def _from_environment(
    document: Document, layout: _FieldOrder, *, place_of: Mapping[Path, Path]
) -> list[FieldPath]:
    """The fields whose values came from the environment."""
    return [
        path
        for path, place in zip(layout.paths, layout.places, strict=True)
        if place_of.get(place, place) in document.environment
    ]


def _lifetime(document: Document) -> str | None:
    """How long the profile of a valid document may live, as declared."""
    meta: Any = document.value.get("meta") or _NOTHING
    lifetime: str | None = meta.get("expires") or meta.get("ttl")
    return lifetime


_NO_FIELDS = frozenset({"customer_user_id", "profile_id", "platform", "meta"})


class _FieldOrder(NamedTuple):
    """The fields of a document in their order, as its names decide. Most profiles of a corpus share a few
    such orders."""

    paths: tuple[FieldPath, ...]
    """In the order of a request body."""
    indexes: tuple[int, ...]
    """The positions of their values among all declared values."""
    places: tuple[Path, ...]
    members: tuple[int, ...]
    """Positions of fields whose values have more than one form, other than a text."""
    converted: tuple[int, ...]
    """Positions of fields whose values all have another form in a file."""


@lru_cache(maxsize=4096)
def _layout(
    contract: Contract,
    names: tuple[str, ...],
    *,
    keys: tuple[tuple[str, tuple[str, ...]], ...],
) -> _FieldOrder:
    """The order of the fields of a document with such ``names`` of members, and such ``keys`` for each
    member that holds several fields."""
    places: list[Path] = [(name,) for name in names]
    places += [(group, key) for group, keys_of_group in keys for key in keys_of_group]
    groups = _NO_FIELDS | GROUPS
    position = {
        ".".join(str(part) for part in place): index
        for index, place in enumerate(places)
        if len(place) > 1 or place[0] not in groups
    }
    paths = tuple(contract.ordered(position))
    ordered = tuple(places[position[path]] for path in paths)
    return _FieldOrder(
        paths,
        tuple(position[path] for path in paths),
        ordered,
        tuple(
            index
            for index, place in enumerate(ordered)
            if len(place) > 1 and not facet_of(paths[index]).converts_text
        ),
        tuple(index for index, path in enumerate(paths) if facet_of(path).converts_text),
    )
