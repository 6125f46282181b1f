"""The SQLite file of the index: opening, copying, keeping, and the errors of its use.

One process works on the file at a time, in one transaction. Another one meanwhile works on a copy of its
own, which it throws away. So does a process that may not write here.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

from reconciler.errors import ReconcileError
from reconciler.planning.index_sum import FileSum, sum_path
from reconciler.state.rollback_journal import names_another_file
from reconciler.systems import open_flags

APPLICATION_ID = 0x52636E69
"""``PRAGMA application_id`` of our files ("Rcni")."""
FORMAT = 4
"""Version of the tables. An index of another version is made anew."""
_WAIT = 0.5
"""Seconds to wait for another process before working on a copy."""
_ROWS_AT_ONCE = 1000
_CACHE_BYTES = 64 * 1024 * 1024

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
    id INTEGER PRIMARY KEY, address TEXT, profile_id TEXT, device INTEGER, wanted BLOB,
    layout INTEGER, body TEXT, lifetime TEXT, previously TEXT);
CREATE TABLE pending (address TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX file_with_findings ON file (id) WHERE findings IS NOT NULL;
CREATE INDEX profile_with_lifetime ON profile (address) WHERE lifetime IS NOT NULL;
CREATE INDEX profile_with_previously ON profile (address) WHERE previously IS NOT NULL;
"""


class IndexUnusable(ReconcileError):
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

    def __reduce__(self) -> tuple[type[IndexUnusable], tuple[()]]:
        return IndexUnusable, ()  # it may come from another process


