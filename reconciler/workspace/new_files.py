"""Profile files that are made, and never written over others."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.atomicfile import write_new
from reconciler.authoring.transcript import file_name
from reconciler.config.protected import refuse_link_out
from reconciler.config.settings import Config
from reconciler.errors import ReconcileError, UsageError
from reconciler.values import shown


class NewFiles:
    """The files that are made in one folder below the profiles."""

    def __init__(self, config: Config, folder: Path | None) -> None:
        """By default the ``folder`` is that of all profiles.

        Raises UsageError for a folder in which no profile file is read, Refused where a link leads out of
        the project.
        """
        top = config.profiles
        self.folder = folder or top
        inside = Path(os.path.realpath(self.folder))
        root = Path(os.path.realpath(top))
        if top.is_file() or self.folder.is_file():
            raise UsageError(
                f"{self.folder if folder else top} is a file: imported profiles need a folder",
                hint="Set `profiles` in reconcile.yaml to a folder.",
            )
        hidden = not inside.is_relative_to(root) or any(
            part.startswith(".") for part in inside.relative_to(root).parts
        )
        if hidden:
            raise UsageError(
                f"no plan would read files in {self.folder}",
                hint=f"Name a folder below {top} that is not hidden.",
            )
        refuse_link_out(self.folder, config.root)
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            names = []
        except OSError as problem:
            raise ReconcileError(f"cannot read {self.folder}: {problem.strerror}") from None
        self._names = {name.casefold(): name for name in names}

    def path(self, address: str) -> Path:
        """The file of a profile. Its name differs from all others in more than capitals."""
        name = file_name(address)
        other = self._names.get(name.casefold())
        if other not in (None, name):
            name = file_name(address, is_distinct=True)
        return self.folder / name

    def holds(self, path: Path) -> bool:
        """Whether something has the name of a file already."""
        return path.name.casefold() in self._names

    def note(self, path: Path) -> None:
        """Remember that a name is taken."""
        self._names[path.name.casefold()] = path.name

    def write(self, path: Path, text: str) -> bool:
        """Writes a file, whole and durable. Returns False if something has its name.

        Raises ReconcileError where it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            message = f"cannot make the folder {shown(str(self.folder))}: {problem.strerror}"
            raise ReconcileError(message) from None
        self.note(path)
        return write_new(path, text)
