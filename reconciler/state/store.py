"""Where the state is kept: one interface, one SQLite file per environment, and one in memory.

Anybody may read; writing takes the *lock*, which hands out a *writer*. Three rules carry the rest:

- One write is one durable transaction. SQLite runs with a rollback journal and
  ``synchronous=EXTRA``: write-ahead logging has a corruption race in the versions that Python 3.11
  carries.
- A lease says when a lock may be taken over; the *fencing token* says who may write. Every taking
  of the lock raises the token, and every write compares it inside its own transaction, so that a
  holder who was paused and overtaken cannot write, whatever the clocks say.
- Reading neither creates nor changes the file. (One exception is SQLite's own: a transaction that a
  killed writer left behind is rolled back by whoever opens the file next.)

Nothing but `ReconcileError` leaves this module. No message quotes a stored value.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sqlite3
import stat
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from reconciler.core.record_codec import decode_record, encode_record
from reconciler.core.records import Export, Header, JournalEntry, JournalKind, Record, Run
from reconciler.errors import ReconcileError, Refused, StateRefused
from reconciler.jsontext import unpacked
from reconciler.values import canonical, shown

APPLICATION_ID = 0x52636E6C
"""``PRAGMA application_id`` of our files ("Rcnl"), which tells them from other databases."""
STATE_FORMAT_VERSION = 1
"""The format of a state file, in its ``PRAGMA user_version``. Newer ones are refused."""
LEASE = 60.0
"""Seconds without a sign of life after which a lock may be taken over."""
_SAFE = 0.9
"""The part of a lease in which requests leave; the rest is for what lies between a look and a packet."""
BUSY = 10.0
"""Seconds to wait for another process's transaction; ours take milliseconds."""
BACKUPS = 10
"""How many backups are kept beside a state file."""
RUNS = 100
"""How many finished runs the journal reaches back."""
LAST = "\U0010ffff"
"""Greater than every address."""
Fingerprint: TypeAlias = tuple[str, int, int]


class Stored(NamedTuple):
    """A record as it is kept: what its fingerprint says of it, and the canonical form of the JSON that
    `encode_record` made, without the revision."""

    revision: int
    checksum: int
    body: str

    def record(self) -> Record:
        """Raises StateRefused where it cannot be read."""
        try:
            return _record(self.body, self.revision)
        except _UNREADABLE:
            raise StateRefused(
                "a record in the state is not readable",
                hint="Restore a backup from beside the state file.",
            ) from None


_PAGE = 10_000
_LARGEST = 2**53
"""Serials above this are refused: not every JSON reader keeps them exactly."""

Clock = Callable[[], float]
"""Unix time in seconds. Wall-clock time, since leases are compared between machines."""
NewId = Callable[[], str]
Upgrade = Callable[[sqlite3.Connection], None]

UPGRADES: Mapping[int, Upgrade] = {}
"""From format version N to N+1, by N. Each runs inside the transaction that also takes the lock, so
the tables ``meta`` and ``lock`` must keep the columns they have."""

_SCHEMA = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    environment TEXT NOT NULL, lineage TEXT, serial INTEGER NOT NULL, application TEXT,
    token INTEGER NOT NULL);
CREATE TABLE lock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT,
    command TEXT NOT NULL, ci TEXT, since REAL NOT NULL, expires REAL NOT NULL);
CREATE TABLE record (
    address TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL,
    checksum INTEGER NOT NULL);
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, address TEXT NOT NULL, kind TEXT NOT NULL,
    at REAL NOT NULL, action TEXT NOT NULL, request TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX journal_by_run ON journal (run);
CREATE TABLE history (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, started REAL NOT NULL, finished REAL NOT NULL,
    digest TEXT NOT NULL, outcomes TEXT NOT NULL);
