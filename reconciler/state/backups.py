"""Copies of a state file beside it, and how many of them are kept."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from reconciler.atomicfile import new_file
from reconciler.state.sqlite_format import connect, mark_as_backup
from reconciler.state.store import Backup, utc_text

BACKUPS = 10
"""How many backups are kept beside a state file."""
_TIME = "%Y%m%dT%H%M%SZ"
"""The time (UTC) in the name of a backup."""


def back_up(
    path: Path, *, serial: int, now: float, kept: int, busy_seconds: float, marked: bool = True
) -> Path:
    """Copy what is committed in a state file, and remove the oldest copies beyond ``kept``.

    A copy is marked as a backup, except before an upgrade: a program of the older format, which does not
    know the mark, must be able to use that one. The copy's name holds the time (UTC) and the serial.
    Raises OSError or sqlite3.Error; then there is no copy.
    """
    stem = f"{path.name}.backup-"
    target = path.with_name(f"{stem}{utc_text(now, _TIME)}-{serial}")
    temporary = new_file(path.parent, prefix=f".{stem}")
    try:
        # A connection of its own: copying from within a transaction would include its changes.
        with (
            contextlib.closing(
                connect(f"{path.as_uri()}?mode=ro", busy_seconds=busy_seconds)
            ) as source,
            contextlib.closing(
                connect(f"{temporary.as_uri()}?mode=rw", busy_seconds=busy_seconds)
            ) as copy,
        ):
            source.backup(copy)
            if marked:
                mark_as_backup(copy)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _remove_oldest(path, newest=target, kept=kept)
    sync_folder(path.parent)
    return target


class KeptBackup(NamedTuple):
    """A backup and its file."""

    path: Path
    backup: Backup


def kept_backups(path: Path) -> list[KeptBackup]:
    """The backups beside a state file, newest first. Raises OSError."""
    if not path.parent.is_dir():
        return []
    pattern = _names_of_backups(path)
    kept = []
    for match in map(pattern.fullmatch, os.listdir(path.parent)):
        if match is not None:
            file = path.with_name(match[0])
            with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: no such day
                made = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC).timestamp()
                backup = Backup(
                    f"{match[1]}-{match[2]}", made, serial=int(match[2]), size=file.stat().st_size
                )
                kept.append(KeptBackup(file, backup))
    return sorted(kept, key=lambda each: (each.backup.made, each.backup.serial), reverse=True)


def set_aside(path: Path, *, now: float) -> list[Path]:
    """Rename a damaged state file, and the journal beside it, which SQLite would otherwise roll back into
    the next file of that name. Returns the new names. Raises OSError."""
    stem = f"{path.name}.damaged-{utc_text(now, _TIME)}"
    number = 1
    target = path.with_name(stem)
    while target.exists() or os.path.lexists(f"{target}-journal"):
        number += 1
        target = path.with_name(f"{stem}-{number}")
    moved = []
    # The state first: without its journal it would look whole, a journal without its state is refused.
    for suffix in ("", "-journal"):
        source = Path(f"{path}{suffix}")
        if os.path.lexists(source):
            os.rename(source, f"{target}{suffix}")
            moved.append(Path(f"{target}{suffix}"))
    sync_folder(path.parent)
    return moved


def _remove_oldest(path: Path, *, newest: Path, kept: int) -> None:
    """Removes the oldest backups by their names, never ``newest``: the clock may have gone back."""
    pattern = _names_of_backups(path)
    others = sorted(
        (match[1], int(match[2]), match[0])
        for match in map(pattern.fullmatch, os.listdir(path.parent))
        if match and match[0] != newest.name
    )
    for _, _, name in others[: max(0, len(others) - (kept - 1))]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.with_name(name))


def _names_of_backups(path: Path) -> re.Pattern[str]:
    return re.compile(re.escape(f"{path.name}.backup-") + r"([0-9]{8}T[0-9]{6}Z)-([0-9]{1,16})")


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
