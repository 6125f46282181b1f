"""Journals of killed writers, beside their own file and beside others."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.core.records import Record
from reconciler.state.rollback_journal import has_foreign_journal
from reconciler.state.sqlite import SqliteStore
from reconciler.state.sqlite_errors import StateDamaged
from tests.support.states import JANE, US, ZOE, put

_KILLED = """
import os, sqlite3, sys
path, rows, cache, point = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
db = sqlite3.connect(path, isolation_level=None)
db.execute(f"PRAGMA cache_size = {cache}")
db.execute("PRAGMA synchronous = EXTRA")
db.execute("BEGIN IMMEDIATE")
db.executemany(
    "INSERT OR REPLACE INTO record (address, revision, body, checksum) VALUES (?, 1, ?, 0)",
    [(f"r{n:05}", point * 400) for n in range(rows)],
)
if point == "write":
    db.execute("UPDATE meta SET serial = serial + 1")
os._exit(9)
"""


def kill_a_writer(path: Path, *, rows: int, cache: int = 10, point: str = "write") -> None:
    """Leaves the journal of a writer that was killed inside of its transaction. A small cache makes it
    write to the file before the end."""
    arguments = [sys.executable, "-c", _KILLED, str(path), str(rows), str(cache), point]
    assert subprocess.run(arguments, check=False).returncode == 9


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


@pytest.fixture
def state(path: Path) -> Path:
    """A state of some pages."""
    store = SqliteStore(path, environment="test")
    put(store, JANE, *(Record(f"r{n:05}", platform="x" * 400) for n in range(40)))
    store.close()
    return path


@pytest.mark.parametrize("rows", [1, 30, 300, 3_000])
@pytest.mark.parametrize("cache", [10, 2_000])
@pytest.mark.parametrize("point", ["write", "spill"])
def test_the_journal_of_a_killed_writer_is_its_own(
    state: Path, rows: int, cache: int, point: str
) -> None:
    kill_a_writer(state, rows=rows, cache=cache, point=point)
    assert not has_foreign_journal(state)
    store = SqliteStore(state, environment="test")
    assert len(list(store.records())) == 41


def test_a_backup_put_back_beside_the_journal_of_another_write_is_refused(state: Path) -> None:
    store = SqliteStore(state, environment="test")
    with store.lock(US) as writer:
        backup = writer.backup()
    assert backup is not None
    put(store, ZOE)
    put(store, JANE._replace(protect=True))
    store.close()
    kill_a_writer(state, rows=300)
    shutil.copy(backup, state)
    before = state.read_bytes()
    for attempt in (store.header, lambda: list(store.records()), lambda: put(store, ZOE)):
        with pytest.raises(StateDamaged, match="journal of another file"):
            attempt()
    assert state.read_bytes() == before
    assert journal_of(state).exists()
    journal_of(state).unlink()
    assert len(list(store.records())) == 41


def test_a_state_beside_a_journal_of_which_nothing_became_durable_is_taken_as_it_is(
    state: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    put(SqliteStore(other, environment="test"), ZOE)
    kill_a_writer(state, rows=3, cache=2_000)
    assert journal_of(state).exists()
    shutil.copy(other, state)
    assert [record.address for record in SqliteStore(state, environment="test").records()] == [
        "qa-zoe"
    ]


def test_a_journal_that_a_writer_is_working_with_is_not_foreign(state: Path) -> None:
    writer = sqlite3.connect(state, isolation_level=None)
    writer.execute("PRAGMA cache_size = 10")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE record SET body = body || ' '")
    assert journal_of(state).exists()
    assert not has_foreign_journal(state)
    writer.execute("COMMIT")
    assert not has_foreign_journal(state)
    writer.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"text", os.urandom(2_000)])
def test_what_is_no_journal_is_not_foreign(state: Path, content: bytes) -> None:
    journal_of(state).write_bytes(content)
    assert not has_foreign_journal(state)
