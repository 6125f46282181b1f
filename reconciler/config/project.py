"""The project: where its configuration is looked for, and the folder that its paths may not leave. An edge.

The rules are those of git: the search upwards ends at the top of a repository, at a file system's boundary,
and at what belongs to another user. A repository's top counts only if it belongs to us: nobody makes a
project of ours larger by a ``.git`` of their own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from reconciler.commands import CONFIG_NAME
from reconciler.config.trust import Trust
from reconciler.errors import Refused
from reconciler.systems import user_id

_BY_NAME = (
    "It may be a stranger's. Name the file if you trust it: --config FILE, or RECONCILE_CONFIG."
)


class Search(NamedTuple):
    """The result of looking for a configuration."""

    path: Path | None
    reason: str = ""
    """Why the search ended before the root of the file system; empty where it did not."""


def users(environ: Mapping[str, str]) -> frozenset[int] | None:
    """The users whose files are ours: the one of this process, and the one that became root by sudo.
    ``None`` where files have no owners."""
    user = user_id()
    if user is None:
        return None
    sudo = environ.get("SUDO_UID", "")
    if user == 0 and sudo.isascii() and sudo.isdigit() and len(sudo) < 11:
        return frozenset({0, int(sudo)})
    return frozenset({user})


def search_config(start: Path, environ: Mapping[str, str]) -> Search:
    """The nearest ``reconcile.yaml`` in a folder or above it, within its repository.

    Raises Refused where it belongs to another user, or leads out of its project.
    """
    ours = users(environ)
    reason = ""
    for folder, stop in _upwards(start.absolute(), ours):
        reason = stop
        path = folder / CONFIG_NAME
        try:
            status = path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                return Search(path)  # reading it raises the error
            continue
        except OSError:
            return Search(path)
        if stat.S_ISDIR(status.st_mode):
            continue
        for owned in (folder, path):
            if not _is_ours(owned, ours):
                raise Refused(f"{path} is not taken: {_whose(owned)}", hint=_BY_NAME)
        if not _is_within(os.path.realpath(path), project_root(folder, environ)):
            raise Refused(f"{path} is not taken: it is a link out of the project", hint=_BY_NAME)
        return Search(path)
    return Search(None, reason)


def project_root(folder: Path, environ: Mapping[str, str]) -> Path:
    """The folder that the paths of a configuration in ``folder`` may not leave: the top of its repository, if
    there is one and it is ours, else the folder itself. Links are resolved."""
    ours = users(environ)
    folder = Path(os.path.realpath(folder))
    for each, _ in _upwards(folder, ours):
        if _is_top(each):
            is_ours = _is_ours(each, ours) and _is_ours(each / ".git", ours)
            return each if is_ours else folder
    return folder


class Boundary(NamedTuple):
    """The folders that paths of a configuration may lead into."""

    root: Path
    """The project; links are resolved."""
    trust: Trust = Trust()

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str], *, trust: Trust) -> Boundary:
        """The boundary of a configuration in a folder.

        Raises Refused where the file of the user's trust lies in the project.
        """
        root = project_root(folder, environ)
        if trust.file is not None and _is_within(os.path.realpath(trust.file), root):
            raise Refused(
                f"{trust.file} is not believed: it lies in the project {root}",
                hint="What allows a checkout to do something must not be a part of it. Keep the file in your "
                "configuration folder, or use the options --allow-outside, --env-prefix and --allowed-hosts.",
            )
        return cls(root, trust)

    def holds(self, path: Path) -> bool:
        """Whether a path stays within, links of its existing parts followed. It need not exist."""
        if self.trust.all_outside:
            return True
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return any(_is_within(real, folder) for folder in (str(self.root), *self.trust.outside))


def _is_within(real: str, folder: str | Path) -> bool:
    """Whether a resolved path is a folder or lies below it, whatever the case of its letters where that makes
    no difference."""
    top = os.path.realpath(folder)
    try:
        if os.path.commonpath([os.path.normcase(real), os.path.normcase(top)]) == os.path.normcase(
            top
        ):
            return True
    except ValueError:  # two drives
        return False
    for each in (real, *map(str, Path(real).parents)):
        try:
            if os.path.samefile(each, top):
                return True
        except OSError:
            continue
    return False


def _upwards(start: Path, ours: frozenset[int] | None) -> Iterator[tuple[Path, str]]:
    """A folder and those above it, up to where a search ends; the last one comes with the reason."""
    device = _device(start)
    for folder in (start, *start.parents):
        if _device(folder.parent) != device and folder != folder.parent:
            reason = f"{folder} is where a file system begins"
        elif _is_top(folder):
            reason = f"{folder} is the top of a repository"
        elif not _is_ours(folder, ours):
            reason = _whose(folder)
        else:
            reason = ""
        yield folder, reason
        if reason:
            return


def _is_top(folder: Path) -> bool:
    return os.path.lexists(folder / ".git")


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _is_ours(path: Path, ours: frozenset[int] | None) -> bool:
    """Whether a file or folder belongs to us, and so does the link that leads to it, if it is one."""
    if ours is None:
        return True
    try:
        return {path.stat().st_uid, path.lstat().st_uid} <= ours
    except OSError:
        return False


def _whose(path: Path) -> str:
    try:
        owner = f"to another user (number {path.stat().st_uid})"
    except OSError:
        owner = "to nobody that can be told"
    return f"{path} belongs {owner}, not to you"
