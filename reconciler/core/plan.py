"""The parts of a plan: changes, their fields, requests and hazards. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from reconciler.core.options import ReadScope, Target
from reconciler.errors import Source
from reconciler.values import FieldPath, Json, Scalar


class _Word(StrEnum):
    """A word of plans. They are looked up for every field, and an enumeration's own hash takes many times
    as long as that of a text."""

    __hash__ = str.__hash__


class Action(_Word):
    """The effect of a change on its profile."""

    CREATE = "create"
    ADOPT = "adopt"
    """The API was seen to have the profile, and the state does not record it."""
    UPDATE = "update"
    RENAME = "rename"
    """Its record gets another address. That sends nothing; changes of its fields may go along."""
    LINK = "link"
    DELETE = "delete"
    FORGET = "forget"


class Op(_Word):
    """The effect on a field: set, clear, or forget (stop managing it; nothing is sent)."""

    SET = "set"
    CLEAR = "clear"
    FORGET = "forget"


class Basis(_Word):
    """How we know ``before``."""

    OBSERVED = "observed"
    RECORDED = "recorded"
    UNCERTAIN = "uncertain"
    NONE = "none"


class Mode(StrEnum):
    """Whether orphans are left alone or deleted."""

    ADDITIVE = "additive"
    PRUNE = "prune"
    SWEEP = "sweep"
    """Nothing but the deletion of what has expired."""
    DESTROY = "destroy"
    """Nothing but the deletion of what is selected, whether files declare it or not."""


ENVIRONMENT = "environment"
"""The kind of values that came from variables of the environment, as masked plans call it."""


class FieldChange(NamedTuple):
    """``before`` is ``None`` for a field that was cleared or never known: see ``basis``."""

    path: FieldPath
    op: Op
    before: Scalar | None
    after: Scalar | None
    basis: Basis
    line: int | None = None
    """Where the field is declared, in the file of the change; ``None`` where the file says nothing."""
    file: str | None = None
    """The file of the line, where that is not the file of the change: its defaults."""


class HazardSeverity(_Word):
    """How much attention a hazard asks for."""

    REFUSED = "refused"
    """``apply`` refuses a plan that has it."""
    NAMED = "named"
    """Reports name every change that has it."""
    SUMMED = "summed"
    """Reports say how many changes have it."""


class HazardScope(_Word):
    """The thing that a hazard endangers."""

    CHANGE = "change"
    """The profile of one change."""
    FILE = "file"
    """The recorded profiles of one file."""
    PLAN = "plan"
    """The plan as a whole."""


class HazardKind(_Word):
    """The dangers that a planner finds, the gravest first within each severity."""

    severity: HazardSeverity
    scope: HazardScope

    def __new__(cls, value: str, severity: HazardSeverity, scope: HazardScope) -> Self:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.severity = severity
        kind.scope = scope
        return kind

    EXISTING = "existing", HazardSeverity.REFUSED, HazardScope.PLAN
    DELETE_EVERYTHING = "delete_everything", HazardSeverity.REFUSED, HazardScope.PLAN
    MAX_DELETE = "max_delete", HazardSeverity.REFUSED, HazardScope.PLAN
    MAX_CHANGES = "max_changes", HazardSeverity.REFUSED, HazardScope.PLAN
    PROTECTED = "protected", HazardSeverity.NAMED, HazardScope.PLAN
    ADOPTED = "adopted", HazardSeverity.NAMED, HazardScope.PLAN
    FILE_SHRANK = "file_shrank", HazardSeverity.NAMED, HazardScope.FILE
    DELETE = "delete", HazardSeverity.NAMED, HazardScope.CHANGE
    DELETE_ADOPTED = "delete_adopted", HazardSeverity.NAMED, HazardScope.CHANGE
    LINK = "link", HazardSeverity.NAMED, HazardScope.CHANGE
    ACCESS_REVOKED = "access_revoked", HazardSeverity.NAMED, HazardScope.CHANGE
    ACCESS_BOUGHT = "access_bought", HazardSeverity.NAMED, HazardScope.CHANGE
    ACCESS_ADOPTED = "access_adopted", HazardSeverity.NAMED, HazardScope.CHANGE
    NEW_DEVICE_ID = "new_device_id", HazardSeverity.NAMED, HazardScope.CHANGE
    ATTRIBUTE_LIMIT = "attribute_limit", HazardSeverity.NAMED, HazardScope.CHANGE
    TWO_STEPS = "two_steps", HazardSeverity.NAMED, HazardScope.CHANGE
    ZERO_VALUE = "zero_value", HazardSeverity.NAMED, HazardScope.CHANGE
    ACCESS_LIFETIME = "access_lifetime", HazardSeverity.SUMMED, HazardScope.CHANGE
    IP_COUNTRY_FROM_SENDER = (
        "ip_country_from_sender",
        HazardSeverity.SUMMED,
        HazardScope.CHANGE,
    )


class Hazard(NamedTuple):
    """A danger with a sentence. A change carries it, or the plan as a whole does."""

    kind: HazardKind | str
    """A plain text where this program does not know the kind: the plan is from a newer program."""
    message: str
    file: str = ""
    """The file whose profiles are in danger; empty for other scopes."""
    number: int = 0
    """How many profiles of the file are."""

    @property
    def severity(self) -> HazardSeverity:
        """How much attention the kind asks for; unknown kinds are summed up."""
        kind = hazard_kind(self.kind)
        return kind.severity if isinstance(kind, HazardKind) else HazardSeverity.SUMMED

    @property
    def scope(self) -> HazardScope:
        """The thing that a hazard of a plan endangers."""
        return HazardScope.FILE if self.file else HazardScope.PLAN


_HAZARD_KINDS: dict[str, HazardKind] = {kind.value: kind for kind in HazardKind}


def hazard_kind(text: str) -> HazardKind | str:
    """The kind with a name, or the name itself where this program does not know it."""
    return _HAZARD_KINDS.get(text, text)


class Request(NamedTuple):
    """A request as it is shown and sent; authorisation is added by the client alone.

    ``fallback`` is ``POST`` on the PATCH (or GET, for a profile without fields) of a create: sent with
    the same headers and body (``{}`` where there is none) when the API says that the profile does not
    exist.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Json] | None = None
    fallback: str | None = None
    if_needed: bool = False
    """Whether it is sent only if what the answers before it show makes that necessary."""
    expects_none: bool = False
    """Whether it is a look at a profile that the state does not record: if the API has it, the change is
    refused."""