"""


class Holder(NamedTuple):
    """Who asks for the lock. ``pid`` is a process on ``host``, which is the machine we run on."""

    user: str
    host: str
    pid: int
    command: str
    ci: str | None = None
    """Address or id of the run, if a CI system started us."""


class Lock(NamedTuple):
    """A lock as it stands. Times are Unix seconds; past ``expires`` it may be taken over."""

    id: str
    holder: Holder
    since: float
    expires: float


class Locked(Refused):
    """Somebody else is writing this state."""

    def __init__(self, lock: Lock) -> None:
        holder = lock.holder
        run = f", CI run {shown(holder.ci)}" if holder.ci else ""
        super().__init__(
            f"the state is locked by {shown(holder.user)} on {shown(holder.host)} "
            f"(process {holder.pid}{run}) since {_utc(lock.since, '%Y-%m-%d %H:%M:%S')} UTC: "
            f"{shown(holder.command)}",
            hint="Wait until it has finished. If it is certain that it no longer runs: "
            f"`reconcile state unlock {shown(lock.id)}`.",
        )
        self.lock = lock


class LockLost(Refused):
    """The lock was released, unlocked or taken over, so this writer may no longer write."""

    def __init__(self) -> None:
        super().__init__(
            "the lock on the state was lost: released, unlocked, or taken over after its lease",
            hint="Nothing was written after that. Run again; it goes on from the state.",
        )


class Writer(Protocol):
    """The right to write, for as long as the lock is held. Every method that writes raises `LockLost`
    after."""

    def holds(self) -> bool:
        """Whether the lock is still ours for all that the clocks say, without a look at the file: not,
        say, in a process that was stopped for longer than its lease."""
        ...

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        """Everything or nothing, durable on return; raises the serial, renews the lease.

        A record whose content differs gets a higher revision, one that does not keeps its own; the
        revision of the argument is not looked at. Revisions never repeat, not even when an address
        is removed and put again. An address both removed and put is put.
        Raises StateRefused where ``application`` is not the recorded one.
        """
        ...

    def finish(self, run: Run) -> None:
        """Add a line to the history, and let go of the journal of runs before the newest hundred. The
        serial stays."""
        ...

    def replace(self, export: Export, *, force: bool = False) -> Header:
        """Put the export in the place of all records. Journal and history stay.

        The export must be of this environment, and, unless the state is empty or ``force``, of the
        same lineage and application. The serial becomes one more than the larger of both.
        """
        ...

    def backup(self) -> Path | None:
        """A consistent copy beside the state, or None where there is nothing to copy.

        It holds what was recorded then, so values removed later remain in it until ten newer
        backups have pushed it out.
        """
        ...

    def renew(self) -> None:
        """Extend the lease."""
        ...


class Store(Protocol):
    """One environment's state. Methods may be called from any thread."""

    def header(self) -> Header:
        """``Header()`` when nothing was written yet."""
        ...

    def records(self) -> Iterator[Record]:
        """All records by address (code point order).

        Each is whole. No lock is held between pages, so a writer at work meanwhile may be seen in
        part; compare `header` before and after where that matters.
        """
        ...

    def record(self, address: str) -> Record | None: ...

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        """The records of some addresses, as far as there are any, read at once."""
        ...

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        """The same records, not decoded."""
        ...

    def fingerprints(self, since: str = "", until: str = LAST) -> Iterator[Fingerprint]:
        """Address, revision and checksum of the records in a range of addresses, by address. Where all
        three are the same, the record is."""
        ...

    def fingerprints_of(self, addresses: Collection[str]) -> dict[str, Fingerprint]:
        """Those of some addresses, as far as there are any."""
        ...

    def stamp(self) -> tuple[int, int, int, int] | None:
        """Size, time of change and of status change in nanoseconds, and inode of what the state is kept
        in. While it is the same, and not younger than a tick of the clock, nothing is written.
        ``None`` where nothing can be said."""
        ...

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        """Entries in the order of writing, of one run or of all."""
        ...

    def interrupted_addresses(self) -> Sequence[str]:
        """Addresses for which the last run has an intent and no outcome, because it was cut off."""
        ...

    def runs(self) -> Iterator[Run]:
        """The history, oldest first."""
        ...

    def lock(self, holder: Holder, *, now: Clock | None = None) -> AbstractContextManager[Writer]:
        """The lock, from entering to leaving; raises `Locked` at once if somebody has it.

        A lock whose lease ran out, or whose process on the same host is dead, is taken over.
        """
        ...

    def locked(self) -> Lock | None:
        """The lock that is held, if any; one whose holder died stays until somebody wants it."""
        ...

    def unlock(self, lock_id: str) -> None:
        """Take the lock away from its holder, who cannot write from then on.

        Raises Refused unless ``lock_id`` is the id of the lock that is held.
        """
        ...

    def close(self) -> None:
        """Let go of files. Using the store again opens them again."""
        ...


# --- what both stores decide the same way --------------------------------------------------------


