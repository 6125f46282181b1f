"""The state of an environment in a schema of PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from reconciler.core.records import Header, JournalEntry, JournalKind, Record, Run
from reconciler.errors import Message, ReconcileError
from reconciler.state.liveness import is_dead, process_identity
from reconciler.state.postgres.failures import damaged
from reconciler.state.postgres.reading import Meta, SchemaOptions, SchemaReader
from reconciler.state.postgres.rows import (
    Row,
    decoded,
    finished_run,
    journal_entry,
    storable,
    stored,
)
from reconciler.state.postgres.session import Session
from reconciler.state.postgres.setup import Roles, set_up, setup_script
from reconciler.state.postgres.shared_turns import SharedTurns
from reconciler.state.postgres.statements import (
    BACKUPS,
    INTERRUPTED,
    JOURNAL,
    KNOWN,
    KNOWN_AMONG,
    LOCK,
    READ_RUNS,
    RECORDS,
    RECORDS_AMONG,
    RELEASE,
    UNLOCK,
)
from reconciler.state.postgres.writer import PostgresWriter
from reconciler.state.store import (
    LAST,
    RESTORE_HINT,
    UNREADABLE,
    Backup,
    Clock,
    Holder,
    Lock,
    Locked,
    NewId,
    OnWait,
    StateMoved,
    Stored,
    Writer,
    new_id,
    not_locked,
    other_lock,
)
from reconciler.state.waiting import acquired

_RELEASE_SECONDS = 5.0
"""A lock that cannot be released within this time ends with its lease."""
_TRIES = 5
"""How often the lock may change hands under our eyes before that counts as held by others."""


class PostgresStore:
    """A `reconciler.state.store.Store` in one schema.

    The first lock makes the schema and its tables, if the role may.
    """

    def __init__(
        self, session: Session, options: SchemaOptions, *, place: str, new_id: NewId = new_id
    ) -> None:
        self._session = session
        self._options = options
        self._reader = SchemaReader(session, options, place=place)
        self._place = place
        self._new_id = new_id

    # Reading

    def header(self) -> Header:
        meta = self._reader.meta()
        return meta.header() if meta else Header()

    def records(self) -> Iterator[Record]:
        rows = self._reader.by_address(RECORDS, since="", until=None)
        return (decoded(row, self._place) for row in rows)

    def record(self, address: str) -> Record | None:
        return self.records_of([address]).get(address)

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        return {row[0]: decoded(row, self._place) for row in self._among(addresses, RECORDS_AMONG)}

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        return {row[0]: stored(row, self._place) for row in self._among(addresses, RECORDS_AMONG)}

    def known_digests(
        self, since: str = "", until: str = LAST
    ) -> Iterator[tuple[str, bytes | None]]:
        rows = self._reader.by_address(KNOWN, since=since, until=until)
        return ((address, known) for address, known in rows)

    def known_digests_of(self, addresses: Collection[str]) -> dict[str, bytes | None]:
        return dict(self._among(addresses, KNOWN_AMONG))

    def stamp(self) -> str | None:
        meta = self._reader.meta()
        if meta is None or meta.content is None:
            return None
        return f"{meta.lineage} {meta.content}"

    def backups(self) -> Sequence[Backup]:
        rows = self._reader.page(BACKUPS, {})
        kept = [Backup(row[0], row[1], serial=row[3], size=row[5]) for row in rows]
        return sorted(kept, key=lambda each: (each.made, each.serial), reverse=True)

    def restore_hint(self) -> Message:
        return RESTORE_HINT

    def moved_to(self) -> str | None:
        meta = self._reader.meta()
        return meta.moved if meta else None

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        for row in self._reader.by_id(JOURNAL, run=run):
            yield journal_entry(row, self._place)

    def interrupted_addresses(self) -> Sequence[str]:
        return [a for a, kind in self._reader.page(INTERRUPTED, {}) if kind == JournalKind.INTENT]

    def runs(self) -> Iterator[Run]:
        for row in self._reader.by_id(READ_RUNS):
            yield finished_run(row, self._place)

    def locked(self) -> Lock | None:
        meta = self._reader.meta()
        return self._lock_of(meta) if meta else None

    # The lock

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
        wall = now or self._options.clock or time.time
        writer = acquired(
            lambda: self._taken(holder, wall=wall, even_moved=even_moved),
            wait=wait,
            on_wait=on_wait,
        )
        try:
            if writer.format < self._options.format:
                writer.backup()
                writer.upgrade()
            yield writer
        finally:
            # Everything that was acknowledged is durable; a lock that cannot be released ends with its lease.
            with contextlib.suppress(ReconcileError):
                self._session.rows(
                    RELEASE,
                    {
                        "write": uuid.uuid4().hex,
                        "lock": writer.lock_id,
                        "token": writer.token,
                    },
                    is_write=True,
                    seconds=_RELEASE_SECONDS,
                )

    def _taken(self, holder: Holder, *, wall: Clock, even_moved: bool) -> PostgresWriter:
        """The writer of the lock, which is taken now. Raises Locked, and StateMoved."""
        began = time.monotonic()
        meta = self._take(holder, even_moved=even_moved)
        return PostgresWriter(self._reader, meta, new_id=self._new_id, wall=wall, began=began)

    def _take(self, holder: Holder, *, even_moved: bool) -> Meta:
        if self._reader.meta() is None:
            self._session.create(self._options.environment)
        arguments = {
            "at": self._reader.time,
            "write": uuid.uuid4().hex,
            "lock": self._new_id(),
            "holder": json.dumps(list(holder)),
            "process": process_identity(holder.pid),
            "lease": self._options.lease,
            "dead": None,
            "dead_token": None,
            "even_moved": even_moved,
            "format": self._options.format,
            "environment": self._options.environment,
        }
        for _ in range(_TRIES):
            rows = self._session.rows(LOCK, arguments, is_write=True)
            meta = self._reader.accepted(rows) if rows else self._reader.present_meta()
            if meta.last_write == arguments["write"]:
                return meta  # the answer to the first try may have been lost
            held = self._lock_of(meta)
            if held is not None and held.expires > meta.now:
                is_near = held.holder.host == holder.host
                if not (is_near and is_dead(held.holder.pid, meta.process)):
                    raise Locked(held)
                arguments |= {"dead": held.id, "dead_token": meta.token}
            elif meta.moved is not None and not even_moved:
                raise StateMoved(meta.moved)
        raise Locked(held) if held else damaged(self._place)

    def unlock(self, lock_id: str) -> None:
        meta = self._reader.meta()
        held = self._lock_of(meta) if meta else None
        if meta is None or held is None:
            raise not_locked()
        if held.id != lock_id:
            raise other_lock(held)
        arguments = {"write": uuid.uuid4().hex, "lock": lock_id, "token": meta.token}
        if not self._session.rows(UNLOCK, arguments, is_write=True):
            self._check_unlocked(arguments["write"])

    def _check_unlocked(self, write: object) -> None:
        """After an unlock that found another lock: it was done before its answer was lost, or the lock
        changed hands meanwhile."""
        meta = self._reader.present_meta()
        held = self._lock_of(meta)
        if meta.last_write != write and held is not None:
            raise other_lock(held)

    def close(self) -> None:
        self._session.close()

    # What only a database offers

    def setup_script(self, *, writer: str | None, reader: str | None) -> str:
        roles = Roles(writer, reader)
        return setup_script(self._session.schema, self._options.environment, roles=roles)

    def set_up(self, *, writer: str | None, reader: str | None) -> None:
        set_up(self._session, environment=self._options.environment, roles=Roles(writer, reader))

    def shared_turns(
        self, *, rate: float, most: float, least: float, margin: float, clock: Callable[[], float]
    ) -> SharedTurns:
        """The turns of a rate that all processes with this state share; see `SharedTurns`. They have a
        connection of their own, so that they wait for no write."""
        return SharedTurns(
            self._session.another(),
            name=self._options.environment,
            rate=rate,
            most=most,
            least=least,
            margin=margin,
            clock=clock,
        )

    # Parts

    def _lock_of(self, meta: Meta) -> Lock | None:
        try:
            return meta.lock()
        except UNREADABLE:
            raise damaged(self._place) from None

    def _among(self, addresses: Collection[str], text: str) -> Iterator[Row]:
        """Rows of some addresses, in groups."""
        wanted = [address for address in addresses if storable(address) == address]
        size = self._options.page_size
        for start in range(0, len(wanted), size):
            yield from self._reader.page(text, {"addresses": wanted[start : start + size]})
