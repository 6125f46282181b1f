"""The outcomes of a plan's changes, and the drift that a look at the API shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, assert_never

from reconciler.core.plan import Action, FieldChange
from reconciler.core.records import Origin
from reconciler.values import FieldPath


class Outcome(StrEnum):
    """The end of a change at apply."""

    CREATED = "created"
    ADOPTED = "adopted"
    """The profile was there before our first write of it, or may have been."""
    UPDATED = "updated"
    RENAMED = "renamed"
    LINKED = "linked"
    DELETED = "deleted"
    FORGOTTEN = "forgotten"
    ALREADY = "already"
    FAILED = "failed"
    STALE = "stale"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"

    @property
    def is_applied(self) -> bool:
        """Whether the change was made."""
        return self in _APPLIED

    @classmethod
    def of_applied(cls, action: Action, origin: Origin) -> Outcome:
        """The outcome of a change that was made to a profile which came into the state in such a way."""
        match action:
            case Action.CREATE | Action.ADOPT:
                return cls.CREATED if origin is Origin.CREATED else cls.ADOPTED
            case Action.UPDATE:
                return cls.UPDATED
            case Action.RENAME:
                return cls.RENAMED
            case Action.LINK:
                return cls.LINKED
            case Action.DELETE:
                return cls.DELETED
            case Action.FORGET:
                return cls.FORGOTTEN
            case _:
                assert_never(action)


_APPLIED = frozenset(
    {
        Outcome.CREATED,
        Outcome.ADOPTED,
        Outcome.UPDATED,
        Outcome.RENAMED,
        Outcome.LINKED,
        Outcome.DELETED,
        Outcome.FORGOTTEN,
    }
)


class Failure(StrEnum):
    """Why a change was not applied, for programs: so that none has to read messages."""

    NOT_SENT = "not_sent"
    """The API could not be reached; nothing left."""
    REFUSED = "refused"
    """The API judged the request and said no."""
    MISSING = "missing"
    """The API knows no such profile."""
    UNAUTHORISED = "unauthorised"
    RATE_LIMITED = "rate_limited"
    UNKNOWN = "unknown"
    """Whether it took effect cannot be told."""
    APPLICATION = "other_application"
    """The answer came from another application than the one that the state is of."""
    STALE = "stale"
    EXISTS = "exists"
    """The profile exists and is not recorded, and existing ones are not to be adopted."""
    HALTED = "halted"
    """The run ended before it was this change's turn."""


class Halt(StrEnum):
    """Why a run ended early; the values are for people."""

    KEY = "the API refused the key"
    APPLICATION = "the answer came from another application than the state was made for"
    AWAY = "the API is away"
    LIMITED = "the API answers 429 to every request"
    INTERRUPTED = "interrupted"


class Result(NamedTuple):
    """The outcome of one change. ``reason`` and ``warnings`` may hold text of the server."""

    address: str
    action: Action
    outcome: Outcome
    reason: str = ""
    request_id: str | None = None
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    unavailable: bool = False
    """Nothing was applied because the remote was away, rather than because it said no."""

    @property
    def needs_a_look(self) -> bool:
        """Whether there is more to say than that it is done."""
        return bool(self.warnings) or not (
            self.outcome.is_applied or self.outcome is Outcome.ALREADY
        )


class Progress(NamedTuple):
    """How far an apply is."""

    total: int
    done: int
    """Changes whose outcome is durable, whatever it is."""
    failed: int
    """The failed, uncertain and stale ones among them."""
    under_way: int
    """Calls that have not ended."""
    requests: int
    """Requests that left, or tried to, retries included."""
    planned: tuple[int, int] | None = None
    """The least and the most requests that the plan takes, retries aside."""
    rate: float | None = None
    """Requests per second that may leave at present; ``None`` for no limit."""
    waiting_for: str = ""
    """The reason why all changes wait (the rate, an outage), and the profile that waits out a quiet period;
    for people."""


class ApplyReport(NamedTuple):
    """The result of an apply. ``problems`` are the first results that need a look. Every result was
    reported when it became durable."""

    run: str
    counts: Mapping[Outcome, int]
    problems: tuple[Result, ...] = ()
    halt: Halt | None = None
    requests: int = 0
    """Requests that left, or tried to, retries included."""
    seconds: float = 0.0
    recovered: int = 0
    """Profiles that an apply which was cut off had under way."""
    rate: float | None = None
    """Requests per second that a learning rate had come to."""
    clock_jumps: int = 0
    """Answers that bore a time from before that of an earlier answer about the same profile."""

    @property
    def failed(self) -> int:
        """Changes that failed or are uncertain."""
        return self.counts[Outcome.FAILED] + self.counts[Outcome.UNCERTAIN]

    @property
    def is_complete(self) -> bool:
        """Whether every change is applied, or was already."""
        done = self.applied + self.counts[Outcome.ALREADY]
        return self.halt is None and done == sum(self.counts.values())

    @property
    def applied(self) -> int:
        """Changes that were made."""
        return sum(number for outcome, number in self.counts.items() if outcome.is_applied)


def clock_text(answers: int) -> str:
    """The clock of the API jumped, as so many answers show."""
    subject = (
        "1 answer of the API bears" if answers == 1 else f"{answers:,} answers of the API bear"
    )
    return (
        f"{subject} a time from before that of an earlier answer: the API's clock jumped. "
        "Nothing depends on it; every answer was compared as it came."
    )


class DriftKind(StrEnum):
    """How a profile at the API differs from its record."""

    SAME = "same"
    CHANGED = "changed"
    """A custom attribute has another value."""
    GONE = "gone"
    RECREATED = "recreated"
    """The customer id belongs to another profile_id: every write-only field is lost."""
    UNREAD = "unread"
    """The API did not answer, or its answer was neither a profile nor "does not exist"."""


class Drift(NamedTuple):
    """The difference between one profile at the API and its record, as `refresh` saw it."""

    address: str
    kind: DriftKind
    fields: tuple[FieldChange, ...] = ()
    unverifiable: int = 0
    """Managed fields that the API never returns (adapty-api 5.3)."""
    from_environment: tuple[FieldPath, ...] = ()
    """The fields whose recorded values came from variables of the environment."""
    clock_went_back: bool = False
    """Whether the answer bore a time from before that of an earlier one: the clock of the API jumped."""
    reason: str = ""
    """Why it could not be read. It may hold text of the server."""
    read_apart: int = 0
    """Requests beside that of the profile."""
