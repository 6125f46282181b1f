"""Copies of a state file beside it, and how many of them are kept."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from reconciler.atomicfile import new_file
from reconciler.state.sqlite_format import connect, mark_as_backup
from reconciler.state.store import utc_text

BACKUPS = 10
"""How many backups are kept beside a state file."""


def back_up(
    path: Path, *, serial: int, now: float, kept: int, busy_seconds: float, marked: bool = True
) -> Path:
    """Copy what is committed in a state file, and remove the oldest copies beyond ``kept``.

    A copy is marked as a backup, except before an upgrade: a program of the older format, which does not
    know the mark, must be able to use that one. The copy's name holds the time (UTC) and the serial.
    Raises OSError or sqlite3.Error; then there is no copy.
    """
    stem = f"{path.name}.backup-"
    target = path.with_name(f"{stem}{utc_text(now, '%Y%m%dT%H%M%SZ')}-{serial}")
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


def set_aside(path: Path, *, now: float) -> list[Path]:
    """Rename a damaged state file, and the journal beside it, which SQLite would otherwise roll back into
    the next file of that name. Returns the new names. Raises OSError."""
    stem = f"{path.name}.damaged-{utc_text(now, '%Y%m%dT%H%M%SZ')}"
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
    pattern = re.compile(re.escape(f"{path.name}.backup-") + r"(\d{8}T\d{6}Z)-(\d+)")
    others = sorted(
        (match[1], int(match[2]), match[0])
        for match in map(pattern.fullmatch, os.listdir(path.parent))
        if match and match[0] != newest.name
    )
    for _, _, name in others[: max(0, len(others) - (kept - 1))]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.with_name(name))


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
