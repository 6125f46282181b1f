"""A state in memory, for tests and for programs that keep it themselves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from reconciler.core.records import Export, Header, JournalEntry, JournalKind, Record, Run
from reconciler.errors import Message
from reconciler.state.liveness import process_identity
from reconciler.state.store import (
    LAST,
    LEASE,
    RESTORE_HINT,
    RUNS,
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
    Stored,
    Writer,
    decode_body,
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

_BACKUPS = 10
"""How many backups are kept."""


class _Row(NamedTuple):
    content: EncodedRecord
    revision: int


class _Copy(NamedTuple):
    backup: Backup
    export: Export


class MemoryStore:
    """A `reconciler.state.store.Store` that ends with its object.

    ``lease`` is in seconds. ``kept_runs`` is how many finished runs the journal reaches back.
    """

    def __init__(
        self,
        *,
        environment: str = "local",
        new_id: NewId = new_id,
        clock: Clock = time.time,
        lease: float = LEASE,
        kept_runs: int = RUNS,
    ) -> None:
        self._environment = environment
        self._new_id = new_id
        self._clock = clock
        self._lease = lease
        self._kept_runs = kept_runs
        self._guard = threading.RLock()
        self._header = Header()
        self._rows: dict[str, _Row] = {}
        self._journal: list[JournalEntry] = []
        self._runs: list[Run] = []
        self._lock: Lock | None = None
        self._process: str | None = None
        self._token = 0
        self._content = _new_content()
        self._moved: str | None = None
        self._backups: list[_Copy] = []

    # Reading

    def header(self) -> Header:
        return self._header

    def records(self) -> Iterator[Record]:
        return (_decoded(row) for _, row in self._sorted())

    def record(self, address: str) -> Record | None:
        row = self._rows.get(address)
        return _decoded(row) if row else None

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        return {address: _decoded(row) for address, row in self._rows_of(addresses)}

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        return {
            address: Stored(row.revision, row.content.body)
            for address, row in self._rows_of(addresses)
        }

    def known_digests(
        self, since: str = "", until: str = LAST
    ) -> Iterator[tuple[str, bytes | None]]:
        for address, row in self._sorted():
            if since <= address < until:
                yield address, row.content.known

    def known_digests_of(self, addresses: Collection[str]) -> dict[str, bytes | None]:
        return {address: row.content.known for address, row in self._rows_of(addresses)}

    def stamp(self) -> str | None:
        return self._content

    def backups(self) -> Sequence[Backup]:
        with self._guard:
            return [kept.backup for kept in reversed(self._backups)]

    def restore_hint(self) -> Message:
        return RESTORE_HINT

    def moved_to(self) -> str | None:
        return self._moved

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        with self._guard:
            return iter([entry for entry in self._journal if run in (None, entry.run)])

    def interrupted_addresses(self) -> Sequence[str]:
        with self._guard:
            run = self._journal[-1].run if self._journal else None
            if any(finished.run == run for finished in self._runs):
                return []
            last = {entry.address: entry.kind for entry in self._journal if entry.run == run}
        return [address for address, kind in sorted(last.items()) if kind is JournalKind.INTENT]

    def runs(self) -> Iterator[Run]:
        with self._guard:
            return iter(list(self._runs))

    def locked(self) -> Lock | None:
        return self._lock

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
        writer = acquired(
            lambda: self._take(holder, clock=now or self._clock, even_moved=even_moved),
            wait=wait,
            on_wait=on_wait,
        )
        try:
            yield writer
        finally:
            with self._guard:
                if self._token == writer.token:
                    self._lock = None

    def _take(self, holder: Holder, *, clock: Clock, even_moved: bool) -> _MemoryWriter:
        with self._guard:
            held, at = self._lock, clock()
            if held and not is_abandoned(held, self._process, seeker=holder, now=at):
                raise Locked(held)
            if self._moved is not None and not even_moved:
                raise StateMoved(self._moved)
            self._token += 1
            self._process = process_identity(holder.pid)
            self._lock = Lock(self._new_id(), holder, since=at, expires=at + self._lease)
            return _MemoryWriter(self, self._token, clock=clock)

    def unlock(self, lock_id: str) -> None:
        with self._guard:
            if self._lock is None:
                raise not_locked()
            if self._lock.id != lock_id:
                raise other_lock(self._lock)
            self._lock = None
            self._token += 1

    def close(self) -> None:
        pass

    def _sorted(self) -> list[tuple[str, _Row]]:
        with self._guard:
            return sorted(self._rows.items())

    def _rows_of(self, addresses: Collection[str]) -> list[tuple[str, _Row]]:
        with self._guard:
            rows = self._rows
            return [(address, rows[address]) for address in addresses if address in rows]


class _MemoryWriter:
    """A `reconciler.state.store.Writer` of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, token: int, *, clock: Clock) -> None:
        self._store = store
        self.token = token
        self._clock = clock

    @contextmanager
    def _writing(self) -> Iterator[MemoryStore]:
        store = self._store
        with store._guard:
            if store._lock is None or store._token != self.token:
                raise LockLost
            store._lock = store._lock._replace(expires=self._clock() + store._lease)
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
        contents, removed, entries = encode(put), set(remove), list(journal)
        with self._writing() as store:
            header = header_after_write(
                store._header,
                environment=store._environment,
                application=application,
                new_id=store._new_id,
            )
            kept = {a: row for a, row in store._rows.items() if a not in removed}
            for address, content in contents.items():
                old = kept.get(address)
                if old is None:
                    kept[address] = _Row(content, header.serial)
                elif old.content.body != content.body:
                    kept[address] = _Row(content, old.revision + 1)
            if kept != store._rows:
                store._content = _new_content()
            store._rows = kept
            store._journal.extend(entries)
            store._header = header
            return header

    def finish(self, run: Run) -> None:
        with self._writing() as store:
            store._runs.append(run)
            if len(store._runs) >= store._kept_runs:
                oldest = store._runs[-store._kept_runs].run
                runs = [entry.run for entry in store._journal]
                del store._journal[: runs.index(oldest) if oldest in runs else 0]

    def replace(self, export: Export, *, force: bool = False, above: int = 0) -> Header:
        contents = encode(export.records)
        with self._writing() as store:
            old = store._header
            header = header_after_replace(
                old,
                export.header,
                environment=store._environment,
                force=force,
                above=above,
                now=self._clock(),
                new_id=store._new_id,
            )
            rows: dict[str, _Row] = {}
            for address, content in contents.items():
                stored = store._rows.get(address) if is_edited_copy(old, export.header) else None
                is_same = stored is not None and stored.content.body == content.body
                rows[address] = (
                    stored if stored is not None and is_same else _Row(content, header.serial)
                )
            if rows != store._rows:
                store._content = _new_content()
            store._rows = rows
            store._header = header
            return header

    def renumber(self, *, above: int) -> Header:
        with self._writing() as store:
            serial = restored_serial(store._header.serial, above, now=self._clock())
            store._rows = {a: row._replace(revision=serial) for a, row in store._rows.items()}
            store._header = store._header._replace(serial=serial)
            store._content = _new_content()
            return store._header

    def backup(self) -> str | None:
        with self._writing() as store:
            if store._header.lineage is None:
                return None
            backup = Backup(
                f"backup-{store._header.serial}-{len(store._backups)}",
                self._clock(),
                serial=store._header.serial,
                size=None,
            )
            export = Export(store._header, tuple(store.records()))
            store._backups.append(_Copy(backup, export))
            del store._backups[:-_BACKUPS]
            return f"backup {backup.id} in memory"

    def restore(self, backup_id: str, *, above: int = 0) -> Header:
        for kept in self._store._backups:
            if kept.backup.id == backup_id:
                return put_back_from(self, kept.export, above=above)
        raise no_backup(backup_id)

    def mark_moved(self, address: str | None) -> None:
        with self._writing() as store:
            store._moved = address

    def renew(self) -> None:
        with self._writing():
            pass


def _new_content() -> str:
    return os.urandom(8).hex()


def _decoded(row: _Row) -> Record:
    return decode_body(row.content.body, row.revision)
