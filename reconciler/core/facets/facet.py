"""The interface of a facet: a group of fields of a profile that is written and read in one way. Pure.

A facet owns all that is particular about its fields. The planner, the applier, the reports and the masking
ask facets, and know none of them by name. This class holds the usual answers; a facet overrides what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol

from reconciler.core.contract import Clear, Contract
from reconciler.core.options import RequestOptions
from reconciler.core.plan import Change, FieldChange, Hazard, Op, Request
from reconciler.core.profiles import Profile
from reconciler.core.records import Fact, Known, Record
from reconciler.errors import Diagnostic
from reconciler.values import FieldPath, Json, Scalar, same


class Situation(NamedTuple):
    """The profile that changes are about."""

    profile: Profile
    record: Record | None
    contract: Contract
    now: float = 0.0
    """Unix time in seconds."""


class FacetPlan(NamedTuple):
    """How the changes of a facet are sent."""

    first: Sequence[FieldChange] = ()
    """Those that must have taken effect before the others are sent."""
    hazards: Sequence[Hazard] = ()


AS_IT_IS = FacetPlan()
"""All changes at once, without a danger."""


class ValueMask(Protocol):
    """Replaces a value of a field."""

    def __call__(self, path: FieldPath, value: Any) -> Json: ...


class Need(NamedTuple):
    """What has to be sent in the place of a planned request, given what is known just before it."""

    request: Request | None
    """The request with instants in the place of spans; ``None`` if nothing has to be sent."""
    refusal: str = ""
    """Why it must not be sent, so that the change ends here; empty if it may."""
    warnings: tuple[str, ...] = ()
    """What is not as the file wants it although nothing is sent."""


class Decision(NamedTuple):
    """What a facet that decides by itself makes of a field."""

    op: Op | None = None
    """``None`` for nothing."""
    problem: Diagnostic | None = None
    """Why the field cannot be as it is declared."""


class Facet:
    """A group of fields that is written and read in one way."""

    group: str = ""
    """The member of a profile file that holds the fields, and the first part of their paths. Standard fields
    have none: each is a member itself."""
    is_shown = False
    """Whether every answer about the profile shows the fields."""
    is_exclusive = False
    """Whether a profile may say, under ``meta.exclusive``, that fields which nobody declares are removed."""
    keeps_undeclared = False
    """Whether a record keeps the values that answers show of fields which nobody declares."""
    decides = False
    """Whether the facet itself decides what happens to a field that is not recorded just as it is declared:
    see `decide`."""
    converts_text = False
    """Whether a text in a file has another form as a value."""
    absent = "cleared"
    """What reports call a field that has no value."""
    kind = ""
    """The type of the values, for people; empty where the schema of a field says it."""

    prefix = "."
    """The beginning of the field paths: the group and a dot."""

    def __init_subclass__(cls) -> None:
        cls.prefix = f"{cls.group}."

    def path(self, key: str) -> FieldPath:
        """The field path of a key."""
        return f"{self.group}.{key}"

    def keys_of(self, paths: Iterable[FieldPath]) -> list[str]:
        """The keys of those fields that are of this facet."""
        prefix = self.prefix
        return [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]

    def by_key(self, values: Mapping[FieldPath, Scalar]) -> dict[str, Scalar]:
        """Those of some values that are of this facet, by key."""
        prefix = self.prefix
        return {
            path.removeprefix(prefix): value
            for path, value in values.items()
            if path.startswith(prefix)
        }

    # --- values and contract ---

    def normalise(self, value: Scalar | None) -> Scalar | None:
        """The form of a valid value that comparing, digests, requests and display share."""
        return value

    def declared(self, value: Scalar) -> Any:
        """A value as a file declares it."""
        return value

    def undeclarable(self, value: Scalar, *, now: float) -> str:
        """Why a file does not declare a value that an answer shows; empty if it can. ``now`` is Unix time in
        seconds."""
        return ""

    def depends_on_time(self, value: Scalar | None) -> bool:
        """Whether time alone may make a field that is declared so need a change."""
        return False

    def properties(self, contract: Contract) -> dict[str, Any]:
        """The members of a profile file that hold the fields, each with its JSON Schema."""
        raise NotImplementedError

    def can_clear(
        self, path: FieldPath, values: Mapping[FieldPath, Scalar | None], *, contract: Contract
    ) -> bool:
        """Whether the API can clear a field of a profile that declares such values."""
        return contract.knows(path) and contract.field(path).clear is not Clear.NEVER

    def unclearable(self, path: FieldPath) -> FieldPath:
        """The path that a finding names about a field that cannot be cleared."""
        return path

    def is_personal(self, path: FieldPath, *, contract: Contract, public: Sequence[str]) -> bool:
        """Whether the values of a field are personal; those of unknown fields are. ``public`` are globs of
        keys that the configuration calls public."""
        return path not in contract.fields or contract.fields[path].personal

    # --- deciding ---

    def decide(
        self,
        path: FieldPath,
        fact: Fact | None,
        *,
        profile: Profile,
        record: Record | None,
        now: float,
    ) -> Decision:
        """What happens to a field of a facet that `decides`. ``fact`` is what was last known or shown of
        it, and ``now`` is Unix time in seconds."""
        raise NotImplementedError

    def satisfies(self, fact: Fact, after: Scalar | None, *, now: float) -> bool:
        """Whether a field is as a change was to make it; ``None`` is cleared."""
        known = Known.CLEARED if after is None else Known.VALUE
        return fact.known is known and same(fact.value, after)

    def agrees(self, known: Scalar | None, shown: Scalar | None, *, at: float | None) -> bool:
        """Whether an answer shows what is known. ``at`` is the time of the answer, in Unix seconds by the
        clock of the API, which may jump: what follows is reported, and decides about no request."""
        return same(known, shown)

    def value_after(self, fact: Fact, shown: Scalar | None) -> Scalar | None:
        """The value that is known of a field once an answer showed such a one of the profile; ``fact`` is
        what was known before it."""
        return shown

    def has_landed(self, late: Scalar | None, known: Scalar | None, *, now: float | None) -> bool:
        """Whether a write that may land late would change nothing, as a field is known to be now. ``now`` is
        Unix time in seconds by our own clock, since that of the API may jump; ``None`` compares the values
        alone."""
        return same(late, known)

    def in_full(self, content: Any) -> Any:
        """The member of a file that the short form of a test stands for."""
        return content

    def standing(self, values: Mapping[FieldPath, Scalar | None], *, now: float) -> dict[str, str]:
        """What a reason names of the values that answers show of fields which nobody declares, by key."""
        return {}

    def taken_back(
        self, before: Scalar | None, present: Scalar | None, *, now: float
    ) -> Iterable[Scalar | None]:
        """The value, if any, by which a field is as it was ``before`` a test."""
        return (before,)

    def last_shown(self, record: Record, path: FieldPath) -> Fact | None:
        """What is known of a field: its fact, or what the last answer showed of it. A delete of unknown
        outcome may have taken away what a facet that `decides` would rely on."""
        fact = record.facts.get(path)
        if fact is None and self.keeps_undeclared and record.timestamp is not None:
            fact = Fact.of(record.seen.get(path), observed=True)
        if self.decides and record.deleting and fact is not None and fact.known is Known.VALUE:
            return Fact(Known.UNCERTAIN, fact.value)
        return fact

    def warnings(self, profile: Profile, *, now: float) -> Iterator[Diagnostic]:
        """Warnings about a valid profile that depend on the time."""
        return iter(())

    def uncompared(self, values: Mapping[FieldPath, Scalar | None]) -> Set[FieldPath]:
        """The fields that are not compared while a profile declares such values, since the API changes
        them by itself."""
        return frozenset()

    def doubtful(
        self, facts: Mapping[FieldPath, Fact], *, changed: Set[FieldPath] = frozenset()
    ) -> Set[FieldPath]:
        """The fields whose facts cannot be believed, since the API may have changed them by itself, or may
        do so when a request writes the ``changed`` ones."""
        return frozenset()

    def undeclared(self, profile: Profile, record: Record) -> Set[FieldPath]:
        """The fields that an exclusive profile has at the API and is not to have."""
        return frozenset()

    def plan(self, changes: Sequence[FieldChange], situation: Situation) -> FacetPlan:
        """How changes of the facet are sent. Called for each changed profile, also without a change of
        this facet."""
        return AS_IT_IS

    def hazards(self, requests: Sequence[Request]) -> Iterator[Hazard]:
        """The dangers of requests that carry changes of the facet, or could."""
        return iter(())

    # --- the body of a request about the profile ---

    def along(
        self,
        changed: Mapping[FieldPath, Scalar | None],
        wanted: Mapping[FieldPath, Scalar | None],
        *,
        options: RequestOptions,
    ) -> Mapping[FieldPath, Scalar | None]:
        """The values that go along in a request with the ``changed`` ones of a profile that declares
        ``wanted``."""
        return {}

    def members(
        self,
        keys: Sequence[str],
        values: Sequence[Scalar | None],
        *,
        contract: Contract,
        options: RequestOptions,
    ) -> Mapping[str, Json]:
        """The members of a body that write some fields; ``None`` clears."""
        raise NotImplementedError

    def written(self, name: str, content: Json) -> Iterator[tuple[FieldPath, Scalar | None]]:
        """The fields that a member of a body writes, with their values; a cleared one has ``None``."""
        raise NotImplementedError

    def masked(self, name: str, content: Any, *, mask: ValueMask) -> Json:
        """A member of a body with each value replaced by what ``mask`` returns for its path."""
        return mask(name, content)

    # --- requests of its own ---

    paths: frozenset[str] = frozenset()
    """The paths of the requests that carry changes of this facet and of no other. Without one, the changes
    go in the body of the profile's requests."""

    def requests(
        self, changes: Sequence[FieldChange], situation: Situation, *, named: Mapping[str, str]
    ) -> Iterator[Request]:
        """The requests of its own that carry some changes. They leave after those of the profile, which is
        ``named`` by headers. One with ``if_needed`` relies on what the answers before it show."""
        return iter(())

    def written_by(self, request: Request) -> Iterator[tuple[FieldPath, Scalar | None]]:
        """The fields that a request of its own writes, with their values."""
        raise NotImplementedError

    def written_over(
        self, request: Request, record: Record
    ) -> Iterator[tuple[FieldPath, Scalar | None]]:
        """The fields that a request of its own writes, with the values that they get where they are as the
        ``record`` says."""
        return self.written_by(request)

    def need(self, request: Request, record: Record, *, now: float) -> Need:
        """What has to be sent in the place of a request of its own. ``record`` holds what is known just
        before it, and ``now`` is Unix time in seconds."""
        return Need(request)

    def counts_each(self, request: Request) -> bool:
        """Whether sending a request of its own twice is more than sending it once. Then one that may still
        land is waited for, and read, before it is sent again."""
        return False

    def takes_away(self, request: Request) -> bool:
        """Whether a request of its own could take away what others gave since the last answer about the
        profile, so that one is read right before."""
        return False

    def granted_by(self, request: Request) -> Iterable[FieldPath]:
        """The fields that the profile owes to a request of its own, so that they end once no file declares
        them."""
        return ()

    def masked_body(self, body: Mapping[str, Json], *, mask: ValueMask) -> Mapping[str, Json]:
        """The body of a request of its own with each value replaced by what ``mask`` returns for its path."""
        return {name: mask(self.path(name), content) for name, content in body.items()}

    def is_settled(
        self, request: Request, shown: Mapping[FieldPath, Scalar], *, now: float
    ) -> bool:
        """Whether a read shows all that a request of its own was to write."""
        return all(shown.get(path) == value for path, value in self.written_by(request))

    def reading(self, named: Mapping[str, str]) -> Request | None:
        """The request that reads the fields of the profile that is ``named`` by headers; ``None`` if every
        answer about the profile shows them, or none ever does."""
        return None

    def own_answer(self, request: Request, content: Any) -> Mapping[FieldPath, Scalar] | None:
        """The values that the answer to a request of its own shows: ``content`` is its JSON, ``None`` for an
        empty body. Returns ``None`` if the answer is a profile.

        Raises ValueError, LookupError, TypeError or AttributeError for what is no answer of the API.
        """
        return None

    # --- answers ---

    def shown(self, data: Mapping[str, Any]) -> Mapping[FieldPath, Scalar]:
        """The normalised values that the profile of an answer shows (adapty-api 5.1).

        Raises ValueError, LookupError, TypeError or AttributeError where the answer is no profile.
        """
        return {}

    def refusal_note(self, body: Mapping[str, Json], code: str) -> str:
        """What may explain that the API refused such a body with 400, or with an error code; empty if
        nothing."""
        return ""

    def follow_up(
        self, change: Change, record: Record, *, options: RequestOptions
    ) -> Change | None:
        """The change that has to follow an applied one, according to the ``record`` after it."""
        return None
