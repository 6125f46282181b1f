"""Sums over all changes of a plan, and over findings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from reconciler.core.facets.registry import is_readable
from reconciler.core.plan import Action, Basis, Change, HazardKind, HazardSeverity, Op
from reconciler.errors import Diagnostic, Severity, Source
from reconciler.reports.wording import field_wording
from reconciler.values import FieldPath

MOST_NAMED = 200
"""Sentences that are shown for each kind of hazard; of a larger number, the rest is summed up."""
MOST_ADDRESSES = 3
"""Changes that are named for each sentence of a hazard."""
MOST_VALUES = 2
"""Values that are shown for each field of a template's changes."""


class SeverityCounts(NamedTuple):
    """How many findings there are."""

    errors: int
    warnings: int


def count_by_severity(diagnostics: Iterable[Diagnostic]) -> SeverityCounts:
    """How many errors and warnings there are."""
    counts = Counter(diagnostic.severity for diagnostic in diagnostics)
    return SeverityCounts(counts[Severity.ERROR], counts[Severity.WARNING])


GroupKey: TypeAlias = tuple[Source | None, str, Action, tuple[tuple[FieldPath, Op, Basis], ...]]
"""Place and customer id of a template, and what its changes do."""


def group_key(change: Change) -> GroupKey | None:
    """The group of a change: those of one template that do the same to the same fields. ``None`` for a
    change that no template made."""
    if not change.template:
        return None
    fields = tuple((item.path, item.op, item.basis) for item in change.fields)
    return change.source, change.template, change.action, fields


class TemplateGroup:
    """Changes of one template that do the same to the same fields. Only the first few values of each field
    are kept: a template may make a hundred thousand profiles."""

    def __init__(self, change: Change) -> None:
        """An empty group for changes like this one."""
        self.size = 0
        self._action = change.action
        self._befores: list[list[str]] = [[] for _ in change.fields]
        self._afters: list[list[str]] = [[] for _ in change.fields]

    def add(self, change: Change) -> None:
        self.size += 1
        for item, befores, afters in zip(change.fields, self._befores, self._afters, strict=True):
            wording = field_wording(item, self._action)
            _keep_first(befores, [] if wording.before is None else [wording.before])
            _keep_first(afters, [wording.after])

    def merge(self, other: TemplateGroup) -> None:
        self.size += other.size
        for mine, theirs in ((self._befores, other._befores), (self._afters, other._afters)):
            for values, more in zip(mine, theirs, strict=True):
                _keep_first(values, more)

    @property
    def befores(self) -> list[str]:
        """The first few values before the changes, by field."""
        return [*map(_first_few, self._befores)]

    @property
    def afters(self) -> list[str]:
        """The first few values after the changes, by field."""
        return [*map(_first_few, self._afters)]


def _keep_first(values: list[str], more: Iterable[str]) -> None:
    """Adds values up to one more than is shown, which tells that there are others."""
    for value in more:
        if len(values) <= MOST_VALUES and value not in values:
            values.append(value)


def _first_few(values: list[str]) -> str:
    text = ", ".join(values[:MOST_VALUES])
    return f"{text}, …" if len(values) > MOST_VALUES else text


class HazardSum:
    """The changes that have a hazard in the same words. The first few are named."""

    __slots__ = ("addresses", "number")

    def __init__(self) -> None:
        self.number = 0
        self.addresses: list[str] = []

    def add(self, address: str) -> None:
        self.number += 1
        if len(self.addresses) < MOST_ADDRESSES:
            self.addresses.append(address)

    def merge(self, other: HazardSum) -> None:
        self.number += other.number
        self.addresses += other.addresses[: MOST_ADDRESSES - len(self.addresses)]


class Tally:
    """The sums that a view shows over all changes: an `Accumulator`, so that they can be counted while the
    plan is made. Texts in it are as the plan has them, not yet safe to print."""

    def __init__(self) -> None:
        self.basis: Counter[Basis] = Counter()
        """How many fields are known in which way."""
        self.unverifiable: set[FieldPath] = set()
        """The paths of fields with a ``before`` that the API never returns."""
        self.groups: dict[GroupKey, TemplateGroup] = {}
        self.hazards: Counter[str] = Counter()
        """How many changes have a kind of hazard."""
        self.sentences: dict[str, dict[str, HazardSum]] = {
            kind: {} for kind in HazardKind if kind.severity is HazardSeverity.NAMED
        }
        """The first `MOST_NAMED` sentences of each kind of hazard, each with the changes that have it; the
        gravest kind first."""
        self.any_from_environment = False
        """Whether a value came from a variable of the environment, so that the plan has to be masked."""

    @classmethod
    def of(cls, changes: Iterable[Change]) -> Tally:
        """The sums over some changes."""
        tally = cls()
        for change in changes:
            tally.add(change)
        return tally

    def add(self, change: Change) -> None:
        if (key := group_key(change)) is not None:
            if key not in self.groups:
                self.groups[key] = TemplateGroup(change)
            self.groups[key].add(change)
        self._add_hazards(change)
        if change.from_environment or change.was_from_environment:
            self.any_from_environment = True
        bases = [item.basis for item in change.fields]
        self.basis.update(bases)
        if bases.count(Basis.NONE) != len(bases):
            self.unverifiable.update(
                item.path
                for item in change.fields
                if item.basis is not Basis.NONE and not is_readable(item.path)
            )

    def _add_hazards(self, change: Change) -> None:
        for hazard in change.hazards:
            self.hazards[hazard.kind] += 1
            sentences = self.sentences.setdefault(hazard.kind, {})
            known = sentences.get(hazard.message)
            if known is None:
                if len(sentences) >= MOST_NAMED:
                    continue
                known = sentences[hazard.message] = HazardSum()
            known.add(change.address)

    def empty(self) -> Tally:
        return Tally()

    def merge(self, other: Tally) -> None:
        for key, group in other.groups.items():
            if key in self.groups:
                self.groups[key].merge(group)
            else:
                self.groups[key] = group
        for kind, sentences in other.sentences.items():
            mine = self.sentences.setdefault(kind, {})
            for sentence, theirs in sentences.items():
                if sentence in mine:
                    mine[sentence].merge(theirs)
                elif len(mine) < MOST_NAMED:
                    mine[sentence] = theirs
        self.hazards += other.hazards
        self.basis += other.basis
        self.unverifiable |= other.unverifiable
        self.any_from_environment |= other.any_from_environment
