"""Taking a state elsewhere: into the user's home, back, or along with a folder that moved. An edge.

A state is copied under its lock, the copy is compared, and then the old file gets another name and the mark
of a backup, so that nobody writes on there. A process that is killed in between leaves both files, and the
same command goes on from there: whoever uses the state meanwhile is refused.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from reconciler.atomicfile import new_file
from reconciler.commands import Command
from reconciler.config.places import FOLDER, RECORD, ProjectPlaces
from reconciler.config.settings import EMULATOR, Environment
from reconciler.errors import Message, Refused, StateRefused
from reconciler.homes import place_name
from reconciler.state.backups import sync_folder
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite_errors import from_sqlite, from_system
from reconciler.state.sqlite_file import BUSY_SECONDS
from reconciler.state.sqlite_format import connect, is_backup, mark_as_backup
from reconciler.state.store import utc_text
from reconciler.values import shown
from reconciler.workspace.sightings import Place, Sightings
from reconciler.workspace.state_admin import StateAdmin
from reconciler.workspace.tracked import refuse_tracked


class Relocated(NamedTuple):
    """A file that was taken elsewhere."""

    source: Path
    target: Path
    former: Path | None
    """What the file at the source is called since; ``None`` where it was taken as it is."""


class Relocation:
    """Takes the state of one environment elsewhere, and the file of the embedded emulator with it."""

    def __init__(
        self, environment: Environment, places: ProjectPlaces, *, admin: StateAdmin
    ) -> None:
        self._environment = environment
        self._places = places
        self._admin = admin
        self._side_files = SideFiles(places.homes.state)
        self._sightings = Sightings.of(places.homes)

    def to_home(self, *, now: float) -> list[Relocated]:
        """From the project's folder into the home; nothing where it lies there already. Raises Refused where
        there is no state."""
        return self._moved(self._in_project, self._in_home, now=now)

    def to_project(self, *, now: float) -> list[Relocated]:
        """From the home into the project's folder; nothing where it lies there already. Raises Refused where
        there is no state."""
        return self._moved(self._in_home, self._in_project, now=now)

    def along(self, root: Path) -> list[Relocated]:
        """The states in the home of a project whose folder was called ``root`` before it was moved, with
        everything beside them. Raises Refused where there are none, or the folder is still there."""
        assert self._places.homes.state is not None
        source = self._places.homes.state / "projects" / place_name(os.path.realpath(root))
        target = self._home()
        if os.path.lexists(root):
            raise Refused(
                f"{shown(str(root))} is still there, and uses its states",
                hint="Give the path of a folder that was moved away.",
            )
        if not source.is_dir():
            raise Refused(
                f"there are no states of {shown(str(root))}", hint="Give its former path."
            )
        names = [name for name in sorted(os.listdir(source)) if name != RECORD]
        if taken := [name for name in names if os.path.lexists(target / name)]:
            raise Refused(
                f"{shown(str(target / taken[0]))} exists already; nothing was moved",
                hint="If it is not wanted, move it away first.",
            )
        with _translated(source):
            self._places.record()
            # Files that hang together have names that begin alike, and a journal comes before its state.
            for name in sorted(names, key=lambda name: (not name.endswith("-journal"), name)):
                os.rename(source / name, target / name)
            sync_folder(target)
            for left in (source / RECORD, source):
                with contextlib.suppress(OSError):
                    left.unlink() if left.name == RECORD else left.rmdir()
        return [Relocated(source / name, target / name, None) for name in names]

    # One file

    @property
    def _names(self) -> list[str]:
        """The emulator's file first: without the state that knows its profiles they would be made anew."""
        emulator = ["emulator.db"] if self._environment.url == EMULATOR else []
        return [*emulator, f"{self._environment.name}.db"]

    def _home(self) -> Path:
        if self._places.states is None:
            raise Refused(
                "there is no home folder to keep the state in",
                hint="Set RECONCILE_STATE_DIR to a folder outside of the project.",
            )
        return self._places.states

    def _in_home(self, name: str) -> Path:
        return self._home() / name

    def _in_project(self, name: str) -> Path:
        return Path(self._places.root, FOLDER, name)

    def _moved(
        self, source: Callable[[str], Path], target: Callable[[str], Path], *, now: float
    ) -> list[Relocated]:
        state, place = self._names[-1], self._environment.state.file
        if place is None:
            raise Refused(
                f"the state is not in a file: it lies in {shown(self._environment.state.url)}",
                hint=Message.of(Command.of("state", "migrate", "--to", "URL"), " moves it."),
            )
        old, new = source(state), target(state)
        if place != self._in_home(state) and self._environment.home_state is None:
            raise Refused(
                f"`state.url` says that the state lies in {shown(str(place))}",
                hint="Remove `state.url` from reconcile.yaml, and move the state then.",
            )
        if not os.path.lexists(old):
            if os.path.lexists(new):
                return []
            raise Refused(
                f"there is no state in {shown(str(old))}: it belongs in {shown(str(place))}",
                hint="There is nothing to move.",
            )
        with _translated(new):
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._places.record()
        with _translated(old):
            return [
                self._one(source(name), target(name), now=now)
                for name in self._names
                if os.path.lexists(source(name))
            ]

    def _one(self, old: Path, new: Path, *, now: float) -> Relocated:
        refuse_tracked(old)
        refuse_tracked(new)
        is_state = old.name == self._names[-1]
        self._side_files.refuse_foreign(old, uses_log=not is_state)
        # One that has the mark already is one that nobody locks any more.
        must_lock = is_state and not _is_marked(old)
        lock = self._admin.locked_at(old) if must_lock else contextlib.nullcontext()
        with lock, self._side_files.noted(old):
            if not os.path.lexists(new):
                with _translated(new):
                    self._copy(old, new)
            elif _content(old) != _content(new):
                raise Refused(
                    f"there is another file in {shown(str(new))} already; nothing was moved",
                    hint="Only you can say which of the two is right: move the other one away.",
                )
            if is_state:
                self._note(old, new)
            former = _retire(old, now=now, is_state=is_state)
        return Relocated(old, new, former)

    def _copy(self, old: Path, new: Path) -> None:
        """Makes a copy, compares it, and puts it in place whole."""
        temporary = new_file(new.parent, prefix=f".{new.name}.")
        try:
            with _opened(old, "ro") as source, _opened(temporary, "rw") as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                if _has_table(copy, "lock"):
                    copy.execute("DELETE FROM lock")
                if copy.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                    raise StateRefused(
                        f"the copy of {shown(str(old))} is damaged", hint="Try again."
                    )
            if _content(temporary) != _content(old):
                raise StateRefused(
                    f"the copy of {shown(str(old))} is not like it", hint="Try again."
                )
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.link(temporary, new)
        finally:
            for name in (temporary, f"{temporary}-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        sync_folder(new.parent)

    def _note(self, old: Path, new: Path) -> None:
        """Takes along what was seen of a state."""
        before, after = (Place.of(path, self._environment.name) for path in (old, new))
        sighting = self._sightings.last(before)
        if sighting is not None:
            self._sightings.note(after, sighting)
        self._sightings.forget(before)


def _retire(path: Path, *, now: float, is_state: bool) -> Path:
    """Gives a file another name, after its content went elsewhere; returns the name."""
    with _opened(path, "rw") as db:
        if is_state:
            mark_as_backup(db)
        else:
            db.execute("PRAGMA journal_mode = DELETE")  # takes what is in the write-ahead log
    stem = f"{path.name}.moved-{utc_text(now, '%Y%m%dT%H%M%SZ')}"
    target, number = path.with_name(stem), 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{stem}-{number}")
    os.rename(path, target)
    sync_folder(path.parent)
    return target


def _is_marked(path: Path) -> bool:
    with _opened(path, "ro") as db:
        return is_backup(db)


def _content(path: Path) -> str:
    """A digest of all that a database holds, but for its lock and what the lock counts."""
    digest = blake2b()
    with _opened(path, "ro") as db:
        for line in db.iterdump():
            if not line.startswith(('INSERT INTO "lock"', 'INSERT INTO "meta"')):
                digest.update(line.encode("utf-8", "surrogatepass"))
        digest.update(repr(_identity(db)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _identity(db: sqlite3.Connection) -> list[object]:
    if not _has_table(db, "meta"):
        return []
    return db.execute("SELECT environment, lineage, serial, application FROM meta").fetchall()


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(db.execute(query, (name,)).fetchone()[0])


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    db = connect(f"{path.as_uri()}?mode={mode}", busy_seconds=BUSY_SECONDS)
    try:
        yield db
    finally:
        db.close()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as problem:
        raise from_sqlite(
            getattr(problem, "sqlite_errorcode", None),
            state=shown(str(path)),
            code_name=getattr(problem, "sqlite_errorname", ""),
            busy_seconds=BUSY_SECONDS,
        ) from None
    except OSError as problem:
        raise from_system(problem, state=shown(str(path))) from None
