"""Failed statements → whether to try again, and the error to raise. Pure: tables.

A server's own texts may quote stored values, so only its SQLSTATE and the class of the exception are used
(https://www.postgresql.org/docs/current/errcodes-appendix.html).
"""

from __future__ import annotations

from reconciler.commands import Command
from reconciler.errors import Message, ReconcileError, Refused, StateRefused
from reconciler.state.store import RESTORE_HINT, CommitUnknown, StateUnreachable
from reconciler.values import shown

_NO_TABLE = frozenset({"42P01", "3F000"})
"""There is no such table, or no such schema."""
EXISTS = frozenset({"42P06", "42P07", "23505", "42710"})
"""Somebody else made the same schema, table, row or type at the same time."""
_MAY_NOT = "42501"
_PASSING = ("08", "57P", "40", "53", "25006", "55P03", "57014")
"""Beginnings of the SQLSTATEs of failures that pass: a lost connection, a server that stops or starts, a
conflict, no room, a standby, a lock that was waited for too long, a cancelled statement."""
_NOT_STORABLE = ("22", "23", "54")
"""A value that has no place in a column, or is too large."""


class StatementFailed(Exception):
    """A statement or a connection failed. Never shown: `final_error` words it."""

    def __init__(self, name: str, *, sqlstate: str | None = None, is_broken: bool = False) -> None:
        super().__init__(name)
        self.name = name
        """The class of the library's exception."""
        self.sqlstate = sqlstate
        self.is_broken = is_broken
        """Whether the connection is of no use any more."""

    @property
    def code(self) -> str:
        """SQLSTATE and class, for people."""
        return f"{self.sqlstate} {self.name}" if self.sqlstate else self.name

    @property
    def may_pass(self) -> bool:
        """Whether the same statement may succeed later."""
        return self.sqlstate is None or self.sqlstate.startswith(_PASSING)


class ConnectionRefused(StatementFailed):
    """A connection was not made, and trying again at once does not help."""

    def __init__(self, name: str, *, needs_password: bool) -> None:
        super().__init__(name, is_broken=True)
        self.needs_password = needs_password


class NotReplicated(StatementFailed):
    """The server gave up waiting for its standby: the write is committed there, and perhaps nowhere else."""


class NoTable(StateRefused):
    """There is no such table, or no such schema: no state was made there, or it was removed."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no state, or only a part of it: {shown(place)}",
            hint=Message.of(
                "Restore the schema from a backup of the database, or make it: ",
                Command.of("state", "setup"),
                ".",
            ),
        )


def final_error(failure: StatementFailed, *, place: str, is_write: bool) -> ReconcileError:
    """The error for a failure that is not tried again. ``place`` is where the state is, for people."""
    where = shown(place)
    state = failure.sqlstate or ""
    match failure:
        case ConnectionRefused(needs_password=True):
            return StateUnreachable(
                f"the database asks for a password: {where}",
                hint="Set PGPASSWORD, write ~/.pgpass, or name a `password_command` for the state.",
            )
        case ConnectionRefused():
            return StateUnreachable(
                f"the database refused the connection: {where}",
                hint="Check user, password and database, and that the role may log in.",
            )
        case NotReplicated():
            return CommitUnknown(
                f"the database stopped waiting for its standby ({failure.code}): {where}",
                hint="The last write is on the server, and perhaps not on its standby. Run again; it goes "
                "on from the state.",
            )
    if failure.may_pass:
        if is_write:
            return CommitUnknown(
                f"it is not known whether the last write reached the state: the database does not "
                f"answer ({failure.code}): {where}",
                hint="Run again when it answers; it goes on from the state.",
            )
        return StateUnreachable(
            f"the database does not answer ({failure.code}): {where}",
            hint="Check address, port, certificate and network, and that the server accepts connections "
            "and is no standby; then run again.",
        )
    if state == _MAY_NOT:
        return Refused(
            f"the database role may not do this ({failure.code}): {where}",
            hint=Message.of(
                "To write takes the rights of a writer, to plan those of a reader: ",
                Command.of("state", "setup", "--print"),
                " prints them.",
            ),
        )
    if state in _NO_TABLE:
        return NoTable(place)
    if state.startswith(_NOT_STORABLE):
        return StateRefused(
            f"something to be recorded cannot be stored ({failure.code})",
            hint="Only numbers of 64 bits and valid Unicode can be recorded, in a database whose encoding "
            "is UTF8.",
        )
    return ReconcileError(
        f"the database refused a statement ({failure.code}): {where}",
        hint="The server's log says more.",
    )


def damaged(place: str) -> StateRefused:
    """The error for a state whose content is not as this program wrote it."""
    return StateRefused(f"the state is damaged: {shown(place)}", hint=RESTORE_HINT)


def newer_format(place: str, *, found: int, known: int) -> StateRefused:
    """The error for a state that a newer program wrote or upgraded."""
    return StateRefused(
        f"the state has format {found}, this program reads up to {known}: {shown(place)}",
        hint="Upgrade reconcile; a newer version wrote this state.",
    )


def other_environment(place: str, *, found: str, wanted: str) -> StateRefused:
    """The error for a state of another environment."""
    return StateRefused(
        f"this is the state of environment {shown(found)}, not of {shown(wanted)}: {shown(place)}",
        hint="Give each environment a schema of its own.",
    )


def lost_commits(place: str) -> StateRefused:
    """The error where the server has forgotten writes that it had confirmed."""
    return StateRefused(
        f"the database has lost writes that it had confirmed: {shown(place)}",
        hint="A standby took over without them, or a backup was restored. Nothing more was sent. Look which "
        "server has the newest state before you run again; use synchronous standbys.",
    )
