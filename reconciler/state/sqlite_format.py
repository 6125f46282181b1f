"""The format of a state file: its tables, how older formats become the present one, and how a connection
to it is set up.

Format 2 added ``record.known``, the digest of what a record knows (`reconciler.core.digests`). It is
computed from the body, so exports do not hold it and keep their own format. It added to ``meta``
``content``, a random text that is new after each write that changed records, and ``moved``, the address
to which the state was moved.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any

from reconciler.state.store import checksum, known_digest_of_body

APPLICATION_ID = 0x52636E6C
"""``PRAGMA application_id`` of our files ("Rcnl"), which tells them from other databases."""
BACKUP_APPLICATION_ID = 0x52636E62
"""The same of a backup ("Rcnb"), so that one that was copied into the place of a state is noticed."""
STATE_FORMAT_VERSION = 2
"""The format of a state file, in its ``PRAGMA user_version``. Newer ones are refused."""
FIRST_WITH_DIGESTS = 2
"""The first format with digests, content stamps and marks of having been moved."""
NEW_CONTENT = "content = hex(randomblob(8))"
"""The assignment in ``meta`` that belongs to each change of records."""
_ROWS_AT_ONCE = 1_000

Upgrade = Callable[[sqlite3.Connection], None]
RecordRow = tuple[str, int, str, int]
"""Address, revision, body and checksum, as they are in a file."""

SCHEMA = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    environment TEXT NOT NULL, lineage TEXT, serial INTEGER NOT NULL, application TEXT,
    token INTEGER NOT NULL, content TEXT, moved TEXT);
CREATE TABLE lock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT,
    command TEXT NOT NULL, ci TEXT, since REAL NOT NULL, expires REAL NOT NULL);
CREATE TABLE record (
    address TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL,
    checksum INTEGER NOT NULL, known BLOB);
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, address TEXT NOT NULL, kind TEXT NOT NULL,
    at REAL NOT NULL, action TEXT NOT NULL, request TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX journal_by_run ON journal (run);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, started REAL NOT NULL, finished REAL NOT NULL,
    digest TEXT NOT NULL, outcomes TEXT NOT NULL, starter TEXT NOT NULL DEFAULT '{}');
"""


def connect(database: str, *, busy_seconds: float) -> sqlite3.Connection:
    """A connection in autocommit mode with our settings. None of them writes to the file.

    ``synchronous=EXTRA`` with a rollback journal: write-ahead logging has a corruption race in the
    versions that Python 3.11 carries. ``busy_seconds`` is how long to wait for another process's
    transaction.
    """
    db = sqlite3.connect(
        database,
        uri=database.startswith("file:"),
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        db.close()
        raise
    return db


def is_backup(db: sqlite3.Connection) -> bool:
    """Whether a file is a backup, beside a state or in the place of one."""
    return bool(_application_id(db) == BACKUP_APPLICATION_ID)


def is_ours(db: sqlite3.Connection) -> bool:
    """Whether a file is a state or a backup of one."""
    return _application_id(db) in (APPLICATION_ID, BACKUP_APPLICATION_ID)


def mark_as_backup(db: sqlite3.Connection) -> None:
    """Make a file a backup. The lock that was held while it was copied is not part of it."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM lock")
    db.execute(f"PRAGMA application_id = {BACKUP_APPLICATION_ID}")
    db.execute("COMMIT")


def make_state(db: sqlite3.Connection) -> None:
    """Make a backup a state, within the transaction that is open."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _application_id(db: sqlite3.Connection) -> Any:
    return db.execute("PRAGMA application_id").fetchone()[0]


def version_of(db: sqlite3.Connection) -> int:
    """The format of a file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_whole(row: RecordRow) -> bool:
    """Whether the checksum of a row is that of its content."""
    address, revision, body, expected = row
    try:
        is_right = checksum(address, body) + revision == expected
    except (ValueError, TypeError):
        return False
    return is_right and revision.__class__ is int and expected.__class__ is int


TEXT, WHOLE, NUMBER, TEXT_OR_NULL = str, int, int | float, str | None
"""Types of columns, for `require_types`."""


def require_types(row: Sequence[object], *kinds: type | UnionType) -> None:
    """Raises sqlite3.DatabaseError for a row with a value of another type than its column has: SQLite keeps
    whatever is put into a column, and a damaged file may hold anything."""
    for value, kind in zip(row, kinds, strict=True):
        if not isinstance(value, kind):
            raise sqlite3.DatabaseError("a value of another type")


def known_digests_where(
    db: sqlite3.Connection, condition: str, *, parameters: Sequence[object]
) -> list[tuple[str, bytes | None]]:
    """Address and known digest of the records that fulfil a condition. In a file of format 1, which plans
    read and do not write, the digests are computed from the bodies."""
    if version_of(db) >= FIRST_WITH_DIGESTS:
        return db.execute(f"SELECT address, known FROM record {condition}", parameters).fetchall()
    rows = db.execute(
        f"SELECT address, revision, body, checksum FROM record {condition}", parameters
    )
    return [(row[0], _known_digest(row)) for row in rows]


def starter_column(db: sqlite3.Connection | None) -> str:
    """The column of the history that says who started a run, or its default in a file of format 1."""
    return "starter" if db is None or version_of(db) >= FIRST_WITH_DIGESTS else "'{}'"


def _known_digest(row: RecordRow) -> bytes | None:
    """``None`` also for a damaged row, so that it is read in whole, which reports the damage."""
    return known_digest_of_body(row[2]) if is_whole(row) else None


def _to_format_2(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE record ADD COLUMN known BLOB")
    db.execute("ALTER TABLE meta ADD COLUMN content TEXT")
    db.execute("ALTER TABLE meta ADD COLUMN moved TEXT")
    db.execute("ALTER TABLE history ADD COLUMN starter TEXT NOT NULL DEFAULT '{}'")
    db.execute(f"UPDATE meta SET {NEW_CONTENT}")
    last = ""
    condition = ">="
    while True:
        rows = db.execute(
            "SELECT address, revision, body, checksum FROM record "
            f"WHERE address {condition} ? ORDER BY address LIMIT ?",
            (last, _ROWS_AT_ONCE),
        ).fetchall()
        db.executemany(
            "UPDATE record SET known = ? WHERE address = ?",
            [(_known_digest(row), row[0]) for row in rows],
        )
        if len(rows) < _ROWS_AT_ONCE:
            return
        last, condition = rows[-1][0], ">"


UPGRADES: Mapping[int, Upgrade] = {1: _to_format_2}
"""From format version N to N+1, by N. Each runs inside the transaction that also takes the lock, so
the tables ``meta`` and ``lock`` must keep the columns they have."""
