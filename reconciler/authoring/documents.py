"""A parsed document with its places. Its content is untrusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from reconciler.errors import Source
from reconciler.values import Json

Path: TypeAlias = tuple[str | int, ...]
"""Where a node is: keys of mappings, and positions in lists from 0. ``()`` is the root."""
Place: TypeAlias = tuple[int, int]
"""A line and a column, from 1."""


_HERE: Mapping[Path, str] = {}
"""A dictionary, because documents travel between processes, which no `MappingProxyType` can."""


class Document(NamedTuple):
    """One YAML document: JSON values only, and where each of them was written.

    ``places`` holds the line and column (from 1) of each member's key and each list's item, and
    under ``()`` those of the root mapping. A value from an alias or a merge key has the place where it
    was used, or none. ``files`` names the file of a place that is in another file than ``source``, such
    as a file of defaults.
    ``template`` is the customer id as written in the template that made the document.
    ``environment`` holds the paths of the values that came from variables of the environment. They are
    never printed.
    """

    value: dict[str, Json]
    source: Source
    places: Mapping[Path, Place]
    files: Mapping[Path, str] = _HERE
    template: str = ""
    environment: frozenset[Path] = frozenset()

    def at(self, path: Path) -> Source:
        """Where ``path`` is, or its nearest ancestor that has a place; so never nowhere."""
        places = self.places
        while path and path not in places:
            path = path[:-1]
        place = places.get(path)
        if place is None:
            return self.source
        line, column = place
        return Source(self.files.get(path) or self.source.file, line, column)
