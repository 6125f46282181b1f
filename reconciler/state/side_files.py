"""The files that SQLite keeps beside a database: which of them this program left there.

SQLite believes them. A journal is rolled back into whatever lies beside it, a write-ahead log is read as if
it were part of it. A checkout can bring one, with counters that fit. So a writer notes in the home of its
user where it works, before its first write, and removes the note at its end. A journal counts only beside
the file of such a note: then a run was killed there. In the home itself nobody else writes, so nothing is
noted.

A writer whose home is another one leaves its notes where nobody else sees them, and writers come and go
between a look at a journal and a look at the notes. The journal of a writer at work is gone or changes
within moments, and what a checkout brought lies still: so only what lies still is refused.

https://www.sqlite.org/tempfiles.html lists these files; ``-mj`` files matter only where a journal names one.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from reconciler.commands import Command, arguments
from reconciler.errors import Message, StateRefused
from reconciler.homes import place_name
from reconciler.state.backups import sync_folder
from reconciler.state.liveness import is_dead, process_identity
from reconciler.state.rollback_journal import names_another_file
from reconciler.systems import host_name, open_flags
from reconciler.values import shown

_LARGEST_NOTE = 4096
_PATIENCE = 1.0
"""For how many seconds a journal that has no note has to lie still before it counts as foreign."""
_LONGEST_PATIENCE = 10
"""After how many times that long a journal counts as foreign although it changes."""
_LOOKS = 50
"""How many looks there are in that time."""


class _WriterNote(NamedTuple):
    """A writer of this program works, or was killed, at a place."""

    address: str
    inode: int
    """Of the database, so that the note says nothing about another one that is put there."""
    host: str
    pid: int
    process: str | None
    """The `process_identity` of the writer."""

    @classmethod
    def decoded(cls, text: bytes) -> _WriterNote:
        """Raises ValueError, TypeError, RecursionError for what is no note."""
        note = cls(**json.loads(text))
        members = (note.address, note.inode, note.host, note.pid, note.process or "")
        if [type(member) for member in members] != [str, int, str, int, str]:
            raise TypeError
        return note

    def is_of_the_dead(self) -> bool:
        """Whether the writer is certainly gone: a note of another machine is kept."""
        if self.host != host_name():
            return False
        ours = process_identity(os.getpid())
        if self.process and ours is not None and self.process.split()[0] != ours.split()[0]:
            return True  # from before the machine started anew
        return is_dead(self.pid, self.process)


class _Foreign(NamedTuple):
    """A file beside a database that has no note."""

    name: str
    may_be_at_work: bool
    """Whether its writer may be at work, and have no note that can be seen."""
    version: tuple[int, ...]
    """Differs when the file was replaced or written to."""


class SideFiles:
    """What counts beside databases that this program writes. Methods raise StateRefused and OSError."""

    def __init__(self, home: Path | None, *, patience: float = _PATIENCE) -> None:
        """``home`` is the state home of the user; without one, nothing beside a database counts.
        ``patience``: for how many seconds a journal without a note has to lie still to be refused."""
        self._home = home
        self._patience = patience
        self._vouched: set[str] = set()

    def vouch(self, path: Path) -> None:
        """Has whatever lies beside a database count from here on, because the user says so."""
        self._vouched.add(_address(path))

    def refuse_foreign(self, path: Path, *, uses_log: bool = False) -> None:
        """Raises StateRefused where SQLite would take something into a database that this program did not
        leave there, and for a database that is a link. ``uses_log``: it has a write-ahead log."""
        if path.is_symlink():
            raise StateRefused(
                f"{shown(str(path))} is a link, and the state is a file",
                hint="Name the file itself in `state.url`.",
            )
        began = still_since = time.monotonic()
        before = None
        while (foreign := self._foreign(path, uses_log=uses_log)) is not None:
            look = time.monotonic()
            if foreign != before:
                before, still_since = foreign, look
            lies_still = look - still_since >= self._patience
            is_late = look - began >= self._patience * _LONGEST_PATIENCE
            if not foreign.may_be_at_work or lies_still or is_late:
                raise _refusal(foreign.name, path, uses_log=uses_log)
            time.sleep(self._patience / _LOOKS)
        if names_another_file(path):
            raise _refusal(f"{path}-journal", path, uses_log=uses_log)

    def _foreign(self, path: Path, *, uses_log: bool) -> _Foreign | None:
        """What lies beside a database and does not count, as one look shows it."""
        is_alone = True
        for suffix in ("-journal", "-wal", "-shm"):
            name = f"{path}{suffix}"
            try:
                status = os.lstat(name)
            except FileNotFoundError:
                continue
            is_alone = False
            never = suffix != "-journal" and not uses_log
            if never or not stat.S_ISREG(status.st_mode):
                if os.path.lexists(name):
                    return _Foreign(name, may_be_at_work=False, version=())
            elif not self._counts(path):
                version: tuple[int, ...] = (status.st_dev, status.st_ino)
                if suffix == "-journal":  # a log stays and changes as long as it is in use
                    version += (status.st_size, status.st_mtime_ns)
                return _Foreign(name, may_be_at_work=True, version=version)
        if is_alone:
            self._forget_the_dead(path)
        return None

    @contextmanager
    def used_with_log(self, path: Path) -> Iterator[None]:
        """Within, a database with a write-ahead log is in use: what lies beside it is ours, and so is what a
        killed process leaves. A file that is absent is created, because a note names its inode."""
        self.refuse_foreign(path, uses_log=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, open_flags("O_RDWR", "O_CREAT"), 0o600))
        with self.noted(path):
            yield

    @contextmanager
    def noted(self, path: Path) -> Iterator[None]:
        """Within, a killed process leaves a note that it worked on a database. A note that cannot be made is
        left out: then a person has to say whose journal it is."""
        note = None if self._is_ours(path) else self._make(path)
        try:
            yield
        finally:
            if note is not None and not _has_company(path):
                with suppress(OSError):
                    os.unlink(note)
                self._forget_the_dead(
                    path
                )  # of processes that ended while others had the file open

    def _is_ours(self, path: Path) -> bool:
        if self._home is None:
            return False
        return Path(_address(path)).is_relative_to(os.path.realpath(self._home))

    def _counts(self, path: Path) -> bool:
        if self._is_ours(path) or _address(path) in self._vouched:
            return True
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            return False
        return any(note.inode == inode for _, note in self._notes(path))

    # Notes

    def _folder(self, path: Path) -> Path | None:
        return None if self._home is None else self._home / "writers" / place_name(_address(path))

    def _make(self, path: Path) -> Path | None:
        folder = self._folder(path)
        with suppress(OSError):
            if folder is not None:
                pid = os.getpid()
                note = _WriterNote(
                    _address(path), os.stat(path).st_ino, host_name(), pid, process_identity(pid)
                )
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                name = folder / f"{pid}-{os.urandom(8).hex()}"
                flags = open_flags("O_WRONLY", "O_CREAT", "O_EXCL")
                with open(os.open(name, flags, 0o600), "w", encoding="ascii") as file:
                    file.write(json.dumps(note._asdict()))
                    file.flush()
                    os.fsync(file.fileno())
                sync_folder(folder)
                return name
        return None

    def _notes(self, path: Path) -> Iterator[tuple[Path, _WriterNote]]:
        folder = self._folder(path)
        if folder is None:
            return
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in names:
            with suppress(OSError, ValueError, TypeError, RecursionError):
                descriptor = os.open(
                    folder / name, open_flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
                )
                with open(descriptor, "rb") as file:
                    note = _WriterNote.decoded(file.read(_LARGEST_NOTE))
                if note.address == _address(path):
                    yield folder / name, note

    def _forget_the_dead(self, path: Path) -> None:
        """Removes the notes of killed writers that left nothing behind, so that nothing that is put there
        later counts as theirs."""
        for name, note in list(self._notes(path)):
            # In this order: a dead writer makes no journal.
            if note.is_of_the_dead() and not _has_company(path):
                with suppress(OSError):
                    os.unlink(name)


def _address(path: Path) -> str:
    """The path of a database, links of its folder resolved."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _has_company(path: Path) -> bool:
    return any(os.path.lexists(f"{path}{suffix}") for suffix in ("-journal", "-wal"))


def _refusal(name: str, path: Path, *, uses_log: bool) -> StateRefused:
    return StateRefused(
        f"{shown(name)} was not left there by this program for this user: SQLite would take it into "
        f"{shown(str(path))}",
        hint=_HINT_OF_EMULATOR if uses_log else _hint_of_state(path),
    )


_HINT_OF_EMULATOR = (
    "If a checkout or an archive brought it, remove it. If an emulator of yours was killed, as another user "
    "or without a home folder, remove it as well: the profiles lose what that run wrote."
)


def _hint_of_state(path: Path) -> Message:
    return Message.of(
        "If a checkout or an archive brought it, remove it. If it is of a run of yours that was killed, "
        "as another user or without a home folder, the two belong together: ",
        Command.of("state", "restore", *arguments([str(path)])),
        " takes both for the state.",
    )