def _utc(at: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def _new_id() -> str:
    return str(uuid.uuid4())


def _body(record: Record) -> str:
    """A record's content, the revision aside: what is compared and stored.

    Text is compared rather than `Record`s, since ``1 == 1.0 == True`` in Python but not at the API.
    """
    try:
        record.address.encode("utf-8")
        return canonical(encode_record(record) | {"revision": 0})
    except (TypeError, ValueError):
        raise StateRefused(
            f"the record of {shown(record.address)} holds something that cannot be stored",
            hint="Only JSON values and valid Unicode can be recorded.",
        ) from None


def _bodies(put: Iterable[Record]) -> dict[str, str]:
    return {record.address: _body(record) for record in put}


def _record(body: str, revision: int) -> Record:
    """The record that `_body` made, or one of `_UNREADABLE`."""
    data: dict[str, Any] = unpacked(body)
    if type(data.get("timestamp")) is float:  # one that no clock ever shows
        data = json.loads(body)
    data["revision"] = revision
    return decode_record(data)


_UNREADABLE = (ValueError, TypeError, AttributeError, RecursionError)


def _written(old: Header, environment: str, application: str | None, new_id: NewId) -> Header:
    """The header after one more write."""
    if application is not None and old.application not in (None, application):
        raise StateRefused(
            "the state belongs to another application than the one that answered",
            hint="Check the key and the environment: this key is for another Adapty app.",
        )
    return Header(
        lineage=old.lineage or new_id(),
        serial=old.serial + 1,
        environment=environment,
        application=application or old.application,
    )


def _pushed(old: Header, given: Header, *, environment: str, force: bool, new_id: NewId) -> Header:
    """The header after an export with header ``given`` took the place of everything."""
    if given.environment not in (None, environment):
        raise StateRefused(
            f"the export is of environment {shown(given.environment or '')}, "
            f"this state is of {shown(environment)}",
            hint="Choose the environment with `--env`.",
        )
    if not 0 <= given.serial < _LARGEST:
        raise StateRefused("the export has an impossible serial", hint="Give an unedited export.")
    empty = old.lineage is None
    if not empty and not force and given.lineage != old.lineage:
        raise StateRefused(
            "the export has another lineage: it was not made from this state",
            hint="Compare it with `reconcile state pull`; `--force` puts it in place all the same.",
        )
    if not force and given.application not in (None, old.application or given.application):
        raise StateRefused(
            "the export is of another application than this state",
            hint="Compare it with `reconcile state pull`; `--force` puts it in place all the same.",
        )
    return Header(
        lineage=given.lineage or old.lineage or new_id(),
        serial=max(old.serial, given.serial) + 1,
        environment=environment,
        application=given.application or old.application,
    )


def _pushed_revision(record: Record, *, empty: bool, serial: int) -> int:
    """Revision of a pushed record that is not the stored one.

    The serial is above every revision ever given, so no saved plan takes it for one it has seen.
    Into an empty state the given ones return: it is the same lineage, restored.
    """
    return record.revision if empty and 0 < record.revision <= serial else serial


def _not_locked() -> Refused:
    return Refused("the state is not locked", hint="There is nothing to unlock.")


def _other_lock(held: Lock) -> Refused:
    return Refused(
        "the state is held by another lock than the one named",
        hint=f"The lock that is held now has the id {shown(held.id)}; look who holds it first.",
    )


def _process(pid: int) -> str | None:
    """What tells this process from every other that had or gets its number, where /proc knows.

    Boot, process namespace (numbers mean nothing in another one), start in clock ticks since boot.
    None if it is dead (a zombie is), or if there is no /proc.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
        # The command, in parentheses, may hold anything: fields count from after the last one.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else f"{boot} {namespace} {int(fields[19])}"
    except (OSError, ValueError, IndexError):
        return None


def _dead(pid: int, process: str | None) -> bool:
    """Whether a process of this host is certainly gone. In doubt it is not: the lease decides."""
    if pid <= 0:
        return False
    if process is not None:
        ours = _process(os.getpid())
        if ours is None or ours.split()[:2] != process.split()[:2]:
            return False
        return _process(pid) != process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _abandoned(lock: Lock, process: str | None, *, seeker: Holder, now: float) -> bool:
    """Whether ``seeker`` may take this lock over."""
    return lock.expires <= now or (
        lock.holder.host == seeker.host and _dead(lock.holder.pid, process)
    )


# --- in memory -----------------------------------------------------------------------------------


class MemoryStore:
    """A state that ends with its object. For tests, and for programs that keep it themselves."""

    def __init__(
        self, *, environment: str = "local", new_id: NewId = _new_id, clock: Clock = time.time
    ) -> None:
        self._environment = environment
        self._new_id = new_id
        self._clock = clock
        self._guard = threading.RLock()
        self._header = Header()
        self._rows: dict[str, tuple[str, int]] = {}
        self._journal: list[JournalEntry] = []
        self._runs: list[Run] = []
        self._lock: Lock | None = None
        self._process: str | None = None
        self._token = 0

    def header(self) -> Header:
        return self._header

    def records(self) -> Iterator[Record]:
        with self._guard:
            rows = sorted(self._rows.items())
        return (_record(body, revision) for _, (body, revision) in rows)

    def record(self, address: str) -> Record | None:
        row = self._rows.get(address)
        return _record(*row) if row else None

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        with self._guard:
            rows = {address: self._rows.get(address) for address in addresses}
        return {address: _record(*row) for address, row in rows.items() if row}

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        with self._guard:
            rows = {address: self._rows.get(address) for address in addresses}
        return {
            address: Stored(row[1], _checksum(address, row[0]) + row[1], row[0])
            for address, row in rows.items()
            if row
        }

    def fingerprints(self, since: str = "", until: str = LAST) -> Iterator[Fingerprint]:
        with self._guard:
            rows = sorted(self._rows.items())
        for address, (body, revision) in rows:
            if since <= address < until:
                yield address, revision, _checksum(address, body) + revision

    def fingerprints_of(self, addresses: Collection[str]) -> dict[str, Fingerprint]:
        with self._guard:
            rows = {address: self._rows.get(address) for address in addresses}
        return {
            address: (address, row[1], _checksum(address, row[0]) + row[1])
            for address, row in rows.items()
            if row
        }

    def stamp(self) -> tuple[int, int, int, int] | None:
        return None

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        with self._guard:
            return iter([entry for entry in self._journal if run in (None, entry.run)])

    def interrupted_addresses(self) -> Sequence[str]:
        with self._guard:
            run = self._journal[-1].run if self._journal else None
            if any(finished.run == run for finished in self._runs):
                return []
            last = {entry.address: entry.kind for entry in self._journal if entry.run == run}
        return [address for address, kind in sorted(last.items()) if kind == JournalKind.INTENT]

    def runs(self) -> Iterator[Run]:
        with self._guard:
            return iter(list(self._runs))

    @contextmanager
    def lock(self, holder: Holder, *, now: Clock | None = None) -> Iterator[Writer]:
        clock = now or self._clock
        with self._guard:
            held, at = self._lock, clock()
            if held and not _abandoned(held, self._process, seeker=holder, now=at):
                raise Locked(held)
            self._token += 1
            self._process = _process(holder.pid)
            self._lock = Lock(self._new_id(), holder, at, at + LEASE)
            writer = _MemoryWriter(self, self._token, clock)
        try:
            yield writer
        finally:
            with self._guard:
                if self._token == writer.token:
                    self._lock = None

    def locked(self) -> Lock | None:
        return self._lock

    def unlock(self, lock_id: str) -> None:
        with self._guard:
            if self._lock is None:
                raise _not_locked()
            if self._lock.id != lock_id:
                raise _other_lock(self._lock)
            self._lock = None
            self._token += 1

    def close(self) -> None:
        pass


class _MemoryWriter:
    def __init__(self, store: MemoryStore, token: int, clock: Clock) -> None:
        self._store = store
        self.token = token
        self._clock = clock

    @contextmanager
    def _writing(self) -> Iterator[MemoryStore]:
        store = self._store
        with store._guard:
            if store._lock is None or store._token != self.token:
                raise LockLost
            store._lock = store._lock._replace(expires=self._clock() + LEASE)
            yield store

    def holds(self) -> bool:
        return self._store._token == self.token

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        bodies, removed, entries = _bodies(put), set(remove), list(journal)
        with self._writing() as store:
            header = _written(store._header, store._environment, application, store._new_id)
            rows = store._rows
            changed = {
                address: (body, rows[address][1] + 1)
                if address in rows and address not in removed
                else (body, header.serial)
                for address, body in bodies.items()
                if address in removed or address not in rows or rows[address][0] != body
            }
            kept = {address: row for address, row in rows.items() if address not in removed}
            store._rows = kept | changed
            store._journal.extend(entries)
            store._header = header
            return header

    def finish(self, run: Run) -> None:
        with self._writing() as store:
            store._runs.append(run)
            if len(store._runs) >= RUNS:
                oldest = store._runs[-RUNS].run
                runs = [entry.run for entry in store._journal]
                del store._journal[: runs.index(oldest) if oldest in runs else 0]

    def replace(self, export: Export, *, force: bool = False) -> Header:
        bodies = _bodies(export.records)
        with self._writing() as store:
            old = store._header
            header = _pushed(
                old,
                export.header,
                environment=store._environment,
                force=force,
                new_id=store._new_id,
            )
            rows: dict[str, tuple[str, int]] = {}
            for record in export.records:
                body, stored = bodies[record.address], store._rows.get(record.address)
                rows[record.address] = (
                    stored
                    if stored and stored[0] == body
                    else (
                        body,
                        _pushed_revision(record, empty=old.lineage is None, serial=header.serial),
                    )
                )
            store._rows = rows
            store._header = header
            return header

    def backup(self) -> Path | None:
        with self._writing():
            return None

    def renew(self) -> None:
        with self._writing():
            pass


# --- SQLite --------------------------------------------------------------------------------------

_RESTORE = (
    "Restore the newest backup from beside it, or move it away and `reconcile state push` an "
    "export."
)


class SqliteStore:
    """A state in one SQLite file, mode 0600; the file is made by the first lock, not by reading."""

    def __init__(
        self,
        path: Path,
        *,
        environment: str,
        new_id: NewId = _new_id,
        clock: Clock = time.time,
        version: int = STATE_FORMAT_VERSION,
        upgrades: Mapping[int, Upgrade] = UPGRADES,
    ) -> None:
        if "\0" in str(path):
            raise StateRefused("the path of the state holds a NUL", hint="Check `state.url`.")
        self.path = path.absolute()
        self._environment = environment
        self._new_id = new_id
        self._clock = clock
        self._version = version
        self._upgrades = upgrades
        self._guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    # Reading

    def header(self) -> Header:
        with self._reading() as db:
            return _header(db) if db else Header()

    def records(self) -> Iterator[Record]:
        last = ""
        condition = ">="
        while True:
            with self._reading() as db:
                if db is None:
                    return
                rows = db.execute(
                    "SELECT address, revision, body, checksum FROM record "
                    f"WHERE address {condition} ? ORDER BY address LIMIT ?",
                    (last, _PAGE),
                ).fetchall()
            for row in rows:
                yield self._decoded(row)
            if len(rows) < _PAGE:
                return
            last, condition = rows[-1][0], ">"

    def record(self, address: str) -> Record | None:
        return self.records_of([address]).get(address)

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        with self._reading() as db:
            if db is None:
                return {}
            (rows,) = db.execute(_RECORDS, (json.dumps(list(addresses)),)).fetchone()
        return {row[0]: self._decoded(row) for row in json.loads(rows)}

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        with self._reading() as db:
            if db is None:
                return {}
            rows = db.execute(
                "SELECT address, revision, body, checksum FROM record "
                "WHERE address IN (SELECT value FROM json_each(?))",
                (json.dumps(list(addresses)),),
            ).fetchall()
        for row in rows:
            self._verify(*row)
        return {row[0]: Stored(row[1], row[3], row[2]) for row in rows}

    def fingerprints(self, since: str = "", until: str = LAST) -> Iterator[Fingerprint]:
        last, condition = since, ">="
        while True:
            with self._reading() as db:
                if db is None:
                    return
                rows: list[Fingerprint] = db.execute(
                    "SELECT address, revision, checksum FROM record "
                    f"WHERE address {condition} ? AND address < ? ORDER BY address LIMIT ?",
                    (last, until, _PAGE),
                ).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last, condition = rows[-1][0], ">"

    def fingerprints_of(self, addresses: Collection[str]) -> dict[str, Fingerprint]:
        with self._reading() as db:
            if db is None:
                return {}
            rows = db.execute(
                "SELECT address, revision, checksum FROM record "
                "WHERE address IN (SELECT value FROM json_each(?))",
                (json.dumps(list(addresses)),),
            ).fetchall()
        return {row[0]: row for row in rows}

    def stamp(self) -> tuple[int, int, int, int] | None:
        with self._translated():
            found = self._stat()
        if found is None or os.path.lexists(f"{self.path}-journal"):
            return None  # of a write that is not complete
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        # A condition of its own for one run, so that its index is used.
        of_run = "AND run = ?2" if run is not None else "AND ?2 IS NULL"
        for row in self._paged(
            "SELECT id, run, address, kind, at, action, request, detail FROM journal "
            f"WHERE id > ?1 {of_run} ORDER BY id LIMIT ?3",
            run,
        ):
            yield self._entry(row)

    def interrupted_addresses(self) -> Sequence[str]:
        with self._reading() as db:
            if db is None:
                return []
            rows = db.execute(
                "SELECT address, kind, max(id) FROM journal "
                "WHERE run = (SELECT run FROM journal ORDER BY id DESC LIMIT 1) "
                "AND run NOT IN (SELECT run FROM history) GROUP BY address ORDER BY address"
            ).fetchall()
        return [address for address, kind, _ in rows if kind == JournalKind.INTENT]

    def runs(self) -> Iterator[Run]:
        for row in self._paged(
            "SELECT id, run, started, finished, digest, outcomes FROM history "
            "WHERE id > ?1 AND ?2 IS NULL ORDER BY id LIMIT ?3",
            None,
        ):
            try:
                outcomes = {str(key): int(value) for key, value in json.loads(row[5]).items()}
            except (ValueError, TypeError, AttributeError):
                raise self._damaged() from None
            _, run, started, finished, digest, _ = row
            yield Run(run, started, finished, digest, outcomes)

    def locked(self) -> Lock | None:
        with self._reading() as db:
            held = _held(db) if db else None
        return held[0] if held else None

    # Writing

    @contextmanager
    def lock(self, holder: Holder, *, now: Clock | None = None) -> Iterator[Writer]:
        clock = now or self._clock
        lock_id = self._new_id()
        with self._translated():
            self._create()
            self._tighten()
        with self._transaction() as db:
            held, at = _held(db), clock()
            if held and not _abandoned(held[0], held[1], seeker=holder, now=at):
                raise Locked(held[0])
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise self._damaged()
            if _version(db) < self._version:
                self._backup(db, clock())
                self._upgrade(db)
            db.execute("UPDATE meta SET token = token + 1")
            token = int(db.execute("SELECT token FROM meta").fetchone()[0])
            db.execute(
                "INSERT OR REPLACE INTO lock "
                "(one, id, user, host, pid, process, command, ci, since, expires) "
                "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    lock_id,
                    holder.user,
                    holder.host,
                    holder.pid,
                    _process(holder.pid),
                    holder.command,
                    holder.ci,
                    at,
                    at + LEASE,
                ),
            )
        try:
            yield _SqliteWriter(self, lock_id, token, clock)
        finally:
            # What was acknowledged is durable; a lock that cannot be let go ends with its lease.
            with contextlib.suppress(ReconcileError), self._transaction() as db:
                db.execute(
                    "DELETE FROM lock WHERE id = ? AND ? = (SELECT token FROM meta)",
                    (lock_id, token),
                )

    def unlock(self, lock_id: str) -> None:
        with self._translated():
            exists = self._stat() is not None
        if not exists:
            raise _not_locked()
        with self._transaction() as db:
            held = _held(db)
            if held is None:
                raise _not_locked()
            if held[0].id != lock_id:
                raise _other_lock(held[0])
            db.execute("DELETE FROM lock")
            db.execute("UPDATE meta SET token = token + 1")

    def close(self) -> None:
        with self._guard:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
            self._db = self._file = None

    # Transactions and connections

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection to read from, in the current format; None where there is no state yet."""
        with self._guard, self._translated():
            db = self._connection()
            if db is None:
                yield None
            elif self._version_of(db) == self._version:
                yield db
            else:
                # An older format is upgraded by the next lock; until then, in a copy.
                with contextlib.closing(_connect(":memory:")) as copy:
                    db.backup(copy)
                    self._upgrade(copy)
                    yield copy

    @contextmanager
    def _transaction(self, *, trusted: bool = False) -> Iterator[sqlite3.Connection]:
        """One durable write, or none. IMMEDIATE: a read that turns into a write cannot wait.

        ``trusted`` is for a writer, who compares token and format in a statement of its own.
        """
        with self._guard, self._translated():
            db = self._db if trusted and self._db is not None else self._connection()
            if db is None:
                raise self._vanished()
            db.execute("BEGIN IMMEDIATE")
            try:
                if not trusted:
                    self._version_of(db)
                yield db
                # SQLite alone would go on committing into an unlinked file.
                if self._identity() != self._file:
                    raise self._vanished()
                db.execute("COMMIT")
            except BaseException:
                try:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                except sqlite3.Error:
                    self.close()
                raise

    def _connection(self) -> sqlite3.Connection | None:
        found = self._stat()
        if found is None:
            self.close()
            return None
        identity = (found.st_dev, found.st_ino)
        if self._db is not None and self._file == identity:
            return self._db
        self.close()
        if not os.access(self.path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        db = _connect(self.path.as_uri() + "?mode=rw")
        try:
            self._check(db)
        except BaseException:
            db.close()
            raise
        self._db, self._file = db, identity
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Refuse what is not our state."""
        name = self._name()
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StateRefused(
                f"{name} is a database of another program",
                hint="Give the state a file of its own: `state.url` in reconcile.yaml.",
            )
        version = self._version_of(db)
        if any(step not in self._upgrades for step in range(version, self._version)):
            raise StateRefused(
                f"{name} has format {version}, which cannot be upgraded to {self._version}",
                hint=_RESTORE,
            )
        row = db.execute("SELECT environment FROM meta").fetchone()
        if row is None:
            raise self._damaged()
        if row[0] != self._environment:
            raise StateRefused(
                f"{name} is the state of environment {shown(str(row[0]))}, "
                f"not of {shown(self._environment)}",
                hint="Give each environment its own `state.url` in reconcile.yaml.",
            )

    def _version_of(self, db: sqlite3.Connection) -> int:
        """The format of the file; a newer program may raise it while we have the file open."""
        version = _version(db)
        if version > self._version:
            raise StateRefused(
                f"{self._name()} has format {version}, this program reads up to {self._version}",
                hint="Upgrade reconcile; a newer version wrote this state.",
            )
        return version

    def _upgrade(self, db: sqlite3.Connection) -> None:
        for step in range(_version(db), self._version):
            self._upgrades[step](db)
            db.execute(f"PRAGMA user_version = {step + 1}")

    def _create(self) -> None:
        """Make the file if there is none. It appears complete, so no reader sees half of one."""
        if self._stat() is not None:
            return
        import tempfile

        folder = self.path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
        os.close(descriptor)
        try:
            with contextlib.closing(_connect(Path(temporary).as_uri() + "?mode=rw")) as db:
                db.executescript(
                    f"PRAGMA application_id = {APPLICATION_ID}; BEGIN IMMEDIATE; {_SCHEMA}"
                )
                db.execute(f"PRAGMA user_version = {self._version}")
                db.execute(
                    "INSERT INTO meta (one, environment, serial, token) VALUES (1, ?, 0, 0)",
                    (self._environment,),
                )
                db.execute("COMMIT")
            self._put_in_place(temporary)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(folder)

    def _put_in_place(self, temporary: str) -> None:
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            # Another process was quicker, and its file is as good, unless it is a link to nothing.
            if self._stat() is None:
                raise StateRefused(
                    f"{self._name()} is a link to a file that does not exist",
                    hint="Remove the link, or restore the file it points to.",
                ) from None
        except OSError as problem:
            if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # No hard links here. Should two processes race, the one replaced notices by the inode.
            if self._stat() is None:
                os.replace(temporary, self.path)

    def _tighten(self) -> None:
        """The state holds personal data: nobody else may read it, whoever made the file."""
        found = self._stat()
        if found is not None and found.st_mode & 0o077:
            os.chmod(self.path, 0o600)

    def _stat(self) -> os.stat_result | None:
        """The state's file, refused unless it can be one; None where there is none yet."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            if not os.path.lexists(f"{self.path}-journal"):
                return None
            try:
                # Another process may have made the file, and begun to write, since we looked.
                found = os.stat(self.path)
            except FileNotFoundError:
                # SQLite would roll this journal back into whatever file comes next.
                raise StateRefused(
                    f"{self._name()} is missing, but the journal of an unfinished write is there",
                    hint="Put the state file back beside its -journal file, or restore a backup; "
                    "to start anew, remove the -journal file.",
                ) from None
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise StateRefused(
                f"the state cannot be kept in {self._name()}: it is {kind}",
                hint="Name a file in `state.url` in reconcile.yaml.",
            )
        if found.st_size == 0:
            raise StateRefused(
                f"{self._name()} is empty (0 bytes), which no state ever is",
                hint="Restore the newest backup from beside it. If there never was one, remove it.",
            )
        return found

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino)

    def _paged(self, query: str, argument: str | None) -> Iterator[tuple[Any, ...]]:
        last = 0
        while True:
            with self._reading() as db:
                if db is None:
                    return
                rows = db.execute(query, (last, argument, _PAGE)).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def _entry(self, row: tuple[Any, ...]) -> JournalEntry:
        _, run, address, kind, at, action, request, detail = row
        try:
            return JournalEntry(run, address, JournalKind(kind), at, action, request, detail)
        except ValueError:
            raise self._damaged() from None

    def _decoded(self, row: tuple[str, int, str, int]) -> Record:
        self._verify(*row)
        try:
            return _record(row[2], row[1])
        except _UNREADABLE:
            raise self._damaged() from None

    def _verify(self, address: str, revision: int, body: str, checksum: int) -> None:
        """Compares the checksum of a row."""
        try:
            is_whole = _checksum(address, body) + revision == checksum
        except (ValueError, TypeError):
            is_whole = False
        if not is_whole:
            raise self._damaged()

    def _backup(self, db: sqlite3.Connection, now: float) -> Path | None:
        """Copy what is committed; ``db`` may be inside a transaction that has not written yet."""
        import tempfile

        serial = int(db.execute("SELECT serial FROM meta").fetchone()[0])
        stem = f"{self.path.name}.backup-"
        target = self.path.with_name(f"{stem}{_utc(now, '%Y%m%dT%H%M%SZ')}-{serial}")
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{stem}")
        try:
            os.close(descriptor)
            # A connection of its own: copying from within a transaction would include its changes.
            with (
                contextlib.closing(_connect(self.path.as_uri() + "?mode=ro")) as source,
                contextlib.closing(_connect(Path(temporary).as_uri() + "?mode=rw")) as copy,
            ):
                source.backup(copy)
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        self._rotate(stem, target)
        _sync_folder(self.path.parent)
        return target

    def _rotate(self, stem: str, newest: Path) -> None:
        named = re.compile(re.escape(stem) + r"(\d{8}T\d{6}Z)-(\d+)")
        others = sorted(
            (match[1], int(match[2]), match[0])
            for match in map(named.fullmatch, os.listdir(self.path.parent))
            if match and match[0] != newest.name
        )
        for _, _, name in others[: max(0, len(others) - (BACKUPS - 1))]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path.with_name(name))

    # Failures, in words

    def _name(self) -> str:
        return shown(str(self.path))

    def _damaged(self) -> StateRefused:
        return StateRefused(f"the state in {self._name()} is damaged", hint=_RESTORE)

    def _vanished(self) -> ReconcileError:
        return ReconcileError(
            f"the state file {self._name()} was removed or replaced while it was in use",
            hint="Nothing was written. Put the file back, or restore a backup, and run again.",
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as problem:
            raise self._from_sqlite(problem) from None
        except OSError as problem:
            raise self._from_os(problem) from None
        except (OverflowError, UnicodeError):
            raise StateRefused(
                "something to be recorded cannot be stored",
                hint="Only numbers of 64 bits and valid Unicode can be recorded.",
            ) from None

    def _from_sqlite(self, problem: sqlite3.Error) -> ReconcileError:
        """SQLite's own messages may quote values, so only its codes are used."""
        name = self._name()
        match getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF:
            case sqlite3.SQLITE_FULL:
                return _disk_full(name)
            case sqlite3.SQLITE_READONLY:
                moved = problem.sqlite_errorcode == sqlite3.SQLITE_READONLY_DBMOVED
                return self._vanished() if moved else _read_only(name)
            case sqlite3.SQLITE_IOERR:
                return ReconcileError(
                    f"the disk failed on the state {name} ({problem.sqlite_errorname})",
                    hint="Nothing of this write counts. Check the disk, its quota and its free "
                    "space, then run again.",
                )
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return ReconcileError(
                    f"another process kept the state {name} busy for {BUSY:.0f} seconds",
                    hint="Look for a process that is stopped or stuck, and run again.",
                )
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return StateRefused(
                    f"the state {name} cannot be opened",
                    hint="Check that you may read and write the file and its folder.",
                )
            case sqlite3.SQLITE_NOTADB:
                return StateRefused(f"{name} is not a state: not a SQLite file", hint=_RESTORE)
            case sqlite3.SQLITE_CONSTRAINT:
                return StateRefused(
                    "something to be recorded cannot be stored",
                    hint="Only numbers and valid Unicode can be recorded.",
                )
            case _:
                return self._damaged()

    def _from_os(self, problem: OSError) -> ReconcileError:
        name = self._name()
        match problem.errno:
            case errno.EACCES | errno.EPERM:
                return StateRefused(
                    f"no permission for the state {name}",
                    hint="Check that you may read and write the file and its folder.",
                )
            case errno.ENOSPC | errno.EDQUOT:
                return _disk_full(name)
            case errno.EROFS:
                return _read_only(name)
            case _:
                return ReconcileError(
                    f"the state {name} cannot be used: {problem.strerror}",
                    hint="Check `state.url` in reconcile.yaml, and the folder it names.",
                )


class _SqliteWriter:
    def __init__(self, store: SqliteStore, lock_id: str, token: int, clock: Clock) -> None:
        self._store = store
        self._lock_id = lock_id
        self._token = token
        self._clock = clock
        self._lasts = self._from_now()
        self._header: Header | None = None
        """As this writer left it. Nobody else can have written while its token is the newest."""

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Header]]:
        """A transaction that only the holder of the newest token gets into, and the header so far.

        Statements are few and take many rows each: between two of them other threads may run, and a
        busy interpreter comes back late (a commit took ten times as long among sixteen of them).
        """
        with self._store._transaction(trusted=True) as db:
            if self._header is None:
                self._header = _header(db)
            now, lasts = self._clock(), self._from_now()
            held = db.execute(
                "UPDATE lock SET expires = ? WHERE id = ? AND ? = (SELECT token FROM meta) "
                "AND (SELECT user_version FROM pragma_user_version) <= ?",
                (now + LEASE, self._lock_id, self._token, self._store._version),
            )
            if held.rowcount != 1:
                self._store._version_of(db)
                raise LockLost
            yield db, self._header
        self._lasts = lasts

    def _from_now(self) -> tuple[float, float]:
        """Until when a lease that begins now is safe, by the wall's clock, which goes on while the
        machine sleeps, and by the one that nobody sets."""
        return self._clock() + _SAFE * LEASE, time.monotonic() + _SAFE * LEASE

    def holds(self) -> bool:
        wall, monotonic = self._lasts
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
        bodies, removed, entries = _bodies(put), list(remove), list(journal)
        with self._writing() as (db, old):
            header = _written(old, store._environment, application, store._new_id)
            if removed:
                db.execute(
                    "DELETE FROM record WHERE address IN (SELECT value FROM json_each(?))",
                    (json.dumps(removed),),
                )
            # The serial is above every revision given so far, so a new row repeats none.
            if bodies:
                rows = [
                    (address, body, _checksum(address, body)) for address, body in bodies.items()
                ]
                db.execute(_PUT, {"serial": header.serial, "rows": json.dumps(rows)})
            if entries:
                db.execute(_JOURNAL, (json.dumps([_row(entry) for entry in entries]),))
            _put_header(db, header)
        self._header = header
        return header

    def finish(self, run: Run) -> None:
        with self._writing() as (db, _):
            db.execute(
                "INSERT INTO history (run, started, finished, digest, outcomes) "
                "VALUES (?, ?, ?, ?, ?)",
                (run.run, run.started, run.finished, run.digest, canonical(dict(run.outcomes))),
            )
            db.execute(
                "DELETE FROM journal WHERE id < (SELECT min(id) FROM journal WHERE run = "
                "(SELECT run FROM history ORDER BY id DESC LIMIT 1 OFFSET ?))",
                (RUNS - 1,),
            )

    def replace(self, export: Export, *, force: bool = False) -> Header:
        store = self._store
        bodies = _bodies(export.records)
        with self._writing() as (db, old):
            header = _pushed(
                old,
                export.header,
                environment=store._environment,
                force=force,
                new_id=store._new_id,
            )
            stored = dict(db.execute("SELECT address, body FROM record").fetchall())
            db.executemany(
                "DELETE FROM record WHERE address = ?",
                [(address,) for address, body in stored.items() if bodies.get(address) != body],
            )
            empty = old.lineage is None
            db.executemany(
                "INSERT INTO record (address, revision, body, checksum) VALUES (?, ?, ?, ?)",
                (
                    (record.address, revision, body, _checksum(record.address, body) + revision)
                    for record in export.records
                    if stored.get(record.address) != (body := bodies[record.address])
                    for revision in [_pushed_revision(record, empty=empty, serial=header.serial)]
                ),
            )
            _put_header(db, header)
        self._header = header
        return header

    def backup(self) -> Path | None:
        with self._writing() as (db, header):
            return self._store._backup(db, self._clock()) if header.lineage else None

    def renew(self) -> None:
        with self._writing():
            pass


