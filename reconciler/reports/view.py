"""The one view model behind every format that a person reads: a plan as a reviewer meets it. Pure.

Every text of a view has passed `shown` or `quoted`: it is one line without control, direction or
invisible characters, and no build obeys it. A writer adds what its medium needs (Markdown, HTML), and
decides nothing about the plan.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from math import ceil
from typing import NamedTuple, TypeAlias, assert_never
from urllib.parse import quote

from reconciler.core.contract import ATTRIBUTES
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    FieldChange,
    Hazard,
    HazardKind,
    HazardScope,
    HazardSeverity,
    LineAuthor,
    Mode,
    Op,
    Plan,
    Request,
    Scope,
)
from reconciler.core.transitions import Rate
from reconciler.errors import Source
from reconciler.values import FieldPath, quoted, shown, spelled

SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.LINK: "~",
    Action.DELETE: "-",
    Action.FORGET: "x",
}

MOST_NAMED = 200
"""Changes that are named for each kind of hazard; of a larger number, the rest is summed up."""

_BY_SEVERITY = (Action.DELETE, Action.LINK, Action.UPDATE, Action.CREATE, Action.FORGET)


def count(number: int, noun: str) -> str:
    """``1 change``, ``2,000 changes``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Links(NamedTuple):
    """Addresses of lines of files: ``base``, then ``prefix`` (the folder of the configuration in its
    repository), the file, and ``#L`` with the line. Without a base there are none."""

    base: str = ""
    prefix: str = ""

    def to(self, source: Source | None) -> str:
        """The address of a place, or empty. Nothing in a file name can end or steer it."""
        if not self.base or source is None or source.file.startswith("/"):
            return ""
        path = quote(f"{self.prefix}{source.file}".encode("utf-8", "surrogatepass"), safe="/")
        return f"{self.base}{path}" + (f"#L{source.line}" if source.line else "")

    def path(self, file: str) -> str:
        """A file as builds name it: from the root of the repository."""
        return file if file.startswith("/") else self.prefix + file


class FieldView(NamedTuple):
    """What happens to one field. ``after`` of a cleared one is ``cleared``; ``before`` is ``None`` where
    nothing was there or it was never known."""

    mark: str
    """``+``, ``~``, ``-``, or ``x`` for a field that is no longer managed."""
    path: str
    op: Op
    before: str | None
    after: str
    basis: Basis
    note: str
    """How sure ``before`` is, where that is worth a word."""
    file: str
    line: int
    link: str
    author: str


class HazardView(NamedTuple):
    """A danger with its sentence: of the plan as a whole, of the change with this ``address``, or of
    ``number`` changes."""

    kind: str
    message: str
    scope: HazardScope
    severity: HazardSeverity
    address: str = ""
    number: int = 1

    @property
    def refused(self) -> bool:
        """Whether apply refuses a plan with it."""
        return self.scope is HazardScope.PLAN and self.severity is HazardSeverity.REFUSED

    @property
    def is_summed(self) -> bool:
        """Whether it stands for several changes, which are not named."""
        return self.scope is HazardScope.CHANGE and not self.address


class ChangeView(NamedTuple):
    """What happens to one profile."""

    symbol: str
    address: str
    action: Action
    reason: str
    labels: tuple[str, ...]
    protect: bool
    hazards: tuple[HazardView, ...]
    fields: tuple[FieldView, ...]
    sent: tuple[Request, ...]
    place: str
    file: str
    line: int
    link: str
    author: str
    template: str = ""
    """As it was written, not to be printed as it is."""
    members: int = 1
    """Changes that this stands for: those of a template."""

    @property
    def requests(self) -> tuple[tuple[str, ...], ...]:
        """The lines of each request, the very ones that are sent. Made when they are asked for: most
        readers do not, and they cost more than all the rest."""
        return tuple(tuple(request_lines(request)) for request in self.sent)


GroupKey: TypeAlias = tuple[Source | None, str, Action, tuple[tuple[FieldPath, Op, Basis], ...]]