class Change(NamedTuple):
    """The change of one profile, with its reason."""

    address: str
    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()
    requests: tuple[Request, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    source: Source | None = None
    revision: int | None = None
    """Revision of the record that the change was made from; ``None`` without one."""
    labels: tuple[str, ...] = ()
    protect: bool = False
    template: str = ""
    """The customer id as the template at ``source`` has it that the profile was made from."""
    lifetime: str | None = None
    """Until when the profile may live, as declared."""
    exclusive: tuple[str, ...] | None = None
    """Where custom attributes that nobody declared are removed as they turn up in answers: the keys of
    those that are left alone all the same."""
    from_environment: tuple[FieldPath, ...] = ()
    """The fields whose values, in requests too, came from variables of the environment."""
    was_from_environment: tuple[FieldPath, ...] = ()
    """The fields whose values before came from there."""
    renamed_from: str = ""
    """The address under which the profile is recorded; empty but for a rename."""

    @property
    def refuses_existing(self) -> bool:
        """Whether it is refused where the profile exists although the state does not record it."""
        return any(request.expects_none for request in self.requests)

    @property
    def requests_least(self) -> int:
        """The least requests that it takes."""
        return sum([not request.if_needed for request in self.requests])

    @property
    def requests_max(self) -> int:
        """The most requests that it takes: with the fallbacks, and with the removal of undeclared
        attributes. Retries, and looks after an unknown outcome, come on top."""
        fallbacks = sum([request.fallback is not None for request in self.requests])
        return len(self.requests) + fallbacks + (self.exclusive is not None and bool(self.requests))


class Accumulator(Protocol):
    """Sums over the changes of a plan. Each process that plans has one; they are merged in the order of the
    plan."""

    def add(self, change: Change) -> None:
        """Count one change, the next in the order of the plan."""
        ...

    def empty(self) -> Self:
        """A new accumulator of this kind that counted nothing. Any executor can carry it."""
        ...

    def merge(self, other: Self) -> None:
        """Add the sums of another one, whose changes follow those counted here."""
        ...


class NullAccumulator:
    """Counts nothing."""

    def add(self, change: Change) -> None:
        pass

    def empty(self) -> Self:
        return self

    def merge(self, other: Self) -> None:
        pass


class Changes(Protocol):
    """Changes in the order of their addresses, which can be gone through as often as wanted.

    A tuple is one. Those of a large or a saved plan are decoded from its lines each time, one after
    the other: hold on to none of them where there may be many.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Change]: ...


class LineAuthor(NamedTuple):
    """The author who wrote or removed a line, as git knows. Reports show it beside a plan; it is never part
    of one."""

    commit: str
    """Empty before the line is committed."""
    author: str
    date: str
    """A day in UTC: YYYY-MM-DD."""
    summary: str
    """The first line of the commit's message."""
    removed: bool = False
    """Whether the commit took the line away."""
    problem: str = ""
    """Why git cannot tell; empty where it can."""


class Scope(NamedTuple):
    """The limits of a plan, and the fields that it sends again, as the user asked."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: str | None = None
    """A commit: only profiles whose files changed since then were looked at."""
    reassert: bool = False
    refresh: ReadScope | None = None
    """Which recorded profiles were read at the API first; what it said is not in the recorded state."""
    include_adopted: bool = False
    """Whether orphans are deleted that this tool did not create."""
    read: int = 0
    """Recorded profiles that were read at the API."""
    read_apart: int = 0
    """Requests beside those, which read what no answer about a profile shows."""
    looked_up: int = 0
    """Declared profiles that the state does not record and that were looked up at the API."""
    paths: tuple[str, ...] = ()
    """Files and folders: only profiles that they declare, or that are recorded from them, were looked at."""

    @property
    def reads(self) -> int:
        """The requests that read the API for the plan, retries aside. Those of an apply come on top."""
        return self.read + self.read_apart + self.looked_up


class Head(NamedTuple):
    """The part of a plan that is known before its first change: its target, and the state it is made from."""

    environment: str
    mode: Mode
    lineage: str | None
    serial: int
    application: str | None
    scope: Scope = Scope()
    target: Target | None = None


class Totals(NamedTuple):
    """Sums over the changes of a plan, and its digest."""

    summary: Mapping[str, int]
    digest: str


@dataclass(frozen=True)
class Plan:
    """The ordered changes plus lineage, serial and digest. Changes are ordered by address."""

    environment: str
    mode: Mode
    lineage: str | None
    serial: int
    application: str | None
    changes: Changes
    orphans: tuple[str, ...]
    unchanged: int
    totals: Totals = field(compare=False, repr=False)
    """The sums and the digest over the lines of the plan: see `plan_format`."""
    hazards: tuple[Hazard, ...] = ()
    """Dangers of the plan as a whole (caps, deleting everything), and of the profiles of a file."""
    scope: Scope = field(default_factory=Scope)
    target: Target | None = None
    """``None`` only for a plan that was made without an environment; no environment applies it."""

    @property
    def head(self) -> Head:
        return Head(
            self.environment,
            self.mode,
            self.lineage,
            self.serial,
            self.application,
            self.scope,
            self.target,
        )

    @property
    def summary(self) -> Mapping[str, int]:
        """Changes by action, unchanged profiles, orphans, and ``requests`` and ``requests_max``: the least
        and the most that it takes, retries aside."""
        return self.totals.summary

    @property
    def digest(self) -> str:
        return self.totals.digest

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self.changes)

    @property
    def is_empty(self) -> bool:
        return not len(self.changes)
