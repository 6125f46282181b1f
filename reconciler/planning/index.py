"""The declarations of the files as they were last read, in SQLite beside the state. A cache, not a truth.

It may be deleted at any time, and is made anew where anything about it is doubtful. It holds personal
data, so its mode is 0600, and one that others may have written is not believed.

*Pending* are the addresses that planning has to look into: those whose document is not known to agree
with its record, and records without a document. The set holds for the state whose stamp was noted with
it; while neither files nor state change, no other address is looked into.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from reconciler.authoring.walk import Stamp
from reconciler.core.profiles import Profile
from reconciler.errors import Diagnostic, InputError, Source, error
from reconciler.planning.findings import decode_findings, encode_findings
from reconciler.planning.folder_files import FolderFiles, joined
from reconciler.planning.index_file import IndexFile, IndexUnusable
from reconciler.planning.limits import Limits
from reconciler.planning.packed import PackedProfile

_PER_FILE = 1 << 32
"""Documents of a file have consecutive ids, of which a file has so many. `_ids_of` sees to it."""
_MOST_FILES = 1 << 30
"""Ids of files are below this, so that SQLite's 64 bits hold the ids of their documents."""
_MOST_LAYOUTS = 4096
_DOCUMENTS = "documents"
"""The note of how many documents there are: to count them takes a while where there are many files."""
_STATE = "state"
"""The note of the stamp of the state that pending addresses hold for."""
_LOOKUPS = {
    "profile_by_address": "profile (address) WHERE address IS NOT NULL",
    "profile_by_profile_id": "profile (profile_id) WHERE profile_id IS NOT NULL",
    "profile_by_device": "profile (device) WHERE device IS NOT NULL",
}
_CLAIMS = ("address", "profile_id", "device")
"""Columns of what only one profile may have."""
_COLUMNS = "id, address, profile_id, device, wanted, layout, body, lifetime, previously"
_Row: TypeAlias = tuple[
    *tuple[int, str | None, str | None, int | None, bytes | None, int | None],
    *tuple[str | None, str | None, str | None],
]
"""The columns of a document."""


class IndexedDocument(NamedTuple):
    """One document, as the index keeps it."""

    address: str | None
    profile_id: str | None
    device: int | None
    """A number that tells the ``device_id`` from most others."""
    packed: PackedProfile | None = None
    """``None`` for a document that is not valid."""
    wanted: bytes | None = None
    """See `reconciler.core.digests.wanted_digest`."""
    lifetime: str | None = None
    previously: Sequence[str] = ()
    """Former addresses."""


class FileResult(NamedTuple):
    """The result of reading a file."""

    stamp: Stamp | None
    """When it was read; ``None`` if it could not be."""
    digest: bytes
    """The digest of its content."""
    findings: Sequence[Diagnostic]
    documents: Sequence[IndexedDocument]
    sources: Mapping[str, str] | None = None
    """Digests of everything else that its documents were made from, by name."""


class FileEntry(NamedTuple):
    """A file that was read, with its id in the index and its name in messages."""

    id: int
    name: str
    result: FileResult


class IndexedProfile(NamedTuple):
    """A declared profile as it is kept. Any executor can carry it."""

    file: str
    packed: PackedProfile

    def profile(self) -> Profile:
        """The profile. Raises `IndexUnusable` where it is damaged."""
        try:
            return self.packed.profile(self.file)
        except (ValueError, TypeError, AttributeError):
            raise IndexUnusable from None


