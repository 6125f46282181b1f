"""What a plan is, and how it is written down. Pure.

A plan may have more changes than fit into memory, so it is written and read as a stream of lines
(header, a line a change, footer). Its digest covers these lines as they are written; both formats of a
plan have the same one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b, sha256
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

from reconciler.errors import Refused, Source
from reconciler.jsontext import unpacked_exactly
from reconciler.values import FieldPath, Json, Scalar

FORMAT_VERSION = 1


class _Word(StrEnum):
    """A word of plans. They are looked up for every field, and an enumeration's own hash takes many times
    as long as that of a text."""

    __hash__ = str.__hash__


class Action(_Word):
    """What a change does to its profile."""

    CREATE = "create"
    UPDATE = "update"
    LINK = "link"
    DELETE = "delete"
    FORGET = "forget"


class Op(_Word):
    """What happens to a field: set, clear, or forget (stop managing it; nothing is sent)."""

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
    """What a hazard endangers."""

    CHANGE = "change"
    """The profile of one change."""
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

    DELETE_EVERYTHING = "delete_everything", HazardSeverity.REFUSED, HazardScope.PLAN
    MAX_DELETE = "max_delete", HazardSeverity.REFUSED, HazardScope.PLAN
    MAX_CHANGES = "max_changes", HazardSeverity.REFUSED, HazardScope.PLAN
    PROTECTED = "protected", HazardSeverity.NAMED, HazardScope.PLAN
    DELETE = "delete", HazardSeverity.NAMED, HazardScope.CHANGE
    LINK = "link", HazardSeverity.NAMED, HazardScope.CHANGE
    NEW_DEVICE_ID = "new_device_id", HazardSeverity.NAMED, HazardScope.CHANGE
    ATTRIBUTE_LIMIT = "attribute_limit", HazardSeverity.NAMED, HazardScope.CHANGE
    TWO_STEPS = "two_steps", HazardSeverity.NAMED, HazardScope.CHANGE
    ZERO_VALUE = "zero_value", HazardSeverity.NAMED, HazardScope.CHANGE
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

    @property
    def severity(self) -> HazardSeverity:
        """How much attention the kind asks for; unknown kinds are summed up."""
        kind = _HAZARD_KINDS.get(self.kind)
        return HazardSeverity.SUMMED if kind is None else kind.severity


_HAZARD_KINDS: dict[str, HazardKind] = {kind.value: kind for kind in HazardKind}


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


class Change(NamedTuple):
    """What happens to one profile, and why."""

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
    """Who wrote or removed a line, as git knows. Reports show it beside a plan; it is never part of one."""

    commit: str
    """Empty before the line is committed."""
    author: str
    date: str
    """A day in UTC: YYYY-MM-DD."""
    summary: str
    """The first line of the commit's message."""
    removed: bool = False
    """Whether the commit took the line away."""


