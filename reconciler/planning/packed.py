"""Profiles as the index keeps them: two texts of JSON, of which many profiles share the first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from reconciler.authoring.declare import ParsedProfile
from reconciler.core.profiles import NO_OTHER_FILES, Profile, ProfileMeta, make_profile
from reconciler.errors import Source
from reconciler.jsontext import packed, unpacked
from reconciler.values import FieldPath


class PackedProfile(NamedTuple):
    """The JSON of a profile. The name of its file is kept elsewhere."""

    layout: str
    """The part that many profiles share: the paths, and the place of each. A place is a number of lines
    after the first line of the document, or a line of another file."""
    body: str
    """The rest: place, identifiers and meta, and the values in the order of the paths."""

    @classmethod
    def of(cls, profile: ParsedProfile, source: Source) -> PackedProfile:
        """The JSON of a profile that was declared at a source."""
        first, files = source.line, profile.files
        paths, lines, meta = profile.paths, profile.lines, profile.meta
        if files:
            stand = zip(paths, lines, strict=True)
            offsets = [line if path in files else line - first for path, line in stand]
            layout = _layout_json(paths, tuple(offsets), files=tuple(files.items()))
        else:
            layout = _layout_json(paths, tuple([line - first for line in lines]), files=())
        members = [
            meta.customer_user_id,
            meta.profile_id,
            meta.platform,
            meta.protect,
            meta.labels,
            meta.forget,
        ]
        rare = (meta.template, meta.exclusive, meta.from_environment, meta.previously)
        if meta.lifetime is not None or any(rare):
            members += [meta.template, meta.lifetime, *rare[1:]]
        return cls(layout, packed([first, source.column, members, *profile.values]))

    def profile(self, file: str) -> Profile:
        """The profile that a file declares.

        Raises ValueError, TypeError or AttributeError where the JSON is damaged.
        """
        paths, offsets, files = _layout_of(self.layout)
        line, column, members, *values = unpacked(self.body)
        if files:
            stand = zip(paths, offsets, strict=True)
            lines = [offset if path in files else line + offset for path, offset in stand]
        else:
            lines = [line + offset for offset in offsets]
        return make_profile(
            ProfileMeta(*members),
            paths=paths,
            values=values,
            lines=lines,
            files=files,
            source=Source(file, line, column),
        )


@lru_cache(maxsize=4096)
def _layout_json(
    paths: tuple[FieldPath, ...],
    offsets: tuple[int, ...],
    *,
    files: tuple[tuple[FieldPath, str], ...],
) -> str:
    return packed([paths, offsets, files])


@lru_cache(maxsize=4096)
def _layout_of(
    layout: str,
) -> tuple[tuple[FieldPath, ...], Sequence[int], Mapping[FieldPath, str]]:
    paths, offsets, files = unpacked(layout)
    return tuple(paths), tuple(offsets), dict(files) if files else NO_OTHER_FILES
