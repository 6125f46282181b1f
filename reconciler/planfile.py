"""Saved plans: written as they are made, read again line by line, never in memory as a whole."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from reconciler.errors import InputError, ReconcileError, Refused
from reconciler.plan import (
    Change,
    Changes,
    Conforms,
    Hazard,
    Head,
    Plan,
    Stream,
    Totals,
    Writing,
    from_lines,
    from_stream,
    mark,
    to_lines,
)
from reconciler.resources import load_schema
from reconciler.validation import verdict_of

_BLOCK = 1 << 18
_LARGEST_PIPE = 64 * 1024 * 1024
"""Bytes of a plan that comes through a pipe, which is taken into memory."""


def read_plan(path: Path) -> Plan:
    """The saved plan in a file, checked in whole; its changes are decoded when they are gone through.

    The file stays open: another one put in its place is not looked at, and a line that is altered
    afterwards is refused before its change is given out.

    Raises Refused for what is not an intact plan, InputError where it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return from_stream(_Lines(descriptor), _conforms())
        with open(descriptor, "rb") as pipe:
            content = pipe.read(_LARGEST_PIPE + 1)
        if len(content) > _LARGEST_PIPE:
            raise Refused(f"{path} is too large to be read as a plan", hint="Give a file.")
        return from_lines(content.decode("utf-8").split("\n"), _conforms())
    except UnicodeDecodeError:
        raise Refused(f"{path} is not a plan", hint="Plan again with --out.") from None
    except OSError as problem:
        raise InputError(f"cannot read the plan {path}: {problem.strerror}") from None


def write_plan(plan: Plan, path: Path) -> None:
    """Saves a plan as JSON Lines, mode 0600, all or nothing.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    write_whole(path, to_lines(plan))


def write_whole(path: Path, parts: Iterable[str], *, mode: int = 0o600) -> None:
    """Writes a file, all or nothing; by default for its owner only, since it may hold personal data.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    partial = _partial(path)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(descriptor, mode)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """What a file is called until all of it is written."""
    if not path.name:
        raise InputError(f"cannot write the plan to {path}: give the name of a file")
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}")


@cache
def _conforms() -> Conforms:
    schema = load_schema("plan.schema")
    verdicts = {
        kind: verdict_of({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
        for kind in ("header", "change", "footer")
    }
    return lambda kind, data: verdicts[kind](data)


_MOST_HELD = 5_000
"""Changes of a plan that are held in memory; of a larger one, none is."""


class PlanWriter:
    """Takes the changes of a plan as they are made, and saves them on the way if they are to be saved
    or are many. A context manager: without `finish`, nothing is left."""

    def __init__(self, head: Head, out: Path | None, *, folder: Path) -> None:
        """``folder`` is where a plan that is not saved may be kept for as long as it is in use.

        Raises InputError for what names no file, ReconcileError where the plan cannot be written.
        """
        self._writing = Writing(head)
        self._out = out
        self._folder = folder
        self._held: list[Change] = []
        self._lines: list[str] = []
        """Those of the held changes, while there is no file."""
        self._marks = bytearray()
        self.count = 0
        self._file: TextIO | None = None
        self._partial: Path | None = None

    def __enter__(self) -> Self:
        if self._out is not None:
            with self._translated():
                self._partial = _partial(self._out)
                self._start(
                    os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        if self._partial is not None:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def add(self, change: Change) -> None:
        line = self._writing.change(change)
        self.count += 1
        self._marks += mark(line)
        if self._file is not None:
            self._write(line)
        else:
            self._lines.append(line)
        if self.count <= _MOST_HELD:
            self._held.append(change)
        elif self._held:
            self._spill()

    def _spill(self) -> None:
        """From now on the changes are in a file only."""
        if self._file is None:
            with self._translated():
                self._start(_unnamed(self._folder))
            for line in self._lines:
                self._write(line)
            self._lines.clear()
        self._held.clear()

    def finish(
        self, orphans: Iterable[str], hazards: Iterable[Hazard], unchanged: int
    ) -> tuple[Changes, Totals]:
        """The changes, and what is known of them now; the plan is saved if it was to be."""
        footer = self._writing.footer(orphans, hazards, unchanged)
        changes: Changes = tuple(self._held)
        file = self._file
        if file is not None:
            self._write(footer)
            with self._translated():
                file.flush()
                if len(self._held) != self.count:
                    lines = _Lines(os.dup(file.fileno()))
                    changes = Stream(lines, self.count, bytes(self._marks))
                if self._partial is not None and self._out is not None:
                    os.fsync(file.fileno())
                    os.replace(self._partial, self._out)
        return changes, self._writing.totals

    def _start(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "w", encoding="ascii", newline="\n")
        self._write(self._writing.header)

    def _write(self, line: str) -> None:
        assert self._file is not None
        try:
            self._file.write(line)
        except OSError as problem:
            raise self._failed(problem) from None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise self._failed(problem) from None

    def _failed(self, problem: OSError) -> ReconcileError:
        where = self._out or "that is too large for memory"
        return ReconcileError(f"cannot write the plan {where}: {problem.strerror}")


def _unnamed(folder: Path) -> int:
    """A file that is gone once it is closed, whatever happens."""
    import tempfile

    for place in (folder, None):
        try:
            descriptor, name = tempfile.mkstemp(dir=place, prefix=".plan-")
        except OSError:
            continue
        os.unlink(name)
        return descriptor
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Lines:
    """The lines of an open file, from the first one on at every call. Closes it in the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def __call__(self) -> Iterator[str]:
        offset, rest = 0, b""
        while block := os.pread(self._descriptor, _BLOCK, offset):
            offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line.decode("utf-8")
        yield rest.decode("utf-8")
