"""The part of a project that a plan is limited to by paths: the files that they name, and those below them.

A file that is gone can be named as well: the profiles that are recorded from it are orphans.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.authoring.walk import DEFAULTS
from reconciler.config.settings import Config
from reconciler.errors import UsageError
from reconciler.values import shown


class ProjectPart(NamedTuple):
    """Files and folders by their names in messages; a folder stands for all files below it."""

    names: tuple[str, ...]

    def has(self, file: str) -> bool:
        """Whether a file, by its name in messages, is one of them or below one."""
        return any(name == "." or f"{file}/".startswith(f"{name}/") for name in self.names)


def part_of(paths: Sequence[Path], config: Config, *, recorded: Collection[str]) -> ProjectPart:
    """The part of a project that some paths name. A file of defaults stands for its folder. ``recorded``
    names the files that records come from.

    Raises UsageError for a path outside of the folder of profiles, and for one that neither exists nor ever
    held a recorded profile.
    """
    names = []
    for path in paths:
        name = _name(path.parent if path.name == DEFAULTS else path, config)
        if name is None:
            raise UsageError(
                f"{path} is not below {shown(str(config.profiles))}, the folder of profiles",
                hint="A plan is of the files in that folder: name one of them, or a folder in it.",
            )
        if not path.exists() and not _is_recorded(name, recorded):
            raise UsageError(
                f"there is no {path}, and no recorded profile comes from there",
                hint="Check the path: it is relative to the working directory.",
            )
        names.append(name)
    return ProjectPart(tuple(sorted(set(names))))


def _is_recorded(name: str, recorded: Iterable[str]) -> bool:
    part = ProjectPart((name,))
    return any(map(part.has, recorded))


def _name(path: Path, config: Config) -> str | None:
    """The name of a path as messages have it, relative to the configuration; ``None`` outside of the folder
    of profiles. A path through a link to the project is understood."""
    for real in (os.path.abspath, os.path.realpath):
        target, profiles = Path(real(path)), Path(real(config.profiles))
        if target.is_relative_to(profiles):
            inside = config.profiles.absolute() / target.relative_to(profiles)
            root = config.root.absolute()
            return (inside.relative_to(root) if inside.is_relative_to(root) else inside).as_posix()
    return None
