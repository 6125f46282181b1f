"""The folders of one project in the homes of its user: for its states, and for its caches. An edge.

Their names are digests of the project's real path, so nothing that a checkout says leads to other files.

A state that lies in the project's folder, where earlier versions made it, goes on being used. So does
one where the user has no home.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from reconciler.atomicfile import write_whole
from reconciler.commands import CONFIG_NAME
from reconciler.homes import Homes, derived_key, place_name

FOLDER = ".reconcile"
"""The folder of a project in which earlier versions kept everything."""
RECORD = "project.json"
"""The file that says whose states are in a folder."""


class KeptFile(NamedTuple):
    """A file that the program keeps for a project."""

    path: Path
    other: Path | None = None
    """Where it belongs: in the home, if it lies in the project's folder and there is a home."""


_MARKS = (".git/description", ".git", CONFIG_NAME)
"""Files whose time of change stays when the folder is moved. git writes the first one once, when a repository
is made; the second one is a file in a linked work tree."""


class ProjectRecord(NamedTuple):
    """The project's folder whose states are in a folder of the home."""

    root: str
    device: int
    inode: int
    marks: Mapping[str, int]
    """The time of change of each of `_MARKS` that is a file, in nanoseconds. They tell a folder from one that
    got the number of a removed one."""

    def is_same_folder(self, other: ProjectRecord) -> bool:
        """Whether two paths, of which one is gone, are those of one folder."""
        same = (self.device, self.inode) == (other.device, other.inode)
        return same and bool(self.marks.items() & other.marks.items())


class ProjectPlaces(NamedTuple):
    """Where a project keeps what is no part of it. Without homes it has no caches."""

    root: str = ""
    """The real path of the project's folder."""
    homes: Homes = Homes()

    @classmethod
    def of(cls, root: Path, homes: Homes) -> ProjectPlaces:
        """The places of the project in a folder."""
        return cls(os.path.realpath(root), homes)

    @property
    def states(self) -> Path | None:
        """The folder of the project's states, which need not exist; ``None`` without a home."""
        return (
            None
            if self.homes.state is None
            else self.homes.state / "projects" / place_name(self.root)
        )

    def kept_file(self, name: str) -> KeptFile:
        """Where a file of the project is kept: ``local.db``, for example."""
        old = Path(self.root, FOLDER, name)
        if self.states is None:
            return KeptFile(old)
        new = self.states / name
        if os.path.lexists(old):
            return KeptFile(old, other=new)
        return KeptFile(new if os.path.lexists(new) or self.can_keep_states else old)

    @property
    def can_keep_states(self) -> bool:
        """Whether there is a home that takes states, as far as it can be told without making one."""
        return self.states is not None and _can_be_made(self.states)

    @property
    def caches(self) -> Path | None:
        """The folder of the project's caches, which need not exist; ``None`` where nothing is cached."""
        if self.homes.cache is None or self.homes.state is None:
            return None
        return self.homes.cache / "projects" / place_name(self.root)

    def cache(self, *purpose: str) -> Path | None:
        """The file of one cache."""
        return None if self.caches is None else self.caches / place_name(*purpose)

    def key(self, *purpose: str) -> bytes | None:
        """The key that authenticates what is cached for a purpose of this project, so that a cache of
        another project, another purpose or another user does not count. ``None`` without a secret."""
        secret = self.homes.secret()
        return None if secret is None else derived_key(secret, self.root, *purpose)

    # Whose states they are

    def record(self) -> None:
        """Notes whose states the folder in the home holds, before the first one is made. Raises
        ReconcileError, OSError."""
        if self.states is None or _record_of(self.states) == (ours := _present(self.root)):
            return
        if ours is not None:
            self.states.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self.states / RECORD, (json.dumps(ours._asdict()), "\n"))

    def former(self) -> str | None:
        """The path that the project's folder had before it was moved: the one of which the home has states,
        which is gone, and whose folder was this one."""
        ours = _present(self.root)
        if self.homes.state is None or ours is None:
            return None
        for record in self._others():
            if record.is_same_folder(ours) and not os.path.lexists(record.root):
                return record.root
        return None

    def _others(self) -> Iterator[ProjectRecord]:
        assert self.homes.state is not None
        projects = self.homes.state / "projects"
        with suppress(OSError):
            for name in sorted(os.listdir(projects)):
                record = _record_of(projects / name)
                if record is not None and record.root != self.root:
                    yield record


def _present(root: str) -> ProjectRecord | None:
    with suppress(OSError):
        status = os.stat(root)
        return ProjectRecord(root, status.st_dev, status.st_ino, dict(_marks_of(root)))
    return None


def _marks_of(root: str) -> Iterator[tuple[str, int]]:
    for name in _MARKS:
        with suppress(OSError):
            status = os.stat(os.path.join(root, name))
            if stat.S_ISREG(status.st_mode):
                yield name, status.st_mtime_ns


def _record_of(folder: Path) -> ProjectRecord | None:
    with suppress(
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ):
        data = json.loads((folder / RECORD).read_bytes())
        marks = {str(name): int(time) for name, time in data["marks"].items()}
        return ProjectRecord(str(data["root"]), int(data["device"]), int(data["inode"]), marks)
    return None


def _can_be_made(folder: Path) -> bool:
    """Whether a folder can be made and written, as far as it can be told without doing so."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
