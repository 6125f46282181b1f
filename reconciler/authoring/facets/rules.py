"""The interface of the rules of a facet: what a profile file may say of its fields, and in which forms. Pure.

`reconciler.core.facets` holds what the API makes of the same fields. The rules of files ask this interface,
and know no facet by name. This class holds the usual answers; the rules of a facet override what differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.json_schema import SchemaViolation
from reconciler.core.contract import Contract
from reconciler.core.facets.facet import Facet
from reconciler.errors import Diagnostic, Message
from reconciler.values import FieldPath

NO_PLACES: Mapping[Path, Path] = {}


class Explanation(NamedTuple):
    """A violation of the schema, in the words of a profile."""

    rule: str
    message: str | Message
    hint: str | Message


class FacetRules:
    """What a profile file may say of the fields of a facet that has a member of its own."""

    parts: tuple[str, ...] = ()
    """The members of a value that is a map, in the order in which ``fmt`` writes them."""
    sole_key = ""
    """The key of the field whose value only one profile may have; empty if there is none."""

    def __init__(self, facet: Facet) -> None:
        self.facet = facet
        self.group = facet.group
        """The member of a profile file that holds the fields."""

    def by_key(self, content: Any) -> tuple[Mapping[str, Any], Mapping[Path, Path]]:
        """The values of a valid member by key. The second part tells, for each place that a value would have
        in a map, the one that it has in another form."""
        return content or {}, NO_PLACES

    def declared_keys(self, content: Any) -> Iterator[str]:
        """The keys that a member mentions, valid or not."""
        if isinstance(content, dict):
            yield from content

    def as_map(self, document: Document) -> Document:
        """The document with the member as a map, where it is in another form and that can be read."""
        return document

    def without_required(self, schema: dict[str, Any]) -> None:
        """Takes out of the schema of the member what only a whole profile needs."""
        schema.pop("required", None)

    def explain(self, violation: SchemaViolation, contract: Contract) -> Explanation | None:
        """A violation below the member in the words of a profile; ``None`` where the usual ones do."""
        return None

    def findings(
        self, content: Any, document: Document, *, contract: Contract
    ) -> Iterator[Diagnostic]:
        """The findings about a member that no schema expresses."""
        return iter(())

    def named_findings(
        self, content: Any, document: Document, *, names: Collection[str], contract: Contract
    ) -> Iterator[Diagnostic]:
        """The findings about keys of a member that are not among the ``names`` of the configuration, if
        there are any."""
        return iter(())

    def can_be_forgotten(self, path: FieldPath, contract: Contract) -> bool:
        """Whether a path under ``meta.forget`` names a field. The state may record fields of another
        dialect, which this one has no other way to drop."""
        return path == self.group or bool(contract.dialects_with(path))

    def forget_hint(self) -> str:
        """The advice about a path under ``meta.forget`` that names no field; empty for the usual one."""
        return ""

    def texts(self, content: Any) -> Iterator[tuple[Path, str]]:
        """The texts of a member that may hold data of a real person, with their places."""
        return iter(())

    def ordered_keys(self, contract: Contract) -> list[str] | None:
        """The keys in the order in which ``fmt`` writes them; ``None`` for the order of the alphabet."""
        return None
