"""Where commands write: files that options name, and ``-`` for standard output and input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from reconciler.atomicfile import descriptor_of, write_output
from reconciler.cli.streams import print_document, write
from reconciler.config.protected import refuse_to_overwrite
from reconciler.config.settings import Config
from reconciler.core.plan import Plan
from reconciler.errors import InputError, ReconcileError, Refused, UsageError
from reconciler.planning.planfile import read_open_plan, read_plan

_DASH = "-"


def is_standard_output(path: Path | None) -> bool:
    """Whether an output goes to standard output: ``-``, or a name of the system for it."""
    return path is not None and (str(path) == _DASH or descriptor_of(path) == 1)


def check_outputs(
    paths: Iterable[Path], config: Config | None, *, source: Path | None = None
) -> None:
    """Raises UsageError where two outputs go to one place, Refused where one would be written over the
    configuration, a profile file or a state that it names, or over the ``source`` that is read."""
    places: set[str] = set()
    for path in paths:
        place = _DASH if is_standard_output(path) else os.path.realpath(path)
        if place in places and not _takes_many(path):
            raise UsageError(f"two outputs go to {path}", hint="Give each of them its own file.")
        places.add(place)
        if place == _DASH:
            continue
        if source is not None and path.exists() and source.exists() and path.samefile(source):
            raise Refused(f"{path} would be written over the plan that is read")
        refuse_to_overwrite(path, config)


def _takes_many(path: Path) -> bool:
    """Whether several outputs may be written into a place: a device, such as the null device."""
    return not is_standard_output(path) and path.is_char_device()


def result_stream(json_out: Path | None, config: Config | None, *, format_: str) -> TextIO:
    """The stream for a result that is written as JSON too, where ``--json-out`` names a file.

    Raises what `check_outputs` raises; UsageError where both would go to standard output as JSON.
    """
    if json_out is None:
        return sys.stdout
    check_outputs([json_out], config)
    stream = text_stream([json_out])
    if stream is sys.stderr and format_ == "json":
        raise UsageError(
            "--json-out - and --json both print JSON to standard output", hint="Leave one out."
        )
    return stream


def events_stream(json_out: Path | None, *, json_: bool) -> TextIO:
    """The stream for the text or the events of a command, where ``--json-out`` names a file for its events.

    Raises UsageError where both go to standard output.
    """
    stream = sys.stdout if json_out is None else text_stream([json_out])
    if stream is sys.stderr and json_:
        raise UsageError(
            "--json-out - and --json both print JSON to standard output", hint="Leave one out."
        )
    return stream


def open_events(path: Path, config: Config | None, *, stack: ExitStack) -> TextIO:
    """The stream into which the events of a command are written as they come; it is closed with the stack.

    Raises what `check_outputs` raises, and ReconcileError where the file cannot be written.
    """
    check_outputs([path], config)
    if is_standard_output(path):
        return sys.stdout
    try:
        return stack.enter_context(open(path, "w", encoding="utf-8"))
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None


def print_or_write(
    stream: TextIO,
    *,
    text: Callable[[], str],
    data: Callable[[], str],
    format_: str,
    json_out: Path | None,
) -> None:
    """Prints a result to a stream, as text or as JSON, and writes it as JSON into the file of
    ``--json-out``."""
    if json_out is not None:
        write_file(json_out, [data()])
    result = data() if format_ == "json" else text()
    write(stream, result if result.endswith("\n") else result + "\n")


def text_stream(paths: Iterable[Path]) -> TextIO:
    """The stream for the text of a command: standard output, unless an output goes there."""
    return sys.stderr if any(map(is_standard_output, paths)) else sys.stdout


def write_file(path: Path, parts: Iterable[str]) -> None:
    """Writes an output: into the file that an option names, or to standard output."""
    if is_standard_output(path):
        print_document(parts)
    else:
        write_output(path, parts)


def read_input(path: Path) -> bytes:
    """The content of a file; ``-`` is standard input.

    Raises InputError for a file that cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if str(path) == _DASH else path.read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "it is closed"
        name = "standard input" if str(path) == _DASH else str(path)
        raise InputError(f"cannot read {name}: {reason}") from None


def is_standard_input(paths: Sequence[Path]) -> bool:
    """Whether the input of a command is standard input: ``-``.

    Raises UsageError where it stands beside other paths.
    """
    if Path(_DASH) not in paths:
        return False
    if len(paths) > 1:
        raise UsageError("- is standard input, and goes with no other path")
    return True


def read_plan_file(path: Path) -> Plan:
    """The saved plan in a file, or from standard input for ``-``; see `read_open_plan`."""
    if str(path) != _DASH:
        return read_plan(path)
    try:
        descriptor = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):
        raise InputError("cannot read the plan from standard input: it is closed") from None
    return read_open_plan(descriptor, "standard input")
