"""All facets, in the order in which their requests are sent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

from reconciler.core.facets.access_levels import ACCESS_LEVELS
from reconciler.core.facets.custom_attributes import CUSTOM_ATTRIBUTES
from reconciler.core.facets.facet import Facet, Need
from reconciler.core.facets.installation import INSTALLATION
from reconciler.core.facets.integrations import INTEGRATIONS
from reconciler.core.facets.profile_fields import PROFILE_FIELDS
from reconciler.core.facets.refund_saver import REFUND_SAVER
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Change, Request
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import Diagnostic
from reconciler.values import FieldPath, Scalar

T = TypeVar("T")

FACETS: tuple[Facet, ...] = (
    *(PROFILE_FIELDS, CUSTOM_ATTRIBUTES, INSTALLATION),
    *(ACCESS_LEVELS, INTEGRATIONS, REFUND_SAVER),
)
_BY_GROUP: Mapping[str, Facet] = {facet.group: facet for facet in FACETS}
GROUPS = frozenset(_BY_GROUP) - {PROFILE_FIELDS.group}
"""The members of a profile file that hold several fields."""
SHOWN = tuple(facet.prefix for facet in FACETS if facet.is_shown)
"""The beginnings of the paths of the fields that every answer about the profile shows."""
KEPT = tuple(facet.prefix for facet in FACETS if facet.keeps_undeclared)
"""The beginnings of the paths of fields whose values a record keeps although nobody declares them."""
EXCLUSIVE = next(facet for facet in FACETS if facet.is_exclusive)
"""The facet that a profile may have exclusively, and whose undeclared keys a record keeps."""


def _overriding(method: str) -> tuple[Facet, ...]:
    """The facets with an answer of their own to a question that is asked for every profile."""
    usual = getattr(Facet, method)
    return tuple(facet for facet in FACETS if getattr(type(facet), method) is not usual)


ALONG = _overriding("along")
PLANNING = _overriding("plan")[::-1]
"""The last facet first: the dangers of what leaves last are the graver."""
HAZARDOUS = _overriding("hazards")
_UNCOMPARED = _overriding("uncompared")
_DOUBTFUL = _overriding("doubtful")
_UNDECLARED = _overriding("undeclared")
READABLE = _overriding("reading")
"""The facets that are read by a request of their own."""
_READ = (*SHOWN, *(facet.prefix for facet in READABLE))
DECIDING = tuple(facet.prefix for facet in FACETS if facet.decides)
"""The beginnings of the paths of fields whose facet decides about them."""
APART = tuple(facet.prefix for facet in FACETS if facet.paths)
"""The beginnings of the paths of fields that requests of their facet carry. In a profile they come last."""
_NO_FIELDS: frozenset[FieldPath] = frozenset()
IN_BODY: tuple[Facet, ...] = tuple(facet for facet in FACETS if not facet.paths)
"""The facets whose changes go in the body of the profile's requests."""
WITH_REQUESTS: tuple[Facet, ...] = tuple(facet for facet in FACETS if facet.paths)
"""The facets with requests of their own, in the order in which these are sent."""
_BY_PATH: Mapping[str, Facet] = {path: facet for facet in WITH_REQUESTS for path in facet.paths}


def facet_of(path: FieldPath) -> Facet:
    """The facet of a field."""
    group, dot, _ = path.partition(".")
    return _BY_GROUP.get(group, PROFILE_FIELDS) if dot else PROFILE_FIELDS


def facet_of_member(name: str) -> Facet:
    """The facet of a member of a profile file or of a request's body."""
    return _BY_GROUP.get(name, PROFILE_FIELDS)


def last_shown(record: Record, path: FieldPath) -> Fact | None:
    """What is known of a field: its fact, or what the last answer showed of it; ``None`` if nothing is."""
    return facet_of(path).last_shown(record, path)


def standing_values(
    values: Mapping[FieldPath, Scalar | None], *, now: float
) -> dict[FieldPath, str]:
    """What a reason names of the values that answers show of fields which nobody declares."""
    return {
        path: text
        for facet in FACETS
        if facet.keeps_undeclared
        for path, text in facet.standing(values, now=now).items()
    }


def facet_of_request(request: Request) -> Facet | None:
    """The facet that a request belongs to; ``None`` if it is about the profile."""
    return _BY_PATH.get(request.path)


def is_shown(path: FieldPath) -> bool:
    """Whether every answer about the profile shows a field."""
    return path.startswith(SHOWN)


def is_readable(path: FieldPath) -> bool:
    """Whether some request reads a field."""
    return path.startswith(_READ)


def normalise(path: FieldPath, value: Scalar | None) -> Scalar | None:
    """The form of a valid value that comparing, digests, requests and display share."""
    return facet_of(path).normalise(value)


class FacetFields(NamedTuple):
    """Those of some fields that are of one facet."""

    facet: Facet
    indexes: tuple[int, ...]
    """Their positions among all the fields."""
    keys: tuple[str, ...]
    """The last parts of their paths."""
    span: slice | None
    """The positions as one slice, where they follow each other; those of most profiles do."""

    def of(self, items: list[T]) -> list[T]:
        """Those of some items, one for each of all the fields, that are of these fields."""
        if self.span is not None:
            return items[self.span]
        return [items[index] for index in self.indexes]


