"""The state of an environment in one SQLite file, mode 0600. The first lock makes it, not reading."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.core.digests import SIZE
from reconciler.core.record_codec import encode_starter
from reconciler.core.records import Export, Header, JournalEntry, Record, Run
from reconciler.errors import Message, ReconcileError
from reconciler.state.backups import BACKUPS, kept_backups, set_aside
from reconciler.state.liveness import process_identity
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite_errors import RESTORE_HINT, damaged
from reconciler.state.sqlite_file import BUSY_SECONDS, SqliteFile
from reconciler.state.sqlite_format import (
    FIRST_WITH_DIGESTS,
    NEW_CONTENT,
    STATE_FORMAT_VERSION,
    TEXT_OR_NULL,
    UPGRADES,
    Upgrade,
    is_backup,
    make_state,
    require_types,
    version_of,
)
from reconciler.state.sqlite_records import (
    AMONG,
    PAGE_SIZE,
    SqliteReader,
    header_in,
    journal_row,
    moved_address,
    put_header,
    put_lock,
    recorded_lock,
)
from reconciler.state.store import (
    LEASE,
    RUNS,
    SAFE_SHARE_OF_LEASE,
    Backup,
    Clock,
    EncodedRecord,
    Holder,
    Lock,
    Locked,
    LockLost,
    NewId,
    OnWait,
    StateMoved,
    Writer,
    checksum,
    encode,
    header_after_replace,
    header_after_write,
    is_abandoned,
    is_edited_copy,
    new_id,
    no_backup,
    not_locked,
    other_lock,
    put_back_from,
    restored_serial,
)
from reconciler.state.waiting import acquired
from reconciler.values import canonical


class SqliteStore(SqliteReader):
    """A `reconciler.state.store.Store` in one file.

    ``version`` is the format to have, and ``upgrades`` lead to it from older ones. ``lease`` and
    ``busy_seconds`` (how long to wait for another process's transaction) are in seconds. ``side_files`` says
    what counts beside the file. ``kept_runs`` is how many finished runs the journal reaches back,
    ``kept_backups`` how many backups stay.
    """

    def __init__(
        self,
        path: Path,
        *,
        environment: str,
        new_id: NewId = new_id,
        clock: Clock = time.time,
        version: int = STATE_FORMAT_VERSION,
        upgrades: Mapping[int, Upgrade] = UPGRADES,
        lease: float = LEASE,
        busy_seconds: float = BUSY_SECONDS,
        page_size: int = PAGE_SIZE,
        kept_runs: int = RUNS,
        kept_backups: int = BACKUPS,
        side_files: SideFiles | None = None,
    ) -> None:
        self._file = SqliteFile(
            path,
            environment=environment,
            version=version,
            upgrades=upgrades,
            busy_seconds=busy_seconds,
            side_files=side_files,
        )
        super().__init__(
            self._file.reading, damaged=lambda: damaged(self._file.name), page_size=page_size
        )
        self._environment = environment
        self._new_id = new_id
        self._clock = clock
        self._lease = lease
        self._kept_runs = kept_runs
        self._kept_backups = kept_backups

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._file.path

    # Reading

    def stamp(self) -> str | None:
        with self._file.reading() as db:
            if db is None or version_of(db) < FIRST_WITH_DIGESTS:
                return None
            (content,) = db.execute("SELECT content FROM meta").fetchone()
            require_types((content,), TEXT_OR_NULL)
        return None if content is None else str(content)

    def backups(self) -> Sequence[Backup]:
        with self._file.translated():
            return [kept.backup for kept in kept_backups(self.path)]

    def restore_hint(self) -> Message:
        return RESTORE_HINT

    # Writing

    @contextmanager
    def lock(
        self,
        holder: Holder,
        *,
        now: Clock | None = None,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
        even_moved: bool = False,
    ) -> Iterator[Writer]:
        clock, lock_id = now or self._clock, self._new_id()
        self._file.create()
        with self._file.noted():
            writer = acquired(
                lambda: self._take(holder, lock_id, clock=clock, even_moved=even_moved),
                wait=wait,
                on_wait=on_wait,
            )
            try:
                yield writer
            finally:
                writer.release()

    def _take(
        self, holder: Holder, lock_id: str, *, clock: Clock, even_moved: bool
    ) -> _SqliteWriter:
        with self._file.transaction() as db:
            held, at = recorded_lock(db), clock()
            if held and not is_abandoned(held[0], held[1], seeker=holder, now=at):
                raise Locked(held[0])
            if not even_moved and (address := moved_address(db)) is not None:
                raise StateMoved(address)
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise damaged(self._file.name)
            if version_of(db) < self._file.version:
                self._file.back_up(db, now=clock(), kept=self._kept_backups, marked=False)
                self._file.upgrade(db)
            lock = Lock(lock_id, holder, since=at, expires=at + self._lease)
            token = _take_lock(db, lock)
            if is_backup(db):
                make_state(db)
                _renumber(db, restored_serial(header_in(db).serial, now=at))
        return _SqliteWriter(self, lock_id, token=token, clock=clock)

    def unlock(self, lock_id: str) -> None:
        if self._file.status() is None:
            raise not_locked()
        with self._file.noted(), self._file.transaction() as db:
            held = recorded_lock(db)
            if held is None:
                raise not_locked()
            if held[0].id != lock_id:
                raise other_lock(held[0])
            db.execute("DELETE FROM lock")
            db.execute("UPDATE meta SET token = token + 1")

    def is_copy(self) -> bool:
        with self._file.reading() as db:
            return db is not None and is_backup(db)

    def close(self) -> None:
        self._file.close()

    def set_aside(self) -> list[Path]:
        """Moves a damaged file away, with the journal beside it; returns what they are called then."""
        self._file.close()
        with self._file.translated():
            return set_aside(self.path, now=self._clock())


class _SqliteWriter:
    """A `reconciler.state.store.Writer` of a `SqliteStore`."""

    def __init__(self, store: SqliteStore, lock_id: str, *, token: int, clock: Clock) -> None:
        self._store = store
        self._lock_id = lock_id
        self._token = token
        self._clock = clock
        self._safe_until = self._lease_from_now()
        self._header: Header | None = None
        """As this writer left it. Nobody else can have written while its token is the newest."""

    def release(self) -> None:
        """Gives the lock back. Everything that was acknowledged is durable; a lock that cannot be released
        ends with its lease."""
        with contextlib.suppress(ReconcileError), self._store._file.transaction() as db:
            db.execute(
                "DELETE FROM lock WHERE id = ? AND ? = (SELECT token FROM meta)",
                (self._lock_id, self._token),
            )

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Header]]:
        """A transaction that only the holder of the newest token gets into, and the header so far.

        Statements are few and take many rows each: between two of them other threads may run, and a
        busy interpreter comes back late (a commit took ten times as long among sixteen of them).
        """
        file = self._store._file
        with file.transaction(trusted=True) as db:
            if self._header is None:
                self._header = header_in(db)
            now, safe_until = self._clock(), self._lease_from_now()
            held = db.execute(
                "UPDATE lock SET expires = ? WHERE id = ? AND ? = (SELECT token FROM meta) "
                "AND (SELECT user_version FROM pragma_user_version) <= ?",
                (now + self._store._lease, self._lock_id, self._token, file.version),
            )
            if held.rowcount != 1:
                file.accepted_version(db)
                raise LockLost
            yield db, self._header
        self._safe_until = safe_until

    def _lease_from_now(self) -> tuple[float, float]:
        """Until when a lease that begins now is safe: by the wall clock, which goes on while the machine
        sleeps, and by the monotonic clock, which nobody sets."""
        seconds = SAFE_SHARE_OF_LEASE * self._store._lease
        return self._clock() + seconds, time.monotonic() + seconds

    def holds(self) -> bool:
        wall, monotonic = self._safe_until
        return self._clock() < wall and time.monotonic() < monotonic

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        store = self._store
        contents, removed, entries = encode(put), list(remove), list(journal)
        with self._writing() as (db, old):
            header = header_after_write(
                old,
                environment=store._environment,
                application=application,
                new_id=store._new_id,
            )
            changed = 0
            if removed:
                changed += db.execute(
                    f"DELETE FROM record {AMONG}", (json.dumps(removed),)
                ).rowcount
            if contents:
                changed += _put(db, contents, serial=header.serial)
            if changed:
                db.execute(f"UPDATE meta SET {NEW_CONTENT}")
            if entries:
                db.execute(_JOURNAL, (json.dumps([journal_row(entry) for entry in entries]),))
            put_header(db, header)
        self._header = header
        return header

    def finish(self, run: Run) -> None:
        with self._writing() as (db, _):
            db.execute(
                "INSERT INTO history (run, started, finished, digest, outcomes, starter) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    run.run,
                    run.started,
                    run.finished,
                    run.digest,
                    canonical(dict(run.outcomes)),
                    encode_starter(run.starter),
                ),
            )
            db.execute(
                "DELETE FROM journal WHERE id < (SELECT min(id) FROM journal WHERE run = "
                "(SELECT run FROM history ORDER BY id DESC LIMIT 1 OFFSET ?))",
                (self._store._kept_runs - 1,),
            )

    def replace(self, export: Export, *, force: bool = False, above: int = 0) -> Header:
        store = self._store
        contents = encode(export.records)
        with self._writing() as (db, old):
            header = header_after_replace(
                old,
                export.header,
                environment=store._environment,
                force=force,
                above=above,
                now=self._clock(),
                new_id=store._new_id,
            )
            stored = dict(db.execute("SELECT address, body FROM record").fetchall())
            kept = set()
            if is_edited_copy(old, export.header):
                kept = {a for a, content in contents.items() if stored.get(a) == content.body}
            db.executemany(
                "DELETE FROM record WHERE address = ?",
                [(address,) for address in stored.keys() - kept],
            )
            changed = {a: content for a, content in contents.items() if a not in kept}
            _put(db, changed, serial=header.serial)
            if changed or stored.keys() - kept:
                db.execute(f"UPDATE meta SET {NEW_CONTENT}")
            put_header(db, header)
        self._header = header
        return header

    def renumber(self, *, above: int) -> Header:
        with self._writing() as (db, old):
            serial = restored_serial(old.serial, above, now=self._clock())
            _renumber(db, serial)
        self._header = header = old._replace(serial=serial)
        return header

    def backup(self) -> str | None:
        store = self._store
        with self._writing() as (db, header):
            if header.lineage is None:
                return None
            path = store._file.back_up(db, now=self._clock(), kept=store._kept_backups)
        return str(path)

    def restore(self, backup_id: str, *, above: int = 0) -> Header:
        store = self._store
        path = next(
            (kept.path for kept in kept_backups(store.path) if kept.backup.id == backup_id), None
        )
        if path is None:
            raise no_backup(backup_id)
        # A backup has no company: what lies beside it is somebody else's.
        copy = SqliteStore(path, environment=store._environment, side_files=SideFiles(None))
        with contextlib.closing(copy):
            export = Export(copy.header(), tuple(copy.records()))
        return put_back_from(self, export, above=above)

    def mark_moved(self, address: str | None) -> None:
        with self._writing() as (db, _):
            db.execute("UPDATE meta SET moved = ?", (address,))

    def renew(self) -> None:
        with self._writing():
            pass


# --- statements ----------------------------------------------------------------------------------

_PUT = """
INSERT INTO record (address, revision, body, checksum, known)
SELECT json_extract(value, '$[0]'), :serial, json_extract(value, '$[1]'),
    json_extract(value, '$[2]') + :serial, substr(:digests, json_extract(value, '$[3]'), :size)
FROM json_each(:rows) WHERE true
ON CONFLICT (address) DO UPDATE SET revision = record.revision + 1, body = excluded.body,
    checksum = excluded.checksum - excluded.revision + record.revision + 1, known = excluded.known
WHERE record.body <> excluded.body
"""
"""JSON holds no bytes, so the digests come as one blob, and each row says where its digest begins in it,
from 1; null gives null."""
_JOURNAL = """
INSERT INTO journal (run, address, kind, at, action, request, detail)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
    json_extract(value, '$[6]')
FROM json_each(?)
"""


def _put(db: sqlite3.Connection, contents: Mapping[str, EncodedRecord], *, serial: int) -> int:
    """Adds or replaces records, and returns how many changed. The serial is above every revision so far,
    so a new row repeats none."""
    rows: list[tuple[str, str, int, int | None]] = []
    digests = bytearray()
    for address, content in contents.items():
        start = None if content.known is None else len(digests) + 1
        digests += content.known or b""
        rows.append((address, content.body, checksum(address, content.body), start))
    return db.execute(
        _PUT,
        {"serial": serial, "rows": json.dumps(rows), "digests": bytes(digests), "size": SIZE},
    ).rowcount


def _renumber(db: sqlite3.Connection, serial: int) -> None:
    """Gives the state a serial, and every record that serial as its revision."""
    db.execute("UPDATE record SET checksum = checksum - revision + ?1, revision = ?1", (serial,))
    db.execute(f"UPDATE meta SET serial = ?, {NEW_CONTENT}", (serial,))


def _take_lock(db: sqlite3.Connection, lock: Lock) -> int:
    """Puts a lock in the place of any other; returns its fencing token."""
    db.execute("UPDATE meta SET token = token + 1")
    token = int(db.execute("SELECT token FROM meta").fetchone()[0])
    put_lock(db, lock, process=process_identity(lock.holder.pid))
    return token