class _Group:
    """Changes of one template that do the same to the same fields. Of their values the first few are
    kept: a template may make a hundred thousand profiles."""

    def __init__(self, change: Change) -> None:
        self.size = 0
        self._befores: list[list[str]] = [[] for _ in change.fields]
        self._afters: list[list[str]] = [[] for _ in change.fields]

    def add(self, change: Change) -> None:
        self.size += 1
        for item, befores, afters in zip(change.fields, self._befores, self._afters, strict=True):
            _, before, after, _ = _told(item)
            _keep(befores, [] if before is None else [before])
            _keep(afters, [after])

    def merge(self, other: _Group) -> None:
        self.size += other.size
        for mine, others in ((self._befores, other._befores), (self._afters, other._afters)):
            for kept, more in zip(mine, others, strict=True):
                _keep(kept, more)

    def of(self, first: ChangeView) -> ChangeView:
        """The whole group, as if it was its first change."""
        fields = zip(first.fields, self._befores, self._afters, strict=True)
        return first._replace(
            address=shown(first.template),
            members=self.size,
            fields=tuple(
                item._replace(
                    before=None if item.before is None else _some(befores),
                    after=_some(afters) or item.after,
                )
                for item, befores, afters in fields
            ),
            place=f"{count(self.size, 'profile')} from {first.place}",
            sent=(),
        )


_FEW_VALUES = 2


def _keep(values: list[str], more: Iterable[str]) -> None:
    """Adds more values to the first few, and one to tell that there are others."""
    for value in more:
        if len(values) <= _FEW_VALUES and value not in values:
            values.append(value)


def _some(values: Sequence[str]) -> str:
    few = ", ".join(values[:_FEW_VALUES])
    return f"{few}, …" if len(values) > _FEW_VALUES else few


def _group_of(change: Change) -> GroupKey | None:
    """What tells the group of a change from others; ``None`` for one that no template made."""
    if not change.template:
        return None
    fields = tuple((item.path, item.op, item.basis) for item in change.fields)
    return change.source, change.template, change.action, fields


class Tally:
    """The sums that a view shows over all changes: an `Accumulator`, so that they can be counted while the
    plan is made."""

    def __init__(self) -> None:
        self.basis: Counter[Basis] = Counter()
        """How many fields are known in which way."""
        self.write_only = 0
        """Fields with a ``before`` that the API never returns."""
        self.groups: dict[GroupKey, _Group] = {}
        self._grave: dict[str, list[tuple[str, str]]] = {
            kind: [] for kind in HazardKind if kind.severity is HazardSeverity.NAMED
        }
        """Sentence and address. They become views when they are told: most are not."""
        self._numbers: Counter[str] = Counter()
        self._sentences: dict[str, str] = {}

    def add(self, change: Change) -> None:
        if (key := _group_of(change)) is not None:
            if key not in self.groups:
                self.groups[key] = _Group(change)
            self.groups[key].add(change)
        self._add_hazards(change.hazards, change.address)
        bases = [item.basis for item in change.fields]
        self.basis.update(bases)
        if bases.count(Basis.NONE) != len(bases):
            self.write_only += sum(
                item.basis is not Basis.NONE and not _is_attribute(item.path)
                for item in change.fields
            )

    def _add_hazards(self, hazards: Iterable[Hazard], address: str) -> None:
        for kind, message in hazards:
            self._numbers[kind] += 1
            if kind not in self._grave:
                self._sentences[kind] = message
            elif self._numbers[kind] <= MOST_NAMED:
                self._grave[kind].append((message, address))

    def empty(self) -> Tally:
        return Tally()

    def merge(self, other: Tally) -> None:
        for key, group in other.groups.items():
            if key in self.groups:
                self.groups[key].merge(group)
            else:
                self.groups[key] = group
        for kind, named in other._grave.items():
            room = MOST_NAMED - len(self._grave[kind])
            self._grave[kind] += named[:room]
        self._numbers += other._numbers
        self._sentences |= other._sentences
        self.basis += other.basis
        self.write_only += other.write_only

    @property
    def hazards(self) -> Iterator[HazardView]:
        """The grave ones, then sums; the gravest first."""
        for kind, named in self._grave.items():
            for message, address in named:
                yield HazardView(
                    shown(kind),
                    shown(message),
                    HazardScope.CHANGE,
                    HazardSeverity.NAMED,
                    shown(address),
                )
            more = self._numbers[kind] - len(named)
            if more:
                yield _summed(kind, f"more have the hazard {shown(kind)}", more)
        for kind, sentence in sorted(self._sentences.items()):
            yield _summed(kind, shown(sentence), self._numbers[kind])


