"""The files of a folder as the index keeps them, compared with the folder as it is now. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.authoring.walk import STAMP, Listing

_STAMPS_AT_ONCE = 32


class FolderComparison(NamedTuple):
    """The changes of the files in a folder."""

    ids: array[int]
    """The ids of the files that are there now; 0 for a new one."""
    suspects: list[int]
    """The positions of the files that are new or have another stamp."""
    gone: list[int]
    """The ids of the files that are no longer there."""


class FolderFiles(NamedTuple):
    """The files of a folder when they were last read: names, stamps and ids, packed."""

    names: bytes
    stamps: bytes
    ids: bytes

    def is_same(self, listing: Listing) -> bool:
        """Whether no file was added, removed, or given another stamp."""
        return self.stamps == listing.stamps.tobytes() and self.names == joined(listing.names)

    def compared(self, listing: Listing) -> FolderComparison:
        ids, stamps = self.file_ids(), listing.stamps.tobytes()
        if self.names == joined(listing.names):
            suspects = [*self._with_another_stamp(stamps, len(listing.names))]
            return FolderComparison(ids, suspects, [])
        size = STAMP * ids.itemsize
        names = self.names.decode("utf-8", "surrogateescape").split("\0") if ids else []
        before = {
            name: (file, self.stamps[at * size : (at + 1) * size])
            for at, (name, file) in enumerate(zip(names, ids, strict=True))
        }
        present = [before.pop(name, (0, b"")) for name in listing.names]
        suspects = [
            at
            for at, (_, stamp) in enumerate(present)
            if stamp != stamps[at * size : (at + 1) * size]
        ]
        return FolderComparison(
            array("q", [file for file, _ in present]),
            suspects,
            [file for file, _ in before.values()],
        )

    def _with_another_stamp(self, stamps: bytes, count: int) -> list[int]:
        """The positions whose stamps differ. Nearly all are the same, so many are compared at once."""
        size = STAMP * array("q").itemsize
        return [
            at
            for start in range(0, count, _STAMPS_AT_ONCE)
            if self.stamps[start * size : (start + _STAMPS_AT_ONCE) * size]
            != stamps[start * size : (start + _STAMPS_AT_ONCE) * size]
            for at in range(start, min(start + _STAMPS_AT_ONCE, count))
            if self.stamps[at * size : (at + 1) * size] != stamps[at * size : (at + 1) * size]
        ]

    def file_ids(self) -> array[int]:
        return array("q", self.ids)


NO_FILES = FolderFiles(b"", b"", b"")


def joined(names: Sequence[str]) -> bytes:
    """The names of files as one value."""
    return "\0".join(names).encode("utf-8", "surrogateescape")
