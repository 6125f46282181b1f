"""The files that no output may replace: the configuration, profile files, the state with its company, and
what lies in the homes of the user.

A slip in a command line must not cost the only record of what is at the API.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.authoring.walk import is_profile_name
from reconciler.config.settings import Config
from reconciler.errors import Refused
from reconciler.systems import trail


def refuse_to_overwrite(path: Path, config: Config | None) -> None:
    """Raises Refused where an output would be written over a file that a configuration names: itself, a
    profile file, the state of one of its environments, or anything in a home of the user; and where a link
    of the project leads an output out of it."""
    refuse_link_out(path, Path.cwd() if config is None else config.root)
    if config is None:
        return
    target = Path(os.path.realpath(path))
    if config.path is not None and _is_same(target, config.path):
        raise _refused(path, "the configuration")
    if _is_profile_file(target, config.profiles):
        raise _refused(path, "a profile file")
    for environment in config.environments.values():
        for kept in (environment.state.file, environment.emulator_db):
            if kept is not None and _belongs_to(target, kept):
                raise _refused(path, f"the state of {environment.name}")
    for home in config.places.homes:
        if home is not None and target.is_relative_to(os.path.realpath(home)):
            raise _refused(path, "a file that reconcile keeps for itself")


def refuse_link_out(path: Path, folder: Path) -> None:
    """Raises Refused where a link leads a file to be written out of the project of a folder. A checkout may
    hold any link, and nobody has to have looked at it."""
    top = str(_top(Path(os.path.realpath(folder))))
    *links, end = trail(str(path))
    if _is_below(end, top):
        return
    for link in links:
        if _is_below(link, top):
            raise Refused(
                f"{path} goes through the link {link}, which leads out of the project; nothing was done",
                hint="Remove the link, or name the file that it leads to.",
            )


def _top(folder: Path) -> Path:
    """The top of the git work tree around a folder; the folder itself where there is none."""
    for candidate in (folder, *folder.parents):
        if os.path.lexists(candidate / ".git"):
            return candidate
    return folder


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def _refused(path: Path, what: str) -> Refused:
    return Refused(
        f"{path} would be written over {what}; nothing was done", hint="Name another file."
    )


def _is_same(target: Path, other: Path) -> bool:
    if target == Path(os.path.realpath(other)):
        return True
    try:
        return target.samefile(other)
    except OSError:
        return False


def _belongs_to(target: Path, state: Path) -> bool:
    """Whether a file is a state, or one that lies beside it under its name: journal, index, backups."""
    state = Path(os.path.realpath(state))
    if target.parent == state.parent:
        rest = target.name.removeprefix(state.name)
        if rest != target.name and (not rest or rest[0] in "-."):
            return True
    return _is_same(target, state)


def _is_profile_file(target: Path, profiles: Path) -> bool:
    """Whether a file is one that is read as a profile file, or would be once it is written."""
    root = Path(os.path.realpath(profiles))
    if target == root:
        return True
    if not target.is_relative_to(root):  # a link that leads out of the folder is not read
        return False
    *folders, name = target.relative_to(root).parts
    if is_profile_name(name) and not any(folder.startswith(".") for folder in folders):
        return True
    return target.is_file() and any(_is_same(target, link) for link in _links(root))


def _links(root: Path) -> Iterator[Path]:
    """The links below a folder: a file with another ending, or in a hidden folder, is a profile file if one
    leads to it."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                yield path
