"""The contents of the state: facts, records, the journal and the history. Pure.

The remote returns almost nothing of what it is sent (adapty-api 5.3), so a record is the only memory
of most fields. A *fact* is what we last knew of one field; a *record* is all of that for one profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from reconciler.errors import Source
from reconciler.values import FieldPath, Scalar


class Known(StrEnum):
    """The kind of a fact about a field. A field without a fact was never known and is not managed."""

    VALUE = "value"
    CLEARED = "cleared"
    UNCERTAIN = "uncertain"
    UNKNOWN = "unknown"
    """Was managed, but the profile turned out to be another one: the value is lost."""


class Fact(NamedTuple):
    """Our last knowledge of one field.

    ``value`` is the value for ``VALUE``; for ``UNCERTAIN`` it is the last value known before the write
    whose outcome is unknown (``None``: cleared or never known), and ``attempt`` what that write asked
    for (``None``: to clear). ``observed`` says that the API returned it, rather than accepted it.
    """

    known: Known
    value: Scalar | None = None
    attempt: Scalar | None = None
    observed: bool = False

    @classmethod
    def of(cls, value: Scalar | None, *, observed: bool = False) -> Fact:
        """The fact of a settled write or an observation; ``None`` is known to be cleared."""
        known = Known.CLEARED if value is None else Known.VALUE
        return cls(known, value=value, observed=observed)


class Presence(StrEnum):
    """Whether the profile exists at the remote, as far as we know."""

    PRESENT = "present"
    UNCONFIRMED = "unconfirmed"
    """A create was attempted and its outcome is unknown."""
    GONE = "gone"
    """The API said that it does not exist."""


class Origin(StrEnum):
    """How a profile came into the state. `--prune` and `sweep` delete only what this tool created."""

    CREATED = "created"
    """Our POST made it."""
    ADOPTED = "adopted"
    """It was there before our first write, or may have been; or another profile took the place of ours."""
    UNKNOWN = "unknown"
    """Nothing tells, as in records from before origins were kept."""


class Record(NamedTuple):
    """All that we know of one profile. ``revision`` rises whenever the content changes."""

    address: str
    customer_user_id: str | None = None
    profile_id: str | None = None
    presence: Presence = Presence.PRESENT
    facts: Mapping[FieldPath, Fact] = {}
    forgotten: frozenset[FieldPath] = frozenset()
    unmanaged: tuple[str, ...] = ()
    """Keys of custom attributes last seen at the remote that nobody declared, sorted; never values."""
    seen: Mapping[FieldPath, Scalar | None] = {}
    """Values last seen at the remote of fields that are not managed, of those facets that keep them; ``None``
    where there was none. See `reconciler.core.transitions.with_seen` for what a plan adds."""
    granted: frozenset[FieldPath] = frozenset()
    """Fields that the profile owes to a request of this tool, or may: they end once no file declares them."""
    protect: bool = False
    labels: tuple[str, ...] = ()
    platform: str | None = None
    source: Source | None = None
    """Where it was last declared."""
    unknown_at: float | None = None
    """Unix time of the latest write whose outcome was unknown; kept after a retry succeeded, because
    that write may still land."""
    unknown_write: Mapping[FieldPath, Scalar | None] = {}
    """The values of that write, so that repeating it need not wait out the quiet period."""
    origin: Origin = Origin.UNKNOWN
    created_at: float | None = None
    """Unix time at which this tool created it; ``None`` if it was there before, or may have been."""
    lifetime: str | None = None
    """Until when it may live, as it was last declared: see `reconciler.core.lifetimes.expiry`."""
    deleting: bool = False
    """A delete was attempted and its outcome is unknown."""
    linking: bool = False
    """A link was attempted and its outcome is unknown: it is looked up before it is sent again."""
    timestamp: int | None = None
    """The time in the last answer about it, in milliseconds, by the API's clock. It orders nothing: it shows
    that this clock jumped."""
    from_environment: tuple[FieldPath, ...] = ()
    """The fields whose recorded values came from variables of the environment, sorted: they are never
    printed."""
    revision: int = 0

    @property
    def exists(self) -> bool:
        """Whether the profile exists as far as we know; not so while a delete may have taken effect."""
        return self.presence is Presence.PRESENT and not self.deleting


class Header(NamedTuple):
    """The state as a whole. ``lineage`` is ``None`` and ``serial`` 0 until the first write."""

    lineage: str | None = None
    serial: int = 0
    environment: str | None = None
    application: str | None = None
    """``app_id`` learned from the first answer (adapty-api 5.1)."""


class JournalKind(StrEnum):
    """The kind of an entry of the journal. All but `INTENT` and `RECOVERED` are outcomes of a change;
    `APPLIED` stands for every change that was made (see `reconciler.core.outcomes.Outcome`)."""

    INTENT = "intent"
    """A request is about to leave. Durable before it does."""
    APPLIED = "applied"
    ALREADY = "already"
    """The profile already was as the change wants it."""
    FAILED = "failed"
    STALE = "stale"
    """The record changed since the plan was made, so nothing was sent."""
    UNCERTAIN = "uncertain"
    """Whether the request took effect is unknown."""
    SKIPPED = "skipped"
    RECOVERED = "recovered"
    """An earlier run was cut off while this profile was under way."""


class JournalEntry(NamedTuple):
    """One line of the journal: an intent, durable before its request, or an outcome after it."""

    run: str
    address: str
    kind: JournalKind
    at: float
    """Unix time in seconds."""
    action: str = ""
    request: str = ""
    """Digest of the request; never its content."""
    detail: str = ""
    """Reason and the API's ``Request-Id``; never a value of the profile."""


class RunStarter(NamedTuple):
    """Who started a run, where, and from which files. A text is empty where that is not known."""

    user: str = ""
    host: str = ""
    ci: str = ""
    """Address or id of the build that ran it."""
    commit: str = ""
    """The commit of the checkout whose files were applied."""


class Run(NamedTuple):
    """One line of the history of applies."""

    run: str
    started: float
    finished: float
    digest: str
    outcomes: Mapping[str, int]
    starter: RunStarter = RunStarter()
    """Empty for runs from before it was recorded."""


class Export(NamedTuple):
    """The whole state as one value: what ``state pull`` prints and ``state push`` takes."""

    header: Header
    records: tuple[Record, ...]


def differs(a: Record | None, b: Record) -> bool:
    """Whether two records of a profile say different things: revisions aside, and times of answers,
    which differ every time."""
    return a is None or a._replace(revision=b.revision, timestamp=b.timestamp) != b


def by_address(records: Iterable[Record]) -> dict[str, Record]:
    return {record.address: record for record in records}
