"""Saved plans: written as they are made, read again line by line, never in memory as a whole."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

from reconciler.atomicfile import OutputFile, write_output
from reconciler.authoring.json_schema import verdict_of
from reconciler.core.plan import Change, Changes, Hazard, Head, Plan, Totals
from reconciler.core.plan_format import (
    DIGEST_SIZE,
    Conforms,
    PlanEncoder,
    PlanLines,
    Stream,
    from_lines,
    from_stream,
    to_lines,
)
from reconciler.errors import InputError, ReconcileError, Refused
from reconciler.planning.limits import Limits
from reconciler.resources import load_schema
from reconciler.systems import open_flags, read_at

_BLOCK = 1 << 18
_LARGEST_PIPE = 64 * 1024 * 1024
"""Bytes of a plan that comes through a pipe, which is taken into memory."""


def read_plan(path: Path) -> Plan:
    """The saved plan in a file: see `read_open_plan`."""
    try:
        descriptor = os.open(path, open_flags("O_RDONLY"))
    except OSError as problem:
        raise InputError(f"cannot read the plan {path}: {problem.strerror}") from None
    return read_open_plan(descriptor, str(path))


def read_open_plan(descriptor: int, path: str) -> Plan:
    """The saved plan in an open file, checked in whole; its changes are decoded when they are gone
    through. ``path`` names it in messages.

    The file stays open: another one put in its place is not looked at, and a line that is altered
    afterwards is refused before its change is given out.

    Raises Refused for what is not an intact plan, InputError where it cannot be read.
    """
    try:
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
    """Saves a plan as JSON PlanLines, mode 0600, all or nothing; see `OutputFile`.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    write_output(path, to_lines(plan))


@cache
def _conforms() -> Conforms:
    schema = load_schema("plan.schema")
    verdicts = {
        kind: verdict_of({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
        for kind in ("header", "change", "footer")
    }
    return lambda kind, data: verdicts[kind](data)


class Spool:
    """Text in UTF-8 that is written once and then read again and again: in memory while it is short, in a
    file otherwise.

    Raises ReconcileError where that cannot be done.
    """

    def __init__(self, what: str, folder: Path, *, held: int) -> None:
        """``what`` names the text in messages. Up to ``held`` bytes stay in memory. The file has no name,
        lies in ``folder`` if that is possible, and is gone in the end."""
        self._what = what
        self._folder = folder
        self._most_held = held
        self._held: list[bytes] = []
        self._size = 0
        self._file: BinaryIO | None = None

    def move_to(self, descriptor: int) -> None:
        """Moves the text into an open file, which is closed with the spool."""
        self._file = file = os.fdopen(descriptor, "wb", _BLOCK)
        file.writelines(self._held)
        self._held.clear()

    def write(self, text: bytes) -> None:
        with _write_errors(self._what):
            if self._file is not None:
                self._file.write(text)
                return
            self._held.append(text)
            self._size += len(text)
            if self._size > self._most_held:
                self.move_to(_unnamed(self._folder))

    def parts(self) -> Iterator[bytes]:
        """The text so far, in parts."""
        if self._file is None:
            return iter(self._held)
        with _write_errors(self._what):
            self._file.flush()
        return _blocks(self._file.fileno())

    def finish(self, *, durable: bool = False) -> Callable[[], Iterator[bytes]]:
        """A function that gives all lines at every call, also after `close`."""
        if self._file is None:
            return lambda: iter(b"".join(self._held).split(b"\n"))
        with _write_errors(self._what):
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            return _Lines(os.dup(self._file.fileno()))

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


class PlanWriter:
    """Takes the changes of a plan while they are made. It writes them to a file on the way if they are to be
    saved, or are many. A context manager: without `finish`, no file is left."""

    def __init__(
        self, head: Head, out: Path | None, *, folder: Path, limits: Limits | None = None
    ) -> None:
        """``folder`` is where a plan that is not saved may be kept for as long as it is in use.

        Raises InputError for what names no file, ReconcileError where the plan cannot be written.
        """
        limits = limits or Limits()
        self._encoder = PlanEncoder(head)
        self._changes_held = limits.changes_held
        self._output = None if out is None else OutputFile(out)
        self._what = f"the plan {out or 'that is too large for memory'}"
        self._spool = Spool(self._what, folder, held=limits.text_held)
        self._held: list[Change] | None = []
        self._digests = bytearray()
        self._is_replacing = False

    def __enter__(self) -> Self:
        if self._output is not None:
            with _write_errors(self._what):
                descriptor = self._output.begin()
            if descriptor is not None:
                self._is_replacing = True
                self._spool.move_to(descriptor)
        self._spool.write(self._encoder.header.encode("ascii"))
        return self

    def __exit__(self, *error: object) -> None:
        self._spool.close()
        if self._output is not None:
            self._output.discard()

    @property
    def count(self) -> int:
        """How many changes there are."""
        return len(self._digests) // DIGEST_SIZE

    def add(self, lines: PlanLines, changes: Sequence[Change] | None) -> None:
        """Take the next lines; ``changes`` are the changes on them, if the caller has them."""
        self._encoder.count_lines(lines)
        self._digests += lines.digests
        self._spool.write(lines.text)
        if changes is None or self.count > self._changes_held:
            self._held = None
        elif self._held is not None:
            self._held += changes

    def finish(
        self, orphans: Iterable[str], hazards: Iterable[Hazard], *, unchanged: int
    ) -> tuple[Changes, Totals]:
        """The changes and their totals. The plan is saved if it was to be."""
        footer = self._encoder.footer(orphans, hazards, unchanged=unchanged)
        self._spool.write(footer.encode("ascii"))
        lines = self._spool.finish(durable=self._is_replacing)
        if self._output is not None:
            with _write_errors(self._what):
                if self._is_replacing:
                    self._output.publish()
                else:
                    self._output.write_into(_joined(lines()))
        if self._held is not None:
            return tuple(self._held), self._encoder.totals
        return Stream(lines, self.count, digests=bytes(self._digests)), self._encoder.totals


@contextmanager
def _write_errors(what: str) -> Iterator[None]:
    """Turns errors of the system into ReconcileErrors that name what could not be written."""
    try:
        yield
    except OSError as problem:
        is_full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "Free some space, or plan fewer profiles at a time with --select." if is_full else ""
        raise ReconcileError(f"cannot write {what}: {problem.strerror}", hint=hint) from None


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


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """The text that was split into lines."""
    yield next(lines)
    for line in lines:
        yield b"\n" + line


def _blocks(descriptor: int) -> Iterator[bytes]:
    """The content of an open file from its start."""
    offset = 0
    while block := read_at(descriptor, _BLOCK, offset=offset):
        offset += len(block)
        yield block


class _Lines:
    """The lines of an open file, from the first one on at every call. Closes it in the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def __call__(self) -> Iterator[bytes]:
        rest = b""
        for block in _blocks(self._descriptor):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
        yield rest