@lru_cache(maxsize=4096)
def by_facet(paths: tuple[FieldPath, ...]) -> tuple[FacetFields, ...]:
    """Fields by their facets, these in the order of their first fields. There are few such lists of paths,
    in many profiles."""
    indexes: dict[Facet, list[int]] = {}
    for index, path in enumerate(paths):
        indexes.setdefault(facet_of(path), []).append(index)
    return tuple(
        FacetFields(
            facet,
            tuple(places),
            tuple(paths[place].removeprefix(facet.prefix) for place in places)
            if facet.group
            else tuple(paths[place] for place in places),
            slice(places[0], places[-1] + 1) if places[-1] - places[0] + 1 == len(places) else None,
        )
        for facet, places in indexes.items()
    )


def uncompared(values: Mapping[FieldPath, Scalar | None]) -> frozenset[FieldPath]:
    """The fields that are not compared while a profile declares such values."""
    fields = _NO_FIELDS
    for facet in _UNCOMPARED:
        if more := facet.uncompared(values):
            fields |= more
    return fields


def believed(facts: Mapping[FieldPath, Fact]) -> Mapping[FieldPath, Fact]:
    """The facts, with those unknown that the API may have changed by itself."""
    doubtful = doubtful_fields(facts)
    if not doubtful:
        return facts
    return {
        path: Fact(Known.UNKNOWN)
        if path in doubtful and fact.known in (Known.VALUE, Known.UNCERTAIN)
        else fact
        for path, fact in facts.items()
    }


def doubtful_fields(
    facts: Mapping[FieldPath, Fact], *, changed: Set[FieldPath] = frozenset()
) -> frozenset[FieldPath]:
    """The fields whose facts cannot be believed, since the API may have changed them by itself, or may do so
    when a request writes the ``changed`` ones."""
    fields = _NO_FIELDS
    for facet in _DOUBTFUL:
        if more := facet.doubtful(facts, changed=changed):
            fields |= more
    return fields


def undeclared(profile: Profile, record: Record) -> frozenset[FieldPath]:
    """The fields that an exclusive profile has at the API and is not to have."""
    if not profile.exclusive:
        return _NO_FIELDS
    return _NO_FIELDS.union(*[facet.undeclared(profile, record) for facet in _UNDECLARED])


def follow_up(change: Change, record: Record, *, options: RequestOptions) -> Change | None:
    """The change that has to follow an applied one, according to the ``record`` after it."""
    follow_ups = (facet.follow_up(change, record, options=options) for facet in FACETS)
    return next((change for change in follow_ups if change is not None), None)


def shown_values(data: Mapping[str, Any]) -> dict[FieldPath, Scalar]:
    """The normalised values that the profile of an answer shows.

    Raises ValueError, LookupError, TypeError or AttributeError where the answer is no profile.
    """
    return {path: value for facet in FACETS for path, value in facet.shown(data).items()}


def refusal_notes(request: Request, code: str | None) -> str:
    """What may explain that the API refused a request; empty if nothing."""
    facet, body = facet_of_request(request), request.body or {}
    asked = IN_BODY if facet is None else (facet,)
    return "".join([facet.refusal_note(body, code or "") for facet in asked])


def need_of(request: Request, record: Record, *, now: float) -> Need:
    """What has to be sent in the place of a planned request, given what is known just before it."""
    facet = facet_of_request(request)
    return Need(request) if facet is None else facet.need(request, record, now=now)


def readings(paths: Collection[FieldPath], named: Mapping[str, str]) -> list[tuple[Facet, Request]]:
    """The extra requests that read some fields of a profile, which is ``named`` by headers."""
    requests = []
    for facet in READABLE:
        if facet.keys_of(paths) and (request := facet.reading(named)) is not None:
            requests.append((facet, request))
    return requests


def decided_paths(values: Mapping[FieldPath, Scalar | None]) -> list[FieldPath]:
    """Those of the fields of a profile whose facet decides about them. They are in the order of the
    contract, so a profile that has none is told by its last field."""
    if not next(reversed(cast("dict[FieldPath, Scalar | None]", values)), "").startswith(APART):
        return []
    paths: list[FieldPath] = []
    for path in reversed(cast("dict[FieldPath, Scalar | None]", values)):
        if not path.startswith(APART):
            break
        if path.startswith(DECIDING):
            paths.append(path)
    return paths[::-1]


def depends_on_time(values: Mapping[FieldPath, Scalar | None]) -> bool:
    """Whether time alone may make a profile need a change that declares such values."""
    paths = decided_paths(values)
    return bool(paths) and any(facet_of(path).depends_on_time(values[path]) for path in paths)


def time_warnings(profile: Profile, *, now: float) -> list[Diagnostic]:
    """Warnings about a valid profile that depend on the time."""
    if not decided_paths(profile.values):
        return []
    return [each for facet in WITH_REQUESTS for each in facet.warnings(profile, now=now)]


def granted_by(request: Request) -> Iterable[FieldPath]:
    """The fields that the profile owes to a request: they end once no file declares them."""
    facet = facet_of_request(request)
    return () if facet is None else facet.granted_by(request)


def counts_each(request: Request) -> bool:
    """Whether sending a request twice is more than sending it once."""
    facet = facet_of_request(request)
    return facet is not None and facet.counts_each(request)


def check_change(change: Change) -> None:
    """Raises ValueError, LookupError or TypeError for a change of which a facet could not read its fields or
    its own requests: a plan is a file, and may come from anywhere."""
    for request in change.requests:
        facet = facet_of_request(request)
        if facet is not None:
            dict(facet.written_by(request))
    for field in change.fields:
        if field.path.startswith(DECIDING):
            normalise(field.path, field.before)
            normalise(field.path, field.after)
