"""The right to write a schema, and its writes: each is one fenced statement."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.core.record_codec import encode_starter
from reconciler.core.records import Export, Header, JournalEntry, Record, Run
from reconciler.errors import ReconcileError
from reconciler.state.postgres.failures import lost_commits
from reconciler.state.postgres.reading import Meta, SchemaReader
from reconciler.state.postgres.rows import Row, decoded, storable
from reconciler.state.postgres.statements import (
    BACKUP,
    BACKUP_RECORDS,
    BACKUPS,
    FINISH,
    MARK_MOVED,
    RENEW,
    RENUMBER,
    REPLACE,
    UPGRADE_LOCKED,
    UPGRADED,
    WRITE,
)
from reconciler.state.store import (
    SAFE_SHARE_OF_LEASE,
    Clock,
    CommitUnknown,
    EncodedRecord,
    LockLost,
    NewId,
    checksum,
    encode,
    header_after_replace,
    header_after_write,
    is_edited_copy,
    no_backup,
    put_back_from,
    restored_serial,
    utc_text,
)
from reconciler.values import canonical

_OF_ALL_RECORDS = frozenset({REPLACE, RENUMBER, BACKUP})
_LONG = 600.0
"""Seconds for a write of all records. The lock is not lost meanwhile: whoever wants it waits for the row that
the statement holds."""


class _NamedWrite(NamedTuple):
    """A write that may have been made: its id, and the header after it."""

    write: str
    header: Header


class PostgresWriter:
    """A `reconciler.state.store.Writer` of a `PostgresStore`.

    ``meta`` is the row of ``meta`` right after the lock was taken, ``began`` the monotonic time before.
    ``wall`` is this machine's clock, which goes on while it sleeps.
    """

    def __init__(
        self, reader: SchemaReader, meta: Meta, *, new_id: NewId, wall: Clock, began: float
    ) -> None:
        self._reader = reader
        self._new_id = new_id
        self._wall = wall
        self.lock_id = meta.lock_id
        self.token = meta.token
        self.format = meta.format
        self._version = meta.version
        self._header = meta.header()
        """As this writer left it. Nobody else can have written while lock, token and version are ours."""
        self._in_doubt: list[_NamedWrite] = []
        """Writes whose answers were lost, all of the version that comes next. One of them may be made."""
        self._is_lost = False
        self._guard = threading.RLock()
        self._safe_until = self._lease_from(began)

    def holds(self) -> bool:
        wall, monotonic = self._safe_until
        return not self._is_lost and self._wall() < wall and time.monotonic() < monotonic

    def write(
        self,
        *,
        put: Iterable[Record] = (),
        remove: Iterable[str] = (),
        journal: Iterable[JournalEntry] = (),
        application: str | None = None,
    ) -> Header:
        contents, removed, entries = encode(put), set(remove), list(journal)

        def after(old: Header) -> Header:
            return header_after_write(
                old,
                environment=self._reader.options.environment,
                application=application,
                new_id=self._new_id,
            )

        return self._make(
            WRITE,
            after,
            removed=[address for address in removed if address not in contents],
            anew=[address for address in contents if address in removed],
            **_arrays(contents),
            **_journal_arrays(entries),
        )

    def finish(self, run: Run) -> None:
        self._make(
            FINISH,
            run=storable(run.run),
            started=float(run.started),
            finished=float(run.finished),
            digest=storable(run.digest),
            outcomes=canonical(dict(run.outcomes)),
            starter=encode_starter(run.starter),
            kept=self._reader.options.kept_runs,
        )

    def replace(self, export: Export, *, force: bool = False, above: int = 0) -> Header:
        contents = encode(export.records)
        with self._guard:
            now, old = self._settled_meta().now, self._header

            def after(old: Header) -> Header:
                return header_after_replace(
                    old,
                    export.header,
                    environment=self._reader.options.environment,
                    force=force,
                    above=above,
                    now=now,
                    new_id=self._new_id,
                )

            return self._make(
                REPLACE,
                after,
                keeps_same=is_edited_copy(old, export.header),
                **_arrays(contents),
            )

    def renumber(self, *, above: int) -> Header:
        with self._guard:
            now = self._settled_meta().now
            return self._make(
                RENUMBER,
                lambda old: old._replace(serial=restored_serial(old.serial, above, now=now)),
            )

    def backup(self) -> str | None:
        with self._guard:
            now, header = self._settled_meta().now, self._header
            if header.lineage is None:
                self.renew()
                return None
            backup = f"{utc_text(now, '%Y%m%dT%H%M%SZ')}-{header.serial}"
            self._make(BACKUP, backup=backup, kept=self._reader.options.kept_backups)
            return f"backup {backup} in {self._reader.place}"

    def restore(self, backup_id: str, *, above: int = 0) -> Header:
        reader = self._reader
        kept = {row[0]: row for row in reader.page(BACKUPS, {})}
        if backup_id not in kept:
            raise no_backup(backup_id)
        _, _, lineage, serial, application, _ = kept[backup_id]
        environment = reader.options.environment
        header = Header(lineage, serial, environment=environment, application=application)
        records = tuple(decoded(row, reader.place) for row in self._backup_records(backup_id))
        return put_back_from(self, Export(header, records), above=above)

    def mark_moved(self, address: str | None) -> None:
        self._make(MARK_MOVED, moved=address)

    def renew(self) -> None:
        self._make(RENEW)

    def upgrade(self) -> None:
        """Brings the schema to the present format, in one transaction. Needs the rights of its owner."""
        session, options = self._reader.session, self._reader.options
        attempt = _NamedWrite(uuid.uuid4().hex, self._header)
        fence = {"lock": self.lock_id, "token": self.token, "version": self._version}
        upgrades = [options.upgrades[step] for step in range(self.format, options.format)]
        done = session.together(
            session.composed(UPGRADE_LOCKED, fence),
            *(session.composed(text) for text in upgrades),
            session.composed(UPGRADED, {"format": options.format, "write": attempt.write}),
        )
        if not done:
            raise LockLost
        self._adopt(attempt)
        self.format = options.format

    # One write

    def _make(
        self, text: str, after: Callable[[Header], Header] | None = None, **arguments: Any
    ) -> Header:
        """Makes a write; ``after`` gives the header after it, for the one before. Returns that header.

        Raises LockLost where somebody else has the lock; CommitUnknown where the answer was lost for good.
        Such a write stays in doubt until the next one: both have the same version, so only one is made.
        """
        with self._guard:
            if self._is_lost:
                raise LockLost
            began = time.monotonic()
            while True:
                attempt = _NamedWrite(
                    uuid.uuid4().hex, after(self._header) if after else self._header
                )
                try:
                    is_made = self._passes(text, attempt, arguments=arguments)
                except BaseException as problem:
                    # Every other failure of ours says that nothing was written. An interruption says nothing.
                    if not isinstance(problem, ReconcileError) or isinstance(
                        problem, CommitUnknown
                    ):
                        self._in_doubt.append(attempt)
                    raise
                if is_made:
                    self._adopt(attempt)
                elif self._settled([attempt, *self._in_doubt]) is attempt:
                    # It was made, but nobody told whether its standby has it. A write behind it tells.
                    self._make(RENEW)
                else:
                    continue  # an earlier one came first
                self._safe_until = self._lease_from(began)
                return attempt.header

    def _settled(self, attempts: Sequence[_NamedWrite]) -> _NamedWrite | None:
        """The one of some attempts of the present version that was made, after the fence has stopped another
        one. Adopts it. Raises LockLost where it was none of them."""
        meta = self._reader.present_meta()
        is_ours = (meta.lock_id, meta.token) == (self.lock_id, self.token)
        if is_ours:
            for attempt in attempts:
                if attempt.write == meta.last_write:
                    self._adopt(attempt)
                    return attempt
        self._is_lost = True
        if is_ours and meta.version < self._version:
            raise lost_commits(self._reader.place)
        raise LockLost

    def _adopt(self, attempt: _NamedWrite) -> None:
        self._version += 1
        self._header = attempt.header
        self._in_doubt.clear()

    def _settled_meta(self) -> Meta:
        """The row of ``meta`` under our lock, with no write in doubt that was made."""
        if self._is_lost:
            raise LockLost
        meta = self._reader.present_meta()
        is_ours = (meta.lock_id, meta.token) == (self.lock_id, self.token)
        if not is_ours or meta.version != self._version:
            self._settled(self._in_doubt)
        return meta

    def _passes(self, text: str, attempt: _NamedWrite, *, arguments: dict[str, Any]) -> bool:
        """Whether the fence let the write through."""
        options, header = self._reader.options, attempt.header
        fence = {
            "at": self._reader.time,
            "write": attempt.write,
            "lease": options.lease,
            "lock": self.lock_id,
            "token": self.token,
            "version": self._version,
            "format": options.format,
            "lineage": header.lineage,
            "serial": header.serial,
            "application": header.application,
        }
        seconds = _LONG if text in _OF_ALL_RECORDS else None
        ((made,),) = self._reader.session.rows(
            text, {**arguments, **fence}, is_write=True, seconds=seconds
        )
        return bool(made)

    def _lease_from(self, began: float) -> tuple[float, float]:
        """Until when a lease that began at a monotonic time is safe, by the wall clock and by the monotonic
        one, which nobody sets."""
        seconds = SAFE_SHARE_OF_LEASE * self._reader.options.lease
        spent = time.monotonic() - began
        return self._wall() + seconds - spent, began + seconds

    def _backup_records(self, backup_id: str) -> Iterator[Row]:
        last, size = "", self._reader.options.page_size
        while True:
            rows = self._reader.page(
                BACKUP_RECORDS, {"backup": backup_id, "last": last, "size": size}
            )
            yield from rows
            if len(rows) < size:
                return
            last = rows[-1][0]


def _arrays(contents: Mapping[str, EncodedRecord]) -> dict[str, list[Any]]:
    """The columns of records. No bytes stand for a digest that is not known."""
    return {
        "addresses": list(contents),
        "bodies": [content.body for content in contents.values()],
        "checksums": [checksum(address, content.body) for address, content in contents.items()],
        "known": [content.known or b"" for content in contents.values()],
    }


def _journal_arrays(entries: Sequence[JournalEntry]) -> dict[str, list[Any]]:
    """The columns of entries of the journal."""
    return {
        "runs": [storable(entry.run) for entry in entries],
        "entry_addresses": [storable(entry.address) for entry in entries],
        "kinds": [entry.kind.value for entry in entries],
        "times": [float(entry.at) for entry in entries],
        "actions": [storable(entry.action) for entry in entries],
        "requests": [storable(entry.request) for entry in entries],
        "details": [storable(entry.detail) for entry in entries],
    }