class Index:
    """Queries over an open index file. Methods raise `IndexUnusable`; then the caller opens another."""

    def __init__(self, file: IndexFile, limits: Limits | None = None) -> None:
        self.file = file
        self._limits = limits or Limits()
        self._layout_ids: dict[str, int] = {}
        self._layouts: dict[int, str] = {}
        self._last_file = 0
        self._notes_pending = bool(self.note(_STATE))

    @classmethod
    def private(cls, key: str, *, limits: Limits | None = None) -> Index:
        """An empty index, of which nothing is kept: see `IndexFile.private`."""
        return cls(IndexFile.private(key), limits)

    def trusted_before(self) -> int:
        """The youngest time of a stamp, in nanoseconds, that can be trusted by now."""
        return self.file.clock_ns() - self._limits.racy_ns

    # --- folders and files -------------------------------------------------------------------

    def folder(self, path: bytes) -> FolderFiles | None:
        """The files of a folder as they were."""
        row = self.file.one("SELECT names, stamps, files FROM folder WHERE path = ?", path)
        return None if row is None else FolderFiles(*row)

    def folders(self) -> Iterator[bytes]:
        for (path,) in self.file.rows("SELECT path FROM folder"):
            yield path

    def put_folder(
        self, path: bytes, *, names: Sequence[str], stamps: array[int], ids: array[int]
    ) -> None:
        self.file.run(
            "INSERT OR REPLACE INTO folder (path, names, stamps, files) VALUES (?, ?, ?, ?)",
            (path, joined(names), stamps.tobytes(), ids.tobytes()),
        )

    def remove_folder(self, path: bytes) -> None:
        """Forget a folder and all of its files."""
        folder = self.folder(path)
        if folder is not None:
            self.remove_files(folder.file_ids())
            self.file.run("DELETE FROM folder WHERE path = ?", (path,))

    def digests(self, files: Iterable[int]) -> dict[int, bytes]:
        """Digests of the content of files."""
        return dict(self.file.rows_by_id("SELECT id, digest FROM file WHERE id IN ({})", files))

    def new_file(self) -> int:
        """The id of a file that is not known yet."""
        if not self._last_file:
            (highest,) = self.file.one("SELECT max(id) FROM file") or (None,)
            self._last_file = highest or 0
        self._last_file += 1
        if not 0 < self._last_file < _MOST_FILES:
            raise self.file.failed()
        return self._last_file

    def add_files(self, entries: Sequence[FileEntry]) -> None:
        """Put files that the index does not know yet."""
        self._put(entries, rows=[*self._rows(entries)], insert=_INSERT)

    def replace_files(self, entries: Sequence[FileEntry]) -> None:
        """Put what was read of files in the place of what the index knew of them."""
        rows = self._changed([entry.id for entry in entries], [*self._rows(entries)])
        self._put(entries, rows=rows, insert=_INSERT + _SAME_CLAIMS)

    def _put(self, entries: Sequence[FileEntry], *, rows: Sequence[_Row], insert: str) -> None:
        self.file.run_many(
            "INSERT OR REPLACE INTO file (id, name, digest, sources, documents, findings) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    entry.id,
                    entry.name,
                    entry.result.digest,
                    self._sources(entry.result.sources),
                    len(entry.result.documents),
                    encode_findings(entry.result.findings) if entry.result.findings else None,
                )
                for entry in entries
            ],
        )
        self.file.run_many(insert, rows)
        self._remove_note(_DOCUMENTS)
        self._look_into(address for _, address, *_ in rows if address is not None)

    def _rows(self, entries: Iterable[FileEntry]) -> Iterator[_Row]:
        for entry in entries:
            ids = _ids_of(entry.id, len(entry.result.documents), name=entry.name)
            for number, document in zip(ids, entry.result.documents, strict=True):
                packed = document.packed
                yield (
                    number,
                    document.address,
                    document.profile_id,
                    document.device,
                    document.wanted,
                    None if packed is None else self._layout_id(packed.layout),
                    None if packed is None else packed.body,
                    document.lifetime,
                    json.dumps(document.previously) if document.previously else None,
                )

    def _changed(self, files: Sequence[int], rows: Sequence[_Row]) -> list[_Row]:
        """The documents of some files that changed or are new. Rows of those that are gone, or claim
        something else, are deleted."""
        before: dict[int, _Row] = {
            row[0]: row
            for row in self.file.rows(
                f"SELECT {_QUALIFIED} FROM json_each(?) AS file CROSS JOIN profile ON profile.id "
                f"BETWEEN file.value * {_PER_FILE} AND file.value * {_PER_FILE} + {_PER_FILE - 1}",
                json.dumps(files),
            )
        }
        after = {row[0]: row for row in rows}
        outdated = [row for number, row in before.items() if after.get(number) != row]
        self._look_into(address for _, address, *_ in outdated if address is not None)
        self.file.run_many(
            "DELETE FROM profile WHERE id = ?",
            [
                (row[0],)
                for row in outdated
                if row[0] not in after or _claims_of(after[row[0]]) != _claims_of(row)
            ],
        )
        return [row for row in rows if before.get(row[0]) != row]

    def remove_files(self, files: Iterable[int]) -> None:
        ranges = [(file * _PER_FILE, (file + 1) * _PER_FILE - 1, file) for file in files]
        if self._notes_pending:
            self.file.run_many(
                "INSERT OR IGNORE INTO pending (address) SELECT address FROM profile "
                "WHERE id BETWEEN ?1 AND ?2 AND ?3 AND address IS NOT NULL",
                ranges,
            )
        self.file.run_many("DELETE FROM profile WHERE id BETWEEN ?1 AND ?2 AND ?3", ranges)
        self.file.run_many("DELETE FROM file WHERE ?1 < ?2 AND id = ?3", ranges)
        self._remove_note(_DOCUMENTS)

    def sources(self) -> dict[int, Mapping[str, str]]:
        """The digests of everything that documents were made from besides their own files, by the number of
        each such set."""
        rows = self.file.rows("SELECT id, digests FROM sources")
        return {number: json.loads(digests) for number, digests in rows}

    def files_from(self, sources: int) -> set[int]:
        """The files whose documents were made from such a set."""
        rows = self.file.rows("SELECT id FROM file WHERE sources = ?", sources)
        return {file for (file,) in rows}

    def _sources(self, digests: Mapping[str, str] | None) -> int | None:
        if not digests:
            return None
        text = json.dumps(digests, sort_keys=True)
        self.file.run("INSERT OR IGNORE INTO sources (digests) VALUES (?)", (text,))
        row = self.file.one("SELECT id FROM sources WHERE digests = ?", text)
        return None if row is None else int(row[0])

    def _layout_id(self, layout: str) -> int:
        number = self._layout_ids.get(layout)
        if number is None:
            if len(self._layout_ids) >= _MOST_LAYOUTS:
                self._layout_ids.clear()
            self.file.run("INSERT OR IGNORE INTO layout (paths) VALUES (?)", (layout,))
            row = self.file.one("SELECT id FROM layout WHERE paths = ?", layout)
            number = self._layout_ids[layout] = int(row[0]) if row else 0
        return number

    # --- all files together ------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the indexes by which everything below is looked up, if they are not there yet.

        To be called once files were put: one index made of many rows costs less than many additions.
        """
        for name, columns in _LOOKUPS.items():
            self.file.run(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")

    def count(self) -> int:
        """Documents."""
        noted = self.note(_DOCUMENTS)
        if noted is None:
            (count,) = self.file.one("SELECT total(documents) FROM file") or (0,)
            noted = str(int(count))
            self.put_note(_DOCUMENTS, noted)
        return int(noted)

    def findings(self) -> Iterator[Diagnostic]:
        for (text,) in self.file.rows("SELECT findings FROM file WHERE findings IS NOT NULL"):
            yield from decode_findings(text)

    def conflicting_files(self) -> set[int]:
        """Files with documents that may claim the same identifier or device."""
        return {
            file
            for column in _CLAIMS
            for (file,) in self.file.rows(
                f"SELECT id / {_PER_FILE} FROM profile WHERE {column} IN (SELECT {column} "
                f"FROM profile WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1)"
            )
        }

    def files_in_conflict_with(self, files: Iterable[int]) -> set[int]:
        """The same, where one of the documents is in one of some files.

        Each claim is looked up once, however many documents make it.
        """
        ids = json.dumps([*files])
        return {
            file
            for column in _CLAIMS
            for (file,) in self.file.rows(
                f"WITH claimed AS MATERIALIZED (SELECT DISTINCT mine.{column} AS claim "
                f"FROM json_each(?) AS file CROSS JOIN profile AS mine ON mine.id BETWEEN "
                f"file.value * {_PER_FILE} AND file.value * {_PER_FILE} + {_PER_FILE - 1} "
                f"WHERE mine.{column} IS NOT NULL), "
                "shared AS MATERIALIZED (SELECT claim FROM claimed WHERE (SELECT count(*) FROM "
                f"(SELECT 1 FROM profile AS other WHERE other.{column} = claim LIMIT 2)) = 2) "
                f"SELECT DISTINCT profile.id / {_PER_FILE} FROM shared "
                f"CROSS JOIN profile ON profile.{column} = shared.claim",
                ids,
            )
        }

    def files_with_clashing_former_addresses(self) -> set[int]:
        """Files with profiles that name a former address which another one names or has, and those of the
        latter."""
        return {
            file
            for (file,) in self.file.rows(
                "WITH former AS MATERIALIZED (SELECT profile.id AS id, item.value AS address "
                "FROM profile INDEXED BY profile_with_previously, json_each(profile.previously) AS item "
                "WHERE profile.previously IS NOT NULL) "
                f"SELECT id / {_PER_FILE} FROM former WHERE address IN "
                "(SELECT address FROM former GROUP BY address HAVING count(*) > 1) "
                f"UNION SELECT former.id / {_PER_FILE} FROM former JOIN profile USING (address) "
                f"UNION SELECT profile.id / {_PER_FILE} FROM former JOIN profile USING (address)"
            )
        }

    def names(self, files: Iterable[int]) -> set[str]:
        """The names of files in messages."""
        rows = self.file.rows_by_id("SELECT name FROM file WHERE id IN ({})", files)
        return {name for (name,) in rows}

    def note(self, name: str) -> str | None:
        """A note about the index as a whole."""
        row = self.file.one("SELECT value FROM about WHERE name = ?", name)
        return None if row is None else str(row[0])

    def put_note(self, name: str, value: str) -> None:
        self.file.run("INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)", (name, value))

    def _remove_note(self, name: str) -> None:
        self.file.run("DELETE FROM about WHERE name = ?", (name,))

    # --- profiles ----------------------------------------------------------------------------

    def profiles(self) -> Iterator[int]:
        """Ids of the profiles in the order of their addresses."""
        rows = self.file.rows("SELECT id FROM profile WHERE address IS NOT NULL ORDER BY address")
        return (number for (number,) in rows)

    def wanted(self) -> Iterator[tuple[str, int, bytes | None]]:
        """Address, id and wanted digest of every profile, by address."""
        return self.file.rows(
            "SELECT address, id, wanted FROM profile WHERE address IS NOT NULL ORDER BY address"
        )

    def declared(self, addresses: Iterable[str]) -> set[str]:
        """Those of some addresses that a profile declares."""
        rows = self.file.rows(
            "SELECT address FROM profile WHERE address IN (SELECT value FROM json_each(?))",
            json.dumps([*addresses]),
        )
        return {address for (address,) in rows}

    def identifiers(
        self, *, with_profile_id: bool, pending: bool
    ) -> Iterator[tuple[str, str | None]]:
        """Address and profile id of profiles: only of those that name a profile id, and only of pending
        ones, if that is asked for."""
        return self.file.rows(
            "SELECT profile.address, profile.profile_id FROM profile "
            + ("JOIN pending USING (address) " if pending else "")
            + "WHERE profile.address IS NOT NULL "
            + ("AND profile.profile_id IS NOT NULL" if with_profile_id else "")
        )

    def lifetimes(self) -> Iterator[tuple[str, int, str]]:
        """Address, id and lifetime of the profiles that have one, by address."""
        return self.file.rows(
            "SELECT address, id, lifetime FROM profile INDEXED BY profile_with_lifetime "
            "WHERE lifetime IS NOT NULL AND address IS NOT NULL ORDER BY address"
        )

    def previously(self) -> list[tuple[str, int, list[str]]]:
        """Address, id and former addresses of the profiles that name some, by address."""
        rows = self.file.rows(
            "SELECT address, id, previously FROM profile INDEXED BY profile_with_previously "
            "WHERE previously IS NOT NULL AND address IS NOT NULL ORDER BY address"
        )
        return [(address, number, json.loads(text)) for address, number, text in rows]

    def indexed_profiles(self, ids: Collection[int]) -> dict[int, IndexedProfile]:
        """The profiles with these ids."""
        rows = self.file.rows_by_id(
            "SELECT profile.id, file.name, profile.layout, profile.body FROM profile "
            f"JOIN file ON file.id = profile.id / {_PER_FILE} WHERE profile.id IN ({{}})",
            ids,
        )
        profiles = {
            number: IndexedProfile(name, PackedProfile(self._layout(layout), body))
            for number, name, layout, body in rows
        }
        if len(profiles) != len(ids):
            raise self.file.failed()
        return profiles

    def _layout(self, number: int) -> str:
        layout = self._layouts.get(number)
        if layout is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            row = self.file.one("SELECT paths FROM layout WHERE id = ?", number)
            if row is None:
                raise self.file.failed()
            layout = self._layouts[number] = str(row[0])
        return layout

    # --- pending addresses -------------------------------------------------------------------

    def pending_holds_for(self, state: str) -> bool:
        """Whether the pending addresses are those of a state with this stamp."""
        return self.note(_STATE) == state

    def begin_pending(self, *, anew: bool) -> None:
        """Begin to look into addresses, so that the pending ones hold for no state until `end_pending`;
        ``anew`` empties the set."""
        self.put_note(_STATE, "")
        if anew:
            self.file.run("DELETE FROM pending")

    def end_pending(self, state: str) -> None:
        """Note the stamp of the state that the pending addresses hold for; empty for none."""
        self.put_note(_STATE, state)
        self._notes_pending = bool(state)

    def pending(self) -> Iterator[tuple[str, int | None, bytes | None]]:
        """Each pending address with the id and the wanted digest of its profile, if it is declared; by
        address."""
        return self.file.rows(
            "SELECT pending.address, profile.id, profile.wanted FROM pending "
            "LEFT JOIN profile ON profile.address = pending.address ORDER BY pending.address"
        )

    def count_pending(self) -> tuple[int, int]:
        """How many addresses are pending, and how many of them are declared."""
        row = self.file.one(
            "SELECT count(*), count(profile.id) FROM pending "
            "LEFT JOIN profile ON profile.address = pending.address"
        )
        addresses, declared = row or (0, 0)
        return int(addresses), int(declared)

    def put_pending(self, addresses: Iterable[str]) -> None:
        self.file.run_many(
            "INSERT OR IGNORE INTO pending (address) VALUES (?)",
            [(address,) for address in addresses],
        )

    def remove_pending(self, addresses: Iterable[str]) -> None:
        self.file.run_many(
            "DELETE FROM pending WHERE address = ?", [(address,) for address in addresses]
        )

    def _look_into(self, addresses: Iterable[str]) -> None:
        """Have addresses looked into whose documents changed. Without a noted state all are."""
        if self._notes_pending:
            self.put_pending(addresses)


def _ids_of(file: int, count: int, *, name: str) -> range:
    """The ids of so many documents of a file.

    Raises InputError where they would be those of another file.
    """
    if count > _PER_FILE:
        problem = error(
            "file/too-many-documents",
            f"the file makes more than {_PER_FILE:,} profiles",
            source=Source(name),
            hint="Split it into several files.",
        )
        raise InputError("a file makes too many profiles", diagnostics=[problem])
    return range(file * _PER_FILE, file * _PER_FILE + count)


def _claims_of(row: _Row) -> tuple[object, ...]:
    _, address, profile_id, device, *_ = row
    return address, profile_id, device


_QUALIFIED = ", ".join(f"profile.{column}" for column in _COLUMNS.split(", "))
_INSERT = f"INSERT INTO profile ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SAME_CLAIMS = (
    " ON CONFLICT (id) DO UPDATE SET wanted = excluded.wanted, layout = excluded.layout, "
    "body = excluded.body, lifetime = excluded.lifetime, previously = excluded.previously"
)
"""A row that claims the same as before leaves the lookups as they are."""
