"""Where commands write: files that options name, and ``-`` for standard output and input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from reconciler.atomicfile import descriptor_of, write_output
from reconciler.cli.streams import print_document
from reconciler.config.protected import refuse_to_overwrite
from reconciler.config.settings import Config
from reconciler.core.plan import Plan
from reconciler.errors import InputError, Refused, UsageError
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


def text_stream(paths: Iterable[Path]) -> TextIO:
    """The stream for the text of a command: standard output, unless an output goes there."""
    return sys.stderr if any(map(is_standard_output, paths)) else sys.stdout


def write_file(path: Path, parts: Iterable[str]) -> None:
    """Writes an output: into the file that an option names, or to standard output."""
    if is_standard_output(path):
        print_document(parts)
    else:
        write_output(path, parts)


def read_plan_file(path: Path) -> Plan:
    """The saved plan in a file, or from standard input for ``-``; see `read_open_plan`."""
    if str(path) != _DASH:
        return read_plan(path)
    try:
        descriptor = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):
        raise InputError("cannot read the plan from standard input: it is closed") from None
    return read_open_plan(descriptor, "standard input")
