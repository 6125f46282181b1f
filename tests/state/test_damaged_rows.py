"""Rows of other types than this program wrote give an error that says so, or a right answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.core.records import Record, Run
from reconciler.errors import ReconcileError
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Store, Stored
from tests.support.places import state_of
from tests.support.projects import Project
from tests.support.states import JANE, US, ZOE, entry

VALUES: tuple[object, ...] = (
    None,
    5,
    -1,
    2**62,
    1.5,
    float("inf"),
    "text",
    "",
    b"bytes",
    "[1]",
    "{}",
)
ENTRY = entry("run-1")


def make(path: Path) -> None:
    """A state with a row in each table, the lock among them."""
    with closing(SqliteStore(path, environment="local")) as store, store.lock(US) as writer:
        writer.write(put=[JANE], journal=[ENTRY])
        writer.finish(Run("run-1", 1.0, finished=2.0, digest="", outcomes={"applied": 1}))
        with closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT * FROM lock").fetchall()
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(f"INSERT INTO lock VALUES ({','.join('?' * len(rows[0]))})", rows)


def columns(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [
            (table, column)
            for (table,) in tables
            for _, column, *_ in db.execute(f"PRAGMA table_info({table})").fetchall()
        ]


def write(store: Store) -> None:
    with store.lock(US) as writer:
        writer.write(put=[ZOE], journal=[ENTRY])
        writer.renew()
        writer.backup()


def unlock(store: Store) -> None:
    held = store.locked()
    if held is not None:
        store.unlock(held.id)


READS: dict[str, Callable[[Store], Any]] = {
    "header": lambda store: store.header(),
    "records": lambda store: [*store.records()],
    "record": lambda store: store.record(JANE.address),
    "stored": lambda store: {
        address: Stored.record(each) for address, each in store.stored([JANE.address]).items()
    },
    "known digests": lambda store: [*store.known_digests()],
    "known digests of": lambda store: store.known_digests_of([JANE.address]),
    "journal": lambda store: [*store.journal()],
    "runs": lambda store: [*store.runs()],
    "locked": lambda store: store.locked(),
    "interrupted": lambda store: store.interrupted_addresses(),
    "copy": lambda store: store.is_copy(),
    "unlock": unlock,
}


def tried(what: str, read: Callable[[], Any]) -> Iterator[str]:
    try:
        answer = read()
    except ReconcileError:
        return
    except Exception as problem:
        yield f"{what}: {problem!r}"
    else:
        if isinstance(answer, Record) and answer._replace(revision=0) != JANE:
            yield f"{what}: another record"


def test_no_wrong_type_ends_in_a_raw_exception_or_a_wrong_record(tmp_path: Path) -> None:
    project = Project(tmp_path, profiles={"jane": f"customer_user_id: {JANE.address}\n"})
    path = state_of(tmp_path)
    make(path)
    intact = path.read_bytes()

    def plan() -> None:
        with project.workspace() as workspace:
            workspace.plan(prune=True)
            workspace.export()

    problems: list[str] = []
    count = 0
    for table, column in columns(path):
        for value in VALUES:
            path.write_bytes(intact)
            with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db, db:
                db.execute(f"UPDATE {table} SET {column} = ?", (value,))
            damaged = path.read_bytes()
            if damaged == intact:
                continue
            count += 1
            with closing(SqliteStore(path, environment="local")) as store:
                reads = {name: partial(read, store) for name, read in READS.items()}
                for name, read in {"plan": plan, **reads}.items():
                    problems += tried(f"{table}.{column} = {value!r}: {name}", read)
            path.write_bytes(damaged)
            with closing(SqliteStore(path, environment="local")) as store:
                problems += tried(f"{table}.{column} = {value!r}: write", partial(write, store))
    assert problems == []
    assert count > 100