class Scope(NamedTuple):
    """What a plan was asked for, beside files and state: what it is limited to, and what is sent again."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    since: str | None = None
    """A commit: only profiles whose files changed since then were looked at."""
    reassert: bool = False
    refresh: bool = False
    """Whether the API was read first; what it said is not in the recorded state."""


class Head(NamedTuple):
    """What is known of a plan before its first change: what it is for, and which state it is from."""

    environment: str
    mode: Mode
    lineage: str | None
    serial: int
    application: str | None
    scope: Scope = Scope()


class Totals(NamedTuple):
    """What is known of a plan once its changes have gone by."""

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
    hazards: tuple[Hazard, ...] = ()
    """Dangers of the plan as a whole: caps, deleting everything."""
    scope: Scope = field(default_factory=Scope)
    totals: Totals | None = field(default=None, compare=False, repr=False)
    """Given where the changes were counted as they went by; worked out on first use otherwise."""

    @property
    def head(self) -> Head:
        return Head(
            self.environment, self.mode, self.lineage, self.serial, self.application, self.scope
        )

    @cached_property
    def _totals(self) -> Totals:
        if self.totals is not None:
            return self.totals
        writing = Writing(self.head)
        for change in self.changes:
            writing.change(change)
        writing.footer(self.orphans, self.hazards, self.unchanged)
        return writing.totals

    @property
    def summary(self) -> Mapping[str, int]:
        """Changes by action, unchanged profiles, orphans, and requests (one for a change with a
        fallback)."""
        return self._totals.summary

    @property
    def digest(self) -> str:
        return self._totals.digest

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self.changes)

    @property
    def is_empty(self) -> bool:
        return not len(self.changes)


# --- written down --------------------------------------------------------------------------------


class Writing:
    """A plan being written down. It counts and digests what goes by, and keeps none of it.

    The three kinds of line are asked for in their order; each ends with a newline. Members keep their
    order, so that a body read back is sent in the very order that was shown.
    """

    totals: Totals
    """After the footer."""

    def __init__(self, head: Head) -> None:
        self._actions = dict.fromkeys((action.value for action in Action), 0)
        self._requests = 0
        self.header = _line(_encode_head(head))
        self._sha = sha256(self.header.encode("ascii"))

    def change(self, change: Change) -> str:
        line = line_of(change)
        self.passed(change, line)
        return line

    def passed(self, change: Change, line: str) -> None:
        """Take note of a line that was written before."""
        self._sha.update(line.encode("utf-8", "surrogatepass"))
        self._actions[change.action.value] += 1
        self._requests += len(change.requests)

    def passed_all(self, lines: Lines) -> None:
        """The same of the lines of several changes."""
        self._sha.update(lines.text)
        for action, number in lines.actions.items():
            self._actions[action.value] += number
        self._requests += lines.requests

    def footer(self, orphans: Iterable[str], hazards: Iterable[Hazard], unchanged: int) -> str:
        named = list(orphans)
        summary = self._actions | {
            "unchanged": unchanged,
            "orphans": len(named),
            "requests": self._requests,
        }
        footer: dict[str, Json] = {
            "orphans": named,
            "hazards": [_encode_hazard(hazard) for hazard in hazards],
            "summary": summary,
        }
        self._sha.update(_line(footer).encode("ascii"))
        self.totals = Totals(summary, f"sha256:{self._sha.hexdigest()}")
        return _line({**footer, "digest": self.totals.digest})


MOST_HELD = 5_000
"""Changes of a plan that are held in memory; of a larger one, none is."""


class Lines(NamedTuple):
    """Changes in a row, as they are written down."""

    text: bytes
    """ASCII."""
    marks: bytes
    """What tells each of the lines from others: see `mark`."""
    actions: Mapping[Action, int]
    requests: int

    @classmethod
    def of(cls, changes: Sequence[Change], lines: Sequence[str] | None = None) -> Lines:
        """The lines of changes; where they are given, changes that are like those on them do."""
        if lines is None:
            lines = [*map(line_of, changes)]
        return cls(
            "".join(lines).encode("ascii"),
            b"".join(map(mark, lines)),
            Counter([change.action for change in changes]),
            sum([len(change.requests) for change in changes]),
        )


def line_of(change: Change) -> str:
    """A change as a line of a plan."""
    source = change.source
    return _line(
        {
            "address": change.address,
            "action": change.action.value,
            "reason": change.reason,
            "hazards": [_encode_hazard(hazard) for hazard in change.hazards],
            "source": {"file": source.file, "line": source.line} if source is not None else None,
            "revision": change.revision,
            "fields": [_encode_field(field) for field in change.fields],
            "requests": [_encode_request(request) for request in change.requests],
            **_rare_members(change),
        }
    )


def to_lines(plan: Plan) -> Iterator[str]:
    """A plan as JSON Lines: a header, a line per change, a footer. Each ends with a newline."""
    writing = Writing(plan.head)
    yield writing.header
    for change in plan.changes:
        yield writing.change(change)
    yield writing.footer(plan.orphans, plan.hazards, plan.unchanged)


def encode(plan: Plan) -> dict[str, Json]:
    """A plan as one JSON object: schema ``plan.schema.json``."""
    header, *changes, footer = (json.loads(line) for line in to_lines(plan))
    return {**header, "changes": changes, **footer}


Conforms: TypeAlias = Callable[[str, Any], bool]
"""Whether a ``header``, ``change`` or ``footer`` (named first) has the form that its schema gives it."""


def from_lines(lines: Iterable[str], conforms: Conforms = lambda kind, data: True) -> Plan:
    """The plan that `to_lines` wrote, or the one object that `encode` made, in memory.

    A digest can be made by anybody, so what comes from outside is to pass ``conforms``.

    Raises Refused for a plan that is truncated, altered, masked, of a newer format, or no plan at all.
    """
    changes: list[Change] = []
    plan = _checked(lines, conforms, lambda change, line: changes.append(change))
    return replace(plan, changes=tuple(changes))


def from_stream(lines: Callable[[], Iterable[str]], conforms: Conforms) -> Plan:
    """The same plan, its changes decoded anew each time that they are gone through.

    ``lines`` gives the lines from the first one on, as often as it is called. All of them are checked
    here, once; of each change a digest is kept, so that going through the changes later yields what
    was checked or raises Refused.
    """
    marks = bytearray()
    plan = _checked(lines(), conforms, lambda change, line: marks.extend(mark(line)))
    return replace(plan, changes=Stream(lines, len(marks) // MARK, bytes(marks)))


class Stream:
    """Changes on the lines of a plan that is kept elsewhere; ``marks`` are those of the lines."""

    def __init__(
        self, lines: Callable[[], Iterable[str]], count: int, marks: bytes | None = None
    ) -> None:
        self._lines = lines
        self._count = count
        self._marks = marks

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Change]:
        lines = _whole(self._lines())
        if _holds_all(next(lines, "")):
            lines = _lines_of(self._lines())
            next(lines)
        marks, seen = self._marks, 0
        for line in islice(lines, self._count):
            if marks is not None and marks[seen * MARK : (seen + 1) * MARK] != mark(line):
                break
            seen += 1
            yield _decode_change(unpacked_exactly(line))
        if seen != self._count:
            raise Refused("the plan was altered while it was in use", hint="Plan again with --out.")


MARK = 16
"""Bytes of a digest that tells one line from another."""


def mark(line: str) -> bytes:
    """What tells a line of a plan from every other."""
    return blake2b(line.encode("utf-8", "surrogatepass"), digest_size=MARK).digest()


def _checked(
    lines: Iterable[str], conforms: Conforms, found: Callable[[Change, str], None]
) -> Plan:
    """A plan without its changes, each of which is given to ``found`` with its line."""

    def read_as(kind: str, line: str) -> Any:
        data = json.loads(line)
        if not conforms(kind, data):
            raise ValueError
        return data

    try:
        read = _lines_of(lines)
        first = next(read)
        header = json.loads(first)
        version = header.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise Refused(
                f"the plan has format {version}, this program reads up to {FORMAT_VERSION}",
                hint="Upgrade reconcile, or plan again.",
            )
        if version != FORMAT_VERSION:
            raise Refused("this is not a plan", hint="Plan again with --out.")
        if header.get("masked"):
            raise Refused(
                "this plan is masked: made to be read, it does not hold what would be sent",
                hint="Save the plan itself with --out.",
            )
        head = _decode_head(read_as("header", first))
        writing = Writing(head)
        last = next(read)
        for line in read:
            change = _decode_change(read_as("change", last))
            writing.passed(change, last)
            found(change, last)
            last = line
        footer = json.loads(last)
        if "digest" not in footer:
            raise Refused("the plan is truncated", hint="Plan again with --out.")
        footer = read_as("footer", last)
        plan = Plan(
            environment=head.environment,
            mode=head.mode,
            lineage=head.lineage,
            serial=head.serial,
            application=head.application,
            changes=(),
            orphans=tuple(footer["orphans"]),
            unchanged=footer["summary"]["unchanged"],
            hazards=_decode_hazards(footer["hazards"]),
            scope=head.scope,
        )
        footer_line = writing.footer(plan.orphans, plan.hazards, plan.unchanged)
        intact = first == writing.header and last == footer_line
    except _NOT_A_PLAN:
        raise Refused(
            "this is not a plan that reconcile wrote", hint="Plan again with --out."
        ) from None
    if not intact:
        raise Refused(
            "the plan was altered after it was written: its digest does not match",
            hint="Plan again, and apply what was reviewed.",
        )
    return replace(plan, totals=writing.totals)


_NOT_A_PLAN = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError),
    *(StopIteration, RuntimeError),  # too few lines: here, and inside of a generator
)


def _lines_of(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a plan in either format. Only the one object is taken into memory."""
    read = _whole(lines)
    first = next(read, "")
    if not _holds_all(first):
        yield first
        yield from read
        return
    data = json.loads("".join(chain([first], read)))
    data.pop("blame", None)  # said beside the plan; no part of it
    footer = {name: data.pop(name) for name in ("orphans", "hazards", "summary", "digest")}
    changes = data.pop("changes")
    for part in (data, *changes, footer):
        yield _line(part)


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Lines that hold something, each ended by one newline."""
    return (f"{text}\n" for line in lines if (text := line.strip(" \t\r\n")))


def _holds_all(first: str) -> bool:
    """Whether a first line begins the one object, rather than being the header."""
    try:
        data = json.loads(first)
    except ValueError:
        return True
    return isinstance(data, dict) and "changes" in data


_encoded = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _line(data: Json) -> str:
    return _encoded(data) + "\n"


def _encode_head(head: Head) -> dict[str, Json]:
    scope = {name: value for name, value in head.scope._asdict().items() if value}
    return {
        "format_version": FORMAT_VERSION,
        "environment": head.environment,
        "mode": head.mode.value,
        "state": {
            "lineage": head.lineage,
            "serial": head.serial,
            "application": head.application,
        },
        **({"scope": scope} if scope else {}),
    }


def _decode_head(data: dict[str, Any]) -> Head:
    state, scope = data["state"], dict(data.get("scope", {}))
    return Head(
        data["environment"],
        Mode(data["mode"]),
        state["lineage"],
        state["serial"],
        state["application"],
        Scope(tuple(scope.pop("select", ())), tuple(scope.pop("exclude", ())), **scope),
    )


def _rare_members(change: Change) -> dict[str, Json]:
    """The members of a line that are left out where they have their default, as in most changes."""
    return {
        **({"labels": list(change.labels)} if change.labels else {}),
        **({"protect": True} if change.protect else {}),
        **({"template": change.template} if change.template else {}),
        **({"lifetime": change.lifetime} if change.lifetime is not None else {}),
        **({"exclusive": list(change.exclusive)} if change.exclusive is not None else {}),
    }


def _encode_field(field: FieldChange) -> dict[str, Json]:
    data: dict[str, Json] = {
        "path": field.path,
        "op": field.op.value,
        "before": field.before,
        "after": field.after,
        "basis": field.basis.value,
        "line": field.line,
    }
    if field.file is not None:
        data["file"] = field.file
    return data


def _encode_hazard(hazard: Hazard) -> dict[str, Json]:
    return {"kind": hazard.kind, "message": hazard.message}


def _encode_request(request: Request) -> dict[str, Json]:
    data: dict[str, Json] = {
        "method": request.method,
        "path": request.path,
        "headers": dict(request.headers),
    }
    if request.body is not None:
        data["body"] = request.body
    if request.fallback is not None:
        data["fallback"] = request.fallback
    return data


def _decode_hazards(data: Any) -> tuple[Hazard, ...]:
    return tuple(
        Hazard(_HAZARD_KINDS.get(item["kind"], item["kind"]), item["message"]) for item in data
    )


# Looking up is many times faster than calling an enumeration.
_ACTIONS = {action.value: action for action in Action}
_OPS = {op.value: op for op in Op}
_BASES = {basis.value: basis for basis in Basis}


def _decode_change(data: dict[str, Any]) -> Change:
    source = data["source"]
    return Change(
        address=data["address"],
        action=_ACTIONS[data["action"]],
        reason=data["reason"],
        fields=tuple(
            [
                FieldChange._make(
                    (
                        item["path"],
                        _OPS[item["op"]],
                        item["before"],
                        item["after"],
                        _BASES[item["basis"]],
                        item["line"],
                        item.get("file"),
                    )
                )
                for item in data["fields"]
            ]
        ),
        requests=tuple(
            Request(
                method=item["method"],
                path=item["path"],
                headers=item["headers"],
                body=item.get("body"),
                fallback=item.get("fallback"),
            )
            for item in data["requests"]
        ),
        hazards=_decode_hazards(data["hazards"]),
        source=Source(source["file"], source["line"]) if source else None,
        revision=data["revision"],
        labels=tuple(data.get("labels", ())),
        protect=data.get("protect", False),
        template=data.get("template", ""),
        lifetime=data.get("lifetime"),
        exclusive=tuple(data["exclusive"]) if "exclusive" in data else None,
    )