def _connect(database: str) -> sqlite3.Connection:
    """A connection in autocommit mode with our settings. None of them writes to the file."""
    db = sqlite3.connect(
        database,
        uri=database.startswith("file:"),
        timeout=BUSY,
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


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _header(db: sqlite3.Connection) -> Header:
    lineage, serial, environment, application = db.execute(
        "SELECT lineage, serial, environment, application FROM meta"
    ).fetchone()
    if not isinstance(serial, int):
        raise sqlite3.DatabaseError("serial")
    if lineage is None:
        return Header()
    return Header(lineage, serial, environment, application)


def _put_header(db: sqlite3.Connection, header: Header) -> None:
    db.execute(
        "UPDATE meta SET lineage = ?, serial = ?, application = ?",
        (header.lineage, header.serial, header.application),
    )


def _held(db: sqlite3.Connection) -> tuple[Lock, str | None] | None:
    """The lock in the file, with what `_process` said of its holder when it was taken."""
    row = db.execute(
        "SELECT id, user, host, pid, command, ci, since, expires, process FROM lock"
    ).fetchone()
    if row is None:
        return None
    lock_id, user, host, pid, command, ci, since, expires, process = row
    return Lock(lock_id, Holder(user, host, pid, command, ci), since, expires), process


_PUT = """
INSERT INTO record (address, revision, body, checksum)
SELECT json_extract(value, '$[0]'), :serial, json_extract(value, '$[1]'),
    json_extract(value, '$[2]') + :serial
FROM json_each(:rows) WHERE true
ON CONFLICT (address) DO UPDATE SET revision = record.revision + 1, body = excluded.body,
    checksum = excluded.checksum - excluded.revision + record.revision + 1
WHERE record.body <> excluded.body
"""
_JOURNAL = """
INSERT INTO journal (run, address, kind, at, action, request, detail)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
    json_extract(value, '$[6]')
FROM json_each(?)
"""
_RECORDS = """
SELECT json_group_array(json_array(address, revision, body, checksum))
FROM record WHERE address IN (SELECT value FROM json_each(?))
"""


def _row(entry: JournalEntry) -> tuple[str | float, ...]:
    return (
        entry.run,
        entry.address,
        entry.kind,
        entry.at,
        entry.action,
        entry.request,
        entry.detail,
    )


def _checksum(address: str, body: str) -> int:
    """Of one row, whose revision is added to it: `PRAGMA quick_check` sees a broken tree, but not a
    flipped letter in a value."""
    return zlib.crc32(f"{address}\n{body}".encode())


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _disk_full(name: str) -> ReconcileError:
    return ReconcileError(
        f"the disk is full: the state {name} could not be written",
        hint="Nothing of this write counts. Free some space, then run again.",
    )


def _read_only(name: str) -> ReconcileError:
    return ReconcileError(
        f"the state {name} is read-only",
        hint="Make the file and its folder writable for you; `plan` works without.",
    )
