"""Errors of SQLite and of the system become messages for users."""

from __future__ import annotations

import errno
import os
import sqlite3

import pytest

from reconciler.errors import ReconcileError, StateRefused
from reconciler.state.sqlite_errors import (
    ResultCode,
    StateDamaged,
    from_sqlite,
    from_system,
)


@pytest.mark.parametrize("code", ResultCode)
def test_result_codes_are_those_of_sqlite(code: ResultCode) -> None:
    assert getattr(sqlite3, f"SQLITE_{code.name}") == code


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (sqlite3.SQLITE_FULL, ReconcileError, "disk is full"),
        (sqlite3.SQLITE_READONLY, ReconcileError, "is read-only"),
        (sqlite3.SQLITE_READONLY_CANTLOCK, ReconcileError, "is read-only"),
        (sqlite3.SQLITE_READONLY_DBMOVED, ReconcileError, "removed or replaced"),
        (sqlite3.SQLITE_IOERR_FSYNC, ReconcileError, "the disk failed on the state s.db (NAME)"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, ReconcileError, "busy for 3 seconds"),
        (sqlite3.SQLITE_LOCKED, ReconcileError, "busy for 3 seconds"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, StateRefused, "cannot be opened"),
        (sqlite3.SQLITE_PERM, StateRefused, "cannot be opened"),
        (sqlite3.SQLITE_NOTADB, StateDamaged, "not a SQLite file"),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, StateRefused, "cannot be stored"),
        (sqlite3.SQLITE_CORRUPT_VTAB, StateDamaged, "is damaged"),
        (sqlite3.SQLITE_ERROR, StateDamaged, "is damaged"),
        (None, StateDamaged, "is damaged"),
    ],
)
def test_a_result_code_has_a_message(
    code: int | None, error: type[ReconcileError], words: str
) -> None:
    problem = from_sqlite(code, state="s.db", code_name="NAME", busy_seconds=3.0)
    assert type(problem) is error
    assert words in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (errno.EACCES, StateRefused, "no permission"),
        (errno.EPERM, StateRefused, "no permission"),
        (errno.ENOSPC, ReconcileError, "disk is full"),
        (errno.EDQUOT, ReconcileError, "disk is full"),
        (errno.EROFS, ReconcileError, "is read-only"),
        (errno.ENOTDIR, ReconcileError, "cannot be used: Not a directory"),
    ],
)
def test_an_error_of_the_system_has_a_message(
    number: int, error: type[ReconcileError], words: str
) -> None:
    problem = from_system(OSError(number, os.strerror(number)), state="s.db")
    assert type(problem) is error
    assert words in problem.message
    assert problem.hint


def test_braces_in_a_path_are_shown_as_they_are() -> None:
    assert "{state}{x}.db" in from_sqlite(None, state="{state}{x}.db").message
