"""Personal values → tags, below every writer. Pure.

With masking on, everything that is printed, written beside a plan or logged passes here first. Data
that is saved to be applied does not. Equal values get the same tag, ``(personal #1)``, so a reader
still sees that a value changed and which values are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from reconciler.core.contract import Contract
from reconciler.core.facets.registry import facet_of, facet_of_member
from reconciler.core.outcomes import Drift, Result
from reconciler.core.plan import Change, Changes, FieldChange, Plan, Request, Totals
from reconciler.core.profile_schema import profile_schema
from reconciler.core.records import Export, Fact, Record
from reconciler.errors import Diagnostic, InputError, QuotedValue, ReconcileError
from reconciler.values import FieldPath, Json, Scalar, Tag, canonical

PERSONAL = "personal"
_SHORTEST = 4
"""Shorter values are replaced in free text only where they stand in quotes."""


@dataclass(frozen=True)
class Mask:
    """Replaces personal values: those of fields that the contract calls personal, and of custom
    attributes unless one of the ``public`` globs takes their key."""

    contract: Contract
    public: tuple[str, ...] = ()
    _tags: dict[str, Tag] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of values that are masked, as the configuration calls it."""
        return PERSONAL

    def hides(self, path: FieldPath) -> bool:
        """Whether the values of a field are personal; unknown fields count as such."""
        return facet_of(path).is_personal(path, contract=self.contract, public=self.public)

    def value(self, path: FieldPath, value: Scalar | None) -> Scalar | None:
        """A value of a field, or its tag. ``None`` stays: an absent value is not personal."""
        return value if value is None or not self.hides(path) else self._tag(value)

    def _tag(self, value: Scalar) -> Tag:
        spelled = value if isinstance(value, str) else canonical(value)
        tag = self._tags.get(spelled)
        if tag is None:
            tag = self._tags[spelled] = Tag(f"({PERSONAL} #{len(self._tags) + 1})")
        return tag

    # --- plans -------------------------------------------------------------------------------

    def plan(self, plan: Plan) -> Plan:
        """The masked plan. It has the digest and the totals of the real one."""
        totals = Totals(plan.summary, plan.digest)
        masked = replace(plan, changes=_Masked(plan.changes, self.change), totals=totals)
        for _ in masked.changes:  # numbers the tags in the plan's order, whatever the format
            pass
        return masked

    def change(self, change: Change) -> Change:
        return change._replace(
            fields=tuple(self.field(item) for item in change.fields),
            requests=tuple(self.request(request) for request in change.requests),
        )

    def field(self, item: FieldChange) -> FieldChange:
        return item._replace(
            before=self.value(item.path, item.before),
            after=self.value(item.path, item.after),
        )

    def request(self, request: Request) -> Request:
        return request if request.body is None else request._replace(body=self.body(request.body))

    def body(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """A request's body: the members keep their names and order."""
        return {
            name: facet_of_member(name).masked(name, content, mask=self._member)
            for name, content in body.items()
        }

    def _member(self, path: FieldPath, value: Any) -> Json:
        return value if value in (None, "") else self.value(path, value)

    # --- records and drift ----------------------------------------------------

    def drift(self, drift: Drift) -> Drift:
        return drift._replace(fields=tuple(self.field(item) for item in drift.fields))

    def record(self, record: Record) -> Record:
        return record._replace(
            facts={path: self._fact(path, fact) for path, fact in record.facts.items()},
            unknown_write={
                path: self.value(path, value) for path, value in record.unknown_write.items()
            },
        )

    def _fact(self, path: FieldPath, fact: Fact) -> Fact:
        return fact._replace(
            value=self.value(path, fact.value), attempt=self.value(path, fact.attempt)
        )

    def export(self, export: Export) -> Export:
        return export._replace(records=tuple(self.record(record) for record in export.records))

    # --- free text ---------------------------------------------------------------------------

    def result(self, result: Result) -> Result:
        """An outcome: the reason that the API gives may repeat a value."""
        return result._replace(
            reason=self.text(result.reason),
            warnings=tuple(self.text(warning) for warning in result.warnings),
        )

    def text(self, text: str) -> str:
        """Text with tags instead of the values that were tagged before, wherever one stands alone.

        Very short values are replaced only in quotes, since they are also parts of words.
        """
        lowered = text.casefold()
        for spelled in sorted(self._tags, key=len, reverse=True):
            if spelled.casefold() in lowered:
                exact = re.escape(spelled)
                alone = (
                    rf"(?<!\w){exact}(?!\w)"
                    if len(spelled) >= _SHORTEST
                    else f"\"{exact}\"|'{exact}'"
                )
                text = re.sub(alone, self._tags[spelled], text, flags=re.IGNORECASE)
        return text

    def finding(self, diagnostic: Diagnostic) -> Diagnostic:
        """A finding about a file, without the values that it quotes, whatever their fields.

        A file with errors may hold a value in the wrong field, and one that does not parse has no
        fields at all. Names of fields of the contract are kept.
        """
        return diagnostic._replace(
            message=self._without(diagnostic.values, diagnostic.message),
            hint=self._without(diagnostic.hint_values, diagnostic.hint),
            values=(),
            hint_values=(),
        )

    def error(self, problem: ReconcileError) -> None:
        """Masks a failure in place, since it is being raised."""
        problem.message = self.text(self._without(problem.values, problem.message))
        problem.values = ()
        problem.hint = self.text(problem.hint)
        if isinstance(problem, InputError):
            problem.diagnostics = tuple(map(self.finding, problem.diagnostics))

    def _without(self, values: Sequence[QuotedValue], message: str) -> str:
        """A message with tags instead of the values that it quotes, and of their marks."""
        parts: list[str] = []
        end = 0
        for value in values:
            if value.text and not (value.is_name and self._is_field_name(value.text)):
                parts += [message[end : value.start], self._tag(value.text)]
                end = value.end
        return "".join([*parts, message[end:]])

    def _is_field_name(self, text: str) -> bool:
        """Whether a text is a name or a path of the contract, with positions in lists or without."""
        path = _POSITION("", text)
        group, _, key = path.partition(".")
        has_free_keys = group in self.contract.groups and self.contract.groups[group].each
        return path in self._names or bool(has_free_keys and _FREE_KEY(key) is not None)

    @cached_property
    def _names(self) -> frozenset[str]:
        schema = profile_schema(self.contract)["properties"]
        members = {
            f"{group}.{member}"
            for group, content in schema.items()
            for member in content.get("properties", ())
        }
        return frozenset({*schema, *members, *(path.partition(".")[2] for path in members)})


_POSITION = re.compile(r"\[[0-9]+\]").sub
_FREE_KEY = re.compile(r"[A-Za-z0-9._-]+").fullmatch


class _Masked:
    """Changes that are masked anew each time they are iterated."""

    def __init__(self, changes: Changes, masked: Callable[[Change], Change]) -> None:
        self._changes, self._masked = changes, masked

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[Change]:
        return map(self._masked, self._changes)
