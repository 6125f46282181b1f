"""Profiles as the index keeps them: two texts of JSON that many of them share a part of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from reconciler.authoring.declare import ParsedProfile
from reconciler.core.profiles import NO_OTHER_FILES, Profile, ProfileMeta, make_profile
from reconciler.errors import Source
from reconciler.jsontext import packed, unpacked
from reconciler.values import FieldPath, Scalar


def pack(profile: ParsedProfile, source: Source) -> tuple[str, str]:
    """The profile that says something at a source, as two texts of JSON: what many have in common (its
    paths, and on which lines after its first one, or of which other file, they stand), and the rest.
    The name of its file is left out."""
    paths, values, lines, files, about = profile
    first = source.line
    if files:
        stand = zip(paths, lines, strict=True)
        offsets = [line if path in files else line - first for path, line in stand]
        layout = _packed_layout(paths, tuple(offsets), tuple(files.items()))
    else:
        layout = _packed_layout(paths, tuple([line - first for line in lines]), ())
    rest = about[:] if any(about[_USUAL:]) else about[:_USUAL]  # plain tuples
    return layout, packed([first, source.column, rest, *values])


_USUAL = ProfileMeta._fields.index("template")
"""Members of what a document says besides its fields that are always written down."""


class Packed(NamedTuple):
    """A packed profile, as far as it can be opened without making everything of it."""

    paths: tuple[FieldPath, ...]
    values: Sequence[Scalar | None]
    about: ProfileMeta
    offsets: Sequence[int]
    files: Mapping[FieldPath, str]
    line: int
    column: int

    @classmethod
    def of(cls, layout: str, body: str) -> Packed:
        """What `pack` made of it."""
        paths, offsets, files = _unpacked_layout(layout)
        line, column, about, *values = unpacked(body)
        return cls(paths, values, ProfileMeta(*about), offsets, files, line, column)

    def profile(self, file: str) -> Profile:
        line, files = self.line, self.files
        if files:
            stand = zip(self.paths, self.offsets, strict=True)
            lines = [offset if path in files else line + offset for path, offset in stand]
        else:
            lines = [line + offset for offset in self.offsets]
        source = Source(file, line, self.column)
        return make_profile(self.paths, self.values, lines, files, self.about, source)


@lru_cache(maxsize=4096)
def _packed_layout(
    paths: tuple[FieldPath, ...],
    offsets: tuple[int, ...],
    files: tuple[tuple[FieldPath, str], ...],
) -> str:
    return packed([paths, offsets, files])


@lru_cache(maxsize=4096)
def _unpacked_layout(
    layout: str,
) -> tuple[tuple[FieldPath, ...], tuple[int, ...], Mapping[FieldPath, str]]:
    paths, offsets, files = unpacked(layout)
    return tuple(paths), tuple(offsets), dict(files) if files else NO_OTHER_FILES