class PlanView(NamedTuple):
    """A plan as a reviewer meets it. ``changes`` are made one by one, in the plan's order."""

    plan: Plan
    """Masked, if anything is."""
    environment: str
    digest: str
    """Of the plan that was made, masked or not."""
    masked: tuple[str, ...]
    scope: tuple[str, ...]
    """What the plan is limited to and how it was made, a sentence each."""
    hazards: tuple[HazardView, ...]
    """Of the plan, then the grave ones of changes, then sums; the gravest first."""
    orphans: Sequence[str]
    basis: Mapping[Basis, int]
    """How many fields are known in which way."""
    write_only: int
    """Fields with a ``before`` that the API never returns."""
    duration: str
    command: str
    """Applies exactly this plan, or nothing."""
    blame: Mapping[tuple[str, FieldPath], LineAuthor]
    links: Links
    groups: Mapping[GroupKey, _Group]

    @classmethod
    def of(
        cls,
        plan: Plan,
        *,
        tally: Tally | None = None,
        rate: Rate | None = None,
        masked: tuple[str, ...] = (),
        blame: Mapping[tuple[str, FieldPath], LineAuthor] | None = None,
        links: Links | None = None,
    ) -> PlanView:
        """The view of a plan; ``tally`` was given each of its changes."""
        if tally is None:
            tally = Tally()
            for change in plan.changes:
                tally.add(change)
        return cls(
            plan=plan,
            environment=shown(plan.environment),
            digest=plan.digest,
            masked=masked,
            scope=tuple(_scope(plan.scope)),
            hazards=(*map(_hazard_of_plan, plan.hazards), *tally.hazards),
            orphans=plan.orphans,
            basis=tally.basis,
            write_only=tally.write_only,
            duration=_takes(plan.summary["requests"], rate),
            command=shown(shlex.join(_command(plan))),
            blame=blame or {},
            links=links or Links(),
            groups=tally.groups,
        )

    @property
    def summary(self) -> Mapping[str, int]:
        return self.plan.summary

    @property
    def is_empty(self) -> bool:
        return self.plan.is_empty

    @property
    def changes(self) -> Iterator[ChangeView]:
        """Every change, in the plan's order; each time anew."""
        return map(self.change, self.plan.changes)

    @property
    def leaders(self) -> Iterator[Change]:
        """The first change of each group, and every change that is in none."""
        told: set[GroupKey] = set()
        for change in self.plan.changes:
            key = _group_of(change)
            if key not in told:
                yield change
                if key is not None:
                    told.add(key)

    def group(self, change: Change) -> ChangeView:
        """The view of the group of a change, or of the change alone."""
        key = _group_of(change)
        group = None if key is None else self.groups.get(key)
        view = self.change(change)
        return view if group is None or group.size < 2 else group.of(view)

    def change(self, change: Change) -> ChangeView:
        """The view of one change."""
        view = without_fields(change)
        source = change.source if change.action is not Action.DELETE else None
        return view._replace(
            fields=self._field_views(change, view.file),
            link=self.links.to(source),
            author=author_text(self.blame.get((change.address, ""))),
        )

    def _field_views(self, change: Change, file: str) -> tuple[FieldView, ...]:
        """The views of the fields of a change, whose file is shown as ``file``."""
        source, blame, links = change.source, self.blame, self.links
        views = []
        for item in change.fields:
            path, op, _, _, basis, line, defaults = item
            mark, before, after, note = _told(item)
            place = link = author = ""
            if source is None or not line:
                line = 0
            else:
                place = file if not defaults else shown(defaults)
                if links.base:
                    link = links.to(Source(defaults or source.file, line))
            if blame:
                author = author_text(blame.get((change.address, path)))
            name = _shown_often(path)
            told = (mark, name, op, before, after, basis, note, place, line, link, author)
            views.append(FieldView._make(told))
        return tuple(views)

    @property
    def totals(self) -> str:
        """What the plan does, in one sentence; the parts that are nothing are left out."""
        summary = self.summary
        parts = [f"{summary[action]:,} to {action}" for action in Action if summary[action]]
        return ", ".join(parts) or "nothing to change"

    @property
    def certainty(self) -> str:
        """How sure the plan is of what was there, by basis."""
        words = {
            Basis.OBSERVED: "seen at the API",
            Basis.RECORDED: "as this tool last wrote",
            Basis.UNCERTAIN: "uncertain after a write of unknown outcome",
            Basis.NONE: "never known",
        }
        parts = [f"{self.basis[key]:,} {word}" for key, word in words.items() if self.basis[key]]
        fields = count(sum(self.basis.values()), "value")
        return f"Of {fields} before the change: {', '.join(parts)}." if parts else ""

    @property
    def undo(self) -> str:
        """What can be taken back, and what cannot."""
        if self.is_empty:
            return ""
        kinds: Counter[str] = Counter()
        for hazard in self.hazards:
            if hazard.scope is HazardScope.CHANGE:
                kinds[hazard.kind] += hazard.number
        never = [
            count(kinds[kind], noun)
            for kind, noun in (
                (HazardKind.DELETE, "deletion"),
                (HazardKind.LINK, "link"),
                (HazardKind.NEW_DEVICE_ID, "new installation"),
            )
            if kinds[kind]
        ]
        unknown = self.basis[Basis.NONE] + self.basis[Basis.UNCERTAIN]
        if unknown:
            never.append(f"what {count(unknown, 'field')} held that nobody knew")
        told = "Revert the commit and apply again."
        return f"{told} That cannot take back {_and(never)}." if never else told


