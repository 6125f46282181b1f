"""Connections of SQLite of which one call fails, or one and all later ones."""

from __future__ import annotations

import sqlite3
from typing import Any


class SqliteFault:
    """Which call fails, counted over all connections, and how."""

    def __init__(self, number: int, code: int, *, rolls_back: bool, lasting: bool) -> None:
        """The ``number``-th call (from 0) fails with a result code; with ``lasting`` all later ones, too.
        ``rolls_back``: SQLite ends the transaction by itself, as on a full disk."""
        self._number = number
        self._code = code
        self._rolls_back = rolls_back
        self._lasting = lasting
        self._calls = 0

    @property
    def has_struck(self) -> bool:
        return self._calls > self._number

    def strike(self, db: sqlite3.Connection) -> None:
        """Raises what SQLite raises, if it is this call's turn."""
        number, self._calls = self._calls, self._calls + 1
        if number != self._number and not (self._lasting and number > self._number):
            return
        if self._rolls_back and db.in_transaction:
            db.execute("ROLLBACK")
        problem = sqlite3.OperationalError("simulated")
        problem.sqlite_errorcode = self._code
        raise problem


class FailingConnection:
    """A connection whose statements pass a fault."""

    def __init__(self, db: sqlite3.Connection, fault: SqliteFault) -> None:
        self._db = db
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._db, name)
        if name not in ("execute", "executemany", "executescript"):
            return method

        def call(*arguments: Any) -> Any:
            self._fault.strike(self._db)
            return method(*arguments)

        return call
