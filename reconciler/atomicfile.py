"""Files that are written whole, or not at all, and whose they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from reconciler.errors import InputError, ReconcileError
from reconciler.systems import open_flags, set_mode, user_id


def write_whole(path: Path, parts: Iterable[str], *, mode: int = 0o600) -> None:
    """Writes a file, all or nothing; by default for its owner only, since it may hold personal data.

    Raises InputError for what names no file, ReconcileError where it cannot be written.
    """
    partial = partial_name(path)
    try:
        descriptor = os.open(partial, open_flags("O_WRONLY", "O_CREAT", "O_EXCL"), 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            set_mode(descriptor, mode)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as problem:
        raise ReconcileError(f"cannot write {path}: {problem.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """The name of a file until all of it is written."""
    if not path.name:
        raise InputError(f"cannot write the plan to {path}: give the name of a file")
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}")


def new_file(folder: Path, *, prefix: str) -> Path:
    """Creates an empty file for this user only, with a name of its own. Raises OSError."""
    path = folder / f"{prefix}{os.urandom(8).hex()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return path


def is_ours_alone(status: os.stat_result) -> bool:
    """Whether only we can have written a file. One from a repository or an archive is another's word."""
    return (
        stat.S_ISREG(status.st_mode) and status.st_uid == user_id() and not status.st_mode & 0o077
    )
