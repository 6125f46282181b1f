"""Files that are written whole, or not at all, and whose they are.

`write_whole` replaces a file of ours. `OutputFile` writes where a user pointed, which may be a link, a
device, a pipe, or a file that is mounted by itself: it replaces a regular file if that is possible, and
writes into anything else.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

from reconciler.errors import InputError, ReconcileError
from reconciler.systems import open_flags, set_mode, user_id

_CANNOT_REPLACE = frozenset(
    {errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV, errno.ETXTBSY}
)
"""Errors that say that a folder does not take another file in the place of one. The file itself may still
be written: it is a mount of its own, or the folder is another user's."""

_BLOCK = 1 << 18
_DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/(\d{1,9})").fullmatch
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def write_whole(path: Path, parts: Iterable[str], *, mode: int = 0o600) -> None:
    """Writes a file, all or nothing; by default for its owner only, since it may hold personal data.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    partial = _partial_name(path)
    try:
        _write_partial(partial, parts, mode=mode)
        os.replace(partial, path)
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_new(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """Writes a file that is not there yet, all or nothing. Returns False, and changes nothing, if something
    has its name.

    Raises ReconcileError where it cannot be written.
    """
    partial = _partial_name(path)
    try:
        _write_partial(partial, [text], mode=mode)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if os.path.lexists(path):
                return False
            os.rename(partial, path)
        return True
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_output(path: Path, parts: Iterable[str], *, mode: int = 0o600) -> None:
    """Writes a text where a user pointed; see `OutputFile`. A new file gets the ``mode``.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    try:
        with OutputFile(path) as output:
            descriptor = output.begin(mode=mode)
            if descriptor is None:
                output.write_into(part.encode("utf-8") for part in parts)
                return
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            output.publish()
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None


class OutputFile:
    """A file that a user named for output. A context manager: without `publish` or `write_into`, what was
    there stays.

    A link is followed, and stays a link. A regular file is replaced, all or nothing; where its folder does
    not allow that, it is written in place. Devices, pipes and open descriptors (``/dev/fd/3``) are written
    into.

    Methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        """Raises InputError for what names no file."""
        if not path.name:
            raise InputError(f"cannot write to {path}: give the name of a file")
        self._path = path
        self._partial: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Removes what was not published."""
        if self._partial is not None:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def begin(self, *, mode: int = 0o600) -> int | None:
        """An open file (for reading and writing) that becomes the output with `publish`, or None where
        nothing can be put into its place: then `write_into` takes it all."""
        if descriptor_of(self._path) is not None:
            return None
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            status = None
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if status is not None and not stat.S_ISREG(status.st_mode):
            return None
        self._path = Path(os.path.realpath(self._path))
        partial = _partial_name(self._path)
        try:
            descriptor = _open_partial(partial, mode=mode)
        except OSError as problem:
            if status is None or problem.errno not in _CANNOT_REPLACE:
                raise
            return None
        self._partial = partial
        return descriptor

    def publish(self) -> None:
        """Puts what was written into the file of `begin` in the place of the output."""
        assert self._partial is not None
        try:
            os.replace(self._partial, self._path)
        except OSError as problem:
            if problem.errno not in _CANNOT_REPLACE:
                raise
            with open(self._partial, "rb") as source:
                self._write_in_place(source)

    def write_into(self, parts: Iterable[bytes]) -> None:
        """Writes into what is there."""
        descriptor = descriptor_of(self._path)
        if descriptor is None and stat.S_ISREG(os.stat(self._path).st_mode):
            whole = b"".join(parts)  # parts that fail leave the file as it is
            self._write_in_place(BytesIO(whole))
            return
        flags = open_flags("O_WRONLY", "O_NOCTTY")
        opened = os.open(self._path, flags) if descriptor is None else os.dup(descriptor)
        with open(opened, "wb") as file:
            file.writelines(parts)

    def _write_in_place(self, source: BinaryIO) -> None:
        with open(self._path, "r+b") as file:
            while block := source.read(_BLOCK):
                file.write(block)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def descriptor_of(path: Path) -> int | None:
    """The open descriptor that a path like ``/dev/stdout`` or ``/dev/fd/3`` names, if it names one."""
    text = os.path.normpath(path)
    if text in _STANDARD:
        return _STANDARD[text]
    match = _DESCRIPTOR(text)
    return int(match[1]) if match else None


def new_file(folder: Path, *, prefix: str) -> Path:
    """Creates an empty file for this user only, with a name of its own. Raises OSError."""
    path = folder / f"{prefix}{os.urandom(8).hex()}"
    os.close(os.open(path, open_flags("O_WRONLY", "O_CREAT", "O_EXCL"), 0o600))
    return path


def is_ours_alone(status: os.stat_result) -> bool:
    """Whether only we can have written a file. One from a repository or an archive is another's word."""
    return (
        stat.S_ISREG(status.st_mode) and status.st_uid == user_id() and not status.st_mode & 0o077
    )


def _partial_name(path: Path) -> Path:
    """The name of a file until all of it is written."""
    if not path.name:
        raise InputError(f"cannot write to {path}: give the name of a file")
    return path.with_name(f".{path.name[:50]}.{os.urandom(4).hex()}")


def _open_partial(partial: Path, *, mode: int) -> int:
    descriptor = os.open(partial, open_flags("O_RDWR", "O_CREAT", "O_EXCL"), 0o600)
    set_mode(descriptor, mode)
    return descriptor


def _write_partial(partial: Path, parts: Iterable[str], *, mode: int) -> None:
    with open(_open_partial(partial, mode=mode), "w", encoding="utf-8", newline="") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
