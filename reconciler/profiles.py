"""Valid documents → profiles, the unit of declaration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from reconciler.contract import ATTRIBUTES, INSTALLATION, Contract, normalise
from reconciler.documents import Document, Path
from reconciler.errors import Source
from reconciler.packing import packed, unpacked
from reconciler.values import FieldPath, Scalar

PROFILE_PREFIX = "profile:"


_HERE: Mapping[FieldPath, str] = MappingProxyType({})


class Profile(NamedTuple):
    """What one document asks for.

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
    files: Mapping[FieldPath, str] = _HERE
    template: str = ""
    """The customer id as the template at ``source`` has it that this profile was made from."""
    lifetime: str | None = None
    """Until when it may live, as declared: see `reconciler.lifetimes.expiry`."""
    exclusive: bool = False
    """Whether custom attributes that nobody declared are removed."""


def address_of(customer_user_id: str | None, profile_id: str | None) -> str:
    """The address of a profile: its customer id, or ``profile:<uuid>`` where it has none."""
    return customer_user_id or f"{PROFILE_PREFIX}{profile_id}"


def profile_of(document: Document, contract: Contract) -> Profile:
    """The profile that a *valid* document declares; validation comes first."""
    paths, values, lines, files, about = said_by(document, contract)
    return _profile(paths, values, lines, files, about, document.source)


class About(NamedTuple):
    """What a document says besides its fields."""

    customer_user_id: str | None
    profile_id: str | None
    platform: str | None
    protect: bool
    labels: Sequence[str]
    forget: Sequence[FieldPath]
    template: str = ""
    lifetime: str | None = None
    exclusive: bool = False

    @property
    def address(self) -> str:
        return address_of(self.customer_user_id, self.profile_id)

    @property
    def is_usual(self) -> bool:
        """Whether it says nothing but who the profile is, its platform and its labels."""
        return not (self.protect or self.forget or any(self[_USUAL:]))


def _lifetime(document: Document) -> str | None:
    """Until when the profile of a valid document may live, as declared."""
    meta: Any = document.value.get("meta") or _NOTHING
    lifetime: str | None = meta.get("expires") or meta.get("ttl")
    return lifetime


class Said(NamedTuple):
    """What a valid document says."""

    paths: tuple[FieldPath, ...]
    """In the order of a request body."""
    values: list[Any]
    """Normalised."""
    lines: list[int]
    """On which they stand."""
    files: Mapping[FieldPath, str]
    """Of those that stand in another one."""
    about: About


def said_by(document: Document, contract: Contract) -> Said:
    """What a *valid* document says, of which a profile is made, or packed."""
    value: Mapping[str, Any] = document.value
    attributes, place_of = _attributes(value.get(ATTRIBUTES))
    installation: Mapping[str, Any] = value.get(INSTALLATION) or {}
    layout = _layout(contract, tuple(value), tuple(attributes), tuple(installation))
    declared = [*value.values(), *attributes.values(), *installation.values()]
    values = [declared[index] for index in layout.indexes]
    for index in layout.members:
        content = values[index]
        if content.__class__ is not str or not content:
            values[index] = normalise(layout.paths[index], content)
    places, shift = document.places, document.shift
    try:
        if place_of:
            raise KeyError
        lines = [places[place][0] + shift for place in layout.places]
    except KeyError:
        here = (document.source.line - shift, 0)
        lines = [places.get(place_of.get(place, place), here)[0] + shift for place in layout.places]
    files = _HERE
    if document.files:
        stand = zip(layout.paths, layout.places, strict=True)
        files = {path: document.files[at] for path, at in stand if at in document.files}
    meta: Any = value.get("meta") or _NOTHING
    profile_id = value.get("profile_id")
    return Said(
        layout.paths,
        values,
        lines,
        files,
        About(
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
            ATTRIBUTES in (meta.get("exclusive") or ()),
        ),
    )


_NOTHING: Mapping[str, Any] = {}


def _profile(
    paths: Sequence[FieldPath],
    values: Sequence[Scalar | None],
    lines: Sequence[int],
    files: Mapping[FieldPath, str],
    about: About,
    source: Source,
) -> Profile:
    return Profile(
        address=address_of(about.customer_user_id, about.profile_id),
        customer_user_id=about.customer_user_id,
        profile_id=about.profile_id,
        platform=about.platform,
        values=dict(zip(paths, values, strict=True)),
        forget=frozenset(about.forget),
        protect=about.protect,
        labels=tuple(about.labels),
        source=source,
        lines=dict(zip(paths, lines, strict=True)),
        files=files,
        template=about.template,
        lifetime=about.lifetime,
        exclusive=about.exclusive,
    )


# --- packed --------------------------------------------------------------------------------------


def pack(said: Said, source: Source) -> tuple[str, str]:
    """The profile that says something at a source, as two texts of JSON: what many have in common (its
    paths, and on which lines after its first one, or of which other file, they stand), and the rest.
    The name of its file is left out."""
    paths, values, lines, files, about = said
    first = source.line
    if files:
        stand = zip(paths, lines, strict=True)
        offsets = [line if path in files else line - first for path, line in stand]
        layout = _packed_layout(paths, tuple(offsets), tuple(files.items()))
    else:
        layout = _packed_layout(paths, tuple([line - first for line in lines]), ())
    rest = about[:] if any(about[_USUAL:]) else about[:_USUAL]  # plain tuples
    return layout, packed([first, source.column, rest, *values])


_USUAL = About._fields.index("template")
"""Members of what a document says besides its fields that are always written down."""


class Packed(NamedTuple):
    """A packed profile, as far as it can be opened without making everything of it."""

    paths: tuple[FieldPath, ...]
    values: Sequence[Scalar | None]
    about: About
    offsets: Sequence[int]
    files: Mapping[FieldPath, str]
    line: int
    column: int

    @classmethod
    def of(cls, layout: str, body: str) -> Packed:
        """What `pack` made of it."""
        paths, offsets, files = _unpacked_layout(layout)
        line, column, about, *values = unpacked(body)
        return cls(paths, values, About(*about), offsets, files, line, column)

    def profile(self, file: str) -> Profile:
        line, files = self.line, self.files
        if files:
            stand = zip(self.paths, self.offsets, strict=True)
            lines = [offset if path in files else line + offset for path, offset in stand]
        else:
            lines = [line + offset for offset in self.offsets]
        source = Source(file, line, self.column)
        return _profile(self.paths, self.values, lines, files, self.about, source)


@lru_cache(maxsize=4096)
def _packed_layout(
    paths: tuple[FieldPath, ...],
    offsets: tuple[int, ...],
    files: tuple[tuple[FieldPath, str], ...],
) -> str:
    return packed([paths, offsets, files])


@lru_cache(maxsize=4096)
def _unpacked_layout(
    layout: str,
) -> tuple[tuple[FieldPath, ...], tuple[int, ...], Mapping[FieldPath, str]]:
    paths, offsets, files = unpacked(layout)
    return tuple(paths), tuple(offsets), dict(files) if files else _HERE


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


class _Layout(NamedTuple):
    """What the names in a document say by themselves; most profiles of a corpus share a few."""

    paths: tuple[FieldPath, ...]
    """In the order of a request body."""
    indexes: tuple[int, ...]
    """Where their values are in all that is declared."""
    places: tuple[Path, ...]
    members: tuple[int, ...]
    """Positions of those whose values have more than one form."""


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
    ordered = tuple(places[position[path]] for path in paths)
    return _Layout(
        paths,
        tuple(position[path] for path in paths),
        ordered,
        tuple(index for index, place in enumerate(ordered) if len(place) > 1),
    )
