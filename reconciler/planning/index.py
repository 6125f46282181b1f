"""What the files declared when they were last read, in SQLite beside the state. A cache, not a truth.

It may be deleted at any time, and is made anew where anything about it is doubtful. It holds personal
data, so its mode is 0600, and one that others may have written is not believed.

One process works on it at a time, in one transaction; another one meanwhile works on a copy of its
own, which it throws away. So does a process that may not write here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

from reconciler.atomicfile import is_ours_alone
from reconciler.authoring.walk import STAMP, Listing, Stamp
from reconciler.core.profiles import Profile
from reconciler.errors import Diagnostic, QuotedValue, ReconcileError, Severity, Source
from reconciler.planning.packed import Packed

APPLICATION_ID = 0x52636E69
"""``PRAGMA application_id`` of our files ("Rcni")."""
RACY = 2_000_000_000
"""Nanoseconds for which a stamp is too young to be trusted: within the tick of a file system's clock
(two seconds, on the coarsest) a file may change again and keep its stamp, as git's index knows too."""
_FORMAT = 2
_WAIT = 0.5
"""Seconds to wait for another process before working on a copy."""
_PER_FILE = 1 << 20
"""Documents of a file have consecutive ids, of which a file has so many."""
_MOST_LAYOUTS = 4096
_PAGE = 1000
_CACHE = 64 * 1024 * 1024
"""Bytes of the database that are kept in memory."""

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE folder (
    path BLOB PRIMARY KEY, names BLOB NOT NULL, stamps BLOB NOT NULL, files BLOB NOT NULL);
CREATE TABLE file (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, sources INTEGER,
    documents INTEGER NOT NULL, findings TEXT);
CREATE TABLE sources (id INTEGER PRIMARY KEY, digests TEXT NOT NULL UNIQUE);
CREATE TABLE layout (id INTEGER PRIMARY KEY, paths TEXT NOT NULL UNIQUE);
CREATE TABLE profile (
    id INTEGER PRIMARY KEY, address TEXT, profile_id TEXT, device INTEGER, layout INTEGER, body TEXT,
    lifetime TEXT);