class IndexFile:
    """An open database with the tables of the index. Queries raise `IndexUnusable`; the caller goes on with
    another, private one."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path | None = None,
        *,
        checksum: FileSum | None = None,
    ) -> None:
        self._db = db
        self._path = path
        """``None`` for a private one, of which nothing is kept."""
        self._checksum = checksum
        self.problem = ""
        """Why the index could not be kept, for the user."""
        self._has_failed = False
        self._is_closed = False
        self._readers: WeakSet[object] = WeakSet()

    @classmethod
    def open(cls, path: Path, key: str, *, secret: bytes) -> IndexFile:
        """The index in a file, if it has this key and can be used; otherwise an empty one.

        ``key`` names everything that the meaning of a file depends on besides its content. ``secret``
        authenticates the content. A file that another process uses is copied. A file that this program did
        not make is left alone; one that it made, and somebody changed, is made anew. An index that cannot
        be written is private, and has a `problem`.
        """
        problem: sqlite3.Error | OSError | None = None
        for _ in range(2):
            try:
                if problem is not None:
                    _remove_ours(path)
                return cls._shared(path, key, secret=secret)
            except sqlite3.OperationalError as operational:
                problem = operational
                if _code(operational) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY):
                    return cls._copied(path, key, secret=secret)
                break
            except sqlite3.DatabaseError as damage:
                problem = damage
            except OSError as system:
                problem = system
                break
        return cls.private(key, problem=_reason(problem))

    @classmethod
    def private(cls, key: str, *, in_memory: bool = False, problem: str = "") -> IndexFile:
        """An empty index, of which nothing is kept: in memory, and in an unnamed file where that is not
        enough, unless all of it is to be ``in_memory``."""
        try:
            db = _connect(":memory:" if in_memory else "")
            if in_memory:
                db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("BEGIN")
            _make(db, key)
        except sqlite3.Error as error:
            raise IndexUnusable from error
        file = cls(db)
        file.problem = problem
        return file

    @classmethod
    def _shared(cls, path: Path, key: str, *, secret: bytes) -> IndexFile:
        _refuse_foreign_files(path)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, open_flags("O_CREAT", "O_EXCL", "O_WRONLY"), 0o600))
        elif path.stat().st_mode & 0o077:
            os.chmod(path, 0o600)
        checksum = FileSum(path, secret)
        try:
            db = _connect(path.absolute().as_uri() + "?mode=rw")
            try:
                db.execute("BEGIN IMMEDIATE")
                if not checksum.is_right():
                    db.execute("ROLLBACK")
                    db.execute("BEGIN EXCLUSIVE")  # unless another process is about to note another
                    raise sqlite3.DatabaseError("damaged")
                if not _has_key(db, key):
                    _make(db, key)
            except BaseException:
                db.close()
                raise
        except BaseException:
            checksum.close()
            raise
        return cls(db, path, checksum=checksum)

    @classmethod
    def _copied(cls, path: Path, key: str, *, secret: bytes) -> IndexFile:
        """A private copy of what is committed."""
        private = _connect("")
        with suppress(sqlite3.Error, OSError):
            checksum = FileSum(path, secret)
            try:
                if checksum.is_right():
                    source = _connect(path.absolute().as_uri() + "?mode=ro")
                    try:
                        copy_database(source, private)
                    finally:
                        source.close()
                    private.execute("BEGIN")
                    if _has_key(private, key):
                        return cls(private)
            finally:
                checksum.close()
        private.close()
        return cls.private(key)

    # --- keeping and closing -----------------------------------------------------------------

    def keep(self) -> None:
        """Commits what was written. Readers of this index see what they saw before. Where other processes
        read the file and so prevent it, this one goes on with a copy.

        Raises IndexUnusable where it cannot be written: what was written is gone then.
        """
        if self._path is None or self._has_failed:
            return
        try:
            before = self._version()
            self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            # A failed transaction may be rolled back by now. Only one that waits for others is whole.
            if _code(problem) != sqlite3.SQLITE_BUSY or not self._db.in_transaction:
                raise self.failed(problem) from problem
            # Others read. To go on trying would keep all of them out for as long as we are here.
            self._detach()
            if self._has_failed:
                raise self.failed() from problem
            return
        try:
            # Between the two, another process may put its own content in the place of this one.
            self._db.execute("BEGIN")
            if self._version() != before:
                raise self.failed()
        except sqlite3.Error as problem:
            raise self.failed(problem) from problem
        if self._checksum is not None:
            with suppress(OSError):  # the next run finds another checksum, and reads the files
                self._checksum.note()

    def lend(self, reader: object) -> None:
        """Notes something that reads from the index for as long as it lives: see `let_go`."""
        self._readers.add(reader)

    def let_go(self) -> None:
        """Lets go of the file. Everything that was not kept is lost, except to those whom it was lent to:
        they go on with a copy."""
        if not self._readers:
            self.close()
        elif self._path is not None:
            self._detach()

    def close(self) -> None:
        """Ends the index for everybody."""
        self._is_closed = True
        with suppress(sqlite3.Error):
            self._db.close()
        self._close_checksum()

    def distrust(self) -> None:
        """Has the next run make the file anew."""
        self._has_failed = True
        if self._path is not None:
            with suppress(OSError):
                sum_path(self._path).unlink(missing_ok=True)
            self._path = None

    def _close_checksum(self) -> None:
        if self._checksum is not None:
            self._checksum.close()
            self._checksum = None

    def clock_ns(self) -> int:
        """The time in nanoseconds by the older of our clock and that of the file system."""
        now = time.time_ns()
        if self._path is not None:
            with suppress(OSError):
                os.utime(self._path)
                now = min(now, os.stat(self._path).st_mtime_ns)
        return now

    def _detach(self) -> None:
        """Goes on with a private copy."""
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
        with suppress(sqlite3.Error):
            self._db.close()
        self._close_checksum()
        self._db, self._path = private, None

    def _version(self) -> int:
        """A number that changes when another connection writes. Begins to read."""
        self._db.execute("SELECT count(*) FROM about").fetchone()
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    # --- queries -----------------------------------------------------------------------------

    def run(self, query: str, arguments: Sequence[object] = ()) -> None:
        with self._use():
            self._db.execute(query, arguments)

    def run_many(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        with self._use():
            self._db.executemany(query, rows)

    def one(self, query: str, *arguments: object) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._use():
            row: tuple[Any, ...] | None = self._db.execute(query, arguments).fetchone()
            return row

    def rows(self, query: str, *arguments: object) -> Iterator[Any]:
        """All rows of a query, some of them at a time."""
        with self._use():
            cursor = self._db.execute(query, arguments)
            rows = cursor.fetchmany(_ROWS_AT_ONCE)
        while rows:
            yield from rows
            with self._use():
                rows = cursor.fetchmany(_ROWS_AT_ONCE)

    def rows_by_id(self, query: str, ids: Iterable[int]) -> Iterator[Any]:
        """All rows of a query that holds ``{}`` in the place of a list of ids."""
        rest = iter(ids)
        while chunk := [*islice(rest, _ROWS_AT_ONCE)]:
            yield from self.rows(query.format(",".join("?" * len(chunk))), *chunk)

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Raises IndexUnusable for errors within, and for ever after one: SQLite may have rolled back, and
        would show what earlier runs left."""
        if self._has_failed:
            raise IndexUnusable(closed=self._is_closed)
        try:
            yield
        except (sqlite3.Error, OverflowError) as problem:
            raise self.failed(problem) from problem

    def failed(self, problem: sqlite3.Error | OverflowError | None = None) -> IndexUnusable:
        """Gives the index up; what it returns is to be raised."""
        self._has_failed = True
        self.problem = self.problem or _reason(problem)
        return IndexUnusable(closed=self._is_closed)


