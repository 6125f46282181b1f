"""Defaults: values that lie under the documents of a folder. Pure.

A ``_defaults.yaml`` lies under all profiles of its folder and of the folders below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from reconciler.authoring.documents import Document, Path
from reconciler.authoring.facets.registry import FACET_RULES
from reconciler.values import digest


class Defaults(NamedTuple):
    """The defaults of a folder, laid over those of the folders above."""

    document: Document
    digest: str
    """The digest of the names and the contents of the files that they come from: plans name both."""
    has_placeholders: bool

    def over(self, below: Defaults | None) -> Defaults:
        """These defaults laid over those of the folders above."""
        if below is None:
            return self
        return Defaults(
            merged(self.document, below.document),
            digest(below.digest, self.digest),
            self.has_placeholders or below.has_placeholders,
        )


def merged(document: Document, below: Document) -> Document:
    """A document laid over its defaults.

    Maps are joined. ``null`` over a default takes the default away, as if neither had the field.
    """
    document, below = _in_one_form(document, below)
    inherited: list[Path] = []
    value = _merged(document.value, below.value, path=(), inherited=inherited)
    roots = frozenset(inherited)
    places, files = dict(document.places), dict(document.files)
    for path, place in below.places.items():
        if any(path[:length] in roots for length in range(1, len(path) + 1)):
            places[path] = place
            files[path] = below.files.get(path, below.source.file)
    return document._replace(value=value, places=places, files=files)


def _merged(
    over: Mapping[str, Any], below: Mapping[str, Any], *, path: Path, inherited: list[Path]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in over.items():
        if key not in below:
            out[key] = value
        elif isinstance(value, dict) and isinstance(below[key], dict):
            out[key] = _merged(value, below[key], path=(*path, key), inherited=inherited)
        elif value is not None:
            out[key] = value
    for key, value in below.items():
        if key not in over:
            out[key] = value
            inherited.append((*path, key))
    return out


def _in_one_form(document: Document, below: Document) -> tuple[Document, Document]:
    """Both with the members of facets as maps, where both have them: lists cannot be joined by key."""
    for rules in FACET_RULES:
        kinds = {type(each.value.get(rules.group)) for each in (document, below)}
        if kinds in ({list}, {list, dict}):
            document, below = rules.as_map(document), rules.as_map(below)
    return document, below
