"""Reading a database with the tables of a state: records in pages, journal, history, header and lock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from types import UnionType
from typing import Any, Protocol, TypeVar

from reconciler.core.record_codec import decode_starter
from reconciler.core.records import Header, JournalEntry, JournalKind, Record, Run
from reconciler.errors import ReconcileError
from reconciler.state.sqlite_format import (
    FIRST_WITH_DIGESTS,
    NUMBER,
    TEXT,
    TEXT_OR_NULL,
    WHOLE,
    RecordRow,
    is_whole,
    known_digests_where,
    require_types,
    starter_column,
    version_of,
)
from reconciler.state.store import (
    LAST,
    UNREADABLE,
    Holder,
    Lock,
    Stored,
    decode_body,
)

PAGE_SIZE = 10_000
"""Rows that one statement reads, so that memory does not grow with the state."""

R = TypeVar("R", bound=tuple[Any, ...])
R_co = TypeVar("R_co", bound=tuple[Any, ...], covariant=True)


class _ReadRows(Protocol[R_co]):
    """Reads rows; ``condition`` is the end of the statement."""

    def __call__(
        self, db: sqlite3.Connection, condition: str, *, parameters: Sequence[object]
    ) -> Sequence[R_co]: ...


class SqliteReader:
    """The part of a store that reads a database with the tables of a state file.

    ``reading`` gives a connection to read from; ``None`` where there is no state yet. ``damaged`` makes the
    error to raise for a row that is not as it was written. ``page_size`` is how many rows a statement reads.
    """

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[sqlite3.Connection | None]],
        *,
        damaged: Callable[[], ReconcileError],
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._reading = reading
        self._damaged = damaged
        self._page_size = page_size

    def header(self) -> Header:
        with self._reading() as db:
            return header_in(db) if db else Header()

    def records(self) -> Iterator[Record]:
        return map(self._decoded, self._by_address(record_rows, since="", until=None))

    def record(self, address: str) -> Record | None:
        return self.records_of([address]).get(address)

    def records_of(self, addresses: Collection[str]) -> dict[str, Record]:
        with self._reading() as db:
            if db is None:
                return {}
            (rows,) = db.execute(_RECORDS, (json.dumps(list(addresses)),)).fetchone()
        try:
            return {row[0]: self._decoded(row) for row in json.loads(rows)}
        except ValueError:  # numbers that JSON does not have
            raise self._damaged() from None

    def stored(self, addresses: Collection[str]) -> dict[str, Stored]:
        with self._reading() as db:
            if db is None:
                return {}
            rows = record_rows(db, AMONG, parameters=(json.dumps(list(addresses)),))
        if not all(map(is_whole, rows)):
            raise self._damaged()
        return {address: Stored(revision, body) for address, revision, body, _ in rows}

    def known_digests(
        self, since: str = "", until: str = LAST
    ) -> Iterator[tuple[str, bytes | None]]:
        return self._by_address(known_digests_where, since=since, until=until)

    def known_digests_of(self, addresses: Collection[str]) -> dict[str, bytes | None]:
        with self._reading() as db:
            if db is None:
                return {}
            return dict(known_digests_where(db, AMONG, parameters=(json.dumps(list(addresses)),)))

    def journal(self, *, run: str | None = None) -> Iterator[JournalEntry]:
        # A condition of its own for one run, so that its index is used.
        of_run = "AND run = ?2" if run is not None else "AND ?2 IS NULL"
        for _, run_, address, kind, at, action, request, detail in self._by_id(
            "SELECT id, run, address, kind, at, action, request, detail FROM journal "
            f"WHERE id > ?1 {of_run} ORDER BY id LIMIT ?3",
            run,
            types=(WHOLE, TEXT, TEXT, TEXT, NUMBER, TEXT, TEXT, TEXT),
        ):
            if kind not in _JOURNAL_KINDS:
                raise self._damaged()
            yield JournalEntry(
                run=run_,
                address=address,
                kind=_JOURNAL_KINDS[kind],
                at=at,
                action=action,
                request=request,
                detail=detail,
            )

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
        with self._reading() as db:
            starter = starter_column(db)
        for _, run, started, finished, digest, outcomes, starter_text in self._by_id(
            f"SELECT id, run, started, finished, digest, outcomes, {starter} FROM history "
            "WHERE id > ?1 AND ?2 IS NULL ORDER BY id LIMIT ?3",
            None,
            types=(WHOLE, TEXT, NUMBER, NUMBER, TEXT, TEXT, TEXT),
        ):
            try:
                decoded = decode_starter(starter_text)
                counts = {str(key): int(value) for key, value in json.loads(outcomes).items()}
            except (ValueError, TypeError, AttributeError):
                raise self._damaged() from None
            yield Run(
                run,
                started,
                finished=finished,
                digest=digest,
                outcomes=counts,
                starter=decoded,
            )

    def locked(self) -> Lock | None:
        with self._reading() as db:
            held = recorded_lock(db) if db else None
        return held[0] if held else None

    def moved_to(self) -> str | None:
        with self._reading() as db:
            return moved_address(db) if db else None

    # Pages and rows

    def _by_address(self, read: _ReadRows[R], *, since: str, until: str | None) -> Iterator[R]:
        """Rows that begin with their address, page by page."""
        last, comparison = since, ">="
        end, bounds = ("", ()) if until is None else ("AND address < ?", (until,))
        while True:
            condition = f"WHERE address {comparison} ? {end} ORDER BY address LIMIT ?"
            with self._reading() as db:
                if db is None:
                    return
                rows = read(db, condition, parameters=(last, *bounds, self._page_size))
            yield from rows
            if len(rows) < self._page_size:
                return
            last, comparison = rows[-1][0], ">"

    def _by_id(
        self, query: str, argument: str | None, *, types: Sequence[type | UnionType]
    ) -> Iterator[tuple[Any, ...]]:
        """Rows that begin with their id, page by page. The query takes the last id, ``argument`` and the
        number of rows."""
        last = 0
        while True:
            with self._reading() as db:
                if db is None:
                    return
                rows = db.execute(query, (last, argument, self._page_size)).fetchall()
                for row in rows:
                    require_types(row, *types)
            yield from rows
            if len(rows) < self._page_size:
                return
            last = rows[-1][0]

    def _decoded(self, row: RecordRow) -> Record:
        if not is_whole(row):
            raise self._damaged()
        _, revision, body, _ = row
        try:
            return decode_body(body, revision)
        except UNREADABLE:
            raise self._damaged() from None


# --- statements ----------------------------------------------------------------------------------

_JOURNAL_KINDS = {kind.value: kind for kind in JournalKind}

AMONG = "WHERE address IN (SELECT value FROM json_each(?))"
_RECORDS = (
    f"SELECT json_group_array(json_array(address, revision, body, checksum)) FROM record {AMONG}"
)


def record_rows(
    db: sqlite3.Connection, condition: str, *, parameters: Sequence[object]
) -> list[RecordRow]:
    return db.execute(
        f"SELECT address, revision, body, checksum FROM record {condition}", parameters
    ).fetchall()


def journal_row(entry: JournalEntry) -> tuple[str | float, ...]:
    return (
        entry.run,
        entry.address,
        entry.kind,
        entry.at,
        entry.action,
        entry.request,
        entry.detail,
    )


def moved_address(db: sqlite3.Connection) -> str | None:
    """The address to which the state was moved."""
    if version_of(db) < FIRST_WITH_DIGESTS:
        return None
    (address,) = db.execute("SELECT moved FROM meta").fetchone()
    require_types((address,), TEXT_OR_NULL)
    return None if address is None else str(address)


def header_in(db: sqlite3.Connection) -> Header:
    lineage, serial, environment, application = db.execute(
        "SELECT lineage, serial, environment, application FROM meta"
    ).fetchone()
    require_types((lineage, serial, application), TEXT_OR_NULL, WHOLE, TEXT_OR_NULL)
    if lineage is None:
        return Header()
    return Header(lineage, serial, environment=environment, application=application)


def put_header(db: sqlite3.Connection, header: Header) -> None:
    db.execute(
        "UPDATE meta SET lineage = ?, serial = ?, application = ?",
        (header.lineage, header.serial, header.application),
    )


def recorded_lock(db: sqlite3.Connection) -> tuple[Lock, str | None] | None:
    """The lock in the file, and the `process_identity` that its holder had when it took the lock."""
    row = db.execute(
        "SELECT id, user, host, pid, command, ci, since, expires, process FROM lock"
    ).fetchone()
    if row is None:
        return None
    texts = (TEXT, TEXT, TEXT)
    require_types(row, *texts, WHOLE, TEXT, TEXT_OR_NULL, NUMBER, NUMBER, TEXT_OR_NULL)
    lock_id, user, host, pid, command, ci, since, expires, process = row
    holder = Holder(user, host, pid=pid, command=command, ci=ci)
    return Lock(lock_id, holder, since=since, expires=expires), process


def put_lock(db: sqlite3.Connection, lock: Lock, *, process: str | None) -> None:
    """Puts a lock in the place of any other."""
    holder = lock.holder
    db.execute(
        "INSERT OR REPLACE INTO lock "
        "(one, id, user, host, pid, process, command, ci, since, expires) "
        "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            lock.id,
            holder.user,
            holder.host,
            holder.pid,
            process,
            holder.command,
            holder.ci,
            lock.since,
            lock.expires,
        ),
    )
