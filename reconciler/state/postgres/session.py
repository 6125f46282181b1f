"""Statements that outlive a connection: it is made anew, and they are repeated until they have an answer.

A read changes nothing, and a write is fenced by its version, so each can be repeated without harm.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from reconciler.errors import StateRefused
from reconciler.state.postgres.failures import (
    EXISTS,
    ConnectionRefused,
    NotReplicated,
    StatementFailed,
    final_error,
)
from reconciler.state.postgres.layout import CREATE_SCHEMA, CREATE_TABLES, FORMAT
from reconciler.state.postgres.link import Arguments, Link, Row, Statement, Step, statement
from reconciler.state.postgres.statements import HAS_SCHEMA

DEADLINE = 20.0
"""Seconds after which a statement is given up: far less than a lease."""
_FIRST_DEADLINE = 3.0
"""Seconds for the first connection: a wrong address is more likely there than a passing failure."""
_SHARE_OF_A_TRY = 0.5
"""A single try gets this part of the time: where one process of the server hangs, another may answer."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
"""Seconds between two tries."""

T = TypeVar("T")


class Session:
    """One connection at a time to one schema. Threads may share it.

    ``place`` says where the state is, for people. Raises nothing but `ReconcileError`.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        *,
        schema: str,
        place: str,
        deadline: float = DEADLINE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_link = open_link
        self.schema = schema
        self._place = place
        self._deadline = deadline
        self._sleep = sleep
        self._guard = threading.RLock()
        self._link: Link | None = None
        self._was_connected = False
        self._statements: dict[str, Statement] = {}

    def rows(
        self,
        text: str,
        arguments: Arguments,
        *,
        is_write: bool = False,
        seconds: float | None = None,
    ) -> list[Row]:
        """The rows of a statement. ``seconds`` bound all tries together.

        Raises StateUnreachable or, for a write, CommitUnknown where there is no answer; NoTable where there
        is no state.
        """
        composed = self._composed(text)

        def run(link: Link, left: float) -> list[Row]:
            return link.rows(composed, arguments, seconds=left)

        return self._until_answered(run, is_write=is_write, seconds=seconds)

    def together(self, condition: Step, *steps: Step) -> bool:
        """Runs statements in one transaction if the first one gives a row; says whether it did. It is not
        repeated."""
        with self._guard:
            try:
                return self._opened().together(condition, *steps, seconds=self._deadline)
            except StatementFailed as failure:
                raise self._given_up(failure, is_write=True) from None

    def create(self, environment: str) -> None:
        """Makes the schema and its tables, as far as they are missing. Raises StateRefused for a database
        that cannot hold any Unicode text."""
        ((has_schema, encoding),) = self.rows(HAS_SCHEMA, {"schema": self.schema})
        if encoding != "UTF8":
            raise StateRefused(
                f"the database has the encoding {encoding}, and cannot hold every text",
                hint="Create the database with ENCODING 'UTF8'.",
            )
        # To ask for a schema that exists takes the right to make one.
        text = CREATE_TABLES if has_schema else CREATE_SCHEMA + CREATE_TABLES
        script = statement(text, self.schema, format=FORMAT, environment=environment)
        for _ in range(3):
            try:
                self.run(script)
                return
            except _AlreadyThere:
                continue  # somebody else makes the same; whoever is second goes on from there

    def run(self, script: Statement) -> None:
        """Runs statements that can be repeated, in one transaction."""
        self._until_answered(partial(_run, script=script), is_write=True)

    def composed(self, text: str, arguments: Arguments | None = None) -> Step:
        """A step of a transaction."""
        return self._composed(text), arguments

    def another(self) -> Session:
        """A session at the same place, with a connection of its own."""
        return Session(
            self._open_link, schema=self.schema, place=self._place, deadline=self._deadline
        )

    def close(self) -> None:
        """Closes the connection. The next statement opens another one."""
        with self._guard:
            if self._link is not None:
                self._link.close()
            self._link = None

    def _composed(self, text: str) -> Statement:
        composed = self._statements.get(text)
        if composed is None:
            composed = self._statements[text] = statement(text, self.schema)
        return composed

    def _opened(self) -> Link:
        if self._link is None or not self._link.is_open:
            self._link = self._open_link()
            self._was_connected = True
        return self._link

    def _until_answered(
        self, run: Callable[[Link, float], T], *, is_write: bool, seconds: float | None = None
    ) -> T:
        began, pause = time.monotonic(), _FIRST_PAUSE
        is_unknown = False
        with self._guard:
            while True:
                deadline = self._deadline if seconds is None else seconds
                if not self._was_connected:
                    deadline = min(deadline, _FIRST_DEADLINE)
                was_sent = False
                try:
                    link = self._opened()
                    was_sent = True
                    return run(link, deadline * _SHARE_OF_A_TRY)
                except StatementFailed as failure:
                    if failure.is_broken:
                        self.close()
                        is_unknown = is_unknown or (was_sent and is_write)
                    is_final = not failure.may_pass or isinstance(failure, NotReplicated)
                    if isinstance(failure, ConnectionRefused) and not self._was_connected:
                        is_final = True
                    if is_final or time.monotonic() + pause > began + deadline:
                        raise self._given_up(failure, is_write=is_unknown) from None
                self._sleep(pause * (0.5 + random.random() / 2))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _given_up(self, failure: StatementFailed, *, is_write: bool) -> Exception:
        if failure.sqlstate in EXISTS:
            return _AlreadyThere(failure.name, sqlstate=failure.sqlstate)
        return final_error(failure, place=self._place, is_write=is_write)


class _AlreadyThere(StatementFailed):
    """Somebody else made what was to be made."""


def _run(link: Link, left: float, *, script: Statement) -> None:
    link.run(script, seconds=left)
