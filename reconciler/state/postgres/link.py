"""One connection to PostgreSQL by psycopg, and what its errors mean.

Nothing here relies on a session of the server: a pooler may hand each statement to another one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import pq, sql

from reconciler.state.location import PostgresAddress
from reconciler.state.postgres.failures import (
    ConnectionRefused,
    NotReplicated,
    StatementFailed,
)
from reconciler.state.postgres.tls import tls_parameters

Row = tuple[Any, ...]
Statement = sql.Composed
Arguments = Mapping[str, Any]
Step = tuple[Statement, Arguments | None]
"""A statement of a transaction, and its arguments."""
Password = Callable[[], str | None]
"""Gives the password of a new connection, or ``None`` where libpq finds it. Tokens of a cloud end after
minutes, so it is asked at each connection."""

_CONNECT_SECONDS = 5
_CANCEL_SECONDS = 2.0
_UNSENDABLE = "22000"
"""The SQLSTATE of the server for a value that it cannot take, for those that psycopg cannot send."""
_NO_STANDBY = "01000"
"""The code of the warning "canceling wait for synchronous replication": the commit is on this server, and
perhaps not on its standby. No other warning with this code comes with our statements."""


class _TimeIsOver(Exception):
    """The server did not answer in time."""


class _LimitedConnection(psycopg.Connection[Row]):
    """A connection that gives up waiting when it is ``due``, by the monotonic clock. A server that hangs
    while its system answers keeps a connection alive for ever."""

    due = float("inf")

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        return super().wait(self._limited(gen), *arguments, **options)

    def _limited(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same steps. While nothing arrives, psycopg resumes them ten times a second (3.2.13 does; 3.2.0
        does not)."""
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.due:
                    raise _TimeIsOver
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value


class Link:
    """One connection. Raises `StatementFailed`, and nothing of psycopg."""

    def __init__(self, connection: _LimitedConnection) -> None:
        self._connection = connection
        self._warnings: list[str] = []
        connection.add_notice_handler(self._on_notice)

    @property
    def is_open(self) -> bool:
        return not (self._connection.closed or self._connection.broken)

    def rows(self, statement: Statement, arguments: Arguments, *, seconds: float) -> list[Row]:
        """The rows of one statement, which gets ``seconds``."""
        with self._translated(seconds):
            cursor = self._connection.execute(statement, arguments, binary=True)
            rows = cursor.fetchall()
        if _NO_STANDBY in self._warnings:
            raise NotReplicated("Warning", sqlstate=_NO_STANDBY)
        return rows

    def run(self, script: Statement, *, seconds: float) -> None:
        """Runs statements without arguments, which the server makes one transaction."""
        with self._translated(seconds):
            self._connection.execute(script)

    def together(self, condition: Step, *steps: Step, seconds: float) -> bool:
        """Runs statements in one transaction if the first one gives a row; says whether it did."""
        with self._translated(seconds), self._connection.transaction():
            if not self._connection.execute(*condition).fetchall():
                return False
            for step in steps:
                self._connection.execute(*step)
        return True

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._connection.close()

    def _on_notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warnings.append(diagnostic.sqlstate or "")

    @contextlib.contextmanager
    def _translated(self, seconds: float) -> Generator[None]:
        self._warnings.clear()
        self._connection.due = time.monotonic() + seconds
        try:
            yield
        except _TimeIsOver:
            self._abandon()
            raise StatementFailed("Timeout", is_broken=True) from None
        except psycopg.Error as problem:
            raise StatementFailed(
                type(problem).__name__,
                sqlstate=_sqlstate(problem),
                is_broken=not self.is_open or problem.sqlstate is None,
            ) from None
        except UnicodeError:  # half of a character, which psycopg does not translate
            raise StatementFailed("UnicodeError", sqlstate=_UNSENDABLE) from None
        except BaseException:  # such as KeyboardInterrupt, in the middle of the protocol
            self.close()
            raise
        finally:
            self._connection.due = float("inf")

    def _abandon(self) -> None:
        """Asks the server to end the statement, and closes the connection whatever it says."""
        self._connection.due = time.monotonic() + _CANCEL_SECONDS
        with contextlib.suppress(psycopg.Error, _TimeIsOver):
            self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
        self.close()


def _sqlstate(problem: psycopg.Error) -> str | None:
    """The SQLSTATE. Values that psycopg itself cannot send get that of the server."""
    if problem.sqlstate is None and isinstance(
        problem, psycopg.DataError | psycopg.ProgrammingError
    ):
        return _UNSENDABLE
    return problem.sqlstate


def connected(
    address: PostgresAddress, *, password: Password = lambda: None, application: str = "reconcile"
) -> Link:
    """A new connection. Raises `StatementFailed`, and UsageError for an insecure address."""
    given: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "dbname": address.database,
        "password": password(),
        "client_encoding": "utf8",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 15,
        "tcp_user_timeout": 15_000,
        "target_session_attrs": "primary",  # a standby may not have everything yet
        "application_name": application,
    }
    given = {name: value for name, value in given.items() if value is not None}
    own_root = os.path.exists(Path("~/.postgresql/root.crt").expanduser())
    given |= tls_parameters(address, _defaults(), has_own_root=own_root)
    try:
        connection = _LimitedConnection.connect(autocommit=True, prepare_threshold=None, **given)
    except psycopg.Error as problem:
        name, end = type(problem).__name__, problem.pgconn
        if end is not None and (end.needs_password or end.used_password):
            raise ConnectionRefused(name, needs_password=bool(end.needs_password)) from None
        raise StatementFailed(name, is_broken=True) from None
    return Link(connection)


def _defaults() -> dict[str, str]:
    """What libpq takes for parameters that are not given."""
    options = pq.Conninfo.get_defaults()
    return {each.keyword.decode(): each.val.decode() for each in options if each.val}


def statement(text: LiteralString, schema: str, **texts: str | int) -> sql.Composed:
    """A statement for a schema. ``texts`` are quoted as literals."""
    literals = {name: sql.Literal(value) for name, value in texts.items()}
    return sql.SQL(text).format(schema=sql.Identifier(schema), **literals)


def grant(text: LiteralString, schema: str, **roles: str) -> sql.Composed:
    """A statement about the rights of roles on a schema."""
    names = {name: sql.Identifier(role) for name, role in roles.items()}
    return sql.SQL(text).format(schema=sql.Identifier(schema), **names)


def printed(script: sql.Composed) -> str:
    """The text of a script, as it would be sent."""
    return script.as_string()