def severity_rank(change: Change) -> int:
    """How soon a reviewer must see a change: 0 first."""
    if change.action in (Action.DELETE, Action.LINK):
        return _BY_SEVERITY.index(change.action)
    if any(hazard.severity is HazardSeverity.NAMED for hazard in change.hazards):
        return 2
    if any(item.op is Op.CLEAR for item in change.fields):
        return 3
    return 2 + _BY_SEVERITY.index(change.action)


def request_lines(request: Request) -> Iterator[str]:
    """A request as it is sent, its headers and body, line by line."""
    yield f"{shown(request.method)} {shown(request.path)}"
    for name, value in request.headers.items():
        yield f"  {shown(name)}: {shown(value)}"
    if request.body is not None:
        for line in spelled(request.body, indent=2).splitlines():
            yield f"  {line}"
    if request.fallback is not None:
        body = "the same" if request.body is not None else "{}"
        yield f"  if the profile does not exist: {shown(request.fallback)} with body {body}"


def author_text(author: LineAuthor | None) -> str:
    """Who wrote or removed a line, and in which commit."""
    if author is None:
        return ""
    verb = "removed" if author.removed else "written"
    if not author.commit:
        return f"{verb}, not committed yet"
    return (
        f"{verb} by {shown(author.author)} in {shown(author.commit[:12])} on {shown(author.date)}"
    )


def without_fields(change: Change) -> ChangeView:
    """The view of a change but for its fields, which cost more than all the rest (see `kind_of`), for its
    link and for who wrote it."""
    source = change.source
    file = shown(source.file) if source else ""
    address = shown(change.address)
    return ChangeView(
        symbol=SYMBOLS[change.action],
        address=address,
        action=change.action,
        reason=_shown_often(change.reason),
        labels=tuple(map(_shown_often, change.labels)),
        protect=change.protect,
        template=change.template,
        hazards=tuple(
            HazardView(
                _shown_often(hazard.kind),
                _shown_often(hazard.message),
                HazardScope.CHANGE,
                hazard.severity,
                address,
            )
            for hazard in change.hazards
        ),
        fields=(),
        sent=change.requests,
        place=str(source._replace(file=file)) if source else "",
        file=file,
        line=source.line if source else 0,
        link="",
        author="",
    )


