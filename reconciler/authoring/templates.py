"""Templates: a document with ``for_each`` makes several profiles. Pure.

The documents of a file are laid over the defaults of its folder, templates are expanded and
placeholders filled in. Every value keeps the place where it was written, in whatever file that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from reconciler.authoring.defaults import Defaults, merged
from reconciler.authoring.documents import Document
from reconciler.authoring.finding_limits import LimitedFindings
from reconciler.authoring.phrases import quote
from reconciler.authoring.placeholders import Fake, Filling, PlaceholderValues, ValueBudget
from reconciler.errors import Diagnostic, Message, error

FOR_EACH = "for_each"
MOST_PROFILES = 100_000
"""Profiles of one template, and of all templates of a file together."""
MOST_VALUES = 2_000_000
"""Values that the templates of a file make, and that its documents take over from defaults: see
`ValueBudget`. They take about 300 MiB."""
_MOST_REPORTED = 3
"""Profiles of a template that are reported; their findings are mostly alike."""


class Expanded(NamedTuple):
    """The documents that those of a file stand for."""

    documents: list[Document]
    findings: list[Diagnostic]
    sources: dict[str, str]
    """Digests of the values that placeholders stood for, by name."""


class _Expansion:
    """The documents that those of a file stand for, while they are made."""

    def __init__(self, budget: ValueBudget) -> None:
        self.documents: list[Document] = []
        self.findings = LimitedFindings()
        self.sources: dict[str, str] = {}
        self.budget = budget

    def may_suggest(self, document: Document) -> bool:
        """Whether hints about a document may name similar names."""
        return not self.findings.is_full(document.source.file, "template/placeholder")

    def is_over_budget(self, document: Document) -> bool:
        """Whether no more may be made, which is reported for a document."""
        if self.budget.is_spent:
            self.findings.add(
                error(
                    "file/too-many-values",
                    f"the templates and defaults of this file make more than {MOST_VALUES:,} values; "
                    f"every {ValueBudget.CHARACTERS} characters of a text count as one",
                    source=document.source,
                    hint="Split the file, or shorten the template or the defaults.",
                )
            )
        return self.budget.is_spent


def expand(
    documents: Sequence[Document],
    defaults: Defaults | None,
    *,
    values: PlaceholderValues,
    fake: Fake,
    fill: bool = True,
    most_values: int = MOST_VALUES,
) -> Expanded:
    """The documents that those of a file stand for, laid over the defaults of its folder.

    Without ``fill``, templates and placeholders are not looked for. A document with a finding is left
    out: it cannot be planned. So are all documents after ``most_values``.
    """
    out = _Expansion(ValueBudget(most_values))
    for number, document in enumerate(documents):
        if defaults is not None:
            if number:  # one document takes over no more than the defaults hold
                out.budget.spend(defaults.document.value)
            document = merged(document, defaults.document)
        if out.is_over_budget(document):
            break
        if not fill:
            out.documents.append(document)
        elif FOR_EACH in document.value:
            _expand_template(document, values, fake=fake, out=out)
        else:
            filling = Filling(
                document,
                values,
                fake=fake,
                sources=out.sources,
                suggest=out.may_suggest(document),
            )
            filled = filling.document()
            out.budget.spend_text(filling.characters)
            if not filling.findings:
                out.documents.append(filled)
            out.findings.extend(filling.findings)
    return Expanded(out.documents, out.findings.listed(), out.sources)


def _expand_template(
    document: Document, values: PlaceholderValues, *, fake: Fake, out: _Expansion
) -> None:
    items = document.value[FOR_EACH]
    problem = _problem_of(items)
    if problem is None and len(out.documents) + _count(items) > MOST_PROFILES:
        problem = (
            f"the templates of this file make more than {MOST_PROFILES:,} profiles",
            "Split the file.",
        )
    if problem is not None:
        out.findings.add(
            error("template/for-each", problem[0], source=document.at((FOR_EACH,)), hint=problem[1])
        )
        return
    value = {name: content for name, content in document.value.items() if name != FOR_EACH}
    name = value.get("customer_user_id")
    plain = document._replace(value=value, template=name if isinstance(name, str) else "")
    profiles: list[Document] = []
    failed = 0
    suggest = out.may_suggest(document)
    out.budget.spend(value, times=_count(items))
    if out.is_over_budget(document):
        return
    for index, item in enumerate(_items(items), start=1):
        filling = Filling(
            plain,
            values,
            fake=fake,
            sources=out.sources,
            index=index,
            item=item,
            suggest=suggest,
        )
        profile = filling.document()
        profiles.append(profile)
        out.budget.spend_text(filling.characters)
        if out.is_over_budget(document):
            return
        if filling.findings:
            failed += 1
            out.findings.extend(filling.findings)
            if failed == _MOST_REPORTED:
                break
    names = {str(each.value.get("customer_user_id")) for each in profiles}
    if not failed and len(names) < len(profiles) and isinstance(name, str):
        out.findings.add(
            error(
                "template/not-unique",
                f"this template makes {len(profiles)} profiles with {len(names)} different names",
                source=document.at(("customer_user_id",)),
                hint="Put {index} into customer_user_id, or something of {item} that differs.",
            )
        )
    elif not failed:
        out.documents.extend(profiles)


def _problem_of(items: Any) -> tuple[str | Message, str] | None:
    hint = "Write a count such as 50, or a list of values or maps."
    if isinstance(items, bool) or not isinstance(items, (int, list)):
        return "`for_each` is neither a count nor a list", hint
    if isinstance(items, int):
        if items < 1:
            message = Message.of(
                "`for_each` is ", quote(items), "; a template makes at least one profile"
            )
            return message, hint
    elif not items:
        return "`for_each` is an empty list; a template makes at least one profile", hint
    elif any(isinstance(item, list) or item is None for item in items):
        return "`for_each` lists something that is neither a value nor a map", hint
    elif any(isinstance(each, (dict, list)) for each in _members_of(items)):
        return "`for_each` lists a map whose members are not plain values", hint
    if _count(items) > MOST_PROFILES:
        return f"`for_each` makes more than {MOST_PROFILES:,} profiles", "Split the template."
    return None


def _members_of(items: Sequence[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, dict):
            yield from item.values()


def _count(items: Any) -> int:
    return items if isinstance(items, int) else len(items)


def _items(items: Any) -> Sequence[Any]:
    return range(1, items + 1) if isinstance(items, int) else items
