"""The rollback journal of SQLite beside a state file: is it the journal of that file?

A writer that was killed leaves a journal. SQLite rolls it back into whatever file has the state's name
when that is opened next, also into a backup that was put there since, which mixes the two. The form is
described at https://www.sqlite.org/fileformat2.html#the_rollback_journal.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8sIIIII")
"""Magic, number of records, nonce, pages of the file before the write, size of a sector, size of a page."""
_UNTIL_THE_END = 0xFFFFFFFF
_NUMBER = struct.Struct(">I")
_MOST_RECORDS = 100_000
_LOOKS = 3
"""How often to look before a journal counts as foreign: a writer may be at work meanwhile."""


def names_another_file(path: Path) -> bool:
    """Whether the journal beside a file names the journal of a transaction over several files. SQLite
    deletes the file of that name after the rollback. This program never writes such a journal. Raises
    OSError."""
    try:
        with open(f"{path}-journal", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - len(_MAGIC)))
            return size > _HEADER.size and file.read() == _MAGIC
    except FileNotFoundError:
        return False


class _Counters(NamedTuple):
    """The version of a file, as its first page says."""

    change: int
    """Raised by every transaction."""
    pages: int

    @classmethod
    def of(cls, page: bytes) -> _Counters:
        return cls(*(_NUMBER.unpack_from(page, offset)[0] for offset in (24, 28)))


class _Journal(NamedTuple):
    """The file that a journal belongs to, as the journal says."""

    pages: int
    """Pages of the file before the write."""
    first_page: _Counters | None
    """The first page before the write; ``None`` where the part that was read does not hold it."""
    has_more: bool
    """Whether there are parts that were not read. A long write has several."""


def has_foreign_journal(path: Path) -> bool:
    """Whether the journal beside a file holds the pages of another file. No for a journal that a writer is
    working with, and where nothing can be told. Raises OSError."""
    return all(_looks_foreign(path) for _ in range(_LOOKS))


def _looks_foreign(path: Path) -> bool:
    place = Path(f"{path}-journal")
    try:
        with open(place, "rb") as file:
            before = os.fstat(file.fileno())
            journal = _read(file, before.st_size)
        with open(path, "rb") as state:
            now = _Counters.of(state.read(100).ljust(100, b"\0"))
        after = os.stat(place)
    except FileNotFoundError:
        return False
    if journal is None or (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        return False
    if (first := journal.first_page) is not None:
        return now.change not in (first.change, (first.change + 1) % 2**32)
    # A write that did not get to the first page left the size that is noted there.
    return not journal.has_more and now.pages != journal.pages


def _read(file: BinaryIO, size: int) -> _Journal | None:
    """The journal in a file of a size; ``None`` for one that SQLite does not roll back either."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, records, _, pages, sector, page_size = _HEADER.unpack(header)
    if magic != _MAGIC or not 512 <= page_size <= 65_536 or not 32 <= sector <= 65_536:
        return None
    length = page_size + 8  # with its number and its checksum
    if records == _UNTIL_THE_END:
        records = (size - sector) // length
    for record in range(min(records, _MOST_RECORDS)):
        file.seek(sector + record * length)
        number = file.read(4)
        if len(number) == 4 and _NUMBER.unpack(number)[0] == 1:
            page = file.read(100)
            return _Journal(pages, _Counters.of(page) if len(page) == 100 else None, has_more=True)
    return _Journal(pages, None, has_more=records > 0 and size > sector + records * length)