def _told(item: FieldChange) -> tuple[str, str | None, str, str]:
    """Mark, before, after and note of a field change."""
    _, op, was, becomes, basis, _, _ = item
    mark, before, after, note = _wording(op, basis, was is None)
    if was is not None and before is not None:
        before = quoted(was)
    return mark, before, quoted(becomes) if op is Op.SET else after, note


@cache
def _wording(op: Op, basis: Basis, absent: bool) -> tuple[str, str | None, str, str]:
    """The same of the field changes of a kind, but for their values; ``absent`` says that they have none
    before."""
    before = ("unset" if basis is Basis.UNCERTAIN else "cleared") if absent else ""
    note = "" if basis is Basis.RECORDED else str(basis)
    match op:
        case Op.SET if basis is Basis.NONE:
            return "+", None, "", "never known"
        case Op.SET if absent and basis is not Basis.UNCERTAIN:
            return "+", None, "", ""
        case Op.SET:
            return "~", before, "", note
        case Op.CLEAR if basis is Basis.NONE:
            return "-", None, "cleared", "never known"
        case Op.CLEAR:
            return "-", before, "cleared", note
        case Op.FORGET:
            return "x", before, "", "no longer managed; stays as it is at the API"
        case _:
            assert_never(op)


_shown_often = lru_cache(maxsize=4096)(shown)
"""For paths, labels and sentences: there are few, in many changes."""


_ATTRIBUTE = f"{ATTRIBUTES}."


def _is_attribute(path: FieldPath) -> bool:
    return path.startswith(_ATTRIBUTE)


def _hazard_of_plan(hazard: Hazard) -> HazardView:
    return HazardView(
        shown(hazard.kind),
        shown(hazard.message),
        HazardScope.PLAN,
        hazard.severity,
    )


def _summed(kind: str, message: str, number: int) -> HazardView:
    return HazardView(
        shown(kind), message, HazardScope.CHANGE, HazardSeverity.SUMMED, number=number
    )


def _scope(scope: Scope) -> Iterator[str]:
    limits = [*map(shown, scope.select)]
    if limits:
        yield f"only {_and(limits)}"
    if scope.exclude:
        yield f"without {_and([*map(shown, scope.exclude)])}"
    if scope.since:
        yield f"only profiles whose files changed since {shown(scope.since[:12])}"
    if scope.reassert:
        yield "every managed field is sent again, whatever the state says"
    if scope.refresh:
        yield "the API was read first"


def _command(plan: Plan) -> Iterator[str]:
    sweeps = plan.mode is Mode.SWEEP
    yield from ("reconcile", "--env", plan.environment, "sweep" if sweeps else "apply")
    if plan.scope.refresh:  # what was read is in the plan alone, so it cannot be made again
        yield from ("PLAN", "--auto-approve", "--digest", plan.digest)
        return
    yield from ("--auto-approve", "--digest", plan.digest)
    if plan.mode == "prune":
        yield "--prune"
    if plan.scope.reassert:
        yield "--reassert"
    if plan.scope.since:
        yield from ("--since", plan.scope.since)
    for option, patterns in (("--select", plan.scope.select), ("--exclude", plan.scope.exclude)):
        for pattern in patterns:
            yield from (option, pattern)


def duration(seconds: float) -> str:
    """A time as a person says it: ``12 s``, ``34 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{ceil(seconds)} s"
    return f"{ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _takes(requests: int, rate: Rate | None) -> str:
    if rate is None or rate.per_second is None:
        return "no rate limit"
    about = f"about {duration(requests / rate.per_second)} at {rate}"
    return about + (" to begin with" if rate.auto else "")


def _and(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
