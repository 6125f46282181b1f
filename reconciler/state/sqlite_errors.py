"""Messages for errors of SQLite and of the operating system. Pure: tables.

SQLite's own messages may quote stored values, so only its result codes are used.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from reconciler.commands import Command
from reconciler.errors import Message, ReconcileError, StateRefused

RESTORE_HINT = Message.of(
    Command.of("state", "restore", "FILE"),
    " puts a backup back; backups lie beside the state. It takes the output of ",
    Command.of("state", "pull"),
    " too.",
)


class StateDamaged(StateRefused):
    """The state file is not as this program left it. `state restore` moves it aside."""


class ResultCode(IntEnum):
    """Result codes of SQLite (https://www.sqlite.org/rescode.html). The lowest byte of an extended code
    is its primary code."""

    PERM = 3
    BUSY = 5
    LOCKED = 6
    READONLY = 8
    IOERR = 10
    FULL = 13
    CANTOPEN = 14
    CONSTRAINT = 19
    NOTADB = 26
    READONLY_DBMOVED = 1032
    """The file was moved or removed while it was open."""


_PRIMARY = 0xFF


class _Wording(NamedTuple):
    """An error as the user sees it. ``{state}`` stands for the path of the state, ``{code}`` for the name
    of SQLite's code, ``{seconds}`` for the time waited, ``{reason}`` for the system's own words."""

    error: type[ReconcileError]
    message: str
    hint: str | Message


_DAMAGED = _Wording(StateDamaged, "the state in {state} is damaged", RESTORE_HINT)
_VANISHED = _Wording(
    ReconcileError,
    "the state file {state} was removed or replaced while it was in use",
    "Nothing was written. Put the file back, or restore a backup, and run again.",
)
_DISK_FULL = _Wording(
    ReconcileError,
    "the disk is full: the state {state} could not be written",
    "Nothing of this write counts. Free some space, then run again.",
)
_READ_ONLY = _Wording(
    ReconcileError,
    "the state {state} is read-only",
    "Make the file and its folder writable for you; `plan` works without.",
)
_BUSY = _Wording(
    ReconcileError,
    "another process kept the state {state} busy for {seconds:.0f} seconds",
    "Look for a process that is stopped or stuck, and run again.",
)
_CANNOT_OPEN = _Wording(
    StateRefused,
    "the state {state} cannot be opened",
    "Check that you may read and write the file and its folder.",
)
_NO_PERMISSION = _Wording(
    StateRefused,
    "no permission for the state {state}",
    "Check that you may read and write the file and its folder.",
)

_OF_SQLITE: Mapping[int, _Wording] = {
    ResultCode.FULL: _DISK_FULL,
    ResultCode.READONLY: _READ_ONLY,
    ResultCode.READONLY_DBMOVED: _VANISHED,
    ResultCode.IOERR: _Wording(
        ReconcileError,
        "the disk failed on the state {state} ({code})",
        "Nothing of this write counts. Check the disk, its quota and its free space, then run again.",
    ),
    ResultCode.BUSY: _BUSY,
    ResultCode.LOCKED: _BUSY,
    ResultCode.CANTOPEN: _CANNOT_OPEN,
    ResultCode.PERM: _CANNOT_OPEN,
    ResultCode.NOTADB: _Wording(
        StateDamaged, "{state} is not a state: not a SQLite file", RESTORE_HINT
    ),
    ResultCode.CONSTRAINT: _Wording(
        StateRefused,
        "something to be recorded cannot be stored",
        "Only numbers and valid Unicode can be recorded.",
    ),
}
"""By extended or primary result code. Any other code means that the file is damaged."""

_OF_SYSTEM: Mapping[int | None, _Wording] = {
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
    errno.EROFS: _READ_ONLY,
}
_OTHER_OF_SYSTEM = _Wording(
    ReconcileError,
    "the state {state} cannot be used: {reason}",
    "Check `state.url` in reconcile.yaml, and the folder it names.",
)


def from_sqlite(
    code: int | None, *, state: str, code_name: str = "", busy_seconds: float = 0.0
) -> ReconcileError:
    """The error to raise for an extended result code (``None``: SQLite gave none). ``state`` is the path
    of the state as it may be shown."""
    wording = _DAMAGED
    if code is not None:
        wording = _OF_SQLITE.get(code) or _OF_SQLITE.get(code & _PRIMARY, _DAMAGED)
    return _error(wording, state=state, code=code_name, seconds=busy_seconds)


def from_system(problem: OSError, *, state: str) -> ReconcileError:
    """The error to raise for one of the operating system."""
    wording = _OF_SYSTEM.get(problem.errno, _OTHER_OF_SYSTEM)
    return _error(wording, state=state, reason=problem.strerror)


def damaged(state: str) -> ReconcileError:
    """The error for a state whose content is not as this program wrote it."""
    return _error(_DAMAGED, state=state)


def vanished(state: str) -> ReconcileError:
    """The error for a state file that another program removed or replaced during a run."""
    return _error(_VANISHED, state=state)


def not_storable() -> ReconcileError:
    """The error for a value that has no place in SQLite."""
    return StateRefused(
        "something to be recorded cannot be stored",
        hint="Only numbers of 64 bits and valid Unicode can be recorded.",
    )


def _error(wording: _Wording, **values: str | float | None) -> ReconcileError:
    return wording.error(wording.message.format(**values), hint=wording.hint)
