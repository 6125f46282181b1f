"""A state in a SQLite file: where it may lie, how it came there, and what only a file has. An edge.

A checkout can bring files, so this asks whether git tracks the state, and whether there are two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from reconciler.commands import Command
from reconciler.config.places import FOLDER, ProjectPlaces
from reconciler.config.settings import Environment
from reconciler.errors import Message, ReconcileError, Refused
from reconciler.state.backups import kept_backups
from reconciler.state.side_files import SideFiles
from reconciler.state.sqlite import SqliteStore
from reconciler.state.store import Holder
from reconciler.values import shown
from reconciler.workspace.sightings import Place
from reconciler.workspace.tracked import refuse_tracked


class StateFile:
    """The SQLite file that holds the state of an environment. ``places`` are those of the project."""

    def __init__(
        self,
        path: Path,
        environment: Environment,
        *,
        places: ProjectPlaces,
        on_warning: Callable[[Message], None],
    ) -> None:
        self.path = path
        self._environment = environment
        self._places = places
        self._on_warning = on_warning
        self._side_files = SideFiles(places.homes.state)
        self._has_told_place = False
        self._opened: SqliteStore | None = None

    @property
    def name(self) -> str:
        """The path as messages show it."""
        return shown(str(self.path))

    @property
    def argument(self) -> str:
        """The word that names the state in a command; see `is_at`."""
        return str(self.path)

    @cached_property
    def place(self) -> Place:
        """The key of what was last seen of the state."""
        return Place.of(self.path, self._environment.name)

    def open(self) -> SqliteStore:
        """The store of the file. Raises Refused where a checkout can have brought the state: git tracks it,
        or there are two."""
        self._refuse_place()
        return self._store()

    @contextmanager
    def locked_at(self, path: Path, holder: Holder, *, now: Callable[[], float]) -> Iterator[None]:
        """Holds the lock of a state of the environment, wherever its file lies."""
        store = self._store_at(path)
        try:
            with store.lock(holder, now=now):
                yield
        finally:
            store.close()

    def is_copy(self) -> bool:
        """Whether the file is a backup that was copied into its place. The next lock makes it a state with
        new numbers."""
        return self._store().is_copy()

    def set_aside(self) -> tuple[Path, ...]:
        """Moves a damaged file away, with the journal beside it; returns the new names."""
        return tuple(self._store().set_aside())

    def is_at(self, file: Path | str) -> bool:
        """Whether a file is this one."""
        try:
            return os.path.samefile(file, self.path)
        except OSError:
            return False

    def backup_file(self, backup_id: str) -> Path | None:
        """The file of a backup by its id; ``None`` where no backup has it. It works beside a damaged
        state."""
        with suppress(OSError):
            for kept in kept_backups(self.path):
                if kept.backup.id == backup_id:
                    return kept.path
        return None

    def vouch(self) -> None:
        """Takes what lies beside the file for its own."""
        self._side_files.vouch(self.path)

    def note_project(self) -> None:
        """Notes whose states are in the folder of the home, before the first one is made."""
        if self.path.parent == self._places.states:
            with suppress(OSError, ReconcileError):  # making the state fails for the same reason
                self._places.record()

    @property
    def former_place(self) -> Place:
        """The place that the state had in the project's folder."""
        old = Path(self._places.root, FOLDER, self.path.name)
        return Place.of(old, self._environment.name)

    @property
    def is_in_home(self) -> bool:
        """Whether the state is kept in the home of the user."""
        return self._places.states is not None and self.path.parent == self._places.states

    def refuse_moved_folder(self) -> None:
        """Raises Refused where there is no state because the project's folder was moved: that is no first
        run."""
        former = self._places.former()
        if former is not None:
            raise Refused(
                f"this folder has no state, but it looks like {shown(former)}, which was moved and had one",
                hint=Message.of(
                    "To take the states along: ",
                    Command.of("state", "move", "--from", former),
                    ". To begin anew on purpose: ",
                    Command.of("state", "new"),
                    ".",
                ),
            )

    def _store(self) -> SqliteStore:
        if self._opened is None:
            self._opened = self._store_at(self.path)
        return self._opened

    def _store_at(self, path: Path) -> SqliteStore:
        return SqliteStore(path, environment=self._environment.name, side_files=self._side_files)

    def _refuse_place(self) -> None:
        environment, home = self._environment, self._environment.home_state
        refuse_tracked(self.path)
        if home is None:
            return
        move = Command.of("state", "move")
        if os.path.lexists(home):
            raise Refused(
                f"there are two states of {environment.name}: {self.name} in the project, and "
                f"{shown(str(home))} in the home of the user",
                hint=Message.of(
                    "If the one in the project came with a checkout, remove it. If it is yours: ",
                    move,
                    ", which ends a move that was cut off, and changes nothing where the two differ.",
                ),
            )
        if not self._has_told_place and self._places.can_keep_states:
            self._has_told_place = True
            self._on_warning(
                Message.of(
                    f"the state lies in the project, where a checkout can replace it: {self.name}. ",
                    move,
                    " takes it out.",
                )
            )