def copy_database(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copies a database, or raises sqlite3.OperationalError where it stays locked: by itself, SQLite's
    backup would wait for ever."""
    until = time.monotonic() + _WAIT

    def progress(status: int, remaining: int, total: int) -> None:
        if status not in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE) and time.monotonic() > until:
            raise sqlite3.OperationalError("locked")

    source.backup(target, progress=progress)


def _connect(database: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        database, uri=database.startswith("file:"), timeout=_WAIT, isolation_level=None
    )
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA secure_delete = FAST")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = {-_CACHE_BYTES // 1024}")
    except BaseException:
        db.close()
        raise
    return db


def _has_key(db: sqlite3.Connection, key: str) -> bool:
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise sqlite3.DatabaseError  # somebody else's, or damaged
        return False
    if db.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        return False
    row = db.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
    return bool(row == (key,))


def _make(db: sqlite3.Connection, key: str) -> None:
    """Makes an empty index, inside the transaction."""
    for kind in ("index", "table"):
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = ? AND sql IS NOT NULL", (kind,)
        ).fetchall():
            db.execute(f'DROP {kind} "{name}"')
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("INSERT INTO about (name, value) VALUES ('key', ?)", (key,))


def _refuse_foreign_files(path: Path) -> None:
    """Raises OSError where something lies at the place of the index, or of its journal, that this program
    never puts there: SQLite would open it. A journal that names another file has SQLite delete that one."""
    for name in (path, Path(f"{path}-journal")):
        try:
            if not stat.S_ISREG(name.lstat().st_mode):
                raise _foreign(name)
        except FileNotFoundError:
            continue
    if os.path.lexists(f"{path}-wal") or names_another_file(path):
        raise _foreign(path)


def _remove_ours(path: Path) -> None:
    """Removes an index that does not count. Raises OSError where the file does not have our mark."""
    with open(path, "rb") as file:
        header = file.read(_MARK_END)
    mark = APPLICATION_ID.to_bytes(4, "big")
    if header and (header[: len(_MAGIC)] != _MAGIC or header[_MARK_END - 4 :] != mark):
        raise _foreign(path)
    # The journal first: SQLite would roll it back into the next file.
    for name in (f"{path}-journal", path, sum_path(path)):
        with suppress(FileNotFoundError):
            os.unlink(name)


_MAGIC = b"SQLite format 3\0"
_MARK_END = 72
"""Where the ``application_id`` ends (https://www.sqlite.org/fileformat2.html#the_database_header)."""


def _foreign(path: Path) -> OSError:
    return FileExistsError(errno.EEXIST, f"{path.name} was not made by this program", str(path))


def _code(problem: sqlite3.Error) -> int:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF


_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def _reason(problem: Exception | None) -> str:
    """The reason of an error, if a user has to know it. A file that may not be written is so on purpose,
    and a damaged one is replaced."""
    if isinstance(problem, OSError):
        return "" if problem.errno in _NOT_WRITABLE else problem.strerror or "it cannot be opened"
    if not isinstance(problem, sqlite3.Error):
        return ""
    return _REASONS.get(_code(problem), "")


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed, or its quota is used up",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
}
