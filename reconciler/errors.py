"""What can go wrong, as values (findings) and as exceptions (failures).

A *diagnostic* is a finding about somebody's input; all of them are collected and reported together.
An exception ends a command. The one door that turns exceptions into messages and exit codes is
``reconciler.cli.main``; every class here carries the code it ends with::

    ReconcileError            1  something failed
    ├── InputError            3  files or configuration are invalid; carries the diagnostics
    ├── NotAuthorised         4  the API refused the key
    ├── RemoteUnavailable     5  the API is away, or the rate budget is spent
    ├── Refused               6  a safety rule said no (stale, protected, cap, tampered, locked, ...)
    │   └── StateRefused      6  the state is damaged, newer, or not ours
    ├── UsageError           64  the command was called wrongly
    └── Interrupted         130  SIGINT or SIGTERM
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import NamedTuple


class ExitCode(IntEnum):
    """The frozen exit codes."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    INVALID = 3
    NOT_AUTHORISED = 4
    UNAVAILABLE = 5
    REFUSED = 6
    USAGE = 64
    INTERRUPTED = 130


class Severity(StrEnum):
    """How bad a finding is: an error stops the plan, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Source(NamedTuple):
    """Where something is declared. Lines and columns count from 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.file, *(str(part) for part in (self.line, self.column) if part)])


class Diagnostic(NamedTuple):
    """A finding: what is wrong, where, and what to do next.

    ``rule`` is stable (``yaml/duplicate-key``); ``message`` and ``hint`` may quote values from files
    and so are untrusted text until a writer escapes them.
    """

    severity: Severity
    rule: str
    message: str
    source: Source
    hint: str = ""

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def sort_key(self) -> tuple[Source, str, str]:
        """By place, then rule: the order in which findings are reported."""
        return (self.source, self.rule, self.message)


def error(rule: str, message: str, source: Source, *, hint: str = "") -> Diagnostic:
    return Diagnostic(Severity.ERROR, rule, message, source, hint)


def warning(rule: str, message: str, source: Source, *, hint: str = "") -> Diagnostic:
    return Diagnostic(Severity.WARNING, rule, message, source, hint)


class ReconcileError(Exception):
    """Base of every failure a user may see. ``hint`` says what to do next."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(ReconcileError):
    """Files or configuration are invalid. Nothing was planned or sent."""

    exit_code = ExitCode.INVALID

    def __init__(
        self, message: str, *, diagnostics: Iterable[Diagnostic] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)


class NotAuthorised(ReconcileError):
    """The API refused the key (401 or 403)."""

    exit_code = ExitCode.NOT_AUTHORISED


class RemoteUnavailable(ReconcileError):
    """The API could not be reached, or kept refusing for lack of capacity."""

    exit_code = ExitCode.UNAVAILABLE


class Refused(ReconcileError):
    """A safety rule said no. Nothing was sent."""

    exit_code = ExitCode.REFUSED


class StateRefused(Refused):
    """The state cannot be trusted as it is: damaged, written by a newer version, or not ours."""


class UsageError(ReconcileError):
    """The command was called wrongly."""

    exit_code = ExitCode.USAGE


class Interrupted(ReconcileError):
    """A signal asked for the end of the run."""

    exit_code = ExitCode.INTERRUPTED