CREATE TABLE settled (
    address TEXT PRIMARY KEY, revision INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE other (address TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX file_with_findings ON file (id) WHERE findings IS NOT NULL;
CREATE INDEX profile_with_lifetime ON profile (address) WHERE lifetime IS NOT NULL;
"""
_LOOKUPS = {
    "profile_by_address": "profile (address) WHERE address IS NOT NULL",
    "profile_by_profile_id": "profile (profile_id) WHERE profile_id IS NOT NULL",
    "profile_by_device": "profile (device) WHERE device IS NOT NULL",
}

_CLAIMS = ("address", "profile_id", "device")
"""Columns of what may be claimed once."""
_CLAIMED = 1 + len(_CLAIMS)
_Row: TypeAlias = tuple[int, str | None, str | None, int | None, int | None, str | None, str | None]
"""What is kept of a document: its id, what it claims, then its layout, body and lifetime."""


class Unusable(ReconcileError):
    """The index failed in the middle of its use. Nothing that came from it counts."""

    def __init__(self, *, closed: bool = False) -> None:
        if closed:
            super().__init__(
                "the profiles of a workspace were read after it was closed",
                hint="Read them before, or keep the workspace open.",
            )
        else:
            super().__init__(
                "the index of the profile files failed while it was in use",
                hint="Run again; if it fails again, do so with --no-cache.",
            )

    def __reduce__(self) -> tuple[type[Unusable], tuple[()]]:
        return Unusable, ()  # it may come from another process


class Declared(NamedTuple):
    """What the index keeps of one document."""

    address: str | None
    profile_id: str | None
    device: int | None
    """A number that tells the ``device_id`` from most others."""
    layout: str | None
    """What many documents have in common, as JSON; ``None`` for one that is not valid."""
    body: str | None
    """The rest of the profile, as JSON."""
    lifetime: str | None = None
    recorded: tuple[int, int] | None = None
    """Revision and checksum of the record that was found to be as the document wants it, if one was."""


class Examined(NamedTuple):
    """What was found in a file."""

    stamp: Stamp | None
    """When it was read; ``None`` if it could not be."""
    digest: bytes
    """Of its content."""
    findings: Sequence[Diagnostic]
    documents: Sequence[Declared]
    sources: Mapping[str, str] | None = None
    """Digests of whatever else its documents were made from, by name."""


class Entry(NamedTuple):
    """A declared profile as it is kept; any executor can carry it."""

    file: str
    layout: str
    body: str

    def opened(self) -> Packed:
        try:
            return Packed.of(self.layout, self.body)
        except (ValueError, TypeError, AttributeError):
            raise Unusable from None

    def profile(self) -> Profile:
        return self.opened().profile(self.file)


class Index:
    """An open index. Methods raise `Unusable`; the caller goes on with another, private one."""

    def __init__(self, db: sqlite3.Connection, path: Path | None = None) -> None:
        self._db = db
        self._path = path
        """``None`` for a private one, of which nothing is kept."""
        self._has_failed = False
        self._is_closed = False
        self._readers: WeakSet[object] = WeakSet()
        self._layouts: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._next = 0

    @classmethod
    def open(cls, path: Path | None, key: str) -> Index:
        """The index in a file, if it has this key and can be used; else an empty one.

        ``key`` names everything that the meaning of a file depends on besides its content. Without a
        path the index is private: in memory, and in an unnamed file where that is not enough.
        """
        if path is not None:
            for _ in range(2):
                try:
                    return cls._shared(path, key)
                except sqlite3.OperationalError as problem:
                    if _code(problem) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY):
                        return cls._copied(path, key)
                    break
                except sqlite3.DatabaseError:
                    _remove(path)
                except OSError:
                    break
        return cls._private(key)

    @classmethod
    def _shared(cls, path: Path, key: str) -> Index:
        if not _is_trusted(path):
            _remove(path)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        db = _connect(path.absolute().as_uri() + "?mode=rw")
        try:
            db.execute("BEGIN IMMEDIATE")
            if not _has_key(db, key):
                _make(db, key)
        except BaseException:
            db.close()
            raise
        return cls(db, path)

    @classmethod
    def _copied(cls, path: Path, key: str) -> Index:
        """A private copy of what is committed."""
        private = _connect("")
        try:
            source = _connect(path.absolute().as_uri() + "?mode=ro")
            try:
                _copy(source, private)
            finally:
                source.close()
            private.execute("BEGIN")
            if _has_key(private, key):
                return cls(private)
        except sqlite3.Error:
            pass
        private.close()
        return cls._private(key)

    @classmethod
    def _private(cls, key: str) -> Index:
        db = _connect("")
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("BEGIN")
        _make(db, key)
        return cls(db)

    def keep(self) -> None:
        """Make what was written last, if it can be; what is here stays as it is for its reader."""
        if self._path is None or self._has_failed:
            return
        with suppress(sqlite3.Error):
            before = self._version()
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                # Others read. To go on trying would keep all of them out for as long as we are here.
                self._detach()
                return
            # Between the two another process may put its own in the place of what is here.
            self._has_failed = True
            self._db.execute("BEGIN")
            self._has_failed = self._version() != before

    def _detach(self) -> None:
        """Go on with a private copy."""
        private = _connect("")
        private.execute("PRAGMA journal_mode = OFF")
        private.execute("BEGIN")
        try:
            # Row by row: SQLite copies no database that is being written.
            for (statement,) in self._db.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC"
            ):
                private.execute(statement)
            for (table,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                rows = self._db.execute(f'SELECT * FROM "{table}"')
                places = ",".join("?" * len(rows.description))
                private.executemany(f'INSERT INTO "{table}" VALUES ({places})', rows)
        except sqlite3.Error:
            self._has_failed = True
        self._db.close()
        self._db, self._path = private, None

    def _version(self) -> int:
        """A number that changes when another connection writes. Begins to read."""
        self._db.execute("SELECT count(*) FROM about").fetchone()
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def lend(self, reader: object) -> None:
        """Take note of something that reads from the index for as long as it lives: see `let_go`."""
        self._readers.add(reader)

    def let_go(self) -> None:
        """Let go of the file. What was not kept is gone, but for those it was lent to: they go on
        with a copy of what was here."""
        if not self._readers:
            self.close()
        elif self._path is not None:
            self._detach()

    def close(self) -> None:
        """End the index for everybody."""
        self._is_closed = True
        with suppress(sqlite3.Error):
            self._db.close()

    def trusted_before(self) -> int:
        """The youngest time of a stamp, in nanoseconds, that can be trusted by now."""
        return self.now() - RACY

    def now(self) -> int:
        """The time, in nanoseconds, by the older of our clock and that of the file system."""
        now = time.time_ns()
        if self._path is not None:
            with suppress(OSError):
                os.utime(self._path)
                now = min(now, os.stat(self._path).st_mtime_ns)
        return now

    # --- folders and files -------------------------------------------------------------------

    def folder(self, path: bytes) -> Folder | None:
        """What is known of a folder."""
        row = self._one("SELECT names, stamps, files FROM folder WHERE path = ?", path)
        if row is None:
            return None
        return Folder(*row)

    def folders(self) -> Iterator[bytes]:
        for (path,) in self._all("SELECT path FROM folder"):
            yield path

    def put_folder(
        self, path: bytes, names: Sequence[str], stamps: array[int], files: array[int]
    ) -> None:
        self._do(
            "INSERT OR REPLACE INTO folder (path, names, stamps, files) VALUES (?, ?, ?, ?)",
            (path, _joined(names), stamps.tobytes(), files.tobytes()),
        )

    def remove_folder(self, path: bytes) -> None:
        """Forget a folder and all of its files."""
        known = self.folder(path)
        if known is not None:
            self.remove_files(known.file_ids())
            self._do("DELETE FROM folder WHERE path = ?", (path,))

    def digests(self, files: Iterable[int]) -> dict[int, bytes]:
        """Digests of the content of files."""
        return dict(self._by_id("SELECT id, digest FROM file WHERE id IN ({})", files))

    def new_file(self) -> int:
        """The id of a file that is not known yet."""
        if not self._next:
            (highest,) = self._one("SELECT max(id) FROM file") or (None,)
            self._next = highest or 0
        self._next += 1
        return self._next

    def put_files(self, found: Sequence[tuple[int, str, Examined]], *, known: bool) -> None:
        """Put what was found in files in the place of what was ``known`` of them, if anything.

        Each is given with its id and its name in messages.
        """
        documents = [
            (file * _PER_FILE + number, document)
            for file, _, examined in found
            for number, document in enumerate(examined.documents)
        ]
        rows: list[_Row] = [
            (
                number,
                document.address,
                document.profile_id,
                document.device,
                self._layout(document.layout),
                document.body,
                document.lifetime,
            )
            for number, document in documents
        ]
        insert = (
            "INSERT INTO profile (id, address, profile_id, device, layout, body, lifetime) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        if known:
            rows = self._changed([file for file, _, _ in found], rows)
            changed = {row[0] for row in rows}
            documents = [each for each in documents if each[0] in changed]
            # What claims the same leaves the indexes as they are.
            insert += (
                " ON CONFLICT (id) DO UPDATE SET layout = excluded.layout, body = excluded.body, "
                "lifetime = excluded.lifetime"
            )
        self._many(
            "INSERT OR REPLACE INTO file (id, name, digest, sources, documents, findings) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    file,
                    name,
                    examined.digest,
                    self._sources(examined.sources),
                    len(examined.documents),
                    encode_findings(examined.findings) if examined.findings else None,
                )
                for file, name, examined in found
            ],
        )
        self._many(insert, rows)
        self.settle(
            [
                (document.address, *document.recorded)
                for _, document in documents
                if document.recorded is not None and document.address is not None
            ]
        )

    def _changed(self, files: Sequence[int], rows: Sequence[_Row]) -> list[_Row]:
        """Those of the documents of some files that are others than they were, or new. What was known of
        these is forgotten, and of those that are gone: all but the row of one that claims the same."""
        before: dict[int, _Row] = {
            row[0]: row
            for row in self._all(
                "SELECT profile.id, address, profile_id, device, layout, body, lifetime FROM "
                f"json_each(?) AS file CROSS JOIN profile ON profile.id BETWEEN file.value * {_PER_FILE} "
                f"AND file.value * {_PER_FILE} + {_PER_FILE - 1}",
                json.dumps(files),
            )
        }
        now = {row[0]: row for row in rows}
        past = [row for number, row in before.items() if now.get(number) != row]
        addresses = [(row[1],) for row in past if row[1] is not None]
        self._many(
            "INSERT OR IGNORE INTO other (address) SELECT address FROM settled WHERE address = ?",
            addresses,
        )
        self._many("DELETE FROM settled WHERE address = ?", addresses)
        self._many(
            "DELETE FROM profile WHERE id = ?",
            [
                (row[0],)
                for row in past
                if row[0] not in now or now[row[0]][:_CLAIMED] != row[:_CLAIMED]
            ],
        )
        return [row for row in rows if before.get(row[0]) != row]

    def remove_files(self, files: Iterable[int]) -> None:
        ranges = [(file * _PER_FILE, (file + 1) * _PER_FILE - 1, file) for file in files]
        theirs = "(SELECT address FROM profile WHERE id BETWEEN ?1 AND ?2 AND ?3)"
        self._many(
            "INSERT OR IGNORE INTO other (address) "
            f"SELECT address FROM settled WHERE address IN {theirs}",
            ranges,
        )
        self._many(f"DELETE FROM settled WHERE address IN {theirs}", ranges)
        self._many("DELETE FROM profile WHERE id BETWEEN ?1 AND ?2 AND ?3", ranges)
        self._many("DELETE FROM file WHERE ?1 < ?2 AND id = ?3", ranges)

    def sources(self) -> dict[int, Mapping[str, str]]:
        """What documents were made from besides their own files, by the number of each such set."""
        rows = self._all("SELECT id, digests FROM sources")
        return {number: json.loads(digests) for number, digests in rows}

    def files_from(self, sources: int) -> set[int]:
        """The files whose documents were made from such a set."""
        return {file for (file,) in self._all("SELECT id FROM file WHERE sources = ?", sources)}

    def _sources(self, digests: Mapping[str, str] | None) -> int | None:
        if not digests:
            return None
        text = json.dumps(digests, sort_keys=True)
        self._do("INSERT OR IGNORE INTO sources (digests) VALUES (?)", (text,))
        row = self._one("SELECT id FROM sources WHERE digests = ?", text)
        return None if row is None else int(row[0])

    def _layout(self, paths: str | None) -> int | None:
        if paths is None:
            return None
        number = self._layouts.get(paths)
        if number is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._do("INSERT OR IGNORE INTO layout (paths) VALUES (?)", (paths,))
            row = self._one("SELECT id FROM layout WHERE paths = ?", paths)
            number = self._layouts[paths] = int(row[0]) if row else 0
        return number

    # --- what the files say together ---------------------------------------------------------

    def prepare(self) -> None:
        """Make the indexes by which everything below is looked up, if they are not there yet.

        To be called once files were put: one index made of many rows costs less than many additions.
        """
        for name, columns in _LOOKUPS.items():
            self._do(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}", ())

    def count(self) -> int:
        """Documents."""
        (count,) = self._one("SELECT sum(documents) FROM file") or (None,)
        return int(count or 0)

    def findings(self) -> Iterator[Diagnostic]:
        for (text,) in self._all("SELECT findings FROM file WHERE findings IS NOT NULL"):
            yield from decode_findings(text)

    def rivals(self) -> set[int]:
        """Files with documents that may claim the same identifier or device."""
        found: set[int] = set()
        for column in _CLAIMS:
            for (file,) in self._all(
                f"SELECT id / {_PER_FILE} FROM profile WHERE {column} IN (SELECT {column} "
                f"FROM profile WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1)"
            ):
                found.add(file)
        return found

    def rivals_of(self, files: Iterable[int]) -> set[int]:
        """The same, as far as one of the documents is in one of some files."""
        found: set[int] = set()
        wanted = json.dumps([*files])
        for column in _CLAIMS:
            for pair in self._all(
                f"SELECT mine.id / {_PER_FILE}, other.id / {_PER_FILE} FROM json_each(?) AS file "
                f"CROSS JOIN profile AS mine ON mine.id BETWEEN file.value * {_PER_FILE} "
                f"AND file.value * {_PER_FILE} + {_PER_FILE - 1} CROSS JOIN profile AS other "
                f"ON other.{column} = mine.{column} AND other.id <> mine.id",
                wanted,
            ):
                found.update(pair)
        return found

    def names(self, files: Iterable[int]) -> set[str]:
        """What files are called in messages."""
        return {name for (name,) in self._by_id("SELECT name FROM file WHERE id IN ({})", files)}

    def note(self, name: str) -> str | None:
        """Something that was noted about the index as a whole."""
        row = self._one("SELECT value FROM about WHERE name = ?", name)
        return None if row is None else str(row[0])

    def put_note(self, name: str, value: str) -> None:
        self._do("INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)", (name, value))

    # --- profiles ----------------------------------------------------------------------------

    def profiles(self) -> Iterator[tuple[str, int | None, int | None, int]]:
        """Address of every profile in the order of addresses; revision and checksum of the record that
        was found to be as the profile wants it, if one was; and the id."""
        return self._all(
            "SELECT profile.address, settled.revision, settled.checksum, profile.id FROM profile "
            "LEFT JOIN settled USING (address) WHERE profile.address IS NOT NULL "
            "ORDER BY profile.address"
        )

    def unsettled(self) -> Iterator[tuple[str, int]]:
        """Address and id of the profiles that are not settled, by address."""
        return self._all(
            "SELECT profile.address, profile.id FROM profile LEFT JOIN settled USING (address) "
            "WHERE profile.address IS NOT NULL AND settled.address IS NULL ORDER BY profile.address"
        )

    def identifiers(self, *, named: bool, settled: bool) -> Iterator[tuple[str, str | None]]:
        """Address and profile id of profiles: only of those that are ``named`` by a profile id, if that
        is asked for; also of ``settled`` ones, if that is."""
        return self._all(
            "SELECT profile.address, profile.profile_id FROM profile "
            + ("" if settled else "LEFT JOIN settled USING (address) ")
            + "WHERE profile.address IS NOT NULL "
            + ("" if settled else "AND settled.address IS NULL ")
            + ("AND profile.profile_id IS NOT NULL" if named else "")
        )

    def lifetimes(self) -> Iterator[tuple[str, int, str]]:
        """Address, id and lifetime of the profiles that have one, by address."""
        return self._all(
            "SELECT address, id, lifetime FROM profile INDEXED BY profile_with_lifetime "
            "WHERE lifetime IS NOT NULL AND address IS NOT NULL ORDER BY address"
        )

    def entries(self, ids: Collection[int]) -> dict[int, Entry]:
        """The profiles with these ids."""
        rows = self._by_id(
            "SELECT profile.id, file.name, profile.layout, profile.body FROM profile "
            f"JOIN file ON file.id = profile.id / {_PER_FILE} WHERE profile.id IN ({{}})",
            ids,
        )
        found = {row[0]: Entry(row[1], self._paths_of(row[2]), row[3]) for row in rows}
        if len(found) != len(ids):
            raise self._failed()
        return found

    def _paths_of(self, layout: int) -> str:
        found = self._paths.get(layout)
        if found is None:
            if len(self._paths) >= _MOST_LAYOUTS:
                self._paths.clear()
            row = self._one("SELECT paths FROM layout WHERE id = ?", layout)
            if row is None:
                raise self._failed()
            found = self._paths[layout] = str(row[0])
        return found

    # --- what was found to be settled --------------------------------------------------------

    def count_settled(self) -> int:
        """How many profiles are settled."""
        (settled,) = self._one("SELECT count(*) FROM settled") or (0,)
        return int(settled)

    def settle(self, rows: Sequence[tuple[str, int, int]]) -> None:
        self._many(
            "INSERT OR REPLACE INTO settled (address, revision, checksum) VALUES (?, ?, ?)", rows
        )

    def unsettle(self, addresses: Iterable[str]) -> None:
        self._many("DELETE FROM settled WHERE address = ?", [(address,) for address in addresses])

    def others(self) -> Iterator[tuple[str]]:
        """Addresses that were recorded and not settled, by address: all of those that still are, if the
        state is the one that was gone through."""
        return self._all(
            "SELECT address FROM other WHERE address NOT IN (SELECT address FROM settled) "
            "ORDER BY address"
        )

    def put_others(self, addresses: Iterable[str]) -> None:
        self._many(
            "INSERT OR IGNORE INTO other (address) VALUES (?)",
            [(address,) for address in addresses],
        )

    def clear_others(self) -> None:
        self._do("DELETE FROM other", ())

    # --- SQLite ------------------------------------------------------------------------------

    def _do(self, query: str, arguments: Sequence[object]) -> None:
        try:
            self._db.execute(query, arguments)
        except sqlite3.Error as problem:
            raise self._failed() from problem

    def _many(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        try:
            self._db.executemany(query, rows)
        except sqlite3.Error as problem:
            raise self._failed() from problem

    def _one(self, query: str, *arguments: object) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(query, arguments).fetchone()
        except sqlite3.Error as problem:
            raise self._failed() from problem
        return row

    def _all(self, query: str, *arguments: object) -> Iterator[Any]:
        if self._has_failed:
            raise self._failed()
        try:
            cursor = self._db.execute(query, arguments)
            while rows := cursor.fetchmany(_PAGE):
                yield from rows
        except sqlite3.Error as problem:
            raise self._failed() from problem

    def _failed(self) -> Unusable:
        self._has_failed = True
        return Unusable(closed=self._is_closed)

    def _by_id(self, query: str, ids: Iterable[int]) -> Iterator[Any]:
        wanted = iter(ids)
        while some := [*islice(wanted, _PAGE)]:
            yield from self._all(query.format(",".join("?" * len(some))), *some)


_AT_ONCE = 32
"""Stamps that are compared at once."""


class Folder(NamedTuple):
    """The files of a folder, as they were: names, stamps and ids, packed."""

    names: bytes
    stamps: bytes
    files: bytes

    def is_same(self, listing: Listing) -> bool:
        """Whether no file was added, removed, or given another stamp."""
        return self.stamps == listing.stamps.tobytes() and self.names == _joined(listing.names)

    def compared(self, listing: Listing) -> tuple[array[int], list[int], list[int]]:
        """The ids of the files that are there now (0 for a new one), the positions of those that are new or
        have another stamp, and the ids of those that are gone."""
        ids, stamps = self.file_ids(), listing.stamps.tobytes()
        size = STAMP * ids.itemsize
        count = len(listing.names)
        if self.names == _joined(listing.names):
            # Nearly all are as they were, so many are compared at once.
            return (
                ids,
                [
                    at
                    for start in range(0, count, _AT_ONCE)
                    if self.stamps[start * size : (start + _AT_ONCE) * size]
                    != stamps[start * size : (start + _AT_ONCE) * size]
                    for at in range(start, min(start + _AT_ONCE, count))
                    if self.stamps[at * size : (at + 1) * size]
                    != stamps[at * size : (at + 1) * size]
                ],
                [],
            )
        names = os.fsdecode(self.names).split("\0") if ids else []
        known = {
            name: (file, self.stamps[at * size : (at + 1) * size])
            for at, (name, file) in enumerate(zip(names, ids, strict=True))
        }
        found = [known.pop(name, (0, b"")) for name in listing.names]
        changed = [
            at
            for at, (_, stamp) in enumerate(found)
            if stamp != stamps[at * size : (at + 1) * size]
        ]
        return (
            array("q", [file for file, _ in found]),
            changed,
            [file for file, _ in known.values()],
        )

    def file_ids(self) -> array[int]:
        return array("q", self.files)


def _joined(names: Sequence[str]) -> bytes:
    return os.fsencode("\0".join(names))


def _connect(database: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        database, uri=database.startswith("file:"), timeout=_WAIT, isolation_level=None
    )
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA secure_delete = FAST")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = {-_CACHE // 1024}")
    except BaseException:
        db.close()
        raise
    return db


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copies a database, or raises sqlite3.OperationalError where it stays locked: by itself, `backup`
    would wait for ever."""
    until = time.monotonic() + _WAIT

    def progress(status: int, remaining: int, total: int) -> None:
        if status not in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE) and time.monotonic() > until:
            raise sqlite3.OperationalError("locked")

    source.backup(target, progress=progress)


def _has_key(db: sqlite3.Connection, key: str) -> bool:
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise sqlite3.DatabaseError  # somebody else's, or damaged
        return False
    if db.execute("PRAGMA user_version").fetchone() != (_FORMAT,):
        return False
    row = db.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
    return bool(row == (key,))


def _make(db: sqlite3.Connection, key: str) -> None:
    """An empty index, inside of the transaction."""
    for kind in ("index", "table"):
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = ? AND sql IS NOT NULL", (kind,)
        ).fetchall():
            db.execute(f'DROP {kind} "{name}"')
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {_FORMAT}")
    db.execute("INSERT INTO about (name, value) VALUES ('key', ?)", (key,))


def _is_trusted(path: Path) -> bool:
    """Whether only we can have written it, or nobody did."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return is_ours_alone(status)


def _remove(path: Path) -> None:
    # The journal first: SQLite would roll it back into the next file.
    for name in (f"{path}-journal", path):
        with suppress(FileNotFoundError):
            os.unlink(name)


def _code(problem: sqlite3.Error) -> int:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF


def encode_findings(findings: Sequence[Diagnostic]) -> str:
    """Findings as JSON; `decode_findings` is the reverse."""
    return json.dumps(
        [
            [
                *(each.severity.value, each.rule, each.message, each.source, each.hint),
                *(each.values, each.hint_values),
            ]
            for each in findings
        ]
    )


def decode_findings(text: str) -> Iterator[Diagnostic]:
    """The reverse of `encode_findings`."""
    for severity, rule, message, source, hint, values, hint_values in json.loads(text):
        yield Diagnostic(
            Severity(severity),
            rule,
            message,
            Source(*source),
            hint,
            tuple(QuotedValue(*value) for value in values),
            tuple(QuotedValue(*value) for value in hint_values),
        )
