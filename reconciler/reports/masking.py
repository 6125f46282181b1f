"""Values that are not to be seen → tags, below every writer. Pure.

Values that came from variables of the environment are always replaced: profiles, plans and records say which
they are. With masking on, personal values are replaced too. Everything that is printed, written beside a plan
or logged passes here first; data that is saved to be applied does not. Equal values get the same tag,
``(personal #1)``, so a reader still sees that a value changed and which values are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from reconciler.core.contract import Contract
from reconciler.core.facets.registry import facet_of, facet_of_member, facet_of_request
from reconciler.core.outcomes import Drift, Result
from reconciler.core.plan import ENVIRONMENT, Change, Changes, FieldChange, Plan, Request, Totals
from reconciler.core.profile_schema import profile_schema
from reconciler.core.records import Export, Fact, Record
from reconciler.errors import Diagnostic, InputError, QuotedValue, ReconcileError
from reconciler.values import FieldPath, Json, Scalar, Tag, canonical

PERSONAL = "personal"
_SHORTEST = 4
"""Shorter values are replaced in free text only where they stand in quotes."""


@dataclass(frozen=True)
class Mask:
    """Replaces values that came from the environment, and personal ones: those of fields that the contract
    calls personal, and of custom attributes unless one of the ``public`` globs takes their key. Without a
    contract, personal values stay."""

    contract: Contract | None
    public: tuple[str, ...] = ()
    _tags: dict[str, Tag] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of values that are masked besides those from the environment, as the configuration calls
        it."""
        return PERSONAL

    def hides(self, path: FieldPath) -> bool:
        """Whether the values of a field are personal; unknown fields count as such."""
        return self.contract is not None and facet_of(path).is_personal(
            path, contract=self.contract, public=self.public
        )

    def value(self, path: FieldPath, value: Scalar | None) -> Scalar | None:
        """A value of a field, or its tag. ``None`` stays: an absent value is not personal."""
        return value if value is None or not self.hides(path) else self._tag(value)

    def _either(
        self, path: FieldPath, value: Scalar | None, *, hidden: Collection[FieldPath]
    ) -> Scalar | None:
        """A value of a field, or its tag; values of ``hidden`` fields came from the environment."""
        if value is None or path not in hidden:
            return self.value(path, value)
        return self._tag(value, kind=ENVIRONMENT)

    def _tag(self, value: Scalar, *, kind: str = PERSONAL) -> Tag:
        spelled = value if isinstance(value, str) else canonical(value)
        tag = self._tags.get(spelled)
        if tag is None:
            tag = self._tags[spelled] = Tag(f"({kind} #{len(self._tags) + 1})")
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
        after = change.from_environment
        if self.contract is None and not (after or change.was_from_environment):
            return change
        before = {*after, *change.was_from_environment}  # what was observed may be the same value
        return change._replace(
            fields=tuple(self.field(item, before=before, after=after) for item in change.fields),
            requests=tuple(self.request(request, hidden=after) for request in change.requests),
        )

    def field(
        self,
        item: FieldChange,
        *,
        before: Collection[FieldPath] = (),
        after: Collection[FieldPath] = (),
    ) -> FieldChange:
        """A change of a field; ``before`` and ``after`` are the fields whose values came from the environment
        then."""
        return item._replace(
            before=self._either(item.path, item.before, hidden=before),
            after=self._either(item.path, item.after, hidden=after),
        )

    def request(self, request: Request, *, hidden: Collection[FieldPath] = ()) -> Request:
        if request.body is None:
            return request
        facet = facet_of_request(request)
        if facet is not None:
            mask = partial(self._member, hidden=hidden)
            return request._replace(body=facet.masked_body(request.body, mask=mask))
        return request._replace(body=self.body(request.body, hidden=hidden))

    def body(
        self, body: Mapping[str, Json], *, hidden: Collection[FieldPath] = ()
    ) -> dict[str, Json]:
        """A request's body: the members keep their names and order."""
        mask = partial(self._member, hidden=hidden)
        return {
            name: facet_of_member(name).masked(name, content, mask=mask)
            for name, content in body.items()
        }

    def _member(self, path: FieldPath, value: Any, *, hidden: Collection[FieldPath]) -> Json:
        return value if value in (None, "") else self._either(path, value, hidden=hidden)

    # --- records and drift ----------------------------------------------------

    def drift(self, drift: Drift) -> Drift:
        hidden = drift.from_environment
        return drift._replace(
            reason=self.text(drift.reason),
            fields=tuple(self.field(item, before=hidden, after=hidden) for item in drift.fields),
        )

    def record(self, record: Record) -> Record:
        hidden = record.from_environment
        if self.contract is None and not hidden:
            return record
        return record._replace(
            facts={
                path: self._fact(path, fact, hidden=hidden) for path, fact in record.facts.items()
            },
            unknown_write=self._values(record.unknown_write, hidden=hidden),
            seen=self._values(record.seen, hidden=hidden),
        )

    def _values(
        self, values: Mapping[FieldPath, Scalar | None], *, hidden: Collection[FieldPath]
    ) -> dict[FieldPath, Any]:
        return {path: self._either(path, value, hidden=hidden) for path, value in values.items()}

    def _fact(self, path: FieldPath, fact: Fact, *, hidden: Collection[FieldPath]) -> Fact:
        return fact._replace(
            value=self._either(path, fact.value, hidden=hidden),
            attempt=self._either(path, fact.attempt, hidden=hidden),
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
        """A finding about a file, without the values that it quotes, whatever their fields. Those about
        documents with values from the environment never quote any.

        A file with errors may hold a value in the wrong field, and one that does not parse has no
        fields at all. Names of fields of the contract are kept.
        """
        if self.contract is None:
            return diagnostic
        return diagnostic._replace(
            message=self._without(diagnostic.values, diagnostic.message),
            hint=self._without(diagnostic.hint_values, diagnostic.hint),
            values=(),
            hint_values=(),
        )

    def error(self, problem: ReconcileError) -> None:
        """Masks a failure in place, since it is being raised."""
        if self.contract is not None:
            problem.message = self._without(problem.values, problem.message)
            problem.values = ()
        problem.message = self.text(problem.message)
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
        groups = {} if self.contract is None else self.contract.groups
        has_free_keys = group in groups and groups[group].each
        return path in self._names or bool(has_free_keys and _FREE_KEY(key) is not None)

    @cached_property
    def _names(self) -> frozenset[str]:
        if self.contract is None:
            return frozenset()
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
