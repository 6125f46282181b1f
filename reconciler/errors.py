"""Findings as values, and failures as exceptions.

A *diagnostic* is a finding about somebody's input; all of them are collected and reported together.
An exception ends a command. Only `ErrorHandlingGroup` in ``reconciler.cli.app`` turns exceptions into
messages and exit codes; every class carries its exit code::

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
from typing import NamedTuple, TypeVar

from reconciler.commands import Command, Invocation


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


class Quote(NamedTuple):
    """A piece of somebody's input, to be repeated in a message between two marks."""

    text: str
    mark: str = '"'
    """Stands before and after the text; may be empty."""
    is_name: bool = False
    """It is the name of a field or a path of names, not a value."""

    def __format__(self, spec: str) -> str:
        raise TypeError("Message.of joins quotes and text: a formatted string would lose the value")


class QuotedValue(NamedTuple):
    """Where a finished message repeats a piece of somebody's input."""

    start: int
    end: int
    """Characters of the message, its marks included."""
    text: str
    """Without the marks."""
    is_name: bool = False


class SuggestedCommand(NamedTuple):
    """Where a finished message suggests a command, between two back quotes."""

    start: int
    end: int
    """Characters of the message, without the back quotes."""
    command: Command


class Message(NamedTuple):
    """A finished message, and the values that it quotes and the commands that it suggests, in their order."""

    text: str
    values: tuple[QuotedValue, ...] = ()
    commands: tuple[SuggestedCommand, ...] = ()

    @classmethod
    def of(cls, *parts: str | Quote | Command | Message) -> Message:
        """The message that some parts make, one after another."""
        text, values, commands = "", [], []
        for part in parts:
            match part:
                case str():
                    text += part
                case Quote(content, mark, is_name):
                    shown = f"{mark}{content}{mark}"
                    values.append(QuotedValue(len(text), len(text) + len(shown), content, is_name))
                    text += shown
                case Command():
                    line, start = part.text(), len(text) + 1
                    commands.append(SuggestedCommand(start, start + len(line), part))
                    text += f"`{line}`"
                case Message():
                    values += [_moved(value, len(text)) for value in part.values]
                    commands += [_moved(command, len(text)) for command in part.commands]
                    text += part.text
        return cls(text, tuple(values), tuple(commands))

    def for_invocation(self, invocation: Invocation) -> Message:
        """The message whose commands repeat the options with which the program was started. Its commands
        are text then."""
        text, values = self.text, self.values
        for start, end, command in reversed(self.commands):
            line = command.text(invocation)
            longer = len(line) - (end - start)
            text = text[:start] + line + text[end:]
            values = tuple(_moved(value, longer if value.start >= end else 0) for value in values)
        return Message(text, values)

    def __format__(self, spec: str) -> str:
        raise TypeError("Message.of joins messages: a formatted string would lose what they quote")


_Place = TypeVar("_Place", QuotedValue, SuggestedCommand)


def _moved(place: _Place, characters: int) -> _Place:
    return place._replace(start=place.start + characters, end=place.end + characters)


class Diagnostic(NamedTuple):
    """A finding: what is wrong, where, and what to do next.

    ``rule`` is stable (``yaml/duplicate-key``). ``message`` and ``hint`` may quote input and so are
    untrusted text until a writer escapes them. ``values`` and ``hint_values`` say where they do, so
    that a value can be replaced without reading the sentence around it.
    """

    severity: Severity
    rule: str
    message: str
    source: Source
    hint: str = ""
    values: tuple[QuotedValue, ...] = ()
    """The quotes in ``message``."""
    hint_values: tuple[QuotedValue, ...] = ()
    """The quotes in ``hint``."""
    hint_commands: tuple[SuggestedCommand, ...] = ()
    """The commands in ``hint``."""

    @classmethod
    def of(
        cls,
        severity: Severity,
        rule: str,
        *,
        message: str | Message,
        source: Source,
        hint: str | Message = "",
    ) -> Diagnostic:
        """A finding from messages that may quote values."""
        finished, advice = Message.of(message), Message.of(hint)
        return cls(
            severity,
            rule,
            finished.text,
            source,
            advice.text,
            finished.values,
            advice.values,
            advice.commands,
        )

    def for_invocation(self, invocation: Invocation) -> Diagnostic:
        """See `Message.for_invocation`."""
        if not self.hint_commands:
            return self
        hint = Message(self.hint, self.hint_values, self.hint_commands).for_invocation(invocation)
        return self._replace(hint=hint.text, hint_values=hint.values, hint_commands=())

    def without_values(self) -> Diagnostic:
        """The finding with a placeholder for each value that it quotes; names stay."""
        return self._replace(
            message=_without_values(self.message, self.values),
            values=(),
            hint=_without_values(self.hint, self.hint_values),
            hint_values=(),
        )

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def sort_key(self) -> tuple[Source, str, str]:
        """By place, then rule: the order in which findings are reported."""
        return (self.source, self.rule, self.message)


HIDDEN = "(from the environment)"
"""Stands for a value that no output shows."""


def _without_values(text: str, values: tuple[QuotedValue, ...]) -> str:
    for value in reversed(values):
        if not value.is_name and value.text:
            text = text[: value.start] + HIDDEN + text[value.end :]
    return text


def error(
    rule: str, message: str | Message, *, source: Source, hint: str | Message = ""
) -> Diagnostic:
    """A finding that stops the plan."""
    return Diagnostic.of(Severity.ERROR, rule, message=message, source=source, hint=hint)


def warning(
    rule: str, message: str | Message, *, source: Source, hint: str | Message = ""
) -> Diagnostic:
    """A finding that does not stop the plan."""
    return Diagnostic.of(Severity.WARNING, rule, message=message, source=source, hint=hint)


class ReconcileError(Exception):
    """Base of every failure a user may see.

    ``hint`` says what to do next; ``values`` are the quotes in the message.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str | Message, *, hint: str | Message = "") -> None:
        finished, advice = Message.of(message), Message.of(hint)
        super().__init__(finished.text)
        self.message = finished.text
        self.values = finished.values
        self.hint = advice.text
        self.hint_commands = advice.commands

    def repeat(self, invocation: Invocation) -> None:
        """Has the commands of the hint repeat the options with which the program was started; in place,
        since the failure is being raised."""
        self.hint = Message(self.hint, (), self.hint_commands).for_invocation(invocation).text
        self.hint_commands = ()


class InputError(ReconcileError):
    """Files or configuration are invalid. Nothing was planned or sent."""

    exit_code = ExitCode.INVALID

    def __init__(
        self, message: str, *, diagnostics: Iterable[Diagnostic] = (), hint: str | Message = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)
        self.rendered = ""
        """The findings as text, where somebody wrote it who knows the files and the terminal."""

    def repeat(self, invocation: Invocation) -> None:
        super().repeat(invocation)
        self.diagnostics = tuple(each.for_invocation(invocation) for each in self.diagnostics)


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
