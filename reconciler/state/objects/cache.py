"""The state at one position of the log, in a database with the tables of a state file. Disposable: it is made
anew from snapshot and log whenever it is in doubt."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from reconciler.core.records import Header, Run
from reconciler.state.objects.segments import (
    TAKES_LOCK,
    Effects,
    HeldLock,
    Part,
    RecordAt,
    Segment,
    SegmentKind,
    run_fields,
)
from reconciler.state.sqlite_format import SCHEMA, STATE_FORMAT_VERSION
from reconciler.state.sqlite_records import (
    AMONG,
    header_in,
    journal_row,
    moved_address,
    put_header,
    put_lock,
    recorded_lock,
)
from reconciler.state.store import checksum

APPLICATION_ID = 0x52636E6F
"""``PRAGMA application_id`` of our caches ("Rcno")."""
FORMAT = 1
"""Version of the tables. A cache of another version is made anew."""
_JOURNAL_LINES = 20_000
"""Journal entries that a snapshot holds, beside all of the last run."""

_TABLES = """
CREATE TABLE place (
    one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, boot TEXT NOT NULL,
    incarnation TEXT, position INTEGER NOT NULL, chain TEXT NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE fence (position INTEGER PRIMARY KEY);
CREATE TABLE part (name TEXT PRIMARY KEY, position INTEGER NOT NULL);
"""
_NAMES = ("meta", "lock", "record", "journal", "history", "place", "fence", "part")

ReadParts = Callable[[Sequence[Part]], Iterator[RecordAt]]
"""Gives the records in some parts of a segment."""


class LogPlace(NamedTuple):
    """How far the log was read."""

    incarnation: str | None = None
    """``None`` where there is no state."""
    position: int = 0
    """Of the last segment."""
    chain: str = ""
    """The SHA-256 of the last segment."""
    bytes: int = 0
    """The size of all segments so far."""


class DoesNotFollow(Exception):
    """A segment does not come after the one at the end of the cache."""


class NotOurs(Exception):
    """A database of another program."""


class Cache:
    """A connection to a cache, and what may be done with it. Methods raise sqlite3.Error; and OverflowError
    or UnicodeError for what SQLite cannot keep."""

    def __init__(self, db: sqlite3.Connection, *, environment: str, boot: str | None) -> None:
        """``boot`` names the time since the last start of this machine. A cache from before is made anew:
        what was not yet on the disk when the machine stopped is lost without a sign. ``None``: the database
        ends with this process."""
        self.db = db
        self._environment = environment
        self._boot = boot or ""
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA trusted_schema = OFF")
        if boot is not None:
            db.execute("PRAGMA journal_mode = PERSIST")
        db.execute("PRAGMA synchronous = OFF")
        if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            self._make_tables()
        elif not self._is_usable():
            self.clear()

    def _make_tables(self) -> None:
        """Raises NotOurs where something else is there."""
        db = self.db
        if db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            raise NotOurs
        db.executescript(
            f"BEGIN; {SCHEMA} {_TABLES} PRAGMA user_version = {STATE_FORMAT_VERSION}; "
            f"PRAGMA application_id = {APPLICATION_ID};"
        )
        self._begin(None)
        db.execute("COMMIT")

    def _is_usable(self) -> bool:
        row = self.db.execute("SELECT format, boot FROM place").fetchone()
        kept = self.db.execute("SELECT environment FROM meta").fetchone()
        return bool(row == (FORMAT, self._boot) and kept == (self._environment,))

    def clear(self, incarnation: str | None = None) -> None:
        """Begin anew: no state, or the empty one of an incarnation."""
        with self.transaction():
            self._clear(incarnation)

    def _clear(self, incarnation: str | None) -> None:
        for table in _NAMES:
            self.db.execute(f"DELETE FROM {table}")
        self._begin(incarnation)

    def _begin(self, incarnation: str | None) -> None:
        self.db.execute(
            "INSERT INTO meta (one, environment, serial, token) VALUES (1, ?, 0, 0)",
            (self._environment,),
        )
        self.db.execute(
            "INSERT INTO place VALUES (1, ?, ?, ?, 0, '', 0)", (FORMAT, self._boot, incarnation)
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything within, or nothing."""
        with self.undone_unless_kept() as keep:
            yield
            keep()

    @contextmanager
    def undone_unless_kept(self) -> Iterator[Callable[[], None]]:
        """A transaction that ends with nothing, unless the function that it gives is called."""
        self.db.execute("BEGIN IMMEDIATE")

        def keep() -> None:
            self.db.execute("COMMIT")

        try:
            yield keep
        finally:
            with contextlib.suppress(sqlite3.Error):
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self.db.close()

    # What is known

    @property
    def place(self) -> LogPlace:
        row = self.db.execute("SELECT incarnation, position, chain, bytes FROM place").fetchone()
        return LogPlace(*row)

    @property
    def token(self) -> int:
        return int(self.db.execute("SELECT token FROM meta").fetchone()[0])

    @property
    def content(self) -> str | None:
        """The id of the last segment that changed records."""
        content = self.db.execute("SELECT content FROM meta").fetchone()[0]
        return None if content is None else str(content)

    @property
    def held(self) -> HeldLock | None:
        held = recorded_lock(self.db)
        return None if held is None else HeldLock(*held)

    @property
    def header(self) -> Header:
        return header_in(self.db)

    @property
    def moved(self) -> str | None:
        return moved_address(self.db)

    def fences(self) -> list[int]:
        """The positions of the segments that stand in the way of a writer who was overtaken."""
        return [position for (position,) in self.db.execute("SELECT position FROM fence")]

    def parts_between(self, first: int, end: int) -> list[str]:
        """The parts of segments from a position to before another."""
        rows = self.db.execute(
            "SELECT name FROM part WHERE position >= ? AND position < ?", (first, end)
        )
        return [name for (name,) in rows]

    def revisions_and_bodies(self, addresses: Iterable[str]) -> dict[str, tuple[int, str]]:
        """The records of some addresses, as they are kept."""
        rows = self.db.execute(
            f"SELECT address, revision, body FROM record {AMONG}", (json.dumps(list(addresses)),)
        )
        return {address: (revision, body) for address, revision, body in rows}

    def run_before(self, count: int) -> str | None:
        """The run that finished before ``count`` others."""
        row = self.db.execute(
            "SELECT run FROM history ORDER BY id DESC LIMIT 1 OFFSET ?", (count,)
        ).fetchone()
        return None if row is None else str(row[0])

    # Replay

    def apply(self, segment: Segment, chain: str, *, size: int, read: ReadParts) -> None:
        """Do what a segment says, within a transaction. ``chain`` is its SHA-256 and ``size`` its size in
        the bucket. Raises DoesNotFollow, and what ``read`` raises."""
        place, db = self.place, self.db
        if segment.position != place.position + 1 or segment.previous != place.chain:
            raise DoesNotFollow
        db.execute(
            "UPDATE place SET position = ?, chain = ?, bytes = bytes + ?",
            (segment.position, chain, size),
        )
        takes_lock = segment.kind in TAKES_LOCK
        if segment.token != self.token + takes_lock:
            return  # of a writer who was overtaken; the chain lets none through
        if takes_lock:
            if recorded_lock(db) is not None:
                db.execute("INSERT INTO fence VALUES (?)", (segment.position,))
            db.execute("UPDATE meta SET token = ?", (segment.token,))
        self._apply_to_lock(segment)
        self._apply_effects(segment, read)

    def _apply_to_lock(self, segment: Segment) -> None:
        if segment.kind in (SegmentKind.UNLOCK, SegmentKind.RELEASE):
            self.db.execute("DELETE FROM lock")
        elif segment.lock is not None:
            put_lock(self.db, segment.lock.lock, process=segment.lock.process)
        elif segment.expires is not None:
            self.db.execute("UPDATE lock SET expires = ?", (segment.expires,))

    def _apply_effects(self, segment: Segment, read: ReadParts) -> None:
        db, effects = self.db, segment.effects
        if effects.all_removed:
            db.execute("DELETE FROM record")
        if effects.removed:
            db.execute(f"DELETE FROM record {AMONG}", (json.dumps(list(effects.removed)),))
        if effects.revision is not None:
            db.execute(
                "UPDATE record SET checksum = checksum - revision + ?1, revision = ?1",
                (effects.revision,),
            )
        self._put(effects.put)
        if effects.parts:
            self._put(read(effects.parts))
            named = [(part.name, segment.position) for part in effects.parts]
            db.executemany("INSERT INTO part VALUES (?, ?)", named)
        if effects.change_records:
            db.execute("UPDATE meta SET content = ?", (segment.id,))
        if effects.header is not None:
            put_header(db, effects.header)
        if effects.moved is not None:
            db.execute("UPDATE meta SET moved = ?", effects.moved)
        self._apply_to_journal(effects)

    def _apply_to_journal(self, effects: Effects) -> None:
        self._put_journal(journal_row(entry) for entry in effects.journal)
        if effects.run is not None:
            self._put_history([effects.run])
        if effects.journal_from is not None:
            self.db.execute(
                "DELETE FROM journal WHERE id < (SELECT min(id) FROM journal WHERE run = ?)",
                (effects.journal_from,),
            )

    def _put(self, records: Iterable[RecordAt]) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO record (address, revision, body, checksum, known) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                (address, revision, body, checksum(address, body) + revision, known)
                for address, revision, body, known in records
            ),
        )

    def _put_journal(self, rows: Iterable[Sequence[object]]) -> None:
        self.db.executemany(
            "INSERT INTO journal (run, address, kind, at, action, request, detail) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def _put_history(self, runs: Iterable[Run]) -> None:
        self.db.executemany(
            "INSERT INTO history (run, started, finished, digest, outcomes, starter) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            map(run_fields, runs),
        )

    # Snapshots

    def records(self) -> Iterator[RecordAt]:
        """All records by address."""
        rows = self.db.execute("SELECT address, revision, body, known FROM record ORDER BY address")
        return (RecordAt(*row) for row in rows)

    def journal_of_snapshot(self) -> Iterator[Sequence[Any]]:
        """The entries of the last run, and older ones as far as there is room."""
        return self.db.execute(
            "SELECT run, address, kind, at, action, request, detail FROM journal WHERE id >= min("
            "(SELECT min(id) FROM journal WHERE run = (SELECT run FROM journal ORDER BY id DESC LIMIT 1)), "
            "(SELECT max(id) FROM journal) - ?) ORDER BY id",
            (_JOURNAL_LINES,),
        )

    def history(self) -> Iterator[Sequence[Any]]:
        return self.db.execute(
            "SELECT run, started, finished, digest, outcomes, starter FROM history ORDER BY id"
        )

    def part_positions(self) -> list[Sequence[Any]]:
        """The parts of segments, with the position of their segment."""
        return self.db.execute("SELECT name, position FROM part ORDER BY name").fetchall()

    def load(
        self,
        place: LogPlace,
        *,
        header: Header,
        token: int,
        content: str | None,
        moved: str | None,
        held: HeldLock | None,
        fences: Iterable[int],
        parts: Iterable[Sequence[Any]],
        history: Iterable[Run],
        journal: Iterable[Sequence[object]],
        records: Iterable[RecordAt],
    ) -> None:
        """Become the state of a snapshot, or stay what it is. Raises what the iterators raise."""
        with self.transaction():
            self._clear(place.incarnation)
            db = self.db
            db.execute("UPDATE place SET position = ?, chain = ?, bytes = ?", place[1:])
            put_header(db, header)
            db.execute("UPDATE meta SET token = ?, content = ?, moved = ?", (token, content, moved))
            if held is not None:
                put_lock(db, held.lock, process=held.process)
            db.executemany("INSERT INTO fence VALUES (?)", ((fence,) for fence in fences))
            db.executemany("INSERT INTO part VALUES (?, ?)", parts)
            self._put_history(history)
            self._put_journal(journal)
            self._put(records)
