"""Saved plans: written as they are made, read again line by line, never in memory as a whole."""

from __future__ import annotations

import os
import secrets
import stat
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from reconciler.errors import InputError, ReconcileError, Refused
from reconciler.plan import Conforms, Plan, from_lines, from_stream, to_lines
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
    if not path.name:
        raise InputError(f"cannot write to {path}: give the name of a file")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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


@cache
def _conforms() -> Conforms:
    schema = load_schema("plan.schema")
    verdicts = {
        kind: verdict_of({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
        for kind in ("header", "change", "footer")
    }
    return lambda kind, data: verdicts[kind](data)


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
